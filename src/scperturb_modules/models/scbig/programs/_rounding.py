"""From a transport plan of genes to programs to one program for each gene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

SWAP_PASSES = 5


def within_capacity(score: Array, capacity: Index) -> Index:
    """(G,) programs by deferred acceptance: each gene asks by falling score (G, K), each program keeps its best ones.

    Of equal scores the gene or program of the lower number goes first. Capacities (K,) sum to at least G.
    """
    wish = np.argsort(-score, axis=1, kind="stable")
    asked = np.zeros(len(score), dtype=np.intp)
    labels = np.full(len(score), -1)
    while (free := np.flatnonzero(labels < 0)).size:
        labels[free] = wish[free, asked[free]]
        asked[free] += 1
        for k in np.flatnonzero(np.bincount(labels, minlength=len(capacity)) > capacity):
            own = np.flatnonzero(labels == k)
            refused = own[np.argsort(-score[own, k], kind="stable")[capacity[k] :]]
            labels[refused] = -1
    return labels


def improved_by_swaps(cost: Array, labels: Index) -> Index:
    """Exchange genes of two programs as long as the cost (G, K) of both together falls; sizes stay."""
    labels = labels.copy()
    n_programs = cost.shape[1]
    for _ in range(SWAP_PASSES):
        before = labels.copy()
        for a in range(n_programs):
            for b in range(a + 1, n_programs):
                _swap(cost, labels, a, b)
        if np.array_equal(before, labels):
            break
    return labels


def _swap(cost: Array, labels: Index, a: int, b: int) -> None:
    gene_a, gain_a = _by_gain(cost, labels, a, b)
    gene_b, gain_b = _by_gain(cost, labels, b, a)
    n = min(len(gene_a), len(gene_b))
    n = int(np.count_nonzero(gain_a[:n] + gain_b[:n] > 1e-12))
    labels[gene_a[:n]], labels[gene_b[:n]] = b, a


def _by_gain(cost: Array, labels: Index, own: int, other: int) -> tuple[Index, Array]:
    genes = np.flatnonzero(labels == own)
    gain = cost[genes, own] - cost[genes, other]
    order = np.argsort(-gain, kind="stable")
    return genes[order], gain[order]


def with_least_size(cost: Array, labels: Index, least: int) -> Index:
    """Programs of fewer than ``least`` genes take the genes that lose the least by it from programs that have more."""
    labels = labels.copy()
    size = np.bincount(labels, minlength=cost.shape[1])
    for k in np.argsort(size, kind="stable"):
        loss = cost[:, k] - cost[np.arange(len(labels)), labels]
        for gene in np.argsort(loss, kind="stable"):
            if size[k] >= least:
                break
            if labels[gene] != k and size[labels[gene]] > least:
                size[labels[gene]] -= 1
                size[k] += 1
                labels[gene] = k
    return labels
