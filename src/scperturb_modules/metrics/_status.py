"""Why a value is missing or special, and the rules that all metrics share.

Every metric returns ``(value, status)``. Undefined values are NaN and counted by status; they are never replaced by a
number that looks like a score.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

OK = "ok"
MISSING = "missing"
FEW_CELLS = "few_cells"
FEW_GENES = "few_genes"
FEW_CONDITIONS = "few_conditions"
CONSTANT_PREDICTION = "constant_prediction"
CONSTANT_TRUTH = "constant_truth"
NO_TRUE_DE = "no_true_de"
ALL_DE = "all_de"
DEGENERATE = "degenerate"

STATUSES = (
    OK,
    MISSING,
    FEW_CELLS,
    FEW_GENES,
    FEW_CONDITIONS,
    CONSTANT_PREDICTION,
    CONSTANT_TRUTH,
    NO_TRUE_DE,
    ALL_DE,
    "measured",
    "unknown_gene",
    "no_embedding",
    "control_unmatched",
    DEGENERATE,
    "error",
)
"""The closed set of reasons that stand in column ``status`` of a result."""

MIN_GENES = 5
MIN_CELLS = 30
MIN_CONDITIONS = 10
ZERO = 1e-8
"""Changes of this size (log1p CP10k) or smaller count as none."""

Score = tuple[float, str]
Vector = NDArray[np.float64]


def is_constant(values: Vector) -> bool:
    """Whether the standard deviation is below 1e-8 of the largest value (or of 1, if that is larger).

    >>> is_constant(np.full(5, 3.0)), is_constant(np.arange(5.0))
    (True, False)
    """
    return bool(values.std() <= ZERO * max(1.0, np.abs(values).max()))


def checked_pair(truth: ArrayLike, prediction: ArrayLike) -> tuple[Vector, Vector]:
    """Both sides as float64 of one shape, or a ValueError that says what is wrong."""
    true, predicted = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if true.shape != predicted.shape:
        raise ValueError(f"truth has shape {true.shape} and prediction {predicted.shape}; align their genes first.")
    for name, values in (("truth", true), ("prediction", predicted)):
        n_bad = values.size - int(np.isfinite(values).sum())
        if n_bad:
            raise ValueError(f"{name} holds {n_bad} NaN or infinite values of {values.size}; a metric needs numbers.")
    return true, predicted


def settle(score: Score, *, n_cells: int, missing: bool = False, min_cells: int = MIN_CELLS) -> Score:
    """Apply to a condition's score the rules that do not depend on the metric.

    Parameters
    ----------
    score
        What the metric returned.
    n_cells
        Cells behind the truth; with fewer than ``min_cells`` nothing can be said: NaN, ``few_cells``.
    missing
        The predictor gave nothing and the score is that of the no-change prediction put in its place, so that
        abstaining earns nothing. The value stays, the status becomes ``missing``.
    min_cells
        Fewest cells that count.

    Returns
    -------
    value, status
        The value and its status.

    Examples
    --------
    >>> settle((2.0, "ok"), n_cells=100, missing=True), settle((2.0, "ok"), n_cells=12)
    ((2.0, 'missing'), (nan, 'few_cells'))
    """
    value, status = score
    if n_cells < min_cells:
        return float("nan"), FEW_CELLS
    if missing and status in (OK, CONSTANT_PREDICTION):
        return value, MISSING
    return value, status
