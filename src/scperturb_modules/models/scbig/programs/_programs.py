"""Gene programs of a screen, what is known of them, and how active they are in a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.models.scbig.programs._coherence import changes_as_samples, coherence, loadings, residual_samples
from scperturb_modules.models.scbig.programs._program_sources import ProgramSources
from scperturb_modules.priors import GeneGraph

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]

LEAST_SD = 0.1
"""A gene that varies less in controls is scaled as if it varied so much."""

N_TOP = 20
"""Genes that stand for a program in its table."""


@dataclass(frozen=True, eq=False)
class GenePrograms:
    """Which genes go together, learned once from the training side.

    Attributes
    ----------
    genes, labels
        (G,) str: genes, and the program of each, ``"P1"`` (the largest) to ``"PK"``.
    margin
        (G,) how much nearer a gene is to its program than to the next.
    loading
        (G,) correlation with the activity of the program's other genes, in training cells without what covariates
        explain.
    mean, sd
        (G,) of training controls.
    within, z
        (K,) mean loading of a program's genes, and how many standard deviations it is above that of random sets of
        the same size.
    relations
        (K, K) correlation of program activities over training controls.
    report
        Plain values: ``"uncovered"`` genes, ``"sources"``, and the ``"scan"`` over the number of programs.
    """

    genes: NDArray[Any]
    labels: NDArray[Any]
    margin: Array
    loading: Array
    mean: Array
    sd: Array
    within: Array
    z: Array
    relations: Array
    report: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def learn(
        cls,
        screen: AnnData | None,
        data: TrainingData,
        training: AnnData,
        *,
        networks: Mapping[str, GeneGraph],
        tables: Mapping[str, pd.DataFrame],
        settings: ScbigSettings,
        seed: int = 0,
    ) -> GenePrograms:
        """Find programs on the training side of a screen.

        Parameters
        ----------
        screen
            After setup, of which training cells alone are read; None: there are no cells.
        data, training
            The training pseudobulk, as arrays and as it is.
        networks, tables
            Priors.
        settings
            ``n_programs``, ``balance``, ``relations``, ``random_programs``.
        seed
            Of the draw of cells and of all starts.

        Raises
        ------
        DataError
            Co-expression is asked for without cells; nothing is known of the genes, or of too few for so many.
        """
        sources = ProgramSources.of(
            screen, data, networks=networks, tables=tables, wanted=settings.relations, seed=seed
        )
        found, report = sources.programs(settings, seed=seed)
        names = np.array([f"P{k + 1}" for k in range(int(found.labels.max()) + 1)], dtype=object)
        cells = sources.cells
        samples = changes_as_samples(data) if cells is None else residual_samples(cells)
        mean, sd = _control_moments(training) if cells is None else (cells.mean, cells.sd)
        within, z = coherence(samples, found.labels, seed=seed)
        programs = cls(
            genes=np.array(data.var_names, dtype=object),
            labels=names[found.labels],
            margin=found.margin,
            loading=loadings(samples, found.labels),
            mean=mean,
            sd=sd,
            within=within,
            z=z,
            relations=np.eye(len(names)),
            report=report,
        )
        states = programs.activity(cells.controls) if cells is not None else programs.project(data.delta)
        programs.relations[:] = _correlation(np.asarray(states, dtype=np.float64))
        return programs

    @cached_property
    def code(self) -> NDArray[np.int64]:
        """(G,) number of each gene's program, from 0."""
        return np.array([int(str(label)[1:]) - 1 for label in self.labels], dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """``"P1"`` to ``"PK"``."""
        return tuple(f"P{k + 1}" for k in range(len(self.within)))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(K,) genes of each program."""
        return np.bincount(self.code, minlength=len(self.within)).astype(np.int64)

    @cached_property
    def projection(self) -> Array:
        """(G, K) what a unit of each gene adds to each program's activity."""
        weight = np.zeros((len(self.code), len(self.sizes)))
        genes = np.arange(len(self.code))
        weight[genes, self.code] = 1 / (np.maximum(self.sd, LEAST_SD) * self.sizes[self.code])
        return weight

    def activity(self, cells: Any) -> NDArray[np.float32]:
        """(n, K) float32 mean over each program's genes, in standard deviations from training controls.

        Parameters
        ----------
        cells
            (n, G) array or CSR, log1p CP10k, genes in the order of ``genes``.
        """
        return np.asarray(cells @ self.projection - self.mean @ self.projection, dtype=np.float32)

    def project(self, change: Any) -> Array:
        """(..., K) the same of changes (..., G), of which no mean is taken."""
        return np.asarray(change @ self.projection, dtype=np.float64)

    def standard_error(self, error: Array) -> Array:
        """(..., K) standard error of projected changes, given those of the genes (..., G), which are independent."""
        return np.sqrt(np.square(error) @ np.square(self.projection))

    def genes_table(self, top: int | None = None) -> pd.DataFrame:
        """A row for each gene: program, gene, loading, margin; by program, the highest loading first."""
        table = pd.DataFrame(
            {"program": self.labels, "gene": self.genes, "loading": self.loading, "margin": self.margin}
        )
        order = np.lexsort((np.arange(len(table)), -self.loading, self.code))
        table = table.iloc[order].reset_index(drop=True)
        return table if top is None else table.groupby("program", sort=False).head(top).reset_index(drop=True)

    def table(self) -> pd.DataFrame:
        """A row for each program: n_genes, top_genes, within, z, and the name, which enrichment fills."""
        best = self.genes_table(N_TOP).groupby("program", sort=False)["gene"].agg(";".join)
        names = list(self.names)
        return pd.DataFrame(
            {
                "n_genes": self.sizes,
                "top_genes": best.reindex(names).to_numpy(),
                "within": self.within,
                "z": self.z,
                "name": "",
            },
            index=names,
        )

    def to_uns(self) -> dict[str, Any]:
        """Plain arrays and text, that survive h5ad and zarr."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> GenePrograms:
        """What :meth:`to_uns` wrote."""
        arrays = {one.name: np.asarray(stored[one.name]) for one in fields(cls) if one.name != "report"}
        return cls(**arrays, report=dict(stored.get("report", {})))


def _control_moments(training: AnnData) -> tuple[Array, Array]:
    """(G,) mean and standard deviation of training controls, from a pseudobulk."""
    mean = np.asarray(training.varm[keys.CONTROL_MEAN], dtype=np.float64).mean(axis=1)
    best = int(np.argmax(training.obs[keys.N_CONTROLS].to_numpy()))
    se2 = np.nan_to_num(np.asarray(training.layers[keys.SE2_CONTROL], dtype=np.float64)[best])
    return mean, np.sqrt(se2 * training.obs[keys.N_CONTROLS].iloc[best])


def _correlation(states: Array) -> Array:
    """(K, K); a program that does not vary correlates with none."""
    centred = states - states.mean(axis=0)
    length = np.linalg.norm(centred, axis=0)
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)
    found = unit.T @ unit
    np.fill_diagonal(found, 1.0)
    return found
