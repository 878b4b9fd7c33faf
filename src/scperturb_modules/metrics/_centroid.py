"""Metrics of one condition: the true and the predicted change of every gene of a set, two vectors in, a number out.

Both vectors are changes of mean expression (natural-log units, log1p CP10k), for :func:`within_5_percent` the mean
expression itself. An error is defined for any truth; what compares shapes or directions needs a truth that is not
constant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._status import (
    CONSTANT_PREDICTION,
    CONSTANT_TRUTH,
    FEW_GENES,
    MIN_GENES,
    OK,
    ZERO,
    Score,
    Vector,
    checked_pair,
    is_constant,
)

_NAN = float("nan")

WITHIN = 0.05
"""Largest error, as a share of the true mean, that counts as a hit of :func:`within_5_percent`."""
LEAST_EXPRESSION = 0.05
"""Genes of a lower true mean (log1p CP10k) have no share that could be measured."""
_ROUNDING = 1e-12


def l2(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Euclidean distance, ``sqrt(sum (t - h)^2)``.

    Parameters
    ----------
    truth, prediction
        (G,) change of each gene of the set.

    Returns
    -------
    value, status
        The distance (natural-log units) and ``ok``, or NaN and ``few_genes``.

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> l2([0, 0, 0, 3, 4], [0, 0, 0, 0, 0])
    (5.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    return float(np.sqrt(np.sum((true - predicted) ** 2))), OK


def mse(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Mean squared error; arguments and errors as :func:`l2`.

    >>> mse([0, 0, 0, 1, 2], [0, 0, 0, 0, 0])
    (1.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    return float(np.mean((true - predicted) ** 2)), OK


def mae(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Mean absolute error; arguments and errors as :func:`l2`. The ``mae`` of cell-eval.

    >>> mae([0, 0, 0, 1, 2], [0, 0, 0, 0, 0])
    (0.6, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    return float(np.mean(np.abs(true - predicted))), OK


def rmse(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Root of the mean squared error; arguments and errors as :func:`l2`.

    >>> rmse([0, 0, 0, 1, 2], [0, 0, 0, 0, 0])
    (1.0, 'ok')
    """
    value, status = mse(truth, prediction)
    return float(np.sqrt(value)), status


