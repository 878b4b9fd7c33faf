"""A plain view of a training pseudobulk: arrays and names, no AnnData and no test cell within reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, genes_of, parse_row_name, row_name
from scperturb_modules._errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Source = tuple[str | None, ...]
"""The contexts whose training conditions serve one context."""

MIN_SAME_ORDER = 5
"""Fewer training pairs than this do not make a mean of pairs (triples: of triples)."""


@dataclass(frozen=True)
class TrainingData:
    """What a baseline learns from; rows sorted by name.

    Attributes
    ----------
    rows
        (condition, context) of each of the P training rows.
    genes
        The perturbed genes of each row, sorted.
    var_names
        The G measured genes.
    contexts
        Every context with controls, also those without a perturbed training condition.
    mean, delta, se2
        (P, G) float64: mean log1p expression, its change against matched control, squared standard error of the
        change.
    """

    rows: tuple[Row, ...]
    genes: tuple[tuple[str, ...], ...]
    var_names: tuple[str, ...]
    contexts: tuple[str | None, ...]
    mean: Array
    delta: Array
    se2: Array

    @classmethod
    def from_pseudobulk(cls, training: AnnData) -> TrainingData:
        """Read a pseudobulk made by ``spm.pp.pseudobulk(adata, cells="training")``.

        Raises
        ------
        DataError
            The pseudobulk has no row.
        """
        if training.n_obs == 0:
            raise DataError(
                "There is no perturbed training condition; a baseline needs at least one. Check obs['split'] or call "
                "spm.pp.split(adata, ...)."
            )
        order = np.argsort(np.asarray(training.obs_names, dtype=str), kind="stable")
        rows = tuple(parse_row_name(str(training.obs_names[i])) for i in order)
        control = control_label(training)
        return cls(
            rows=rows,
            genes=tuple(genes_of(condition, control=control) for condition, _ in rows),
            var_names=tuple(map(str, training.var_names)),
            contexts=contexts_of(training),
            mean=np.asarray(training.X, dtype=np.float64)[order],
            delta=np.asarray(training.layers[keys.DELTA], dtype=np.float64)[order],
            se2=_complete_se2(training)[order],
        )

    @cached_property
    def index(self) -> Mapping[Row, int]:
        """Row number of each (condition, context)."""
        return {row: i for i, row in enumerate(self.rows)}

    @cached_property
    def order(self) -> Index:
        """(P,) number of perturbed genes of each row."""
        return np.array([len(genes) for genes in self.genes], dtype=np.intp)

    @cached_property
    def known_genes(self) -> frozenset[str]:
        """Genes that are measured or perturbed in training."""
        return frozenset(self.var_names).union(*self.genes)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The distinct sources of all contexts."""
        return tuple(dict.fromkeys(self.source(context) for context in self.contexts))

    @cached_property
    def perturbed_contexts(self) -> Source:
        """The contexts with perturbed training conditions."""
        return tuple(dict.fromkeys(context for _, context in self.rows))

    @cached_property
    def _rows(self) -> dict[tuple[Source, int | None], Index]:
        return {}

    @cached_property
    def _means(self) -> dict[tuple[Source, int], Array]:
        return {}

    def source(self, context: str | None) -> Source:
        """A context with perturbed training conditions serves itself; any other is served by all that have some."""
        return (context,) if context in self.perturbed_contexts else self.perturbed_contexts

    def rows_of(self, source: Source, *, order: int | None = None) -> Index:
        """Row numbers of a source, all of them or those with ``order`` perturbed genes."""
        if (source, order) not in self._rows:
            inside = np.array([context in source for _, context in self.rows])
            self._rows[source, order] = np.flatnonzero(inside if order is None else inside & (self.order == order))
        return self._rows[source, order]

    def single(self, gene: str, context: str | None) -> int | None:
        """Row number of the single perturbation of a gene *in this context*, if it was measured."""
        return self.index.get((gene, context))

    def mean_single(self, source: Source) -> Array:
        """(G,) unweighted mean change of the singles; without any single, of the conditions' change per gene."""
        if (source, 1) not in self._means:
            self._means[source, 1] = self.single_changes(source)[1].mean(axis=0)
        return self._means[source, 1]

    def single_changes(self, source: Source) -> tuple[Index, Array]:
        """Rows that tell the mean single, and their (n, G) changes per gene: singles; without any, all conditions."""
        singles = self.rows_of(source, order=1)
        rows = singles if len(singles) else self.rows_of(source)
        return rows, self.delta[rows] / self.order[rows, None]

    def has_own_mean(self, source: Source, order: int) -> bool:
        """Whether enough conditions of this many genes were measured for a mean of their own."""
        return len(self.rows_of(source, order=order)) >= MIN_SAME_ORDER

    def mean_shift(self, source: Source, order: int) -> Array:
        """(G,) mean change of conditions of the same order; of singles where fewer than five were measured."""
        if order == 1 or not self.has_own_mean(source, order):
            return self.mean_single(source)
        if (source, order) not in self._means:
            self._means[source, order] = self.delta[self.rows_of(source, order=order)].mean(axis=0)
        return self._means[source, order]


def contexts_of(training: AnnData) -> tuple[str | None, ...]:
    """The contexts of a pseudobulk in the order of ``varm["control_mean"]``; (None,) where there is one only."""
    stored = training.uns[keys.ROOT][keys.PSEUDOBULK]["contexts"]
    return tuple(str(context) or None for context in stored)


def control_label(training: AnnData) -> str:
    """Label of the control of the screen that a pseudobulk was made from."""
    return keys.ScreenKeys.from_uns(training.uns[keys.ROOT][keys.SETUP]).control


def named_rows(names: tuple[Row, ...]) -> list[str]:
    """Names of rows."""
    return [row_name(condition, context) for condition, context in names]


def _complete_se2(training: AnnData) -> Array:
    """Squared standard errors; a condition of one cell gets the variance of the median condition."""
    se2 = np.array(training.layers[keys.SE2], dtype=np.float64)
    missing = np.isnan(se2)
    if missing.any():
        control = np.asarray(training.layers[keys.SE2_CONTROL], dtype=np.float64)
        n_cells = training.obs[keys.N_CELLS].to_numpy(dtype=np.float64)[:, None]
        known = ~missing.any(axis=1)
        variance = np.median(((se2 - control) * n_cells)[known], axis=0) if known.any() else np.inf
        # without any replicate the noise is unknown; infinite noise shrinks the measurement away
        se2 = np.where(missing, variance / n_cells + np.nan_to_num(control, nan=0.0), se2)
    return se2
