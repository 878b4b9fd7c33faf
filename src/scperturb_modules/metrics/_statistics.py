"""Is a difference between two predictors more than chance? Paired over conditions, never over genes or cells.

Everything here is a ratio of two sums over clusters of conditions: a gain is ``1 - sum(model) / sum(baseline)``, a mean
is ``sum(values) / number of values``. Both get their interval from the same bootstrap, whose draws depend on the seed
and the number of clusters only: all predictors of a comparison share them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._bootstrap import N_BOOT, Array, Interval, Method, batches, ratio_interval

EXACT_LIMIT = 15
"""Up to this many clusters all sign flips are tried."""


@dataclass(frozen=True)
class Gain:
    """How much smaller the error of a model is than that of a baseline, on the same conditions.

    Parameters
    ----------
    gain
        ``1 - mean(model) / mean(baseline)``: .05 is 5 % less error; NaN where the baseline makes no error.
    low, high
        95 % interval; NaN below 10 clusters.
    p
        Two-sided paired sign-flip permutation test of no difference.
    p_wilcoxon
        Wilcoxon's signed-rank test, as a check.
    p_gain
        P value of "no gain", read off the bootstrap that gives the interval: the two-sided level at which ``low``
        reaches 0, so that ``low`` > 0 where it is below .05. NaN without an interval.
    n
        Clusters of conditions.
    n_undefined
        Conditions left out because one of the two values is NaN.
    win_share
        Share of clusters with a smaller error of the model.
    scatter
        Relative standard deviation of one predictor's error around the level of its condition, the ``sd`` of
        :func:`plan`: that of the paired differences divided by the square root of 2.
    method
        How the interval was made.
    """

    gain: float
    low: float
    high: float
    p: float
    p_wilcoxon: float
    n: int
    n_undefined: int
    win_share: float
    scatter: float
    method: Method
    p_gain: float = float("nan")


def compare(
    e_model: ArrayLike,
    e_base: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    n_boot: int = N_BOOT,
    seed: int = 0,
) -> Gain:
    """Compare the errors of a model and of a baseline on the same conditions.

    Parameters
    ----------
    e_model, e_base
        (P,) errors, smaller is better (:meth:`Metric.loss`), averaged over a model's seeds and over splits first. NaN
        in either leaves the condition out.
    clusters
        (P,) labels; conditions of one label (the same genes in several contexts) are one unit. None: each its own.
    n_boot
        Bootstrap draws, and permutations where not all are tried.
    seed
        Of the draws; the same seed gives every model the same draws.

    Returns
    -------
    Gain
        The gain, its interval and tests. The interval is bias-corrected and accelerated (Efron 1987) from 40
        clusters on, studentised for 10 to 39, absent below; percentile where the acceleration is undefined.

    Raises
    ------
    ValueError
        The arrays differ in length, are empty of pairs, or an error is negative.

    Examples
    --------
    >>> import numpy as np
    >>> base = np.linspace(1, 2, 30)
    >>> result = compare(0.9 * base, base)
    >>> round(result.gain, 6), round(result.low, 6), result.win_share
    (0.1, 0.1, 1.0)
    """
    sums, n_undefined = _cluster_sums(e_model, e_base, clusters)
    if sums.min() < 0:
        raise ValueError("errors must not be negative: pass Metric.loss(values), not scores.")
    model, base = sums.T
    ratio = ratio_interval(model, base, n_boot=n_boot, seed=seed)
    return Gain(
        gain=1.0 - ratio.value,
        low=1.0 - ratio.high,
        high=1.0 - ratio.low,
        p=sign_flip_test(base - model, n_draws=n_boot, seed=seed),
        p_wilcoxon=wilcoxon_test(base - model),
        n=ratio.n,
        n_undefined=n_undefined,
        win_share=float(np.mean(model < base)),
        scatter=_scatter(model, base, ratio.value),
        method=ratio.method,
        p_gain=ratio.p_below_one,
    )


def mean_interval(
    values: ArrayLike, clusters: ArrayLike | None = None, *, n_boot: int = N_BOOT, seed: int = 0
) -> Interval:
    """Mean of a metric over conditions with its 95 % interval; NaN values are left out.

    Parameters, intervals and their limits as in :func:`compare`.

    Examples
    --------
    >>> mean_interval([1.0, 2.0, 3.0])
    Interval(value=2.0, low=nan, high=nan, n=3, method='none')
    """
    table = np.asarray(values, dtype=np.float64)
    if np.isnan(table).all():
        return Interval(float("nan"), float("nan"), float("nan"), 0, "none")
    sums, _ = _cluster_sums(table, np.ones_like(table), clusters)
    return ratio_interval(sums[:, 0], sums[:, 1], n_boot=n_boot, seed=seed)


def sign_flip_test(differences: ArrayLike, *, n_draws: int = N_BOOT, seed: int = 0) -> float:
    """Two-sided paired permutation test: under no difference each sign is as likely as its opposite.

    Parameters
    ----------
    differences
        (n,) paired differences per unit.
    n_draws
        Random sign vectors; up to 15 units all of them are tried instead.
    seed
        Of the draws.

    Returns
    -------
    float
        The p-value: the share of sign vectors (the observed one counted) with a sum at least as far from 0.

    Examples
    --------
    >>> sign_flip_test([1.0, 2.0, 3.0])
    0.25
    """
    values = np.asarray(differences, dtype=np.float64)
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()  # rounding must not lose a tie
    if values.size <= EXACT_LIMIT:
        bits = np.arange(2**values.size)[:, None] >> np.arange(values.size) & 1
        return float(np.mean(np.abs((2.0 * bits - 1.0) @ values) >= observed))
    rng = np.random.default_rng(seed)
    n_extreme = 0
    for n_rows in batches(n_draws, values.size):
        signs = 2.0 * rng.integers(0, 2, (n_rows, values.size), dtype=np.int8) - 1.0
        n_extreme += int(np.sum(np.abs(signs @ values) >= observed))
    return (1 + n_extreme) / (1 + n_draws)


def wilcoxon_test(differences: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; zeros are left out, and only zeros give 1."""
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    return float(wilcoxon(values).pvalue) if values.size else 1.0


def holm(p_values: ArrayLike) -> Array:
    """Holm's adjusted p-values (1979), for claims made together; NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, float("nan"), 0.02]).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    scaled = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted


def _cluster_sums(left: ArrayLike, right: ArrayLike, clusters: ArrayLike | None) -> tuple[Array, int]:
    """(n, 2) sums of both arrays per cluster, in sorted order of the labels, and the number of pairs left out."""
    pairs = np.column_stack([np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)])
    defined = ~np.isnan(pairs).any(axis=1)
    if not defined.any():
        raise ValueError(f"no condition has a value on both sides ({len(pairs)} were given).")
    n_undefined = int(np.sum(~defined))
    if clusters is None:
        return pairs[defined], n_undefined
    labels = np.asarray(clusters).astype(str)
    if len(labels) != len(pairs):
        raise ValueError(f"{len(labels)} cluster labels for {len(pairs)} conditions.")
    _, code = np.unique(labels[defined], return_inverse=True)
    columns = [np.bincount(code, weights=column) for column in pairs[defined].T]
    return np.column_stack(columns), n_undefined


def _scatter(model: Array, base: Array, ratio: float) -> float:
    if len(base) < 2 or base.sum() == 0:
        return float("nan")
    residual = (model - ratio * base) / base.mean()
    return float(residual.std(ddof=1) / np.sqrt(2.0))
