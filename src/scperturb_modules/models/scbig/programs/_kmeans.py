"""Spherical k-means of genes, from several starts; the same numbers for the same seed on any number of threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MOST_PASSES = 100


def spherical_kmeans(vectors: Array, weight: Array, n_clusters: int, *, seed: int, n_init: int = 4) -> Index:
    """(G,) clusters of unit rows (G, r) that have the largest weighted cosine with the mean of their cluster.

    The first start is from the axes, of which each is one program where directions were rotated so; the others are
    k-means++ (Arthur and Vassilvitskii 2007).
    """
    rng = np.random.default_rng(seed)
    starts = [_seeded(vectors, _axes(vectors, n_clusters), n_clusters, rng)]
    starts += [_seeded(vectors, vectors[:0], n_clusters, rng) for _ in range(n_init)]
    found = [_lloyd(vectors, weight, start) for start in starts]
    return max(found, key=lambda one: one[1])[0]


def centroids(vectors: Array, weight: Array, labels: Index, n_clusters: int) -> Array:
    """(K, r) unit means of the weighted rows of each cluster; 0 for a cluster without a direction."""
    total = np.stack([np.bincount(labels, weight * column, minlength=n_clusters) for column in vectors.T], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 1e-12)


def _axes(vectors: Array, n_clusters: int) -> Array:
    """Unit vectors along the axes and against them, those first that point to the most genes."""
    share = np.concatenate([np.square(np.maximum(side * vectors, 0.0)).sum(axis=0) for side in (1, -1)])
    both = np.concatenate([np.eye(vectors.shape[1]), -np.eye(vectors.shape[1])])
    chosen = np.argsort(-share, kind="stable")[:n_clusters]
    return both[chosen[share[chosen] > 0]]


def _seeded(vectors: Array, given: Array, n_clusters: int, rng: np.random.Generator) -> Array:
    """Given centres and, up to K, genes drawn by how far they are from all centres."""
    if not len(given):
        given = vectors[rng.integers(len(vectors))][None]
    distance = np.maximum(1 - (vectors @ given.T).max(axis=1), 0.0)
    centres = list(given)
    while len(centres) < n_clusters:
        share = distance / distance.sum() if distance.sum() > 0 else np.full(len(vectors), 1 / len(vectors))
        centres.append(vectors[rng.choice(len(vectors), p=share)])
        distance = np.minimum(distance, np.maximum(1 - vectors @ centres[-1], 0.0))
    return np.stack(centres)


def _lloyd(vectors: Array, weight: Array, centres: Array) -> tuple[Index, float]:
    """Labels, and the sum of weighted cosines; a cluster that lost all genes takes the one farthest from its own."""
    labels = np.full(len(vectors), -1)
    for _ in range(MOST_PASSES):
        cosine = vectors @ centres.T
        nearest = cosine.argmax(axis=1)
        best = cosine[np.arange(len(vectors)), nearest]
        empty = np.setdiff1d(np.arange(len(centres)), nearest)
        nearest[np.argsort(best, kind="stable")[: len(empty)]] = empty
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centres = centroids(vectors, weight, labels, len(centres))
    return labels, float(weight @ best)
