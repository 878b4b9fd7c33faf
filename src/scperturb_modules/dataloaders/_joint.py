"""Batches with the pseudobulk row of each group beside some of its cells and matched controls."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.dataloaders._cells import identity_hash
from scperturb_modules.dataloaders._dataset import Batch, PseudobulkDataset
from scperturb_modules.dataloaders._groups import CellGroups
from scperturb_modules.dataloaders._plan import Step
from scperturb_modules.dataloaders._rows import RowReader

logger = logging.getLogger(__name__)

CELL_ARRAYS = ("X", "control_X", "cell_index", "control_index")


class JointDataset:
    """Pseudobulk rows, K cells of each, and for each cell a control of its own cell type and batch.

    A batch of C groups is that of the pseudobulk, with ``X`` and ``control_X`` (C, K, G) float32, and ``cell_index``
    and ``control_index`` (C, K) int64 row numbers.

    Cells are drawn from all batches of a row, so that batches have their share among the controls too: it is that
    with which the pseudobulk weighs them in ``control``.

    Parameters
    ----------
    pseudobulk
        One group per row.
    matrix
        (N, G) expression, as in :class:`~scperturb_modules.dataloaders.CellDataset`.
    groups
        The training cells of the screen, of these rows and perhaps of others.
    rows
        Name of each row of the pseudobulk, ``condition`` or ``condition|cell type``, in its order.
    n_cells
        K. Rows with fewer cells are drawn from with replacement, and so are controls of which there are too few.
    seed
        Of the draws. A row's draws follow from it, the step's epoch and the row's name alone.

    Raises
    ------
    DataError
        A row has no training cell, there is another number of names than of rows, or an array of the pseudobulk has a
        name that is used for cells.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> from scperturb_modules._keys import ScreenKeys
    >>> from scperturb_modules.dataloaders import StepPlan
    >>> adata = spm.datasets.simulate("default", seed=0, n_pairs=3)
    >>> bulk = spm.pp.pseudobulk(adata, batch_key="batch")
    >>> data = JointDataset(
    ...     PseudobulkDataset({"delta": bulk.layers["delta"]}),
    ...     adata.X,
    ...     CellGroups.of(adata, ScreenKeys(batch_key="batch")),
    ...     rows=bulk.obs_names,
    ...     n_cells=8,
    ... )
    >>> step = StepPlan(len(data), batch_size=4).validation_steps()[0]
    >>> {name: tuple(array.shape) for name, array in data[step].items() if name in ("delta", "X", "control_X")}
    {'delta': (4, 600), 'X': (4, 8, 600), 'control_X': (4, 8, 600)}
    """

    def __init__(
        self,
        pseudobulk: PseudobulkDataset,
        matrix: Any,
        groups: CellGroups,
        *,
        rows: Sequence[str],
        n_cells: int,
        seed: int = 0,
    ) -> None:
        if n_cells < 1:
            raise ValueError(f"n_cells={n_cells}; a condition needs at least one cell.")
        self.rows = [str(row) for row in rows]
        _check_pseudobulk(pseudobulk, self.rows)
        self.pseudobulk, self.groups, self.n_cells, self.seed = pseudobulk, groups, n_cells, seed
        self._reader = RowReader(matrix)
        members = _groups_of(self.rows, groups)
        self._cells = [np.concatenate([groups.cells[i] for i in own]) for own in members]
        sizes = [[len(groups.cells[i]) for i in own] for own in members]
        self._contexts = [np.repeat(groups.context[own], size) for own, size in zip(members, sizes, strict=True)]
        self._log_small_rows()

    def __len__(self) -> int:
        return len(self.pseudobulk)

    def __getitem__(self, step: Step) -> Batch:
        drawn = [self._draw(int(row), step.epoch) for row in step.groups]
        index = np.stack([np.stack(pair) for pair in zip(*drawn, strict=True)])  # (2, C, K): cells, controls
        arrays = (*self._reader.read(index), *index)
        of_cells = {name: torch.from_numpy(array) for name, array in zip(CELL_ARRAYS, arrays, strict=True)}
        return self.pseudobulk[step] | of_cells

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pseudobulk, the names of its rows, and the names of the cells and controls by group."""
        parts = [self.pseudobulk.fingerprint, self.groups.fingerprint, *self.rows]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def indices(self) -> np.ndarray:
        """Sorted int64 row numbers of the cells and controls that may be drawn."""
        controls = [self.groups.controls[code] for code in np.unique(np.concatenate(self._contexts))]
        return np.unique(np.concatenate([*self._cells, *controls]))

    def _draw(self, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(K,) row numbers of cells, and of a control for each."""
        rng = np.random.default_rng([self.seed, epoch, identity_hash([self.rows[row]])])
        pool = self._cells[row]
        chosen = rng.choice(len(pool), self.n_cells, replace=len(pool) < self.n_cells)
        contexts = self._contexts[row][chosen]
        controls = np.empty(self.n_cells, np.int64)
        for code in np.unique(contexts):
            own, matched = contexts == code, self.groups.controls[code]
            controls[own] = rng.choice(matched, own.sum(), replace=len(matched) < own.sum())
        return pool[chosen], controls

    def _log_small_rows(self) -> None:
        small = [row for row, cells in zip(self.rows, self._cells, strict=True) if len(cells) < self.n_cells]
        if small:
            text = "%d conditions have fewer than %d cells and are drawn from with replacement: %s."
            logger.info(text, len(small), self.n_cells, name_some(small))


def _check_pseudobulk(pseudobulk: PseudobulkDataset, rows: list[str]) -> None:
    if len(rows) != len(pseudobulk):
        raise DataError(
            f"{len(rows)} names were given for {len(pseudobulk)} rows of the pseudobulk; pass one for each."
        )
    reserved = sorted(set(CELL_ARRAYS) & set(pseudobulk.arrays))
    if reserved:
        raise DataError(f"The names {name_some(reserved)} are those of cells in a batch; choose others.")


def _groups_of(rows: list[str], groups: CellGroups) -> list[np.ndarray]:
    """Numbers of the groups of each row, one per batch."""
    found: dict[str, list[int]] = {}
    for number, label in enumerate(groups.labels):
        found.setdefault(label, []).append(number)
    lacking = sorted(set(rows) - set(found))
    if lacking:
        raise DataError(
            f"{len(lacking)} rows of the pseudobulk have no training cell: {name_some(lacking)}. Make the pseudobulk "
            'and the groups from the same cells and columns: spm.pp.pseudobulk(adata, ..., cells="training").'
        )
    return [np.array(found[row]) for row in rows]