def l2_noise_free(truth: ArrayLike, prediction: ArrayLike, noise: ArrayLike) -> Score:
    """:func:`l2` less what the noise of the truth adds to it, ``sqrt(max(0, sum (t - h)^2 - sum noise))``.

    A perfect prediction of the expectation has an expected squared distance of ``sum noise`` to the measured mean. A
    value of 0 says that the error cannot be told from noise, and the mean of many values is biased upward by the cut.

    Parameters
    ----------
    truth, prediction
        (G,) as in :func:`l2`, which raises the same errors.
    noise
        (G,) squared standard error of the perturbed cells' mean.

    Examples
    --------
    >>> l2_noise_free([0, 0, 0, 3, 4], [0, 0, 0, 0, 0], [1, 2, 2, 2, 2])
    (4.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    _, noise2 = checked_pair(true, noise)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    return float(np.sqrt(max(0.0, np.sum((true - predicted) ** 2) - noise2.sum()))), OK


def pearson(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Pearson correlation over genes; arguments and errors as :func:`l2`.

    A constant prediction scores 0 (``constant_prediction``): it carries no information, which is not the same as
    not being there. A constant truth leaves nothing to correlate with: NaN, ``constant_truth``.

    >>> pearson([1, 2, 3, 4, 5], [1, 3, 2, 5, 4])
    (0.8, 'ok')
    >>> pearson([1, 2, 3, 4, 5], [0, 0, 0, 0, 0])
    (0.0, 'constant_prediction')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    if is_constant(true):
        return _NAN, CONSTANT_TRUTH
    if is_constant(predicted):
        return 0.0, CONSTANT_PREDICTION
    true, predicted = true - true.mean(), predicted - predicted.mean()
    correlation = true @ predicted / np.sqrt((true @ true) * (predicted @ predicted))
    return float(np.clip(correlation, -1.0, 1.0)), OK


def spearman(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Rank correlation over genes: :func:`pearson`, with its rules, of the ranks; equal values share their mean rank.

    >>> spearman([1, 2, 3, 4, 50], [1, 3, 2, 5, 4])
    (0.8, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    return pearson(_ranks(true), _ranks(predicted))


def cosine(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Cosine of the angle between both changes, ``t.h / (|t| |h|)``; arguments and errors as :func:`l2`.

    Unlike :func:`pearson` it also sees a shift that all genes share. A prediction of no change scores 0
    (``constant_prediction``); no true change: NaN, ``constant_truth``.

    >>> cosine([3, 4, 0, 0, 0], [6, 8, 0, 0, 0])
    (1.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    if np.abs(true).max() <= ZERO:
        return _NAN, CONSTANT_TRUTH
    if np.abs(predicted).max() <= ZERO:
        return 0.0, CONSTANT_PREDICTION
    similarity = true @ predicted / np.sqrt((true @ true) * (predicted @ predicted))
    return float(np.clip(similarity, -1.0, 1.0)), OK


def sign_agreement(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Share of genes predicted to go in the right direction; arguments and errors as :func:`l2`.

    Genes whose true change is at most 1e-8 have no direction and are left out. A predicted change of exactly 0 is
    wrong: whoever says nothing earns nothing.

    >>> sign_agreement([1, 1, -1, -1, 1, 0], [2, 0, -1, 1, 3, 5])
    (0.6, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    moving = np.abs(true) > ZERO
    if not moving.any():
        return _NAN, CONSTANT_TRUTH
    if moving.sum() < MIN_GENES:
        return _NAN, FEW_GENES
    return float(np.mean(np.sign(true[moving]) == np.sign(predicted[moving]))), OK


def slope(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Least-squares slope of truth on prediction through the origin, ``t.h / h.h``.

    Arguments and errors as :func:`l2`. 1 is the right size; above 1 effects are predicted too small. A prediction of
    no change has no slope: NaN, ``constant_prediction``.

    >>> slope([2, 4, 6, 8, 10], [1, 2, 3, 4, 5])
    (2.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    if is_constant(true):
        return _NAN, CONSTANT_TRUTH
    if np.abs(predicted).max() <= ZERO:
        return _NAN, CONSTANT_PREDICTION
    return float(true @ predicted / (predicted @ predicted)), OK


def norm_ratio(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Norm of the predicted change over the norm of the true one; arguments and errors as :func:`l2`.

    >>> norm_ratio([0, 0, 0, 3, 4], [0, 0, 0, 0, 1])
    (0.2, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return _NAN, FEW_GENES
    if np.abs(true).max() <= ZERO:
        return _NAN, CONSTANT_TRUTH
    return float(np.linalg.norm(predicted) / np.linalg.norm(true)), OK


def within_5_percent(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Share of genes whose predicted mean is at most 5 % off the true one, ``|h - t| <= 0.05 t``.

    Arguments and errors as :func:`l2`, but both sides are mean expression (log1p CP10k), not its change. Genes with a
    true mean below 0.05 are left out. Where changes are small against the mean, a prediction of no change scores high.

    >>> within_5_percent([1, 1, 2, 2, 3, 0.01], [1.05, 0.9, 2.1, 2, 2, 0])
    (0.6, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    expressed = true >= LEAST_EXPRESSION
    if expressed.sum() < MIN_GENES:
        return _NAN, FEW_GENES
    true, predicted = true[expressed], predicted[expressed]
    return float(np.mean(np.abs(predicted - true) <= WITHIN * true + _ROUNDING)), OK


def _ranks(values: Vector) -> Vector:
    """Mean ranks; values that count as constant are all equal, or rounding would be ranked."""
    from scipy.stats import rankdata

    return np.zeros_like(values) if values.size and is_constant(values) else np.asarray(rankdata(values))
