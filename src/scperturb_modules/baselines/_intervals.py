"""How far a prediction may be off: intervals from conditions that were left out in training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules.baselines._prediction import NO_INTERVAL, UNKNOWN_GENE
from scperturb_modules.baselines._training import Array, Index
from scperturb_modules.metrics import top_genes
from scperturb_modules.metrics._conformal import (
    FIRM_CONDITIONS,
    LEVEL,
    LEVELS,
    Conformal,
    expression_thirds,
)

if TYPE_CHECKING:
    from anndata import AnnData

FIRM, COARSE = "ok", "coarse"
"""Values of ``obs["interval"]`` where there is one."""

THIRDS = ("low", "middle", "high")
"""Columns of factors, by expression of the gene."""

TABLE_COLUMNS = ["regime", "n", "level", *THIRDS, "constant"]


class LeftOut(NamedTuple):
    """A training condition that was predicted without itself.

    ``row`` is its number, ``regime`` what it stood for, ``prediction`` (G,) the predicted change and ``error`` (G,) the
    measured change minus that.
    """

    row: int
    regime: str
    prediction: Array
    error: Array


@dataclass(frozen=True)
class Intervals:
    """Intervals of predicted changes, by regime.

    Attributes
    ----------
    regimes
        Regime to what makes its intervals; a regime with fewer than ten left-out conditions has none.
    cell_variance
        (G,) variance between the cells of a condition.
    n_cells
        Cells of the median training condition: the intervals are for an experiment with as many.
    """

    regimes: Mapping[str, Conformal]
    cell_variance: Array
    n_cells: float

    @classmethod
    def fit(cls, training: AnnData, rows: Sequence[str], left_out: Iterable[LeftOut]) -> Intervals:
        """Calibrate on left-out conditions.

        Parameters
        ----------
        training
            The training pseudobulk.
        rows
            Names of the conditions that the numbers in ``left_out`` count.
        left_out
            Left-out conditions of all regimes.
        """
        place = training.obs_names.get_indexer(list(rows))
        n_cells = training.obs[keys.N_CELLS].to_numpy(dtype=np.float64)[place]
        variance = _cell_variance(training)
        control_mean = np.asarray(training.var[keys.CONTROL_MEAN], dtype=np.float64)
        top = top_genes(control_mean, list(training.var_names))
        regimes = by_regime(left_out, variance / n_cells[:, None], expression_thirds(control_mean), top)
        return cls(regimes, variance, float(np.median(n_cells)))

    def write(self, prediction: AnnData, *, has_priors: bool) -> None:
        """Fill ``layers["lower"]`` and ``["upper"]``, ``obs["interval"]`` and ``["error_bound"]`` of a Prediction.

        With priors a gene that is known nowhere has none: left-out genes were known. Without any all genes are alike.

        ``obs["interval_cells"]``, ``var["cell_variance"]`` and, in ``uns["scperturb_modules"]["prediction"]``,
        ``intervals`` and ``level`` hold what :func:`interval_half_widths` needs for another number of cells or level.
        """
        change = prediction.layers[keys.DELTA]
        control_mean = np.asarray(prediction.var[keys.CONTROL_MEAN], dtype=np.float64)
        thirds, top = expression_thirds(control_mean), top_genes(control_mean, list(prediction.var_names))
        noise = self.cell_variance / self.n_cells
        half = np.full(change.shape, np.nan)
        bound = np.full(prediction.n_obs, np.nan)
        said = np.full(prediction.n_obs, NO_INTERVAL, dtype=object)
        seen = prediction.obs[keys.SEEN].astype(str).to_numpy()
        is_like_left_out = (prediction.obs[keys.STATUS].astype(str).to_numpy() != UNKNOWN_GENE) | (not has_priors)
        for regime, one in self.regimes.items():
            rows = np.flatnonzero((seen == regime) & is_like_left_out)
            half[rows] = one.half_width(change[rows], noise, thirds)
            bound[rows] = one.error_bound(change[rows], noise, top)
            said[rows] = FIRM if one.n >= FIRM_CONDITIONS else COARSE
        prediction.layers[keys.LOWER], prediction.layers[keys.UPPER] = change - half, change + half
        prediction.obs[keys.INTERVAL], prediction.obs[keys.ERROR_BOUND] = said, bound
        prediction.var[keys.CELL_VARIANCE] = self.cell_variance
        prediction.obs[keys.INTERVAL_CELLS] = self.n_cells
        prediction.uns[keys.ROOT][keys.PREDICTION] |= {keys.INTERVALS: self.table.copy(), keys.INTERVAL_LEVEL: LEVEL}

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per regime and level, with the number of left-out conditions.

        ``low, middle, high``: factors of the genes in each third by expression. ``constant``: half width that would do
        for all genes and conditions alike.
        """
        rows = [
            (regime, one.n, level, *np.broadcast_to(factors, len(THIRDS)).tolist(), constant)
            for regime, one in self.regimes.items()
            for level, factors, constant in zip(LEVELS, one.factors, one.constant.tolist(), strict=True)
        ]
        return pd.DataFrame(rows, columns=TABLE_COLUMNS)

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cell_variance": self.cell_variance.tolist(),
            "n_cells": self.n_cells,
            "regimes": {regime: one.to_plain() for regime, one in self.regimes.items()},
        }

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> Intervals:
        """Undo :meth:`to_plain`."""
        regimes = {regime: Conformal.from_plain(one) for regime, one in stored["regimes"].items()}
        return cls(regimes, np.array(stored["cell_variance"]), stored["n_cells"])


