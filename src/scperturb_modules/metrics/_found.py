"""How many of the changed genes a prediction finds: variants of :func:`average_precision`, and overlaps of lists."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._de import average_precision
from scperturb_modules.metrics._status import (
    ALL_DE,
    CONSTANT_PREDICTION,
    CONSTANT_TRUTH,
    FEW_GENES,
    MIN_GENES,
    NO_TRUE_DE,
    OK,
    Score,
    checked_pair,
    is_constant,
)

_NAN = float("nan")


def lift(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Average precision over that of chance, ``AUPRC / share of changed genes``.

    Arguments, statuses and errors as :func:`average_precision`. Chance is 1; the most that can be reached is one over
    the share, so that a lift of 2 is perfect where half of the genes change and little where one in a hundred does:
    :func:`lift_reached` is what conditions can be compared by.

    >>> lift([True, False, False, False, False], [5, 4, 3, 2, 1])
    (5.0, 'ok')
    """
    area, status = average_precision(truth, prediction)
    if np.isnan(area):
        return _NAN, status
    return float(area / np.mean(np.asarray(truth, dtype=np.float64))), status


def lift_reached(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Share of the possible :func:`lift` above chance, ``(AUPRC - share) / (1 - share)``.

    Arguments, statuses and errors as :func:`average_precision`. 0 is chance, 1 is perfect, whatever the share of
    changed genes.

    >>> lift_reached([True, False, False, False, False], [5, 4, 3, 2, 1])
    (1.0, 'ok')
    """
    area, status = average_precision(truth, prediction)
    if np.isnan(area):
        return _NAN, status
    share = np.mean(np.asarray(truth, dtype=np.float64))
    return float((area - share) / (1.0 - share)), status


def signed_average_precision(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Mean of the average precisions of genes that go up, ranked by the score, and down, ranked by its opposite.

    A gene that is called with the wrong direction comes last here, while :func:`average_precision` counts it as found.

    Parameters
    ----------
    truth
        (G,) 1 for genes that go up significantly, -1 for those that go down, 0 for the others.
    prediction
        (G,) signed score: the predicted change over its noise, see :func:`de_score`.

    Returns
    -------
    value, status
        As :func:`average_precision`; a direction that no gene takes is left out of the mean.

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> signed_average_precision([1, -1, 0, 0, 0], [3, -2, 1, 0, -1])
    (1.0, 'ok')
    >>> signed_average_precision([1, -1, 0, 0, 0], [-3, 2, 1, 0, -1])
    (0.2, 'ok')
    """
    direction, score = checked_pair(truth, prediction)
    sides = [average_precision(sign * direction > 0, sign * score) for sign in (1.0, -1.0)]
    for reason in (FEW_GENES, ALL_DE):
        if reason in (status for _, status in sides):
            return _NAN, reason
    found = [side for side in sides if side[1] != NO_TRUE_DE]
    if not found:
        return _NAN, NO_TRUE_DE
    return float(np.mean([value for value, _ in found])), found[0][1]


def top_overlap(truth: ArrayLike, prediction: ArrayLike, k: int = 20) -> Score:
    """Share of the k genes with the largest true change that are among the k with the largest predicted change.

    ``|top-k |t| and top-k |h|| / k``, ties by position, whatever the directions.

    Parameters
    ----------
    truth, prediction
        (G,) change of each gene.
    k
        Length of both lists.

    Returns
    -------
    value, status
        The share and ``ok``; NaN and ``few_genes`` where there are no more than k genes, or ``constant_truth`` where
        the true changes have no order; 0 and ``constant_prediction`` where the predicted ones have none.

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> top_overlap([0, 5, -4, 1, 0, 0], [0, -9, 1, 8, 0, 0], k=2)
    (0.5, 'ok')
    """
    true, predicted = (np.abs(side) for side in checked_pair(truth, prediction))
    if true.size < max(MIN_GENES, k + 1):
        return _NAN, FEW_GENES
    if is_constant(true):
        return _NAN, CONSTANT_TRUTH
    if is_constant(predicted):
        return 0.0, CONSTANT_PREDICTION
    first, second = (np.argsort(-side, kind="stable")[:k] for side in (true, predicted))
    return float(len(np.intersect1d(first, second)) / k), OK
