"""Predicted standard deviations, scaled so that they hold on left-out conditions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from scperturb_modules.models._gate import MIN_CONDITIONS
from scperturb_modules.models._left_out import Judged

COVERED = 0.9
NORMAL_QUANTILE = 1.6448536269514722
"""Of a normal distribution, this many standard deviations on both sides cover 90 %."""


def scale_factors(
    rows: Iterable[Judged], gate_of: Callable[[str], float], se: NDArray[np.floating]
) -> dict[str, float]:
    """Regime to the factor of the predicted standard deviation with which 90 % of left-out entries are covered.

    Parameters
    ----------
    rows
        Left-out conditions, each predicted by members that did not see it.
    gate_of
        Regime to the gate that its residual is multiplied by.
    se
        (P, G) standard error of each measured change: its noise is no error of the prediction.

    Returns
    -------
    dict
        The factor with which ``|error| / sqrt((factor sd)^2 + se^2)`` has its 90 % quantile where a normal
        distribution has it, split conformal over conditions; regimes with fewer than five conditions have none.
        Conditions whose noise is unknown (a screen of one cell each) do not count.
    """
    by_regime: dict[str, list[Judged]] = {}
    for row in rows:
        if np.isfinite(se[row.row]).all():
            by_regime.setdefault(row.regime, []).append(row)
    return {
        regime: _factor(found, gate_of(regime), se)
        for regime, found in by_regime.items()
        if len({row.row for row in found}) >= MIN_CONDITIONS
    }


def _factor(rows: list[Judged], gate: float, se: NDArray[np.floating]) -> float:
    error = np.stack([row.difference - gate * row.residual for row in rows])
    variance = np.stack([np.zeros_like(row.difference) if row.variance is None else row.variance for row in rows])
    # the factor of each entry at which the interval just covers it
    excess = np.maximum((error / NORMAL_QUANTILE) ** 2 - np.square(se[[row.row for row in rows]]), 0.0)
    return float(np.quantile(np.sqrt(excess / np.maximum(variance, 1e-30)), COVERED, method="higher"))
