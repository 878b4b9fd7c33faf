"""Distance correlation of many pairs of samples: any dependence, not only a straight line, between 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_AT_ONCE = 2**15  # numbers per array that stay in the processor's cache


def distance_correlation(u: ArrayLike, v: ArrayLike) -> Array:
    """Distance correlation of each row of ``u`` with the same row of ``v``, as the V-statistic.

    The correlation over all pairs of observations of their distances in u and in v, both centred by rows and columns.
    Single coordinates take m log(m) time, several m * m.

    Parameters
    ----------
    u, v
        (D, m) or (D, m, p) values of m observations (genes), of p coordinates each, with Euclidean distances. D and m
        are the same in both, p need not be.

    Returns
    -------
    ndarray of float64
        (D,) from 0 (independent, or one of the two is constant) to 1; NaN where a row holds a value that is not finite
        or there is no observation.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    References
    ----------
    Szekely, Rizzo and Bakirov (2007), Annals of Statistics 35, 2769, definitions 4 and 5.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 9)
    >>> distance_correlation([x, x, x], [x**2, -x, np.ones(9)]).round(2)
    array([0.5, 1. , 0. ])
    """
    one, other = _coordinates(u), _coordinates(v)
    (n_rows, _, m), found = one.shape, np.full(len(one), np.nan)
    if other.shape != (n_rows, other.shape[1], m):
        raise ValueError(
            f"u and v have shapes {np.shape(u)} and {np.shape(v)}; the first two numbers must be the same."
        )
    if m == 0:
        return found
    finite = np.flatnonzero(np.isfinite(one).all(axis=(1, 2)) & np.isfinite(other).all(axis=(1, 2)))
    step = max(1, _AT_ONCE // m)
    for block in range(0, len(finite), step):
        rows = finite[block : block + step]
        found[rows] = _correlation(_centred(one[rows]), _centred(other[rows]))
    return found


def _coordinates(values: ArrayLike) -> Array:
    """(D, p, m) a row per coordinate."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (2, 3):
        raise ValueError(f"values have shape {array.shape}; they must be (rows, observations[, coordinates]).")
    return array[:, None, :] if array.ndim == 2 else np.ascontiguousarray(array.transpose(0, 2, 1))


def _centred(values: Array) -> Array:
    """Around their mean, which saves digits; exactly 0 where they are constant, so that their variance is."""
    varies = np.ptp(values, axis=2, keepdims=True) > 0
    return np.where(varies, values - values.mean(axis=2, keepdims=True), 0.0)


def _correlation(u: Array, v: Array) -> Array:
    """(D,) of u (D, p, m) and v (D, q, m), both centred."""
    if u.shape[1] == v.shape[1] == 1:
        row_u, row_v = _mean_distances(u[:, 0]), _mean_distances(v[:, 0])
        product = _mean_product(u[:, 0], v[:, 0], row_u)
    else:
        parts = [_by_strips(one, other) for one, other in zip(u, v, strict=True)]
        row_u, row_v, product = (np.array(part) for part in zip(*parts, strict=True))
    covariance = _centred_mean(product, row_u, row_v)
    # the mean square of all distances is twice the variance
    variance_u = _centred_mean(2 * (u * u).sum(axis=1).mean(axis=1), row_u, row_u)
    variance_v = _centred_mean(2 * (v * v).sum(axis=1).mean(axis=1), row_v, row_v)
    scale = np.sqrt(variance_u * variance_v)
    return np.sqrt(np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0).clip(0, 1))


def _centred_mean(product: Array, row_u: Array, row_v: Array) -> Array:
    """Mean product of two distance matrices once both are centred, from what it is before and from their row means."""
    mean_u, mean_v = row_u.mean(axis=1, keepdims=True), row_v.mean(axis=1, keepdims=True)
    return product - 2 * ((row_u - mean_u) * (row_v - mean_v)).mean(axis=1) - (mean_u * mean_v)[:, 0]


def _mean_distances(x: Array) -> Array:
    """(D, m) mean distance of each of the numbers x to all m of its row."""
    m = x.shape[1]
    order = x.argsort(axis=1)
    ascending = np.take_along_axis(x, order, axis=1)
    below = np.cumsum(ascending, axis=1)
    total = ascending * (2 * np.arange(1, m + 1) - m) - 2 * below + below[:, -1:]
    mean = np.empty_like(x)
    np.put_along_axis(mean, order, total / m, axis=1)
    return mean


def _mean_product(x: Array, y: Array, mean_distance: Array) -> Array:
    """(D,) mean of |x_i - x_j| * |y_i - y_j| over all i, j, from y and the mean distances of x.

    With the places ordered by y it is twice the mean of y_i times the distances in x to the earlier places less those
    to the later ones. Earlier places are summed in halves of halves: each half is kept in the order of x, so that what
    lies below an element of the later half is a running sum over the earlier one.
    """
    n_rows, m = x.shape
    size = 1 << (m - 1).bit_length()  # filled up with places at the end, whose y of 0 keeps them out of the sums
    place = np.tile(np.arange(size), (n_rows, 1))
    by_y, by_x = y.argsort(axis=1), x.argsort(axis=1)
    rank = np.empty_like(by_y)
    np.put_along_axis(rank, by_y, place[:, :m], axis=1)
    place[:, :m] = np.take_along_axis(rank, by_x, axis=1)
    values, weights = np.zeros((2, n_rows, size))
    values[:, :m], weights[:, :m] = np.take_along_axis(x, by_x, axis=1), np.take_along_axis(y, by_x, axis=1)
    earlier = np.zeros(n_rows)
    half = size // 2
    while half:
        later = (place & half).astype(bool).reshape(n_rows, -1, 2 * half)
        values, weights, place = (kept.reshape(later.shape) for kept in (values, weights, place))
        n_below = np.cumsum(~later, axis=2)
        below = np.cumsum(np.where(later, 0.0, values), axis=2)
        distance = values * (2 * n_below - half) - 2 * below + below[:, :, -1:]
        earlier += (np.where(later, weights, 0.0) * distance).sum(axis=(1, 2))
        values, weights, place = (
            np.stack([kept[~later].reshape(n_rows, -1, half), kept[later].reshape(n_rows, -1, half)], axis=2)
            for kept in (values, weights, place)
        )
        half //= 2
    return 2 * (2 * earlier / m - (y * mean_distance).sum(axis=1)) / m


def _by_strips(u: Array, v: Array) -> tuple[Array, Array, float]:
    """Mean distances (m,) of u (p, m) and of v (q, m), and the mean product of their distances."""
    m = u.shape[1]
    height = max(1, _AT_ONCE // m)
    rows, product = np.zeros((2, m)), 0.0
    for start in range(0, m, height):
        pair = [_distances(values[:, start : start + height], values[:, start:]) for values in (u, v)]
        product += 2 * np.einsum("ij,ij->", *pair) - np.einsum("ij,ij->", *(part[:, :height] for part in pair))
        for total, part in zip(rows, pair, strict=True):
            total[start : start + height] += part.sum(axis=1)
            total[start + height :] += part[:, height:].sum(axis=0)
    return rows[0] / m, rows[1] / m, product / m**2


def _distances(one: Array, other: Array) -> Array:
    """(k, n) Euclidean distances of (p, k) and (p, n)."""
    apart = one[:, :, None] - other[:, None, :]
    return np.abs(apart[0]) if len(apart) == 1 else np.sqrt((apart * apart).sum(axis=0))
