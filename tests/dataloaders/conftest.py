"""A small screen of two cell types and two batches with a split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scperturb_modules._keys import ScreenKeys

CONDITIONS = ("G00", "G01", "G02", "G00+G01", "G01+G02")


def build_screen(seed=0, n_genes=12):
    """Twelve cells of each condition, cell type and batch, eight controls; G02 and a quarter of the controls are test.

    Cells have random names, so that their order by name is not that of their rows.
    """
    rng = np.random.default_rng(seed)
    labels, types, batches, parts = [], [], [], []
    for cell_type in ("k562", "rpe1"):
        for batch in ("b1", "b2"):
            for label, n_cells in [("control", 8), *((name, 12) for name in CONDITIONS)]:
                labels += [label] * n_cells
                types += [cell_type] * n_cells
                batches += [batch] * n_cells
                held_out = {"G02": n_cells, "control": 2}.get(label, 0)
                parts += ["test"] * held_out + ["train"] * (n_cells - held_out)
    obs = pd.DataFrame({"perturbation": labels, "cell_type": types, "batch": batches, "split": parts})
    obs.index = [f"cell{i:04d}" for i in rng.permutation(len(obs))]
    values = rng.poisson(0.7, (len(obs), n_genes)).astype(np.float32)
    adata = AnnData(sparse.csr_matrix(np.log1p(values)), obs=obs)
    adata.var_names = [f"G{i:02d}" for i in range(n_genes)]
    return adata


@pytest.fixture
def contexts_screen():
    return build_screen()


@pytest.fixture
def keys():
    return ScreenKeys(cell_type_key="cell_type", batch_key="batch")
