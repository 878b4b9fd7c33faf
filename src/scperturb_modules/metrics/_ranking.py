"""Perturbation discrimination: how often a prediction is nearest to the truth of its own condition."""

from __future__ import annotations

from collections.abc import Sequence

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


def _discrimination(
    truth: ArrayLike, prediction: ArrayLike, excluded: Excluded | None, metric: str
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
        scores[rows] = 1.0 - _rank_of_own(distances(predicted[rows], true, keep[rows], metric), rows) / (n - 1)
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


def _rank_of_own(distance: Matrix, rows: NDArray[np.intp]) -> Matrix:
    """How many truths are strictly nearer than the own one, plus half of the others at the same distance."""
    own = distance[np.arange(len(rows)), rows][:, None]
    tolerance = _TIE * np.abs(distance).max(axis=1, keepdims=True)
    nearer = (distance < own - tolerance).sum(axis=1)
    tied = (np.abs(distance - own) <= tolerance).sum(axis=1) - 1
    return nearer + 0.5 * tied
