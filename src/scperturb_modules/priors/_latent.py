"""Coordinates of genes from the sets that they are in: the main directions of a sparse table."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from scperturb_modules._errors import DataError
from scperturb_modules.priors._components import sparse_eigenpairs, with_fixed_signs
from scperturb_modules.priors._graph import Array

_MOST_DENSE = 400
_ZERO = 1e-10
"""Of the largest eigenvalue; what is smaller is rounding."""


def main_directions(table: sparse.csr_array, n_features: int, *, clip: bool = False) -> Array:
    """Truncated singular value decomposition ``U S`` of a sparse table.

    Parameters
    ----------
    table
        (n, S) float64.
    n_features
        Number k of singular values.
    clip
        As many as there are, at most k.

    Returns
    -------
    ndarray
        (n, k) float64, largest singular value first; the entry of largest size in each column is positive.

    Raises
    ------
    DataError
        k is below 1; or the rank of the table is below k, and ``clip`` is False.
    """
    if n_features < 1:
        raise DataError(f"n_features={n_features}; it is at least 1.")
    value, direction = _largest(table, min(n_features, *table.shape))
    rank = int((value > _ZERO * value.max(initial=0)).sum())
    if n_features > rank and not clip:
        raise DataError(f"n_features={n_features}, but genes and sets allow 1 to {rank}.")
    return with_fixed_signs(np.asarray(table @ direction[:, np.argsort(-value, kind="stable")[:rank]]))


def _largest(table: sparse.csr_array, n: int) -> tuple[Array, Array]:
    """The n largest eigenvalues of ``table.T @ table``, and their vectors."""
    n_sets = table.shape[1]
    if n_sets <= max(_MOST_DENSE, 2 * n) or n == 0:
        value, vector = np.linalg.eigh((table.T @ table).toarray())
        return value[n_sets - n :], vector[:, n_sets - n :]
    operator = aslinearoperator(table)
    return sparse_eigenpairs(operator.H @ operator, n, "LA")
