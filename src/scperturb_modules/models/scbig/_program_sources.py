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
from scperturb_modules.models.scbig._clustering import Clustering, Graph, cluster_genes
from scperturb_modules.models.scbig._n_programs import MOST, choose_n_programs
from scperturb_modules.models.scbig._program_cells import ProgramCells
from scperturb_modules.models.scbig._relations import (
    Relation,
    coexpression_relation,
    response_relation,
    table_relation,
    weighted_by_agreement,
)
from scperturb_modules.models.scbig._settings import COEXPRESSION, PRIORS, RESPONSE, ScbigSettings
from scperturb_modules.priors import GeneGraph

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class ProgramSources:
    """Cells (None where there are none), and relations and graphs that do not depend on which cells are drawn."""

    cells: ProgramCells | None
    use_cells: bool
    fixed: tuple[Relation, ...]
    graphs: tuple[Graph, ...]
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
        """Read what is wanted: ``"coexpression"``, ``"response"``, ``"priors"``."""
        if screen is None and COEXPRESSION in wanted:
            raise DataError(
                "Gene programs are found from how genes vary between cells, and a pseudobulk has none: build the model "
                'from the screen, or pass relations=("response", "priors").'
            )
        fixed: list[Relation] = []
        graphs: list[Graph] = []
        if RESPONSE in wanted:
            fixed += [one for one in [response_relation(data.delta, data.se2)] if one is not None]
        if PRIORS in wanted:
            fixed += [table_relation(name, table, data.var_names) for name, table in tables.items()]
            graphs += [_symmetric(network, data.var_names) for network in networks.values()]
        cells = None if screen is None else ProgramCells.of(screen, data, seed=seed)
        return cls(cells, COEXPRESSION in wanted, tuple(fixed), tuple(graphs), data.var_names)

    def relations(self, *, seed: int, rows: NDArray[np.intp] | None = None) -> list[Relation]:
        """All of them; of some of the cells where ``rows`` are given."""
        found = list(self.fixed)
        if self.use_cells and self.cells is not None:
            every = np.arange(self.cells.cells.shape[0]) if rows is None else rows
            cells, covariates = self.cells.cells[every], self.cells.covariates[every]
            found.insert(0, coexpression_relation(cells, covariates, rank=MOST, seed=seed))
            found = weighted_by_agreement(found, seed=seed)
        return found

    def programs(self, settings: ScbigSettings, *, seed: int) -> tuple[Clustering, dict[str, Any]]:
        """The programs, and a plain report."""
        relations = self.relations(seed=seed)
        report: dict[str, Any] = {
            "sources": pd.DataFrame(
                {
                    "source": [one.name for one in relations],
                    "n_genes": [int(one.covered.sum()) for one in relations],
                    "n_directions": [one.n_directions for one in relations],
                    "weight": [one.weight for one in relations],
                }
            )
        }
        n_programs = settings.n_programs
        if n_programs == "auto":
            n_programs, report["scan"] = choose_n_programs(relations, self.graphs, seed=seed)
        found = cluster_genes(relations, self.graphs, int(n_programs), balance=settings.balance, seed=seed)
        report["uncovered"] = np.array(self.genes, dtype=object)[found.uncovered]
        if settings.random_programs:
            dealt = np.random.default_rng(seed).permutation(np.arange(len(self.genes)) % int(n_programs))
            found = Clustering(dealt, np.zeros(len(dealt)), found.uncovered)
        return found, report


def _symmetric(network: GeneGraph, genes: Sequence[str]) -> Graph:
    weights = abs(network.adjacency(genes))
    return sparse.csr_array(weights.maximum(weights.T))
