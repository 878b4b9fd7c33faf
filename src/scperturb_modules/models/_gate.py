"""How much of a network's residual to add to the anchor: one factor per regime, fitted on left-out conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MIN_CONDITIONS = 5
"""Fewer left-out conditions of a regime than this do not fit a gate."""

MIN_GAIN = 0.02
"""A gate opens only for at least this much less error, as a share of the anchor's. Where doubles are sums, a network
still gains about one percent, because it shrinks the noise of singles once more: that is no interaction. With planted
interactions gains on left-out pairs begin at three percent (simulated screens, seeds 100 to 107)."""

TOO_FEW = "too_few_for_gate"
"""Status of a row whose regime had fewer than five left-out conditions."""


@dataclass(frozen=True)
class Gate:
    """The gate of one regime.

    Parameters
    ----------
    factor
        0 to 1; what the residual is multiplied by.
    least_squares
        The least-squares factor before it was asked whether it helps.
    n
        Left-out conditions that it was fitted on.
    gain, se
        Mean over conditions of how much less the L2 error is than the anchor's, and its standard error; every
        condition judged under the factor that the others give. NaN with fewer than two.
    """

    factor: float
    least_squares: float
    n: int
    gain: float
    se: float

    @property
    def fitted(self) -> bool:
        """Whether there were enough conditions."""
        return self.n >= MIN_CONDITIONS


CLOSED = Gate(0.0, 0.0, 0, float("nan"), float("nan"))
OPEN = Gate(1.0, 1.0, 0, float("nan"), float("nan"))


@dataclass(frozen=True)
class LeftOut:
    """Predictions for left-out conditions against their truth, as inner products over genes.

    Parameters
    ----------
    row
        (n,) number of the condition; one that was predicted in several ways (another gene hidden) counts once.
    regime
        (n,) how much of it was known.
    product, square, anchor_square
        (n,) <t - A, r>, <r, r> and <t - A, t - A> of change t, anchor A and residual r.
    """

    row: NDArray[np.intp]
    regime: Sequence[str]
    product: Array
    square: Array
    anchor_square: Array


def fit_gates(left_out: LeftOut) -> dict[str, Gate]:
    """Fit the gate of every regime that occurs.

    The factor is the least-squares one, ``sum <t - A, r> / sum <r, r>`` cut to [0, 1]. It is used if, fitted without
    the condition that is judged, it lowers the L2 error by more than one standard error over conditions; else the gate
    is 0, as it is with fewer than five conditions.

    Examples
    --------
    >>> import numpy as np
    >>> rows, ones = np.arange(6), np.ones(6)
    >>> fit_gates(LeftOut(rows, ["pair_2of2"] * 6, 0.5 * ones, ones, 2 * ones))["pair_2of2"].factor
    0.5
    """
    regimes = np.asarray(left_out.regime, dtype=object)
    return {str(regime): _fit(left_out, regimes == regime) for regime in sorted(set(left_out.regime))}


def gates_to_plain(gates: Mapping[str, Gate]) -> dict[str, dict[str, Any]]:
    """For JSON and ``uns``."""
    return {regime: asdict(gate) for regime, gate in gates.items()}


def gates_from_plain(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Gate]:
    """Undo :func:`gates_to_plain`."""
    return {regime: Gate(**gate) for regime, gate in stored.items()}


def _fit(left_out: LeftOut, chosen: NDArray[np.bool_]) -> Gate:
    rows, number = np.unique(left_out.row[chosen], return_inverse=True)
    n = len(rows)
    times = np.bincount(number)
    product, square, anchor = (
        np.bincount(number, values[chosen]) / times
        for values in (left_out.product, left_out.square, left_out.anchor_square)
    )
    best = float(_factor(product.sum(), square.sum()))
    if n < 2:
        return Gate(0.0, best, n, float("nan"), float("nan"))
    factor = _factor(product.sum() - product, square.sum() - square)
    error = np.sqrt(np.maximum(anchor - 2 * factor * product + factor**2 * square, 0.0))
    gain = np.sqrt(anchor) - error
    mean, se = float(gain.mean()), float(gain.std(ddof=1) / np.sqrt(n))
    helps = n >= MIN_CONDITIONS and mean > se and mean >= MIN_GAIN * float(np.sqrt(anchor).mean())
    return Gate(best if helps else 0.0, best, n, mean, se)


def _factor(product: Any, square: Any) -> Any:
    """Least squares in [0, 1]; 0 without any residual."""
    ratio = np.divide(product, square, out=np.zeros(np.shape(square)), where=np.asarray(square) > 0)
    return np.clip(ratio, 0.0, 1.0)
