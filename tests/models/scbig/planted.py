"""Cells with planted programs, for the tests of how programs are found."""

from __future__ import annotations

import numpy as np


def draw_cells(n_genes=1024, n_programs=16, n_cells=1000, *, loading=0.25, depth=0.0, sizes=None, dense=0.0, seed=0):
    """(n, G) float32 cells of normal noise, (G,) programs, and (n, 1) a factor that all genes share."""
    rng = np.random.default_rng(seed)
    program = np.arange(n_genes) % n_programs if sizes is None else np.repeat(np.arange(len(sizes)), sizes)
    program = rng.permutation(program)
    weight = loading * rng.uniform(0.6, 1.4, len(program))
    state = rng.normal(size=(n_cells, program.max() + 1))
    shared, others = rng.normal(size=(n_cells, 1)), rng.normal(size=(n_cells, 2))
    cells = state[:, program] * weight + shared * rng.normal(0, 1, len(program)) * depth
    cells += others @ rng.normal(0, dense, (2, len(program))) + rng.normal(size=cells.shape)
    return cells.astype(np.float32), program, shared
