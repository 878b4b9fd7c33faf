"""Training pseudobulks with chosen changes, and a small screen with effects, a split and a prior."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scperturb_modules import baselines
from scperturb_modules._keys import ScreenKeys

N_GENES = 40
PERTURBED = [f"G{i:02d}" for i in range(20)]


def build_training(changes, *, se2=0.0, contexts=("",), n_genes=N_GENES, n_cells=50):
    """A training pseudobulk with given changes: name of row -> (G,) vector."""
    names = sorted(changes)
    delta = np.array([np.broadcast_to(changes[name], n_genes) for name in names], dtype=float)
    control = np.linspace(0, 2, n_genes)
    parts = [name.partition("|") for name in names]
    obs = pd.DataFrame({"perturbation": [part[0] for part in parts]}, index=names)
    if tuple(contexts) != ("",):
        obs["cell_type"] = [part[2] for part in parts]
    obs["n_cells"], obs["n_controls"] = n_cells, 200
    obs["n_perturbed"] = [part[0].count("+") + 1 for part in parts]
    var = pd.DataFrame({"control_mean": control}, index=[f"G{i:02d}" for i in range(n_genes)])
    training = AnnData(control + delta, obs=obs, var=var)
    noise = np.broadcast_to(se2, delta.shape).astype(float)
    training.layers.update({"delta": delta, "se2": noise, "se2_control": np.zeros(delta.shape)})
    training.varm["control_mean"] = np.repeat(control[:, None], len(contexts), axis=1)
    record = {"contexts": np.array(contexts), "cells": "training", "protocol": "strict", "fingerprint": "f" * 64}
    training.uns["scperturb_modules"] = {"pseudobulk": record, "setup": ScreenKeys().to_uns()}
    return training


@pytest.fixture
def make_training():
    return build_training


@pytest.fixture
def fit():
    def fitted(baseline, adata, **arguments):
        model = baseline(adata, **arguments)
        model.train()
        return model

    return fitted


def draw_screen(seed=0, contexts=("",), n_cells=25):
    """Twenty singles and thirty pairs of them, additive, in one or more contexts; half of the pairs and four singles
    of the first context are in the test part, as is a third of the controls."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, N_GENES))
    effect = {gene: centres[i % 4] + 0.4 * rng.normal(size=N_GENES) for i, gene in enumerate(PERTURBED)}
    pairs = [(a, b) for i, a in enumerate(PERTURBED) for j, b in enumerate(PERTURBED) if i < j and (i + 2 * j) % 6 == 0]
    conditions = [(gene,) for gene in PERTURBED] + pairs
    held_out = set(PERTURBED[:4]) | {"+".join(pair) for pair in pairs[::2]}
    labels, cell_types, parts, means = [], [], [], []
    for number, context in enumerate(contexts):
        for condition in conditions:
            name = "+".join(condition)
            labels += [name] * n_cells
            parts += ["test" if name in held_out and number == 0 else "train"] * n_cells
            means += [(1 - 0.3 * number) * sum(effect[gene] for gene in condition)] * n_cells
        labels += ["control"] * 150
        parts += ["test"] * 50 + ["train"] * 100
        means += [np.zeros(N_GENES)] * 150
        cell_types += [context] * (len(labels) - len(cell_types))
    values = 2 + np.array(means) + rng.normal(size=(len(labels), N_GENES))
    obs = pd.DataFrame({"perturbation": labels, "split": parts, "cell_type": cell_types})
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = AnnData(sparse.csr_matrix(np.maximum(values, 0).astype(np.float32)), obs=obs)
    adata.var_names = [f"G{i:02d}" for i in range(N_GENES)]
    baselines.Baseline.setup_anndata(adata, cell_type_key=None if contexts == ("",) else "cell_type")
    table = pd.DataFrame([centres[i % 4][:6] + 0.3 * rng.normal(size=6) for i in range(20)], index=PERTURBED)
    return adata, table


@pytest.fixture(scope="session")
def drawn():
    return draw_screen()


@pytest.fixture(scope="session")
def drawn_contexts():
    return draw_screen(contexts=("k562", "rpe1"))
