"""A number for the content of each row of a matrix, to find copies among millions of cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from scperturb_modules.pp._matrix import row_blocks


def hash_rows(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Hash the rows of a matrix of any format; zeros do not count, stored or not.

    Parameters
    ----------
    matrix
        (N, G): NumPy array, SciPy sparse matrix or array, Dask array, or the ``X`` of a backed AnnData.

    Returns
    -------
    hashes
        (N,) uint64. Equal rows have equal hashes; among a million different rows the chance that any two are equal is
        below 1e-7.
    n_nonzero
        (N,) int64 non-zero values of each row.

    Notes
    -----
    The sum over a row of a mixed (gene, value): a sum does not depend on the order in which values are stored.
    """
    hashes = np.zeros(matrix.shape[0], np.uint64)
    n_nonzero = np.zeros(matrix.shape[0], np.int64)
    gene_code = _mix(np.arange(1, matrix.shape[1] + 1, dtype=np.uint64))
    for rows, block in row_blocks(matrix):
        kept = block.data != 0
        cell = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))[kept]
        bits = block.data[kept].astype(np.float64).view(np.uint64)
        entry = _mix(bits ^ gene_code[block.indices[kept]])
        counts = np.bincount(cell, minlength=block.shape[0])
        total = np.concatenate(
            [np.zeros(1, np.uint64), np.cumsum(entry, dtype=np.uint64)]
        )  # wraps around, as it should
        ends = np.cumsum(counts)
        hashes[rows] = total[ends] - total[ends - counts]
        n_nonzero[rows] = counts
    return hashes, n_nonzero


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele et al. 2014): every bit of the input changes half of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
