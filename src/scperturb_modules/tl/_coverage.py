"""Do intervals hold what they promise? Measured on the test conditions of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules.baselines._intervals import interval_half_widths
from scperturb_modules.metrics import mean_interval
from scperturb_modules.metrics._conformal import LEVEL, LEVELS
from scperturb_modules.tl._summary import REGIME, blocks
from scperturb_modules.tl._yardstick import Array, Yardstick

if TYPE_CHECKING:
    from anndata import AnnData

CALIBRATION_COLUMNS = [
    "model", "regime", "stratum", "condition", "level", "coverage", "width", "score", "constant_coverage",
    "constant_width", "constant_score", "error", "expected_error", "error_bound", "interval", "abstain",
]  # fmt: skip
COVERAGE_COLUMNS = [
    *REGIME, "model", "n", "coverage", "coverage_low", "coverage_high", "width", "relative_width", "interval_score",
    "constant_coverage", "constant_score", "bound_coverage",
]  # fmt: skip
YARDSTICK = "MeanShift"
"""Widths are compared with the intervals of this baseline."""


def interval_rows(prediction: AnnData, against: Yardstick, *, model: str, min_cells: int) -> pd.DataFrame:
    """How the intervals of a Prediction did on each test condition.

    Parameters
    ----------
    prediction
        With intervals or without (then there is no row).
    against
        The truth. Intervals are taken for the number of cells that each condition has.
    model
        Name of the predictor.
    min_cells
        Conditions with fewer cells are left out, as in the result table.

    Returns
    -------
    DataFrame
        A row per condition with an interval and per level: ``coverage`` (share of genes whose measured change is
        inside), ``width`` (mean, log1p), ``score`` (interval score of Gneiting and Raftery 2007: width plus what is
        missed times 2 / (1 - level)), the same of intervals that are equally wide everywhere (``constant_``), L2
        ``error`` over the top genes, ``expected_error`` (of the interval at 90 %), ``error_bound``, ``interval`` and
        ``abstain``.
    """
    if keys.INTERVALS not in prediction.uns.get(keys.ROOT, {}).get(keys.PREDICTION, {}):
        return pd.DataFrame(columns=CALIBRATION_COLUMNS)
    rows = prediction.obs_names.get_indexer(list(against.names))
    kept = np.flatnonzero((rows >= 0) & (against.n_cells >= min_cells))
    rows = rows[kept]
    n_cells = np.ones(prediction.n_obs)
    n_cells[rows] = against.n_cells[kept]
    genes = prediction.var_names.get_indexer(list(against.var_names))
    predicted = np.asarray(prediction.layers[keys.DELTA], dtype=np.float64)[rows][:, genes]
    missed = np.abs(against.difference[kept] - predicted)
    half = {level: interval_half_widths(prediction, level=level, n_cells=n_cells)[rows][:, genes] for level in LEVELS}
    constant = prediction.uns[keys.ROOT][keys.PREDICTION][keys.INTERVALS].set_index(["regime", "level"])["constant"]
    lines = [
        line
        for i, (p, row) in enumerate(zip(kept, rows, strict=True))
        if np.isfinite(half[LEVEL][i]).all()
        for line in _lines(prediction.obs.iloc[row], against, int(p), missed[i], {one: half[one][i] for one in LEVELS},
                           constant)
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=CALIBRATION_COLUMNS[1:]).assign(model=model)[CALIBRATION_COLUMNS]


def _lines(
    said: pd.Series, against: Yardstick, p: int, missed: Array, half: dict[float, Array], constant: pd.Series
) -> Iterator[tuple[Any, ...]]:
    condition, context = against.rows[p]
    top = against.top[p]
    regime = str(said[keys.SEEN])
    error, expected = (float(np.sqrt((one[top] ** 2).sum())) for one in (missed, half[LEVEL]))
    for level, width in half.items():
        equal = np.full_like(width, constant[regime, level])
        yield (
            against.regimes[p], context or "", condition, level, *_judged(missed, width, level),
            *_judged(missed, equal, level), error, expected, float(said[keys.ERROR_BOUND]), str(said[keys.INTERVAL]),
            bool(said[keys.ABSTAIN]),
        )  # fmt: skip


def _judged(missed: Array, half: Array, level: float) -> tuple[float, float, float]:
    """Coverage, width and interval score, means over genes."""
    beyond = np.maximum(missed - half, 0.0)
    return float((missed <= half).mean()), float(2 * half.mean()), float((2 * half + 2 / (1 - level) * beyond).mean())


def coverage(calibration: pd.DataFrame, *, n_boot: int, seed: int, level: float = LEVEL) -> pd.DataFrame:
    """Coverage and sharpness of every predictor with intervals.

    Parameters
    ----------
    calibration
        Rows of :func:`interval_rows` of all splits, with ``split_kind``.
    n_boot, seed
        Of the bootstrap over conditions.
    level
        One of the levels.

    Returns
    -------
    DataFrame
        A row per split kind, regime and predictor: ``n`` conditions, ``coverage`` with its 95 % interval, mean
        ``width``, ``relative_width`` (over that of MeanShift's intervals on the same conditions), ``interval_score``
        (lower is better), coverage and score of intervals that are equally wide everywhere, and ``bound_coverage``,
        the share of conditions whose L2 error is below its bound.
    """
    chosen = calibration[np.isclose(calibration["level"].astype(float), level)]
    unit = ["stratum", "condition"]
    lines = []
    for (split, regime), block in blocks(chosen, REGIME):
        yardstick = block[block["model"] == YARDSTICK].groupby(unit)["width"].mean()
        for (model,), rows in blocks(block, ["model"]):
            own = rows.groupby(unit, sort=True)[["coverage", "width", "score", "constant_coverage", "constant_score"]]
            mean = own.mean()
            found = mean_interval(mean["coverage"], mean.index.get_level_values(1), n_boot=n_boot, seed=seed)
            both = pd.DataFrame({"own": mean["width"], "other": yardstick}).dropna()
            lines.append(
                (
                    split, regime, model, len(mean), mean["coverage"].mean(), found.low, found.high,
                    mean["width"].mean(), both["own"].sum() / both["other"].sum() if len(both) else np.nan,
                    mean["score"].mean(), mean["constant_coverage"].mean(), mean["constant_score"].mean(),
                    (rows["error"] <= rows["error_bound"]).mean(),
                )
            )  # fmt: skip
    return pd.DataFrame(lines, columns=COVERAGE_COLUMNS)
