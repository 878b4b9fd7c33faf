"""Distances between sets of cells."""

from __future__ import annotations

import torch
from torch import Tensor

from scperturb_modules.nn._losses import at_least_float32


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    """Energy distance between two sets of cells: ``2 E|x - y| - E|x - x'| - E|y - y'|``, Euclidean.

    Parameters
    ----------
    x
        (..., M, q) cells.
    y
        (..., L, q) other cells.

    Returns
    -------
    Tensor
        (...,). Means are over all pairs, a cell with itself among them (V-statistic), so that it is never negative and
        0 for equal sets.

    Notes
    -----
    Szekely and Rizzo 2013, equation 4.

    Examples
    --------
    >>> float(energy_distance(torch.zeros(2, 1), torch.tensor([[1.0], [1.0]])))
    2.0
    """
    x, y = at_least_float32(x), at_least_float32(y)
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def _mean_distance(x: Tensor, y: Tensor) -> Tensor:
    # not by a matrix product, which is off by 1e-3 for cells that are equal
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").mean(dim=(-2, -1))
