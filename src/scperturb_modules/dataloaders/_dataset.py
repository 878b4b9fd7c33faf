"""From a step to a batch of tensors: one row per group (pseudobulk), or K cells and K controls of each."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.dataloaders._groups import CellGroups, draw_cells
from scperturb_modules.dataloaders._plan import Step
from scperturb_modules.dataloaders._rows import RowReader

logger = logging.getLogger(__name__)

GROUP = "group"
WEIGHT = "weight"
Batch = dict[str, torch.Tensor]


class StepDataset(Protocol):
    """What the loader and the data module need of a dataset."""

    def __len__(self) -> int:
        """Number of groups."""

    def __getitem__(self, step: Step) -> Batch:
        """The batch of a step."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is learned from; a run is resumed with the same only."""

    @property
    def indices(self) -> np.ndarray:
        """Rows of the data that may enter a batch, sorted."""


class PseudobulkDataset:
    """Arrays with one row per group.

    Parameters
    ----------
    arrays
        Name -> array whose first axis counts the n groups, for example ``{"delta": (n, G) float32}``. A batch holds
        the rows of its C groups under the same names, plus ``group`` (C,) int64 and ``weight`` (C,) float32. What is
        the same for all conditions, such as a prior, is no row of a group and belongs in the module.
    fingerprint
        SHA-256 of the data behind the arrays; default: of the arrays themselves, to six decimals.

    Raises
    ------
    DataError
        The arrays differ in their number of rows, or one has a reserved name or holds text.

    Examples
    --------
    >>> from scperturb_modules.dataloaders import StepPlan
    >>> data = PseudobulkDataset({"delta": np.eye(3, dtype=np.float32)})
    >>> step = StepPlan(3, batch_size=2).validation_steps()[1]
    >>> {key: value.tolist() for key, value in data[step].items()}
    {'delta': [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]], 'group': [2, 0], 'weight': [1.0, 0.0]}
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], *, fingerprint: str | None = None) -> None:
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        _check_arrays(self.arrays)
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, step: Step) -> Batch:
        batch = {name: torch.from_numpy(np.asarray(array[step.groups])) for name, array in self.arrays.items()}
        return batch | _step_tensors(step)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what is learned from."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            # rounded as the fingerprint of a pseudobulk is; + 0.0: no negative zero
            rounded = np.round(array, 6) + 0.0 if array.dtype.kind == "f" else array
            digest.update(np.ascontiguousarray(rounded).tobytes())
        return digest.hexdigest()

    @property
    def indices(self) -> np.ndarray:
        """(n,) int64, the numbers of the groups."""
        return np.arange(len(self))


def _check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    if not arrays:
        raise DataError("There is nothing to learn from: no array was given.")
    reserved = sorted({GROUP, WEIGHT} & set(arrays))
    if reserved:
        raise DataError(f"The names {name_some(reserved)} are written by the dataset itself; choose others.")
    unfit = [name for name, array in arrays.items() if array.ndim == 0 or array.dtype.kind not in "fiub"]
    if unfit:
        raise DataError(f"{name_some(unfit)} cannot be put in batches: give numbers with one row per condition.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = [f"{name}: {length}" for name, length in lengths.items()]
        raise DataError(f"The arrays differ in their number of conditions: {name_some(counts)}.")


class CellDataset:
    """K cells of each group and as many controls of its context.

    A batch of C groups holds ``X`` and ``control_X`` (C, K, G) float32, ``perturbation``, ``context``, ``group`` (C,)
    int64, ``cell_index`` and ``control_index`` (C, K) int64 row numbers, and ``weight`` (C,) float32.

    Parameters
    ----------
    matrix
        (N, G) expression: NumPy array, SciPy sparse matrix or array, or the ``X`` of a backed AnnData. Only the rows
        of a batch are made dense.
    groups
        Which rows belong together.
    n_cells
        K.
    seed
        Of the draws. A step's draws follow from it, the step's epoch and the labels of its groups alone.
    """

    def __init__(self, matrix: Any, groups: CellGroups, *, n_cells: int, seed: int = 0) -> None:
        if n_cells < 1:
            raise ValueError(f"n_cells={n_cells}; a condition needs at least one cell.")
        self.groups, self.n_cells, self.seed = groups, n_cells, seed
        self._reader = RowReader(matrix)
        self._log_small_pools()

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, step: Step) -> Batch:
        drawn = [
            draw_cells(self.groups, int(group), n_cells=self.n_cells, epoch=step.epoch, seed=self.seed)
            for group in step.groups
        ]
        index = np.stack([np.stack(pair) for pair in zip(*drawn, strict=True)])  # (2, C, K): cells, controls
        cells, controls = torch.from_numpy(self._reader.read(index))
        cell_index, control_index = torch.from_numpy(index)
        return {
            "X": cells,
            "control_X": controls,
            "perturbation": torch.from_numpy(self.groups.condition[step.groups]),
            "context": torch.from_numpy(self.groups.context[step.groups]),
            "cell_index": cell_index,
            "control_index": control_index,
        } | _step_tensors(step)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the names of the cells and controls by group."""
        return self.groups.fingerprint

    @cached_property
    def indices(self) -> np.ndarray:
        """Sorted int64 row numbers of the cells and controls."""
        used = [self.groups.controls[code] for code in np.unique(self.groups.context)]
        return np.unique(np.concatenate([*self.groups.cells, *used]))

    def _log_small_pools(self) -> None:
        groups = self.groups
        used = np.unique(groups.context)
        pools = {
            "groups": [
                (f"{groups.labels[i]} {groups.batches[c]}", groups.cells[i]) for i, c in enumerate(groups.context)
            ],
            "contexts of controls": [(f"{groups.cell_types[c]} {groups.batches[c]}", groups.controls[c]) for c in used],
        }
        for kind, named in pools.items():
            small = [name.strip() or "the only one" for name, pool in named if len(pool) < self.n_cells]
            if small:
                text = "%d %s have fewer than %d cells and are drawn from with replacement: %s."
                logger.info(text, len(small), kind, self.n_cells, name_some(small))


def _step_tensors(step: Step) -> Batch:
    return {GROUP: torch.from_numpy(step.groups.astype(np.int64)), WEIGHT: torch.from_numpy(step.weight)}