def by_regime(
    left_out: Iterable[LeftOut], noise: Array, groups: Index, top: Index, *, guarantee: bool = False
) -> dict[str, Conformal]:
    """Calibrate every regime on the left-out conditions that stood for it; one with too few of them is absent.

    ``noise`` (P, G) is the squared standard error of each condition's measurement; the others as in
    :meth:`Conformal.fit`.
    """
    rows: dict[str, list[LeftOut]] = {}
    for one in left_out:
        rows.setdefault(one.regime, []).append(one)
    fitted = {}
    for regime, found in sorted(rows.items()):
        condition = np.array([one.row for one in found], dtype=np.intp)
        error, prediction = np.stack([one.error for one in found]), np.stack([one.prediction for one in found])
        fitted[regime] = Conformal.fit(error, prediction, noise[condition], condition, groups, top, guarantee=guarantee)
    return {regime: one for regime, one in fitted.items() if one is not None}


def interval_half_widths(prediction: AnnData, *, level: float, n_cells: Array) -> Array:
    """(P, G) half widths for measurements of ``n_cells`` (P,) cells each; NaN in rows without an interval.

    Half the distance of ``layers["upper"]`` from ``["lower"]``, over its factor, is the expected error; the part of it
    that is due to the cells is replaced.
    """
    record = prediction.uns[keys.ROOT][keys.PREDICTION]
    table = record[keys.INTERVALS]
    thirds = expression_thirds(np.asarray(prediction.var[keys.CONTROL_MEAN], dtype=np.float64))
    variance = np.asarray(prediction.var[keys.CELL_VARIANCE], dtype=np.float64)
    half = (prediction.layers[keys.UPPER] - prediction.layers[keys.LOWER]) / 2
    more_noise = 1 / np.asarray(n_cells) - 1 / prediction.obs[keys.INTERVAL_CELLS].to_numpy(dtype=np.float64)
    seen = prediction.obs[keys.SEEN].astype(str).to_numpy()
    found = np.full(half.shape, np.nan)
    for regime in sorted(set(table["regime"].astype(str))):
        factors = table[table["regime"] == regime].set_index("level")[list(THIRDS)]
        own, wanted = (factors.loc[one].to_numpy()[thirds] for one in (record[keys.INTERVAL_LEVEL], level))
        inside = np.flatnonzero(seen == regime)
        expected = (half[inside] / own) ** 2 + variance * more_noise[inside, None]
        found[inside] = wanted * np.sqrt(np.maximum(expected, 0.0))
    return found


def _cell_variance(training: AnnData) -> Array:
    """(G,) variance between cells of one condition, pooled over conditions; 0 where each has one cell."""
    n_cells = training.obs[keys.N_CELLS].to_numpy(dtype=np.float64)
    of_mean = np.asarray(training.layers[keys.SE2]) - np.asarray(training.layers[keys.SE2_CONTROL])
    freedom = np.maximum(n_cells - 1, 0.0)
    if not freedom.any():
        return np.zeros(training.n_vars)
    several = n_cells > 1
    pooled = (freedom * n_cells)[several] @ of_mean[several] / freedom.sum()
    return np.maximum(pooled, 0.0)
