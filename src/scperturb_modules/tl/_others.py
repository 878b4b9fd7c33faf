"""All other perturbed cells of a context, put together from the rows of a pseudobulk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, parse_row_name

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]


class Others(NamedTuple):
    """The cells of all rows of a context but one: (P,) number, (P, G) mean and its squared standard error.

    ``detection`` (P, G) is an upper bound of the share of cells in which a gene is seen. NaN where there are no others.
    """

    n: Array
    mean: Array
    se2: Array
    detection: Array


def others_of(truth: AnnData, rows: Sequence[Row]) -> Others:
    """Pool the cells of the other rows of each row's context, exactly as if their cells had been averaged.

    Parameters
    ----------
    truth
        Pseudobulk of all cells, R rows.
    rows
        P conditions and contexts.

    Returns
    -------
    Others
        Mean and variance follow from each row's number of cells, mean and variance (its squared standard error times
        its cells); a row of one cell has no variance of its own, but its mean counts.
    """
    all_rows = [parse_row_name(str(name)) for name in truth.obs_names]
    n_cells = truth.obs[keys.N_CELLS].to_numpy(dtype=np.float64)[:, None]
    mean, se2, se2_control, detection = (
        np.asarray(values, dtype=np.float64)
        for values in (truth.X, truth.layers[keys.SE2], truth.layers[keys.SE2_CONTROL], truth.layers[keys.DETECTION])
    )
    scatter = np.nan_to_num(np.maximum(se2 - se2_control, 0.0)) * n_cells * (n_cells - 1)
    result = Others(np.full(len(rows), np.nan), *np.full((3, len(rows), mean.shape[1]), np.nan))
    for p, row in enumerate(rows):
        rest = np.array([other[1] == row[1] and other != row for other in all_rows])
        if not rest.any():
            continue
        n = n_cells[rest].sum()
        pooled = (n_cells[rest] * mean[rest]).sum(axis=0) / n
        squares = scatter[rest].sum(axis=0) + (n_cells[rest] * (mean[rest] - pooled) ** 2).sum(axis=0)
        result.n[p], result.mean[p] = n, pooled
        result.se2[p] = squares / (n * (n - 1)) if n > 1 else np.nan
        result.detection[p] = (n_cells[rest] * detection[rest]).sum(axis=0) / n
    return result
