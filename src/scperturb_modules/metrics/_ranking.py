"""Perturbation discrimination: how often a prediction is nearest to the truth of its own condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from scperturb_modules.metrics._status import FEW_CONDITIONS, FEW_GENES, MIN_CONDITIONS, MIN_GENES, OK, checked_pair

Matrix = NDArray[np.float64]
Excluded = Sequence[Sequence[int] | NDArray[np.intp]]

BLOCK = 256
"""Predictions whose distances to all truths are held at once; bounds memory, does not change any value."""

_TIE = 1e-12
"""Distances nearer than this share of the largest one of their row are equal: rounding must not decide a rank."""


def pds_l1(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Perturbation discrimination score with the sum of absolute differences.

    For condition p, ``r`` is the number of other conditions whose truth is nearer to the prediction of p than p's own
    truth is, ties counting half; the score is ``1 - r / (P - 1)``. 1 is best; a prediction that is the same for all
    conditions scores .5 on average.

    Parameters
    ----------
    truth, prediction
        (P, G) changes of all conditions of one context.
    excluded
        For each condition the column indices of its target genes: they are taken out of *every* row when p is ranked,
        or the target's own change would give the answer away. None excludes nothing.

    Returns
    -------
    scores, status
        (P,) scores and ``ok``; all NaN and ``few_conditions`` below 10 conditions, ``few_genes`` where fewer
        than 5 genes stay.

    Raises
    ------
    ValueError
        The shapes differ, a value is not finite, or ``excluded`` has another length than P.

    Notes
    -----
    cell-eval divides by P instead of P - 1 and breaks ties by position; scperteval's ``nir`` uses squared Euclidean
    distances, removes no gene and breaks ties by noise.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.arange(60.0).reshape(10, 6)
    >>> scores, status = pds_l1(truth, truth)
    >>> scores.min(), status
    (np.float64(1.0), 'ok')
    """
    return _discrimination(truth, prediction, excluded, "cityblock")


def pds_l2(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Perturbation discrimination score with the Euclidean distance; see :func:`pds_l1`."""
    return _discrimination(truth, prediction, excluded, "sqeuclidean")


def pds_cos(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Perturbation discrimination score with the cosine distance, which ignores scale; see :func:`pds_l1`.

    A vector of zeros has distance 1 to everything, so that the prediction of no change ties with itself everywhere.
    """
    return _discrimination(truth, prediction, excluded, "cosine")


def rank_t(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Transposed discrimination: each truth ranks the predictions, by the Euclidean distance.

    As :func:`pds_l2` with the sides exchanged. A prediction that lies between all truths is near to each of them and
    takes the first places, which no other rank shows. The ``rank`` of scperteval is ``1 - rank_t``.
    """
    true, predicted = checked_pair(truth, prediction)
    return _discrimination(predicted, true, excluded, "sqeuclidean")


def top1(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Whether the own truth is the one nearest to the prediction, by the Euclidean distance.

    Arguments and statuses as :func:`pds_l1`. Of k truths equally near each counts 1 / k; chance is one over the number
    of conditions.
    """
    return _discrimination(truth, prediction, excluded, "sqeuclidean", _first_place)


def top10pct(truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None = None) -> tuple[Matrix, str]:
    """Whether the own truth is among the nearest tenth (rounded up) of all truths, by the Euclidean distance.

    Arguments and statuses as :func:`pds_l1`; among ties at the border of the tenth, the chance of being drawn.
    """
    return _discrimination(truth, prediction, excluded, "sqeuclidean", _first_tenth)


def _pds(nearer: Matrix, tied: Matrix, n: int) -> Matrix:
    return 1.0 - (nearer + 0.5 * tied) / (n - 1)


def _first_place(nearer: Matrix, tied: Matrix, n: int) -> Matrix:
    return np.clip((1 - nearer) / (1 + tied), 0.0, 1.0)


def _first_tenth(nearer: Matrix, tied: Matrix, n: int) -> Matrix:
    return np.clip((-(-n // 10) - nearer) / (1 + tied), 0.0, 1.0)


def _discrimination(
    truth: ArrayLike,
    prediction: ArrayLike,
    excluded: Excluded | None,
    metric: str,
    score: Callable[[Matrix, Matrix, int], Matrix] = _pds,
) -> tuple[Matrix, str]:
    true, predicted = checked_pair(truth, prediction)
    if true.ndim != 2:
        raise ValueError(f"discrimination compares conditions x genes; got an array of {true.ndim} dimensions.")
    n, n_genes = true.shape
    keep = _kept_genes(excluded, n, n_genes)
    if n < MIN_CONDITIONS:
        return np.full(n, np.nan), FEW_CONDITIONS
    if keep.sum(axis=1).min() < MIN_GENES:
        return np.full(n, np.nan), FEW_GENES
    distances = _cosine_distances if metric == "cosine" else _difference_distances
    scores = np.empty(n)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        scores[rows] = score(*_place_of_own(distances(predicted[rows], true, keep[rows], metric), rows), n)
    return scores, OK


def _kept_genes(excluded: Excluded | None, n: int, n_genes: int) -> NDArray[np.bool_]:
    keep = np.ones((n, n_genes), dtype=bool)
    if excluded is None:
        return keep
    if len(excluded) != n:
        raise ValueError(f"excluded names the target genes of {len(excluded)} conditions, but there are {n}.")
    for row, genes in zip(keep, excluded, strict=True):
        row[np.asarray(genes, dtype=np.intp)] = False
    return keep


def _difference_distances(predicted: Matrix, true: Matrix, keep: NDArray[np.bool_], metric: str) -> Matrix:
    """(B, P): all genes first, then the excluded genes' share is taken off again; much faster than cutting per row."""
    distance = cdist(predicted, true, metric)
    for row, genes in enumerate(np.flatnonzero(~mask) for mask in keep):
        difference = np.abs(predicted[row, genes] - true[:, genes])
        distance[row] -= (difference if metric == "cityblock" else difference**2).sum(axis=1)
    return distance


def _cosine_distances(predicted: Matrix, true: Matrix, keep: NDArray[np.bool_], _metric: str) -> Matrix:
    kept = predicted * keep
    norms = np.sqrt((kept**2).sum(axis=1))[:, None] * np.sqrt(keep.astype(np.float64) @ (true**2).T)
    similarity = np.divide(kept @ true.T, norms, out=np.zeros_like(norms), where=norms > 0)
    return 1.0 - similarity


def _place_of_own(distance: Matrix, rows: NDArray[np.intp]) -> tuple[Matrix, Matrix]:
    """How many truths are strictly nearer than the own one, and how many others are at the same distance."""
    own = distance[np.arange(len(rows)), rows][:, None]
    tolerance = _TIE * np.abs(distance).max(axis=1, keepdims=True)
    nearer = (distance < own - tolerance).sum(axis=1)
    tied = (np.abs(distance - own) <= tolerance).sum(axis=1) - 1
    return nearer, tied
