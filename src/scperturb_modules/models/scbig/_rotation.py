"""Loadings of genes on directions that each concern some of the genes, instead of all of them a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SKEW, LEAST_KURTOSIS = 0.4, 3.0
"""A direction with less of both is as even over genes as a normal distribution: a factor of all genes, no program."""


def simple_loadings(loading: Array) -> Array:
    """(G, r') loadings on rotated directions, of those that concern some of the genes.

    Parameters
    ----------
    loading
        (G, r) loadings on principal directions.

    Notes
    -----
    A program is a group of genes on one side of a direction, hence the rotation looks for skewed loadings. The median
    gene has no part in a direction by definition: what all genes share, as the composition of counts, is taken out.
    Directions with less than 0.4 of skewness and 3 of excess kurtosis are left out, unless all are such.
    """
    centred = loading - loading.mean(axis=0)
    turned = centred @ skew_rotation(centred)
    spread = np.maximum(turned.std(axis=0), 1e-12)
    skew = np.mean(turned**3, axis=0) / spread**3
    kurtosis = np.mean(turned**4, axis=0) / spread**4 - 3
    turned = turned * np.where(skew < 0, -1.0, 1.0)
    turned -= np.median(turned, axis=0)
    is_uneven = (np.abs(skew) > LEAST_SKEW) | (kurtosis > LEAST_KURTOSIS)
    return turned[:, is_uneven] if is_uneven.any() else turned


def skew_rotation(loading: Array, *, n_iter: int = 500, tol: float = 1e-8) -> Array:
    """(r, r) rotation of centred loadings (G, r) that makes the sum of their squared third moments largest.

    Iterations are those of varimax (Kaiser 1958), which does the same with fourth moments and does not tell a group of
    genes on one side from two on both.
    """
    rotation, last = np.eye(loading.shape[1]), 0.0
    for _ in range(n_iter):
        turned = loading @ rotation
        left, size, right = np.linalg.svd((loading.T @ turned**2) * np.mean(turned**3, axis=0))
        rotation = left @ right
        if size.sum() < last * (1 + tol):
            break
        last = float(size.sum())
    return rotation
