"""Distance correlation of many pairs of samples: any dependence, not only a straight line, between 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_TILE = 256  # side of the blocks of the distance matrices that are held in memory


def distance_correlation(u: ArrayLike, v: ArrayLike) -> Array:
    """Distance correlation of each row of ``u`` with the same row of ``v``, as the V-statistic.

    Parameters
    ----------
    u, v
        (D, m) or (D, m, p) values of m observations (genes), of p coordinates each; Euclidean distances between
        observations. Both need the same D and m, not the same p.

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
    Szekely, Rizzo and Bakirov (2007), Annals of Statistics 35, 2769, definition 4.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 9)
    >>> distance_correlation([x, x, x], [x**2, -x, np.ones(9)]).round(2)
    array([0.5, 1. , 0. ])
    """
    one, other = (_three_axes(values) for values in (u, v))
    if one.shape[:2] != other.shape[:2]:
        raise ValueError(
            f"u and v have shapes {np.shape(u)} and {np.shape(v)}; rows and observations must be as many in both."
        )
    found = np.full(len(one), np.nan)
    if one.shape[1] == 0:
        return found
    for row in np.flatnonzero(np.isfinite(one).all(axis=(1, 2)) & np.isfinite(other).all(axis=(1, 2))):
        found[row] = _of_one(one[row], other[row])
    return found


def _three_axes(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (2, 3):
        raise ValueError(f"u and v need 2 or 3 axes (rows, observations, coordinates), not {array.ndim}.")
    return array.reshape(*array.shape[:2], -1) if array.ndim == 3 else array[:, :, None]


def _of_one(u: Array, v: Array) -> float:
    """Distance correlation of u (m, p) and v (m, q)."""
    from scipy.spatial.distance import cdist

    m = len(u)
    if not (np.ptp(u, axis=0).any() and np.ptp(v, axis=0).any()):
        return 0.0
    products, row_u, row_v = np.zeros(3), np.zeros(m), np.zeros(m)
    for i in range(0, m, _TILE):
        for j in range(i, m, _TILE):
            a, b = (cdist(values[i : i + _TILE], values[j : j + _TILE]) for values in (u, v))
            products += (1 + (i < j)) * np.array([np.einsum("ij,ij->", *pair) for pair in ((a, b), (a, a), (b, b))])
            for rows, distances in ((row_u, a), (row_v, b)):
                rows[i : i + _TILE] += distances.sum(axis=1)
                if i < j:
                    rows[j : j + _TILE] += distances.sum(axis=0)
    mean_u, mean_v = row_u.mean() / m, row_v.mean() / m
    row_u, row_v = row_u / m - mean_u, row_v / m - mean_v
    uv, uu, vv = products / m**2 - 2 * np.array([np.mean(row_u * row_v), np.mean(row_u**2), np.mean(row_v**2)])
    uv, uu, vv = uv - mean_u * mean_v, uu - mean_u**2, vv - mean_v**2
    return float(np.sqrt(max(0.0, uv) / np.sqrt(uu * vv)))
