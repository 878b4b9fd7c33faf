"""Where boxes with links between them stand on a page: no two overlap, groups without a link stand side by side."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

Index: TypeAlias = NDArray[np.intp]
Array: TypeAlias = NDArray[np.float64]

_LINK = np.array([0.9, 0.66])
"""Inches across and up of a link of mean length; wider than high, as names are."""
_BETWEEN = 0.1
"""Inches between boxes."""
_GROUP_GAP = 0.35
"""Inches between groups."""
_ASPECT = 1.8
"""Width / height of the page, roughly."""
_MOST_ROUNDS = 500
_ROUNDING = 1e-9
_SETTLED = 1e-3
"""Links; points that move less from round to round have settled."""


def place_boxes(size: Array, source: Index, target: Index) -> Array:
    """Centres of boxes.

    Parameters
    ----------
    size
        (m, 2) width and height in inches.
    source, target
        (e,) numbers of the boxes that a link joins.

    Returns
    -------
    ndarray
        (m, 2) float64, inches from the upper left corner of the page: x to the right, y down.

    Notes
    -----
    Within a group the distances on the page follow those along links, by stress majorization from a circle (Gansner,
    Koren and North, Graph Drawing 2004); then boxes that overlap are pushed apart. Nothing is random.
    """
    m = len(size)
    links = sparse.coo_array((np.ones(len(source)), (source, target)), shape=(m, m)).tocsr()
    n_groups, label = csgraph.connected_components(links, directed=False)
    groups = [np.flatnonzero(label == number) for number in range(n_groups)]
    distance = csgraph.shortest_path(links, directed=False, unweighted=True)
    place = np.zeros((m, 2))
    for group in groups:
        n_links = np.isin(source, group).sum()
        crowding = np.sqrt(max(n_links / len(group), 1.0))  # 1 where there are no rings
        place[group] = _pushed_apart(_relaxed(distance[np.ix_(group, group)]) * crowding * _LINK, size[group])
    low = np.array([(place[group] - size[group] / 2).min(axis=0) for group in groups])
    high = np.array([(place[group] + size[group] / 2).max(axis=0) for group in groups])
    for group, move in zip(groups, _packed(high - low + _GROUP_GAP) - low, strict=True):
        place[group] += move
    return place


def _relaxed(distance: Array) -> Array:
    """(k, 2) points whose distances are near the given ones (k, k); relative errors count."""
    k = len(distance)
    wanted = distance + np.eye(k)
    weight = wanted**-2.0 - np.eye(k)
    inverse = np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight)
    angle = 2 * np.pi * np.arange(k) / k
    point = np.stack([np.cos(angle), np.sin(angle)], axis=1) * distance.max() / 2
    for _ in range(_MOST_ROUNDS):
        actual = np.hypot(*(point[:, None] - point[None]).T)
        pull = weight * wanted / np.maximum(actual, _ROUNDING)
        before, point = point, inverse @ (pull.sum(axis=1)[:, None] * point - pull @ point)
        if np.abs(point - before).max() < _SETTLED:
            break
    return point


def _pushed_apart(place: Array, size: Array) -> Array:
    """Move boxes that overlap away from each other, along the axis on which less is to go."""
    place = place.copy()
    room = (size[:, None] + size[None, :]) / 2 + _BETWEEN
    first = np.sign(np.subtract.outer(np.arange(len(size)), np.arange(len(size))))
    for _ in range(_MOST_ROUNDS):
        apart = place[:, None] - place[None, :]
        overlap = room - np.abs(apart)
        touching = (overlap > _ROUNDING).all(axis=2) & (first != 0)
        if not touching.any():
            break
        # boxes in the same place go by their number
        direction = np.where(apart == 0, first[:, :, None], np.sign(apart))
        shorter = np.argmin(overlap, axis=2)[:, :, None] == np.arange(2)
        place += np.where(touching[:, :, None] & shorter, direction * overlap / 2, 0.0).sum(axis=1)
    return place


def _packed(extent: Array) -> Array:
    """(n, 2) corners of groups side by side: the highest first, each as high up and then as far left as it fits."""
    page_width = max(extent[:, 0].max(), np.sqrt(_ASPECT * extent.prod(axis=1).sum()))
    corner = np.zeros_like(extent)
    order = np.lexsort((-extent[:, 0], -extent[:, 1]))
    for n_done, i in enumerate(order):
        low = corner[order[:n_done]]
        high = low + extent[order[:n_done]]
        y, x = np.meshgrid(*(np.unique(np.append(high[:, axis], 0.0)) for axis in (1, 0)), indexing="ij")
        spots = np.stack([x.ravel(), y.ravel()], axis=1)
        free = (spots[:, None] + extent[i] <= low + _ROUNDING) | (spots[:, None] >= high - _ROUNDING)
        fits = free.any(axis=2).all(axis=1) & (spots[:, 0] + extent[i, 0] <= page_width + _ROUNDING)
        corner[i] = spots[np.argmax(fits)]
    return corner
