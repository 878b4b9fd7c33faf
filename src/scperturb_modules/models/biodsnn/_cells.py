"""What the data stream learns of cells before it is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules.models._features import as_float, n_directions
from scperturb_modules.models._training_cells import TrainingCells, moments
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.models.biodsnn._stream import StreamShape

MOST_CONTROLS = 5_000
"""Principal components are taken of so many control cells at most."""


def stream_shape(cells: TrainingCells, settings: BioDsnnSettings, *, seed: int) -> StreamShape:
    """Mean and standard deviation of each gene over training controls; principal components where they are used."""
    mean, sd = moments(cells.controls())
    components = np.zeros((len(mean), settings.n_latent))
    if not settings.use_vae:
        chosen = np.concatenate(list(cells.controls(MOST_CONTROLS, seed=seed)))
        _principal_components(chosen - mean, out=components)
    return StreamShape(as_float(mean), as_float(sd), as_float(components))


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
