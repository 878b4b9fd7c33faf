"""How much of each single perturbation is in the double: Theil-Sen slopes of many doubles at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ALL_PAIRS_GENES = 1_000
"""Up to this many genes every pair of genes is used."""
MAX_PAIRS = 200_000
"""Pairs of genes drawn above that."""
TOLERANCE = 1e-10
"""A median is found once the next step is shorter than this, relative to the slopes and the spread of the pairs."""
_SINGULAR = 1e-14  # a determinant this small beside its two terms is rounding
_SAME_POINT = 1e-12  # points this close, relative to the slopes, count as one
_ROUNDING = 1e-12  # of a sum of distances, relative
_MAX_STEPS = 500
_NEAREST_EVERY = 6  # steps after which the nearest point itself is tried
_AT_ONCE = 2**15  # numbers per array that stay in the processor's cache


def theil_sen(
    first: ArrayLike, second: ArrayLike, double: ArrayLike, *, max_pairs: int = MAX_PAIRS, seed: int = 0
) -> Array:
    """Slopes ``c1``, ``c2`` of ``double = c1 * first + c2 * second`` over genes, without intercept, for many doubles.

    Every pair of genes gives the slopes that fit these two genes exactly; the estimate is the spatial median of all
    of them, the point with the smallest sum of distances. A few genes that behave otherwise hardly move it. Pairs of
    genes whose equations are singular are left out.

    Parameters
    ----------
    first, second, double
        (D, m) changes of m genes after the first, the second and both perturbations (for example log1p of CP10k
        against control); a row per double, or per bootstrap repeat of one.
    max_pairs
        Pairs of genes drawn, without repeats, when there are more than 1,000 genes; up to 1,000 all pairs are used.
    seed
        Of that draw. It depends on the seed and the number of genes only, so that truth and prediction are compared
        on the same pairs.

    Returns
    -------
    ndarray of float64
        (D, 2) slopes of first and second. NaN where no pair of genes can be solved (one of the two has no change, or
        both change alike) and where a row holds a value that is not finite.

    Raises
    ------
    ValueError
        If the three do not have the same shape (D, m), or ``max_pairs`` is below 1.

    References
    ----------
    Dang, Peng, Wang and Zhang (2008), Theil-Sen estimators in a multiple linear regression model; Vardi and Zhang
    (2000), PNAS 97, 1423, for the median; Norman et al. (2019), Science 365, 786, for its use on pairs of genes.

    Examples
    --------
    >>> first, second = [[1.0, 0.0, 2.0, -1.0]], [[0.5, 1.0, -1.0, 2.0]]
    >>> double = [[1.5, 1.0, 1.0, 9.0]]  # additive, but for one gene
    >>> theil_sen(first, second, double).round(6)
    array([[1., 1.]])
    """
    a, b, y = (np.ascontiguousarray(values, dtype=np.float64) for values in (first, second, double))
    if not (a.ndim == 2 and a.shape == b.shape == y.shape):
        raise ValueError(
            f"first, second and double have shapes {a.shape}, {b.shape} and {y.shape}; all need the same (doubles, genes)."
        )
    if max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}; it must be at least 1.")
    slopes = np.full((len(a), 2), np.nan)
    i, j = _gene_pairs(a.shape[1], max_pairs, seed)
    finite = np.flatnonzero(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1) & np.isfinite(y).all(axis=1))
    n_rows = max(1, _AT_ONCE // max(1, len(i)))
    for block in range(0, len(finite), n_rows):
        rows = finite[block : block + n_rows]
        one, two, sums = a[rows], b[rows], y[rows]
        slopes[rows] = _spatial_medians(*_exact_slopes(one, two, sums, i, j), _least_squares(one, two, sums))
    return slopes


def _gene_pairs(n_genes: int, max_pairs: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both genes of every pair, or of a draw of ``max_pairs``: pair k joins gene k mod m to one k // m + 1 further."""
    n_pairs = n_genes * (n_genes - 1) // 2
    if n_genes > ALL_PAIRS_GENES and n_pairs > max_pairs:
        pair = np.sort(np.random.default_rng(seed).choice(n_pairs, max_pairs, replace=False, shuffle=False))
    else:
        pair = np.arange(n_pairs)
    first = pair % max(1, n_genes)
    return first, (first + pair // max(1, n_genes) + 1) % max(1, n_genes)


def _parts(n: int) -> Iterator[slice]:
    """Stretches of n pairs that are worked on at once."""
    return (slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE))


