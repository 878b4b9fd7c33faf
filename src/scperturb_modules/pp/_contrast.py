"""Every change of a pseudobulk as a weighted sum of means over groups of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._conditions import Row, row_name
from scperturb_modules._errors import DataError, name_some
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._controls import find_controls
from scperturb_modules.pp._matrix import Moments, row_blocks
from scperturb_modules.pp._pseudobulk import batch_counts_of, cell_groups, match_rows
from scperturb_modules.pp._screen import expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Contrast:
    """Changes of R rows as sums over K groups of cells, those of the perturbed rows and of their controls.

    Attributes
    ----------
    expression
        (N, m) of the cells used, group by group.
    start
        (K + 1,) where the cells of each group begin.
    weights
        (R, K): 1 for the row's own cells, minus the weight of each group of controls.
    """

    expression: sparse.csr_array
    start: NDArray[np.intp]
    weights: NDArray[np.float64]

    def changes(self, cells: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """(R, m) changes; ``cells`` (N,) are those to average instead, each group's in its own places."""
        n_cells = self.expression.shape[0]
        chosen = np.arange(n_cells) if cells is None else cells
        sizes = np.diff(self.start)
        share = np.repeat(1.0 / sizes, sizes)
        means = sparse.csr_array((share, chosen, self.start), shape=(len(sizes), n_cells)) @ self.expression
        return self.weights @ means.toarray()

    def resample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """(R, m) changes of cells drawn anew, with replacement, within every group."""
        sizes = np.diff(self.start)
        first, n_in_group = np.repeat(self.start[:-1], sizes), np.repeat(sizes, sizes)
        return self.changes(first + rng.integers(0, n_in_group))


def contrast(adata: AnnData, keys: ScreenKeys, rows: tuple[Row, ...], genes: list[str]) -> Contrast:
    """Take the weights of cells in the changes of a pseudobulk of ``adata``.

    Parameters
    ----------
    adata
        Cells x genes, may be backed.
    keys
        With which the pseudobulk was made.
    rows
        (condition, context) of the R rows.
    genes
        The m genes.

    Raises
    ------
    DataError
        A row without cells.
    """
    view = resolve_screen(adata, keys)
    wanted = set(rows)
    contexts = [context or None for context in view.contexts]
    used = np.array([row in wanted for row in zip(view.labels, contexts, strict=True)], dtype=bool) | view.is_control
    groups, codes = cell_groups(view, used)
    own = groups.loc[~groups["is_control"], ["condition", "context"]].itertuples(index=False)
    number = {(condition, context or None): i for i, (condition, context) in enumerate(own)}
    absent = [row for row in rows if row not in number]
    if absent:
        raise DataError(
            f"{len(absent)} conditions have no cells in cells: {name_some(row_name(*row) for row in absent)}. "
            "Pass the screen that the pseudobulk was made of."
        )
    n_groups, n_rows = len(groups), len(number)
    controls = find_controls(groups, pooled=True)
    # every group's mean as a gene of its own: the matched controls are then their weights
    moments = Moments.zeros(n_groups, n_groups)
    moments.n[:] = np.bincount(codes[codes >= 0], minlength=n_groups)
    moments.mean[:] = np.eye(n_groups)
    truth, _ = match_rows(groups, moments, controls, *batch_counts_of(view, groups, codes))
    weights = np.eye(n_rows, n_groups) - truth.mean
    order = np.flatnonzero(codes >= 0)
    order = order[np.argsort(codes[order], kind="stable")]
    start = np.concatenate([[0], np.cumsum(moments.n)])
    return Contrast(_columns(adata, keys, genes)[order], start, weights[[number[row] for row in rows]])


def _columns(adata: AnnData, keys: ScreenKeys, genes: list[str]) -> sparse.csr_array:
    matrix: Any = expression_of(adata, keys.layer)
    at = adata.var_names.get_indexer(genes)
    return sparse.vstack([block[:, at] for _, block in row_blocks(matrix)], format="csr").astype(np.float64)
