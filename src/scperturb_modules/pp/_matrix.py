"""Means and variances of groups of cells in one pass over a matrix of any format.

Why not ``scanpy.get.aggregate``: it takes the variance as a difference of squares, has no backed input, and importing
scanpy takes seconds; here it is one ``np.bincount`` per moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

# Cells x genes read at once. Fixed by the shape alone: block borders that depended on the values of test cells would
# change the last bits of training sums.
_DENSE_BLOCK = 2**24
_SPARSE_BLOCK = 2**26


@dataclass
class Moments:
    """Moments of K groups of cells: ``n`` (K,) int64 cells; the others (K, G) float64.

    ``m2`` is the sum of squared distances to the group's mean, ``positive`` the number of cells above zero.
    """

    n: np.ndarray
    mean: np.ndarray
    m2: np.ndarray
    positive: np.ndarray

    @classmethod
    def zeros(cls, n_groups: int, n_genes: int) -> Moments:
        shape = (n_groups, n_genes)
        return cls(np.zeros(n_groups, np.int64), np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def take(self, index: np.ndarray) -> Moments:
        return Moments(self.n[index], self.mean[index], self.m2[index], self.positive[index])

    def add(self, index: np.ndarray, other: Moments) -> None:
        """Add the cells of ``other``, whose group i is our group ``index[i]`` (distinct; none of them empty).

        The update of Chan, Golub and LeVeque (1983): no difference of large squares.
        """
        n_before = self.n[index][:, None]
        n_added = other.n[:, None]
        n_after = n_before + n_added
        shift = other.mean - self.mean[index]
        self.n[index] += other.n
        self.mean[index] += shift * (n_added / n_after)
        self.m2[index] += other.m2 + shift**2 * (n_before * n_added / n_after)
        self.positive[index] += other.positive

    def merge(self, codes: np.ndarray, n_groups: int) -> Moments:
        """Pool groups: group i goes to ``codes[i]``."""
        merged = Moments.zeros(n_groups, self.mean.shape[1])
        for group, code in enumerate(codes):
            if self.n[group]:
                merged.add(np.array([code]), self.take(np.array([group])))
        return merged

    def variance(self) -> np.ndarray:
        """(K, G) with ``ddof=1``; NaN for groups of fewer than two cells."""
        degrees = np.where(self.n > 1, self.n - 1.0, np.nan)
        return self.m2 / degrees[:, None]


def group_moments(matrix: Any, codes: np.ndarray, n_groups: int) -> Moments:
    """Moments of the groups of rows given by ``codes``.

    Parameters
    ----------
    matrix
        (N, G): NumPy array, SciPy sparse matrix or array, Dask array of either (read block by block), or the ``X`` of
        a backed AnnData.
    codes
        (N,) group of each row, ``-1`` for rows left out; their values are not used at all.
    n_groups
        K.

    Notes
    -----
    Accumulates in float64. The variance takes two passes over each block, so its relative error stays near the
    machine's, also for genes whose mean is large against their spread.
    """
    moments = Moments.zeros(n_groups, matrix.shape[1])
    for rows, block in row_blocks(matrix):
        kept = codes[rows] >= 0
        if not kept.any():
            continue
        groups, local = np.unique(codes[rows][kept], return_inverse=True)
        moments.add(groups, _block_moments(block if kept.all() else block[kept], local, len(groups)))
    return moments


def is_lazy(matrix: Any) -> bool:
    """Whether it is a Dask array, whose numbers are computed when they are asked for."""
    return hasattr(matrix, "dask")


def computed(block: Any) -> Any:
    """The numbers of a part of a matrix."""
    return block.compute() if is_lazy(block) else block


def row_blocks(matrix: Any) -> Iterator[tuple[slice, sparse.csr_array]]:
    if getattr(matrix, "format", None) == "csc":  # rows of a CSC matrix cannot be sliced cheaply
        matrix = (matrix if sparse.issparse(matrix) else matrix.to_memory()).tocsr()
    elements = _SPARSE_BLOCK if hasattr(matrix, "format") else _DENSE_BLOCK
    n_cells, n_genes = matrix.shape
    step = max(1, elements // max(1, n_genes))
    for start in range(0, n_cells, step):
        rows = slice(start, min(start + step, n_cells))
        block = sparse.csr_array(computed(matrix[rows]))
        if not block.has_canonical_format:
            block = block.copy()
            block.sum_duplicates()
        yield rows, block


def _block_moments(block: sparse.csr_array, codes: np.ndarray, n_groups: int) -> Moments:
    n_genes = block.shape[1]
    shape = (n_groups, n_genes)
    cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
    entry = codes[cell].astype(np.int64) * n_genes + block.indices  # group and gene of each stored value, as one number
    values = block.data

    def total(weights: np.ndarray | None = None) -> np.ndarray:  # np.bincount adds in float64, whatever the weights are
        return np.bincount(entry, weights, minlength=n_groups * n_genes).reshape(shape).astype(np.float64, copy=False)

    n = np.bincount(codes, minlength=n_groups)
    mean = total(values) / n[:, None]
    n_absent = n[:, None] - total()  # zeros that are not stored
    m2 = total((values - mean.ravel()[entry]) ** 2) + n_absent * mean**2
    return Moments(n, mean, m2, total(values > 0))
