"""Directions of gene loadings that each concern some of the genes, instead of all of them a little."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SKEW, LEAST_KURTOSIS = 0.4, 3.0
"""A direction with less of both is as even over genes as a normal distribution: a factor of all genes, no program."""


def programs_of_directions(vectors: Array, size: Array) -> Array:
    """(G, r') loadings of genes, one column for each direction that concerns some of the genes.

    Parameters
    ----------
    vectors, size
        (G, r) orthonormal directions of genes, and (r,) how much each explains.

    Notes
    -----
    Varimax of unit-variance directions finds the ones in which most genes have no part, if there are any (Rohe and
    Zeng, Vintage factor analysis with varimax performs statistical inference, 2023); activities of programs may
    correlate. The median gene has no part by definition: what all genes share, such as the composition of counts, goes.
    Of the directions with less than 0.4 of skewness and 3 of excess kurtosis nothing is kept, unless all are such.
    """
    scaled = (vectors - vectors.mean(axis=0)) * np.sqrt(len(vectors))
    rotation = varimax(scaled)
    loading = scaled @ rotation
    moment = [np.mean(loading**power, axis=0) for power in (2, 3, 4)]
    variance = np.maximum(moment[0], 1e-12)
    skew, kurtosis = moment[1] / variance**1.5, moment[2] / variance**2 - 3
    loading *= np.where(skew < 0, -1.0, 1.0)
    loading -= np.median(loading, axis=0)
    loading *= np.linalg.norm(rotation * size[:, None], axis=0)
    is_uneven = (np.abs(skew) > LEAST_SKEW) | (kurtosis > LEAST_KURTOSIS)
    return loading[:, is_uneven] if is_uneven.any() else loading


def varimax(loading: Array, *, n_iter: int = 500, tol: float = 1e-8) -> Array:
    """(r, r) rotation of loadings (G, r) that makes the variance of their squares largest (Kaiser 1958)."""
    n_genes, rank = loading.shape
    rotation, last = np.eye(rank), 0.0
    for _ in range(n_iter):
        turned = loading @ rotation
        slope = loading.T @ (turned**3 - turned * np.mean(turned**2, axis=0))
        left, size, right = np.linalg.svd(slope)
        rotation = left @ right
        if size.sum() < last * (1 + tol):
            break
        last = float(size.sum())
    return rotation
