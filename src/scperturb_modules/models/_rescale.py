"""Cells whose expression is multiplied rather than shifted, so that what is not expressed stays so."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_LOG_FACTOR = 6.0
"""No gene is made more than exp(6) times stronger."""

LEAST_LOG_FACTOR = -20.0
"""Nor more than exp(20) times weaker, which is nothing: a mean of 0 is reached too."""

N_STEPS = 30
"""Of bisection: the factor is found to one part in 1e8."""

ROUNDING = 1e-4
"""A mean that is off by less has been reached: zeros stay zeros."""


def rescaled(cells: Tensor, own: Tensor, reference: Tensor, of_reference: Tensor, change: Tensor) -> Tensor:
    """Cells with every gene multiplied so that the mean of log1p expression changes by what is asked for.

    ``y = log1p(expm1(x) exp(a_g + h))`` with ``h`` of each cell and gene, and ``a_g`` such that the mean over the
    reference is ``max(mean + change, 0)`` exactly. A shift would turn zeros, which most counts are, into other values,
    and cut at 0 it would miss the mean. A gene that no factor brings there, such as one that no cell of the reference
    expresses, is shifted by what is missing.

    Parameters
    ----------
    cells
        (n, G) log1p CP10k.
    own
        (n, G) ``h``, log of how much stronger a gene is in a cell than in others.
    reference, of_reference
        (R, G) cells that stand for all, and their ``h``.
    change
        (G,) of mean log1p expression.

    Returns
    -------
    Tensor
        (n, G), not below 0.

    Examples
    --------
    >>> cells = torch.tensor([[0.0, 2.0], [1.0, 2.0]])
    >>> nothing = torch.zeros_like(cells)
    >>> moved = rescaled(cells, nothing, cells, nothing, torch.tensor([0.2, -1.0]))
    >>> moved[0, 0].item(), [round(value, 4) for value in moved.mean(dim=0).tolist()]
    (0.0, [0.7, 1.0])
    """
    target = (reference.mean(dim=0) + change).clamp(min=0)
    strength = torch.expm1(reference) * of_reference.exp()
    low, high = torch.full_like(target, LEAST_LOG_FACTOR), torch.full_like(target, MOST_LOG_FACTOR)
    for _ in range(N_STEPS):
        middle = (low + high) / 2
        below = torch.log1p(strength * middle.exp()).mean(dim=0) < target
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    factor = (low + high) / 2
    missing = target - torch.log1p(strength * factor.exp()).mean(dim=0)
    missing = torch.where(missing.abs() > ROUNDING, missing, 0.0)
    return (torch.log1p(torch.expm1(cells) * (own + factor).exp()) + missing).clamp(min=0)
