"""The training cells that gene programs are found from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules.baselines import TrainingData
from scperturb_modules.dataloaders._rows import RowReader
from scperturb_modules.models._setup import require_genes
from scperturb_modules.models._training_cells import BLOCK, moments, setup_of, some_of
from scperturb_modules.pp._screen import ScreenView, expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

MOST_CELLS, MOST_CONTROLS = 20_000, 5_000
"""Cells that relations are taken from, and controls that tell how programs go together."""


@dataclass(frozen=True, eq=False)
class ProgramCells:
    """Cells (n, G) as CSR with covariates (n, c) as CSR, and controls.

    Attributes
    ----------
    cells, covariates
        Training cells, drawn alike from all conditions, and what is to be explained away: log library size, batch,
        cell type, condition.
    controls
        (m, G) CSR of training controls.
    mean, sd
        (G,) over all training controls.
    """

    cells: Any
    covariates: Any
    controls: Any
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]

    @classmethod
    def of(cls, screen: AnnData, data: TrainingData, *, seed: int) -> ProgramCells:
        """Of a screen after setup; genes in the order of the training data."""
        setup = setup_of(screen)
        view = resolve_screen(screen, setup)
        order = require_genes(screen.var_names, pd.Index(data.var_names), "SCBIG")
        reader = RowReader(expression_of(screen, setup.layer))

        def blocks(rows: NDArray[np.intp]) -> Any:
            for start in range(0, len(rows), BLOCK):
                block = reader.read(rows[start : start + BLOCK])
                yield block if order is None else block[:, order]

        def read(rows: NDArray[np.intp]) -> Any:
            return sparse.csr_array(sparse.vstack([sparse.csr_array(block) for block in blocks(rows)]))

        rows = _drawn(view, seed)
        controls = np.flatnonzero(view.is_control & view.is_training)
        cells = read(rows)
        depth = _log_depth(screen, rows, cells)
        one_hot = [_one_hot(column[rows]) for column in (view.labels, view.contexts, view.batches)]
        covariates = sparse.csr_array(sparse.hstack([depth[:, None], *one_hot]))
        few = read(some_of(controls, MOST_CONTROLS, seed=seed))
        return cls(cells, covariates, few, *moments(blocks(controls)))


def _drawn(view: ScreenView, seed: int) -> NDArray[np.intp]:
    """Training cells, the same share of each condition where there are too many."""
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(view.is_training))
    _, name, size = np.unique(view.row_names[rows].astype(str), return_inverse=True, return_counts=True)
    by_name = np.argsort(name, kind="stable")
    rank = np.arange(len(rows)) - (np.cumsum(size) - size)[name[by_name]]
    return np.sort(rows[by_name[(rank + 0.5) * len(rows) < MOST_CELLS * size[name[by_name]]]])


def _log_depth(screen: AnnData, rows: NDArray[np.intp], cells: Any) -> NDArray[np.float64]:
    """(n,) log of the counts of each cell; where counts are not kept, of the number of its expressed genes."""
    if keys.COUNTS in screen.layers:
        reader = RowReader(screen.layers[keys.COUNTS])
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        total = np.concatenate([reader.read(block).sum(axis=1, dtype=np.float64) for block in blocks])
    else:
        total = np.diff(cells.indptr).astype(np.float64)
    return np.log(np.maximum(total, 1.0))


def _one_hot(column: NDArray[Any]) -> Any:
    """(n, levels - 1); the first level is the intercept."""
    _, code = np.unique(column.astype(str), return_inverse=True)
    kept = code > 0
    entries = np.ones(int(kept.sum())), (np.flatnonzero(kept), code[kept] - 1)
    return sparse.csr_array(entries, shape=(len(code), int(code.max(initial=0))))
