"""Losses that keep generated cells as coordinated, and as varied, as real ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scperturb_modules.nn import at_least_float32, energy_distance

HALF_WEIGHT_CELLS = 200
"""A condition of this many cells has a covariance half its own, half that of all conditions together."""

LOWEST_SD = 1e-4
"""A program that varies less has no correlation with others."""

FEWEST_CELLS = 4
"""Of fewer cells the noise of a correlation is not known."""


def program_covariances(
    activities: NDArray[np.float64], row_of_cell: NDArray[np.integer], n_rows: int
) -> NDArray[np.float64]:
    """Covariance of program activities within each condition, shrunk to that within all of them.

    ``S_p = w_p C_p + (1 - w_p) C`` with ``w_p = n_p / (n_p + 200)``, C_p the covariance of the n_p cells of condition p
    around their own mean, and C that of all cells around the means of their conditions.

    Parameters
    ----------
    activities
        (N, K) float64 program activities of cells.
    row_of_cell
        (N,) number of the condition of each cell, 0 to P - 1.
    n_rows
        P.

    Returns
    -------
    ndarray
        (P, K, K) float64; C for a condition with fewer than two cells.

    Examples
    --------
    >>> activities = np.array([[0.0, 0.0], [2.0, 2.0], [5.0, 1.0], [7.0, -1.0]])
    >>> program_covariances(activities, np.array([0, 0, 1, 1]), 2).round(2)[:, 0, 1]
    array([ 0.02, -0.02])
    """
    activities = np.asarray(activities, dtype=np.float64)
    n_cells = np.bincount(row_of_cell, minlength=n_rows)
    totals = np.zeros((n_rows, activities.shape[1]))
    np.add.at(totals, row_of_cell, activities)
    centred = activities - (totals / np.maximum(n_cells, 1)[:, None])[row_of_cell]
    ends = np.cumsum(n_cells)
    by_row = centred[np.argsort(row_of_cell, kind="stable")]
    products = np.stack([by_row[end - n : end].T @ by_row[end - n : end] for n, end in zip(n_cells, ends, strict=True)])
    freedom = np.maximum(n_cells - 1, 0)
    pooled = products.sum(axis=0) / max(freedom.sum(), 1)
    own = np.divide(products, freedom[:, None, None], out=np.zeros_like(products), where=freedom[:, None, None] > 0)
    weight = np.where(freedom > 0, n_cells / (n_cells + HALF_WEIGHT_CELLS), 0.0)[:, None, None]
    return weight * own + (1 - weight) * pooled


def correlation_loss(activity: Tensor, target_cov: Tensor, *, pooled: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """How far correlations between programs in generated cells are from those of real ones, without sampling noise.

    Mean over conditions and pairs of programs of ``(r - R)^2 - (1 - r^2)^2 / (n - 3)``, with r the correlation over the
    n generated cells of a condition, and R that of its target covariance. The second term is what the first one is on
    average where the correlation is right, so that the loss is about 0 there, whatever n is; it may be negative.

    Parameters
    ----------
    activity
        (C, n, K) program activities of n generated cells of each of C conditions.
    target_cov
        (C, K, K) covariance of the activities within each condition; see :func:`program_covariances`.
    pooled
        True: one correlation of all cells around the means of their conditions, against that of the mean target. It
        has less noise, and is blind to which condition a change of correlation belongs to.

    Returns
    -------
    tuple
        Scalar; ``signal``, the first term, and ``floor``, the second one. While signal / floor is about 1, the loss
        sees nothing but noise.

    Notes
    -----
    Programs with a standard deviation below 1e-4 are left out; with fewer than four cells the loss is 0. The gradient
    passes through both terms: by the first alone, correlations would be drawn away from 0, where they have less noise.
    Single conditions are compared, since a change of correlation in one of 16 is a sixteenth of itself in their mean.
    The noise of 64 cells is large (0.016 per pair), but differs from step to step, whereas what is wrong stays.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> loss, terms = correlation_loss(torch.randn(500, 64, 5), torch.eye(5).expand(500, 5, 5))
    >>> bool(loss.abs() < 0.1 * terms["floor"])
    True
    """
    activity, target_cov = at_least_float32(activity), at_least_float32(target_cov)
    centred = activity - activity.mean(dim=1, keepdim=True)
    freedom = activity.shape[1] - 1
    covariance = centred.transpose(1, 2) @ centred / max(freedom, 1)
    if pooled:
        covariance, target_cov = covariance.mean(dim=0, keepdim=True), target_cov.mean(dim=0, keepdim=True)
        freedom *= len(activity)
    r, varies = _correlation(covariance)
    target, target_varies = _correlation(target_cov)
    keep = ((varies & target_varies).triu(diagonal=1) & (freedom + 1 >= FEWEST_CELLS)).to(r.dtype)
    n_pairs = keep.sum().clamp(min=1)
    # n cells with one mean have n - 1 degrees of freedom
    floor = (keep * (1 - r.square()).square()).sum() / n_pairs / max(freedom - 2, 1)
    signal = (keep * (r - target).square()).sum() / n_pairs
    return signal - floor, {"signal": signal.detach(), "floor": floor.detach()}


def distribution_loss(activity: Tensor, true: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Energy distance between generated and real cells, per condition, in units that do not grow with K.

    Mean over conditions of the energy distance (U-statistic) divided by sqrt(K). Its smallest value on average is at
    the truth, also for few cells: the cost of optimal transport, with or without its entropic bias, prefers generated
    cells that vary too little.

    Parameters
    ----------
    activity, true
        (C, n, K) and (C, m, K) program activities of generated and of real cells of the same C conditions.

    Returns
    -------
    tuple
        Scalar, about 0 at the truth and sometimes below; ``spread``, the mean variance of generated cells within
        conditions divided by that of real ones: below 1 they vary too little.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> real, other = torch.randn(2, 8, 64, 10)
    >>> [round(float(distribution_loss(scale * real, other)[0]), 1) for scale in (1.0, 0.5)]
    [0.0, 0.1]
    """
    activity, true = at_least_float32(activity), at_least_float32(true)
    loss = energy_distance(activity, true, unbiased=True).mean() / activity.shape[-1] ** 0.5
    with torch.no_grad():
        spread = _spread(activity) / _spread(true).clamp(min=LOWEST_SD**2)
    return loss, {"spread": spread}


def _correlation(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """(C, K, K) correlations, and between which programs there are any, bool."""
    variance = covariance.diagonal(dim1=1, dim2=2)
    varies = variance > LOWEST_SD**2
    # the floor also keeps the gradient of a constant program finite
    sd = variance.clamp(min=LOWEST_SD**2).sqrt()
    correlation = covariance / sd[:, :, None] / sd[:, None, :]
    return correlation, varies[:, :, None] & varies[:, None, :]


def _spread(cells: Tensor) -> Tensor:
    return (cells - cells.mean(dim=1, keepdim=True)).square().mean() * (cells.shape[1] / max(cells.shape[1] - 1, 1))
