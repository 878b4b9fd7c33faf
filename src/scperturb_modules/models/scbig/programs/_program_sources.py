"""Everything that gene programs are found from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models.scbig._settings import COEXPRESSION, PRIORS, RESPONSE, ScbigSettings
from scperturb_modules.models.scbig.programs._clustering import Clustering, Graph, cluster_genes
from scperturb_modules.models.scbig.programs._n_programs import MOST, choose_n_programs
from scperturb_modules.models.scbig.programs._program_cells import ProgramCells
from scperturb_modules.models.scbig.programs._relations import (
    Relation,
    coexpression_relation,
    graph_agreement,
    response_relation,
    table_relation,
    weighted_by_agreement,
)
from scperturb_modules.priors import GeneGraph

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class ProgramSources:
    """What programs are found from.

    Attributes
    ----------
    cells
        Training cells; None where there are none.
    use_cells
        Whether co-expression is wanted.
    others
        Relations that do not depend on which cells are taken.
    graphs
        (G, G) symmetric weights of each network, by name.
    genes
        The G measured genes.
    """

    cells: ProgramCells | None
    use_cells: bool
    others: tuple[Relation, ...]
    graphs: Mapping[str, Graph]
    genes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        screen: AnnData | None,
        data: TrainingData,
        *,
        networks: Mapping[str, GeneGraph],
        tables: Mapping[str, pd.DataFrame],
        wanted: Sequence[str],
        seed: int,
    ) -> ProgramSources:
        """Read what is wanted: ``"coexpression"``, ``"response"``, ``"priors"``.

        Raises
        ------
        DataError
            Co-expression is wanted, and there are no cells.
        """
        if screen is None and COEXPRESSION in wanted:
            raise DataError(
                "Gene programs are found from how genes vary between cells, and a pseudobulk has none: build the model "
                'from the screen, or pass relations=("response", "priors").'
            )
        response = response_relation(data.delta, data.se2) if RESPONSE in wanted else None
        others = [] if response is None else [response]
        graphs = {}
        if PRIORS in wanted:
            others += [table_relation(name, table, data.var_names) for name, table in tables.items()]
            graphs = {name: _symmetric(network, data.var_names) for name, network in networks.items()}
        cells = None if screen is None else ProgramCells.of(screen, data, seed=seed)
        return cls(cells, COEXPRESSION in wanted, tuple(others), graphs, data.var_names)

    def taken(self, *, seed: int, rows: NDArray[np.intp] | None = None) -> Taken:
        """Relations and graphs with their weights; from some of the cells where ``rows`` are given.

        Where there is co-expression, all else counts by how far it agrees with it.
        """
        relations, graphs = list(self.others), tuple(self.graphs.values())
        if not self.use_cells or self.cells is None:
            return Taken(relations, graphs, [1.0] * len(graphs))
        every = slice(None) if rows is None else rows
        cells, covariates = self.cells.cells[every], self.cells.covariates[every]
        first = coexpression_relation(cells, covariates, rank=MOST, seed=seed)
        betas = [graph_agreement(first, graph, seed=seed) for graph in graphs]
        return Taken(weighted_by_agreement([first, *relations], seed=seed), graphs, betas)

    def programs(self, settings: ScbigSettings, *, seed: int) -> tuple[Clustering, dict[str, Any]]:
        """The programs, and a report: tables of the sources and of the scan, and the uncovered genes."""
        taken = self.taken(seed=seed)
        report: dict[str, Any] = {"sources": self._table(taken)}
        if settings.n_programs == "auto":
            n_programs, report["scan"] = choose_n_programs(taken.relations, taken.graphs, seed=seed)
        else:
            n_programs = int(settings.n_programs)
        found = taken.cluster(n_programs, balance=settings.balance, seed=seed)
        report["uncovered"] = np.array(self.genes, dtype=object)[found.uncovered]
        if settings.random_programs:
            dealt = np.random.default_rng(seed).permutation(np.arange(len(self.genes)) % n_programs)
            found = Clustering(dealt, np.zeros(len(dealt)), found.uncovered)
        return found, report

    def _table(self, taken: Taken) -> pd.DataFrame:
        """A row for each source: how many genes it knows, its directions (0 for graphs), its weight."""
        rows = [(one.name, int(one.covered.sum()), one.n_directions, one.weight) for one in taken.relations]
        for (name, graph), beta in zip(self.graphs.items(), taken.betas, strict=True):
            rows.append((name, int(np.count_nonzero(graph.sum(axis=1))), 0, beta))
        table = pd.DataFrame(rows, columns=["source", "n_genes", "n_directions", "weight"])
        return table.set_axis(table.index.astype(str))


@dataclass(frozen=True, eq=False)
class Taken:
    """Relations and graphs of one run, and the weights of the graphs."""

    relations: list[Relation]
    graphs: tuple[Graph, ...]
    betas: list[float]

    def cluster(self, n_programs: int, *, balance: str, seed: int) -> Clustering:
        """The programs."""
        return cluster_genes(self.relations, self.graphs, n_programs, balance=balance, seed=seed, beta=self.betas)


def _symmetric(network: GeneGraph, genes: Sequence[str]) -> Graph:
    weights = abs(network.adjacency(genes))
    return sparse.csr_array(weights.maximum(weights.T))
