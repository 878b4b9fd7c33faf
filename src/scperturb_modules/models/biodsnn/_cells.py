"""The cells that the data stream learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.dataloaders import CellGroups, JointDataset, PseudobulkDataset
from scperturb_modules.dataloaders._rows import RowReader
from scperturb_modules.models._features import as_float, n_directions
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.models.biodsnn._stream import StreamShape
from scperturb_modules.pp._screen import expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CONTROLS = 5_000
"""Principal components are taken of so many control cells at most."""

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
        return cls(screen, CellGroups.of(screen, _setup(screen), control_fallback="pooled"))

    def shape(self, settings: BioDsnnSettings, *, seed: int) -> StreamShape:
        """Mean and standard deviation of each gene over training controls; principal components where they are used."""
        n, total, squares = 0, np.zeros(()), np.zeros(())
        for block in self.controls():
            cells = block.astype(np.float64)
            n, total, squares = n + len(cells), total + cells.sum(axis=0), squares + np.square(cells).sum(axis=0)
        mean = total / n
        sd = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
        components = np.zeros((len(mean), settings.n_latent))
        if not settings.use_vae:
            chosen = np.concatenate(list(self.controls(MOST_CONTROLS, seed=seed)))
            _principal_components(chosen - mean, out=components)
        return StreamShape(as_float(mean), as_float(sd), as_float(components))

    def controls(self, most: int | None = None, *, seed: int = 0) -> Iterator[NDArray[np.float32]]:
        """Training control cells (n, G), block by block; ``most`` of them, drawn by the seed, or all."""
        view = resolve_screen(self.screen, _setup(self.screen))
        rows = np.flatnonzero(view.is_control & view.is_training)
        if most is not None and len(rows) > most:
            rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
        reader = RowReader(self._expression)
        for start in range(0, len(rows), BLOCK):
            yield reader.read(rows[start : start + BLOCK])

    def joined(self, rows: PseudobulkDataset, names: list[str], *, n_cells: int, seed: int) -> JointDataset:
        """Pseudobulk rows with cells of theirs."""
        return JointDataset(rows, self._expression, self.groups, rows=names, n_cells=n_cells, seed=seed)

    @property
    def _expression(self) -> Any:
        return expression_of(self.screen, _setup(self.screen).layer)


def _principal_components(cells: NDArray[np.float64], *, out: NDArray[np.float64]) -> None:
    """Write the leading components of centred cells (n, G) into (G, q), scaled so that scores have unit variance."""
    _, size, vectors = np.linalg.svd(cells, full_matrices=False)
    n = n_directions(size, out.shape[1])
    out[:, :n] = vectors[:n].T / size[:n] * np.sqrt(len(cells))


def shape_to_be_loaded(n_genes: int, settings: BioDsnnSettings) -> StreamShape:
    """Of the right sizes, for a model whose saved weights are put in later."""
    nothing = torch.zeros(n_genes)
    return StreamShape(nothing, nothing + 1, torch.zeros(n_genes, settings.n_latent))


@torch.no_grad()
def mean_state(
    cells: TrainingCells, state: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> torch.Tensor:
    """(q,) mean of the states of all training controls, in float64."""
    sums = [(state(torch.as_tensor(one, device=device)).double().sum(dim=0), len(one)) for one in cells.controls()]
    return torch.stack([total for total, _ in sums]).sum(dim=0) / sum(n for _, n in sums)


def _setup(screen: AnnData) -> keys.ScreenKeys:
    return keys.ScreenKeys.from_uns(screen.uns[keys.ROOT][keys.SETUP])