def _exact_slopes(
    a: Array, b: Array, y: Array, i: NDArray[np.int64], j: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """(rows, pairs) both slopes through each pair of genes, and 1 where there are such, 0 where they are singular."""
    c1, c2, valid = (np.zeros((len(a), len(i))) for _ in range(3))
    for part in _parts(len(i)):
        (ai, bi, yi), (aj, bj, yj) = ([values[:, genes[part]] for values in (a, b, y)] for genes in (i, j))
        one, other = ai * bj, aj * bi
        determinant = one - other
        solved = np.abs(determinant) > _SINGULAR * (np.abs(one) + np.abs(other))
        np.divide(yi * bj - yj * bi, determinant, out=c1[:, part], where=solved)
        np.divide(ai * yj - aj * yi, determinant, out=c2[:, part], where=solved)
        valid[:, part] = solved
    return c1, c2, valid


def _least_squares(a: Array, b: Array, y: Array) -> Array:
    """(rows, 2) slopes with the smallest sum of squares, from which the median is sought; 0 where there are none."""
    normal = np.column_stack([_row_dots(a, a), _row_dots(b, b), _row_dots(a, b)])
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = _solve(normal, np.column_stack([_row_dots(a, y), _row_dots(b, y)]))
    return np.where(np.isfinite(slopes).all(axis=1)[:, None], slopes, 0.0)


def _spatial_medians(x: Array, y: Array, valid: Array, start: Array) -> Array:
    """(rows, 2) the point of each row with the smallest sum of distances to its points (x, y); NaN without points.

    Newton's steps, about six; where one does not come closer, the step of Weiszfeld as modified by Vardi and Zhang,
    which always does, also from a point of the row. The median may be a point of the row, where the distance has no
    derivative and steps grow short before they arrive; so the nearest point itself is tried now and then.
    """
    median = np.full((len(x), 2), np.nan)
    rows = np.flatnonzero(valid.any(axis=1))
    x, y, valid, at = x[rows], y[rows], valid[rows], start[rows]
    safe, least = at, np.full(len(rows), np.inf)
    for step in range(1, _MAX_STEPS + 1):
        total, weight, here, pull, curvature = _sums(x, y, valid, at)
        closer = total <= least * (1 + _ROUNDING)
        strength = np.hypot(*pull.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            weiszfeld = at + ((1 - here / strength) / weight)[:, None] * pull
            newton = at + _solve(curvature, pull)
            scale = np.abs(at).sum(axis=1) + valid.sum(axis=1) / weight
        newton = np.where(((here == 0) & np.isfinite(newton).all(axis=1))[:, None], newton, weiszfeld)
        newton = np.where((here >= strength)[:, None], at, newton)  # held by its own points: the median
        done = closer & ~(np.abs(newton - at).max(axis=1) > TOLERANCE * scale)
        median[rows[done]] = newton[done]
        ahead = newton if step % _NEAREST_EVERY else _nearest(x, y, valid, at)
        at, safe = np.where(closer[:, None], ahead, safe), np.where(closer[:, None], weiszfeld, safe)
        least = np.minimum(total, least)
        if done.any():
            rows, at, safe, least, x, y, valid = (kept[~done] for kept in (rows, at, safe, least, x, y, valid))
        if not len(rows):
            break
    return median


def _sums(x: Array, y: Array, valid: Array, at: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Sums over the points of each row, seen from ``at`` (rows, 2).

    Of the distances, of one over them, of the points that lie there (and count nowhere else), (rows, 2) of the unit
    vectors towards the points, and (rows, 3) the second derivatives xx, yy and xy of the sum of distances.
    """
    total, weight, here = np.zeros((3, len(x)))
    pull, curvature = np.zeros((len(x), 2)), np.zeros((len(x), 3))
    same = _SAME_POINT * np.abs(at).sum(axis=1, keepdims=True)
    for part in _parts(x.shape[1]):
        dx, dy, counts = x[:, part] - at[:, :1], y[:, part] - at[:, 1:], valid[:, part]
        distance = np.sqrt(dx * dx + dy * dy)
        total += _row_dots(distance, counts)
        close = distance <= same
        if close.any():
            here += _row_dots(close.astype(np.float64), counts)
            distance[close] = np.inf
        inverse = counts / distance
        dx *= inverse
        dy *= inverse
        weight += inverse.sum(axis=1)
        pull += np.column_stack([dx.sum(axis=1), dy.sum(axis=1)])
        across = inverse * dy
        curvature += np.column_stack([_row_dots(across, dy), _row_dots(inverse * dx, dx), -_row_dots(across, dx)])
    return total, weight, here, pull, curvature


def _row_dots(one: Array, other: Array) -> Array:
    # einsum, whose order of summation does not depend on the number of threads, as that of a matrix product may
    return np.einsum("ij,ij->i", one, other)


def _solve(matrix: Array, right: Array) -> Array:
    """(rows, 2) solutions of symmetric equations whose matrices are given as xx, yy, xy."""
    xx, yy, xy = matrix.T
    right_x, right_y = right.T
    determinant = xx * yy - xy * xy
    return np.column_stack([yy * right_x - xy * right_y, xx * right_y - xy * right_x]) / determinant[:, None]


def _nearest(x: Array, y: Array, valid: Array, at: Array) -> Array:
    """(rows, 2) the point of each row nearest to ``at``."""
    distance = np.where(valid > 0, (x - at[:, :1]) ** 2 + (y - at[:, 1:]) ** 2, np.inf)
    rows, nearest = np.arange(len(x)), distance.argmin(axis=1)
    return np.column_stack([x[rows, nearest], y[rows, nearest]])
