"""Loadings of genes on directions that each concern some of the genes, instead of all of them a little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SKEW, LEAST_KURTOSIS = 0.4, 3.0
"""A direction with less of both is as even over genes as a normal distribution: a factor of all genes, no program."""

MOST_STEPS, SETTLED = 200, 1e-5


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


def skew_rotation(loading: Array) -> Array:
    """(r, r) rotation of centred loadings (G, r) that makes the sum of their squared third moments largest.

    Varimax (Kaiser 1958), the same with fourth moments, does not tell a group of genes on one side from two on both; it
    is a good start.
    """
    varimax = _climbed(loading, np.eye(loading.shape[1]), _slope_of_fourth)
    return _climbed(loading, varimax, _slope_of_third)


def _climbed(loading: Array, rotation: Array, slope: Callable[[Array], Array]) -> Array:
    """From a rotation to a best one near it: again and again the rotation nearest to the slope."""
    last = 0.0
    for _ in range(MOST_STEPS):
        turned = loading @ rotation
        along = slope(turned)
        reached = float(np.vdot(turned, along))
        if abs(reached - last) <= SETTLED * abs(reached):
            break
        last = reached
        left, _, right = np.linalg.svd(loading.T @ along)
        rotation = left @ right
    return rotation


def _slope_of_third(turned: Array) -> Array:
    square = np.square(turned)
    return square * np.mean(square * turned, axis=0)


def _slope_of_fourth(turned: Array) -> Array:
    square = np.square(turned)
    return turned * (square - np.mean(square, axis=0))
