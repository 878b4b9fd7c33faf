"""How well the genes of a program go together, and how well random genes would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.baselines import TrainingData
from scperturb_modules.models.scbig.programs._program_cells import ProgramCells
from scperturb_modules.models.scbig.programs._relations import standardised_residuals

Array = NDArray[np.float64]

MOST_SAMPLES, MOST_JUDGED = 4_000, 500
"""Cells that loadings are taken from, and those in which programs are compared with random ones."""

N_RANDOM = 100


def residual_samples(cells: ProgramCells) -> NDArray[np.float32]:
    """(n, G) standardised cells without what covariates explain, evenly spread over those drawn."""
    n = cells.cells.shape[0]
    rows = np.unique(np.linspace(0, n - 1, min(n, MOST_SAMPLES)).astype(np.intp))
    return standardised_residuals(cells.cells[rows], cells.covariates[rows])[0]


def changes_as_samples(data: TrainingData) -> NDArray[np.float32]:
    """(P, G) standardised changes, where there are no cells."""
    return standardised_residuals(data.delta.astype(np.float32), np.zeros((len(data.delta), 0)))[0]


def loadings(samples: NDArray[np.float32], labels: NDArray[np.int64]) -> Array:
    """(G,) correlation of each gene with the mean of its program's other genes; 0 where one does not vary."""
    n_genes = len(labels)
    size = np.bincount(labels)
    member = sparse.csr_array((np.ones(n_genes, np.float32), (np.arange(n_genes), labels)))
    total = (samples @ member).astype(np.float64)
    total -= total.mean(axis=0)
    n = len(samples)
    variance = np.square(samples).mean(axis=0, dtype=np.float64)
    shared = np.empty(n_genes)
    for k in range(len(size)):
        own = labels == k
        shared[own] = samples[:, own].T @ total[:, k].astype(np.float32) / n
    others = np.maximum(np.square(total).mean(axis=0)[labels] - 2 * shared + variance, 0.0)
    scale = np.sqrt(variance * others)
    found = np.divide(shared - variance, scale, out=np.zeros(n_genes), where=(scale > 1e-9) & (size[labels] > 1))
    return np.clip(found, -1.0, 1.0)


def coherence(samples: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int) -> tuple[Array, Array]:
    """(K,) mean loading of each program, and its distance from 100 random sets of the same size, in their SD."""
    rng = np.random.default_rng(seed)
    size = np.bincount(labels)
    judged = samples[:: max(1, len(samples) // MOST_JUDGED)]

    def within(some: NDArray[np.int64]) -> Array:
        return np.bincount(some, loadings(judged, some)) / size

    random = np.array([within(rng.permutation(labels)) for _ in range(N_RANDOM)])
    z = (within(labels) - random.mean(axis=0)) / np.maximum(random.std(axis=0), 1e-12)
    return np.bincount(labels, loadings(samples, labels)) / size, z
