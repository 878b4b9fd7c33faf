"""Bootstrap intervals of a ratio of two sums over units; all draws depend on the seed and the number of units only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Method = Literal["bca", "percentile", "studentised", "none"]

N_BOOT = 10_000
MIN_CLUSTERS = 10
"""Below this no interval is given and no verdict."""
FIRM_CLUSTERS = 20
"""Below this a verdict is provisional."""
BCA_CLUSTERS = 40
"""Below this the interval is studentised, because a BCa interval is too short.

Simulated coverage with lognormal sizes and a scatter of 12 % (2000 runs each), BCa and studentised: n = 12: 90 and
95 %; 20: 92 and 95 %; 31: 94 and 96 %; 62: 94 and 95 %. False "beats", which should be 2.5 %: 5.1 and 2.7; 3.8 and 2.4;
3.5 and 2.6; 3.1 and 2.8 %.
"""
ALPHA = 0.05
_DRAWS_AT_ONCE = 2_000_000  # resampled numbers held in memory


@dataclass(frozen=True)
class Interval:
    """A ratio of sums with its 95 % interval; ``low`` and ``high`` are NaN where none can be given.

    ``p_below_one`` is the two-sided level at which the interval just reaches 1 from below: the interval lies below 1
    where it is under .05. Never less than one draw can show; NaN without an interval.
    """

    value: float
    low: float
    high: float
    n: int
    method: Method
    p_below_one: float = field(default=float("nan"), repr=False)


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike, *, n_boot: int = N_BOOT, seed: int = 0) -> Interval:
    """``sum(numerator) / sum(denominator)`` over units, with a paired bootstrap interval.

    Parameters
    ----------
    numerator, denominator
        (n,) a pair per unit.
    n_boot, seed
        As in :func:`compare`.

    Returns
    -------
    Interval
        The ratio; NaN where the denominator sums to 0 (1 where both sides are equal everywhere).

    Examples
    --------
    >>> import numpy as np
    >>> ratio_interval(np.ones(25), np.full(25, 2.0))
    Interval(value=0.5, low=0.5, high=0.5, n=25, method='percentile')
    """
    pairs = np.column_stack([np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)])
    n = len(pairs)
    if np.array_equal(pairs[:, 0], pairs[:, 1]):
        low = 1.0 if n >= MIN_CLUSTERS else float("nan")
        return Interval(1.0, low, low, n, "percentile" if n >= MIN_CLUSTERS else "none", low)
    if pairs[:, 1].sum() == 0:
        return Interval(float("nan"), float("nan"), float("nan"), n, "none")
    value = float(_ratio(pairs.sum(axis=0)))
    if n < MIN_CLUSTERS:
        return Interval(value, float("nan"), float("nan"), n, "none")
    make = _bca if n >= BCA_CLUSTERS else _studentised
    low, high, method, one_sided = make(pairs, n_boot, seed)
    return Interval(value, low, high, n, method, min(1.0, 2.0 * max(one_sided, 1.0 / (n_boot + 1))))


def _ratio(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def _ratio_variance(sums: Array) -> Array:
    """Squared standard error of a ratio by the delta method, from the sums of x, y, xx, xy, yy over n units.

    Without its factor ``n / (n - 1)``, which cancels when draws are measured in it.
    """
    x, y, xx, xy, yy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = x / y
        residual = np.maximum(0.0, xx - 2 * ratio * xy + ratio**2 * yy)
        return residual / y**2


def batches(n_draws: int, n: int) -> Iterator[int]:
    """Sizes of the blocks in which ``n_draws`` resamples of ``n`` units are drawn, so that memory stays bounded."""
    size = max(1, _DRAWS_AT_ONCE // n)
    for start in range(0, n_draws, size):
        yield min(size, n_draws - start)


def _draw(columns: Array, statistic: Callable[[Array], Array], n_boot: int, seed: int) -> Array:
    """``statistic`` of the column sums of ``n_boot`` resamples of the rows; (n_boot, ...) with its shape."""
    rng = np.random.default_rng(seed)
    n = len(columns)
    parts = []
    for n_rows in batches(n_boot, n):
        rows = rng.integers(0, n, (n_rows, n))
        parts.append(statistic(np.stack([column[rows].sum(axis=1) for column in columns.T], axis=-1)))
    return np.concatenate(parts)


def _bca(pairs: Array, n_boot: int, seed: int) -> tuple[float, float, Method, float]:
    """Bias-corrected and accelerated interval of the ratio (Efron 1987), percentile where that is undefined.

    The last number is the tail beyond which the upper bound reaches 1: the quantiles of the interval, solved for it.
    """
    from scipy.special import ndtr, ndtri

    draws = _draw(pairs, _ratio, n_boot, seed)
    draws = draws[np.isfinite(draws)]
    total = pairs.sum(axis=0)
    share_below = ((draws < _ratio(total)).mean() + (draws <= _ratio(total)).mean()) / 2
    left_out = _ratio(total - pairs)
    centred = left_out.mean() - left_out
    spread = np.sum(centred**2)
    tails = np.array([ALPHA / 2, 1 - ALPHA / 2])
    method: Method = "percentile"
    bias = acceleration = 0.0
    # a ratio that is the same for every unit has no spread beyond rounding
    if 0 < share_below < 1 and spread > (1e-12 * _ratio(total)) ** 2:
        acceleration = np.sum(centred**3) / (6 * spread**1.5)
        bias = ndtri(share_below)
        shifted = bias + ndtri(tails)
        tails = ndtr(bias + shifted / (1 - acceleration * shifted))
        method = "bca"
    low, high = np.quantile(draws, tails)
    at_one = ndtri((draws < 1.0).mean()) - bias
    with np.errstate(invalid="ignore"):
        beyond = float(ndtr(bias - at_one / (1 + acceleration * at_one)))
    if not np.isfinite(at_one) or 1 + acceleration * at_one <= 0:  # all draws on one side
        beyond = 0.0 if at_one > 0 else 1.0
    return float(low), float(high), method, beyond


def _studentised(pairs: Array, n_boot: int, seed: int) -> tuple[float, float, Method, float]:
    """Bootstrap-t interval of the ratio: the draws are measured in their own standard errors; tail as in BCa."""
    x, y = pairs.T
    columns = np.column_stack([x, y, x * x, x * y, y * y])
    sums = columns.sum(axis=0)
    value, error = _ratio(sums), np.sqrt(_ratio_variance(sums))

    def studentise(drawn: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (_ratio(drawn) - value) / np.sqrt(_ratio_variance(drawn))

    if error <= 1e-7 * abs(value):  # the same ratio for every unit; squares lose half of the digits
        return float(value), float(value), "percentile", float(value >= 1.0)
    draws = _draw(columns, studentise, n_boot, seed)
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [ALPHA / 2, 1 - ALPHA / 2])
    beyond = float(np.mean(draws <= (value - 1.0) / error))
    return float(value - high * error), float(value - low * error), "studentised", beyond
