"""Errors in which genes that a perturbation changes most count most (Mejia et al. 2025)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._status import (
    CONSTANT_TRUTH,
    FEW_GENES,
    MIN_GENES,
    OK,
    ZERO,
    Score,
    Vector,
    checked_pair,
)


def effect_weights(t: ArrayLike) -> Vector:
    """Weight of each gene, ``w = ((|t| - min) / (max - min))^2``, normalised to sum 1.

    Parameters
    ----------
    t
        (G,) Welch t of the condition's cells against all other perturbed cells, which leaves out what every
        perturbation does. A gene without a finite one has weight 0.

    Returns
    -------
    ndarray
        (G,) weights; all equal where ``|t|`` has no spread.

    References
    ----------
    Mejia et al. (2025), weights of exponent 2; ``mejia_weights`` of scperteval.

    Examples
    --------
    >>> effect_weights([1.0, -3.0, 2.0]).tolist()
    [0.0, 0.8, 0.2]
    """
    size = np.abs(np.asarray(t, dtype=np.float64))
    known = np.isfinite(size)
    weights = np.zeros_like(size)
    if known.any() and np.ptp(size[known]) > 0:
        weights[known] = ((size[known] - size[known].min()) / np.ptp(size[known])) ** 2
        return weights / weights.sum()
    return np.full_like(size, 1 / max(1, size.size))


def weighted_mse(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike) -> Score:
    """Weighted mean squared error, ``sum w (t - h)^2``; ``wmse_exp2`` of scperteval.

    Parameters
    ----------
    truth, prediction
        (G,) change of each gene.
    weights
        (G,) of :func:`effect_weights`.

    Returns
    -------
    value, status
        The error and ``ok``, or NaN and ``few_genes``.

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> weighted_mse([0, 0, 0, 1, 2], [0, 0, 0, 0, 0], [0, 0, 0, 0.5, 0.5])
    (2.5, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    _, weight = checked_pair(true, weights)
    if true.size < MIN_GENES:
        return float("nan"), FEW_GENES
    return float(np.sum(weight * (true - predicted) ** 2)), OK


def weighted_r2(truth: ArrayLike, prediction: ArrayLike, weights: ArrayLike) -> Score:
    """Weighted share of explained variance, ``1 - sum w (t - h)^2 / sum w (t - sum w t)^2``.

    Arguments and errors as :func:`weighted_mse`. 1 is best; 0 is what the right weighted mean for every gene reaches;
    it has no lower end. A truth without weighted spread: NaN, ``constant_truth``. ``weighted_r2_ctrl_exp2`` of
    scperteval.

    >>> weighted_r2([0, 0, 0, 1, 2], [0, 0, 0, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.2])
    (0.6875, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    error, status = weighted_mse(true, predicted, weights)
    if status != OK:
        return error, status
    weight = np.asarray(weights, dtype=np.float64)
    spread = np.sum(weight * (true - np.sum(weight * true)) ** 2)
    if spread <= ZERO**2:
        return float("nan"), CONSTANT_TRUTH
    return float(1.0 - error / spread), OK
