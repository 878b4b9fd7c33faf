"""Rows of an expression matrix of any format as dense float32, read once and in sorted order."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from scipy import sparse

from scperturb_modules._errors import DataError

logger = logging.getLogger(__name__)


class RowReader:
    """Reads rows of a matrix that may be in memory or in an h5ad file.

    Parameters
    ----------
    matrix
        (N, G): NumPy array, SciPy sparse matrix or array, or the ``X`` of a backed AnnData. Columns-first (CSC) ones
        are converted once, because their rows cannot be read one by one.
    """

    def __init__(self, matrix: Any) -> None:
        if matrix is None:
            raise DataError("adata.X is empty (None); pass the layer with the expression as layer=.")
        self._matrix = _by_rows(matrix)
        self.shape: tuple[int, int] = tuple(matrix.shape)

    def read(self, index: np.ndarray) -> np.ndarray:
        """Rows ``index``, in the order asked for and with repeats: index.shape + (G,) float32.

        A file is read once, in the order of its rows: HDF5 takes no other, and anndata returns no other.
        """
        rows, inverse = np.unique(index, return_inverse=True)
        block = self._matrix[rows]
        dense = block.toarray() if sparse.issparse(block) else np.asarray(block)
        return dense.astype(np.float32, copy=False)[inverse.reshape(index.shape)]

    def __getstate__(self) -> dict[str, Any]:
        """An open file does not travel to another process: its path does."""
        source = _source_of(self._matrix)
        where = None if source is None else (source.file.filename, source.name)
        return {"shape": self.shape, "where": where, "matrix": self._matrix if where is None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shape = state["shape"]
        self._matrix = state["matrix"] if state["where"] is None else _reopen(*state["where"])


def _by_rows(matrix: Any) -> Any:
    if getattr(matrix, "format", None) != "csc":
        return matrix
    logger.info("The matrix is stored by columns (CSC); a copy by rows (CSR) is made in memory.")
    return (matrix if sparse.issparse(matrix) else matrix.to_memory()).tocsr()


def _source_of(matrix: Any) -> Any:
    """The HDF5 group or data set behind a backed matrix; None for one in memory."""
    source = getattr(matrix, "group", matrix)
    return source if hasattr(source, "file") else None


def _reopen(path: str, name: str) -> Any:
    import h5py
    from anndata.io import sparse_dataset

    try:
        source = h5py.File(path, "r")[name]
    except OSError as error:
        raise DataError(
            f"{path} cannot be read by a second process ({error}). Open it with anndata.read_h5ad(..., backed='r'), "
            "or pass num_workers=0."
        ) from error
    return sparse_dataset(source) if isinstance(source, h5py.Group) else source
