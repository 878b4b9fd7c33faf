"""How much of each single perturbation is in the double: Theil-Sen slopes of many doubles at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ALL_PAIRS_GENES = 1_000
"""Up to this many genes every pair of genes is used."""
MAX_PAIRS = 200_000
"""Pairs of genes drawn above that."""
TOLERANCE = 1e-10
"""The median is found once a step is shorter than this, relative to the slopes of the pairs of genes."""
_SINGULAR = 1e-14  # a determinant this small beside its two terms is rounding
_SAME_POINT = 1e-12  # points this close, relative to the slopes, count as one
_ROUNDING = 1e-12  # of a sum of distances, relative
_MAX_STEPS = 500  # about five are needed, rarely fifty
_AT_ONCE = 2**15  # numbers per array that stay in the processor's cache


def theil_sen(
    first: ArrayLike, second: ArrayLike, double: ArrayLike, *, max_pairs: int | None = None, seed: int = 0
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
        Pairs of genes at most, drawn without repeats where there are more. None: all pairs of up to 1,000 genes, and
        200,000 of more. With 5,000 noisy genes the slopes of two draws differ by about 0.003.
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
            f"first, second and double have shapes {a.shape}, {b.shape} and {y.shape}; all need one (doubles, genes)."
        )
    if max_pairs is not None and max_pairs < 1:
        raise ValueError(f"max_pairs is {max_pairs}; it must be at least 1.")
    i, j = _gene_pairs(a.shape[1], max_pairs, seed)
    points = np.empty((2, len(i)))  # one for all rows: fresh memory costs more than the arithmetic
    slopes = np.full((len(a), 2), np.nan)
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1) & np.isfinite(y).all(axis=1)
    for row in np.flatnonzero(finite):
        of_row = a[row], b[row], y[row]
        slopes[row] = _spatial_median(_exact_slopes(*of_row, i, j, out=points), _least_squares(*of_row))
    return slopes


def _gene_pairs(n_genes: int, max_pairs: int | None, seed: int) -> tuple[Index, Index]:
    """Both genes of every pair, or of a draw of ``max_pairs``: pair k joins gene k mod m to one k // m + 1 further."""
    n_pairs = n_genes * (n_genes - 1) // 2
    most = MAX_PAIRS if max_pairs is None and n_genes > ALL_PAIRS_GENES else max_pairs
    if most is not None and n_pairs > most:
        pair = np.random.default_rng(seed).choice(n_pairs, most, replace=False, shuffle=False)
    else:
        pair = np.arange(n_pairs)
    first = pair % max(1, n_genes)
    return first, (first + pair // max(1, n_genes) + 1) % max(1, n_genes)


def _parts(n: int) -> Iterator[slice]:
    """Stretches of n pairs that are worked on at once."""
    return (slice(start, start + _AT_ONCE) for start in range(0, n, _AT_ONCE))


def _exact_slopes(a: Array, b: Array, y: Array, i: Index, j: Index, *, out: Array) -> Array:
    """(2, n) slopes that fit both genes of a pair exactly, of all pairs that are not singular; written into ``out``."""
    n = 0
    for part in _parts(len(i)):
        (ai, bi, yi), (aj, bj, yj) = ([values.take(genes[part]) for values in (a, b, y)] for genes in (i, j))
        one, other = ai * bj, aj * bi
        determinant = one - other
        solved = np.abs(determinant) > _SINGULAR * (np.abs(one) + np.abs(other))
        determinant = determinant[solved]
        found = slice(n, n := n + len(determinant))
        np.divide((yi * bj - yj * bi)[solved], determinant, out=out[0, found])
        np.divide((ai * yj - aj * yi)[solved], determinant, out=out[1, found])
    return out[:, :n]


def _least_squares(a: Array, b: Array, y: Array) -> Array:
    """(2,) slopes with the smallest sum of squares, near which the median lies; 0 where there are none."""
    slopes = _solve(_dot(a, a), _dot(b, b), _dot(a, b), right=np.array([_dot(a, y), _dot(b, y)]))
    return np.zeros(2) if slopes is None else slopes


def _spatial_median(points: Array, start: Array) -> Array:
    """(2,) where the sum of distances to ``points`` (2, n) is smallest; NaN without points.

    By Newton's steps. One that does not come closer is replaced by the step of Weiszfeld as modified by Vardi and
    Zhang, which always does, also from a place where a point lies. The median may be a point itself, where the sum has
    a kink that no step meets; so after every other refused step the nearest point is tried.
    """
    if not points.size:
        return np.full(2, np.nan)
    scale = _size(points)
    at, safe, least = start, start, np.inf
    refused = turn = False
    for _ in range(_MAX_STEPS):
        total, weight, here, pull, curvature = _sums(points, at, _SAME_POINT * scale)
        if total > least * (1 + _ROUNDING):
            at, refused, turn = safe, True, not turn
            continue
        least, strength = min(total, least), float(np.hypot(*pull))
        if here >= strength * (1 - TOLERANCE):  # the points that lie here outweigh all others
            return at
        safe = at + pull * (1 - here / strength) / weight
        ahead = safe if here else _newton(points, at, pull, curvature)
        if np.abs(ahead - at).max() <= TOLERANCE * scale:
            return ahead
        at = _nearest(points, at) if refused and turn else ahead
        refused = False
    return at


def _newton(points: Array, at: Array, pull: Array, curvature: Array) -> Array:
    """(2,) where Newton's step leads; for points on one line, which have none, their median by coordinates."""
    step = _solve(*curvature, right=pull)
    return np.median(points, axis=1) if step is None else at + step


def _size(points: Array) -> float:
    """How far ``points`` are from 0: a mean of roots, because a few very distant points rule a mean."""
    roots = [np.sqrt(np.sqrt(x * x + y * y)).sum() for x, y in (points[:, part] for part in _parts(points.shape[1]))]
    return float(sum(roots) / points.shape[1]) ** 2


def _sums(points: Array, at: Array, close: float) -> tuple[float, float, int, Array, Array]:
    """What a step needs to know of all ``points``, seen from ``at``.

    The sum of their distances; the sum of one over them; how many lie ``close``, which count nowhere else; (2,) the
    sum of unit vectors towards them; (3,) the second derivatives xx, yy and xy of the sum of distances.
    """
    total, weight, here = 0.0, 0.0, 0
    pull, curvature = np.zeros(2), np.zeros(3)
    for part in _parts(points.shape[1]):
        dx, dy = points[0, part] - at[0], points[1, part] - at[1]
        distance = np.sqrt(dx * dx + dy * dy)
        total += distance.sum()
        if distance.min() <= close:
            same = distance <= close
            here += int(same.sum())
            distance[same] = np.inf
        inverse = 1 / distance
        dx *= inverse
        dy *= inverse
        weight += inverse.sum()
        pull += dx.sum(), dy.sum()
        curvature += _dot(inverse, dy * dy), _dot(inverse, dx * dx), -_dot(inverse, dx * dy)
    return total, weight, here, pull, curvature


def _dot(one: Array, other: Array) -> float:
    # unlike a product of matrices, einsum sums in the same order whatever the number of threads
    return float(np.einsum("i,i->", one, other))


def _solve(xx: float, yy: float, xy: float, *, right: Array) -> Array | None:
    """(2,) solution of two symmetric equations; None where they are singular."""
    determinant = xx * yy - xy * xy
    if determinant <= _SINGULAR * (xx + yy) ** 2:
        return None
    return np.array([yy * right[0] - xy * right[1], xx * right[1] - xy * right[0]]) / determinant


def _nearest(points: Array, at: Array) -> Array:
    """(2,) the one of ``points`` nearest to ``at``."""
    return points[:, np.argmin((points[0] - at[0]) ** 2 + (points[1] - at[1]) ** 2)]
