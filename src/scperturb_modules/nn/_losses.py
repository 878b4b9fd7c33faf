"""Losses of models that predict a change per condition and gene."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HALF_WEIGHT_CELLS = 50
"""A condition of this many cells has half the weight of one with infinitely many."""

FLOOR = 0.2
"""Weight of a gene that does not respond, against 1.2 of the one that responds most."""


def effect_weights(
    delta: NDArray[np.floating], se2: NDArray[np.floating], n_cells: NDArray[np.integer], *, gamma: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight of each condition by its cells, and of each gene in it by its standardised effect.

    ``w_p = n_p / (n_p + 50)``; ``w_pg = 0.2 + (|t_pg| / max_g |t_pg|)^gamma`` with the moderated
    ``t = delta / sqrt(se2 + s0)``, s0 the median of se2. ``gamma=0`` weighs all genes alike.

    Parameters
    ----------
    delta, se2
        (P, G) change and its squared standard error.
    n_cells
        (P,) cells per condition.
    gamma
        How much more responding genes count.

    Returns
    -------
    tuple
        (P,) and (P, G) float32; the weights of a condition's genes have mean 1.
    """
    of_condition = (n_cells / (n_cells + HALF_WEIGHT_CELLS)).astype(np.float32)
    if gamma == 0:
        return of_condition, np.ones(delta.shape, dtype=np.float32)
    finite = se2[np.isfinite(se2)]
    moderation = float(np.median(finite)) if finite.size else 1.0
    t = np.abs(delta) / np.sqrt(np.where(np.isfinite(se2), se2, np.inf) + max(moderation, 1e-12))
    largest = t.max(axis=1, keepdims=True)
    of_gene = FLOOR + np.divide(t, largest, out=np.zeros_like(t), where=largest > 0) ** gamma
    return of_condition, (of_gene / of_gene.mean(axis=1, keepdims=True)).astype(np.float32)


def squared_error(error: Tensor, gene_weight: Tensor) -> Tensor:
    """(M, B) weighted mean over genes of the squared error (M, B, G); see :func:`at_least_float32`."""
    return (at_least_float32(error).square() * gene_weight).mean(dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, since sums of it are too coarse; anything else as it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
