"""The training cells of a screen, for models that learn of single cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.dataloaders import CellGroups, JointDataset, PseudobulkDataset
from scperturb_modules.dataloaders._rows import RowReader
from scperturb_modules.pp._screen import expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

BLOCK = 2048
"""Cells that are read together."""


@dataclass(frozen=True)
class TrainingCells:
    """Training cells of a screen, by condition.

    Parameters
    ----------
    screen
        After setup.
    groups
        Its training cells.
    """

    screen: AnnData
    groups: CellGroups

    @classmethod
    def of(cls, screen: AnnData) -> TrainingCells:
        """Group the cells of a screen; where a batch has no controls, those of all batches stand in."""
        return cls(screen, CellGroups.of(screen, setup_of(screen), control_fallback="pooled"))

    @property
    def expression(self) -> Any:
        """(N, G) expression of all cells of the screen, log1p CP10k."""
        return expression_of(self.screen, setup_of(self.screen).layer)

    def control_rows(self, context: str | None = None) -> NDArray[np.intp]:
        """Row numbers of the training controls, of one cell type or of all."""
        view = resolve_screen(self.screen, setup_of(self.screen))
        own = True if context is None else view.contexts == context
        return np.flatnonzero(view.is_control & view.is_training & own)

    def rows(self) -> NDArray[np.intp]:
        """Row numbers of all training cells."""
        return np.flatnonzero(resolve_screen(self.screen, setup_of(self.screen)).is_training)

    def controls(self, most: int | None = None, *, seed: int = 0) -> Iterator[NDArray[np.float32]]:
        """Training control cells (n, G), block by block; ``most`` of them, drawn by the seed, or all."""
        yield from self.blocks(some_of(self.control_rows(), most, seed=seed))

    def blocks(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
        """Cells (n, G) of these rows, block by block."""
        reader = RowReader(self.expression)
        for start in range(0, len(rows), BLOCK):
            yield reader.read(rows[start : start + BLOCK])

    def joined(
        self, rows: PseudobulkDataset, names: list[str], *, n_cells: int, seed: int, matrix: Any = None
    ) -> JointDataset:
        """Pseudobulk rows with cells of theirs, as expression or as the rows of another matrix (N, ...)."""
        found = self.expression if matrix is None else matrix
        return JointDataset(rows, found, self.groups, rows=names, n_cells=n_cells, seed=seed)


def some_of(rows: NDArray[np.intp], most: int | None, *, seed: int) -> NDArray[np.intp]:
    """All rows, or so many of them, drawn by the seed and in their order."""
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def moments(blocks: Iterator[NDArray[np.float32]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G,) mean and standard deviation of cells that come block by block, in float64."""
    n, total, squares = 0, np.zeros(()), np.zeros(())
    for block in blocks:
        cells = block.astype(np.float64)
        n, total, squares = n + len(cells), total + cells.sum(axis=0), squares + np.square(cells).sum(axis=0)
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0.0))


def setup_of(screen: AnnData) -> keys.ScreenKeys:
    """The columns of a screen that was set up."""
    return keys.ScreenKeys.from_uns(screen.uns[keys.ROOT][keys.SETUP])
