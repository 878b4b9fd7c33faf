"""A tiny model: a gated linear map of what the perturbed genes and their neighbours are, and screens for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

N_GENES = 12
SINGLES = [f"G{i:02d}" for i in range(8)]
PAIRS = ["G00+G01", "G02+G03", "G04+G05", "G01+G06"]
HELD_OUT = ("G07", "G01+G06", "G04+G05")


def _toy_module():
    """The toy stands in a file of its own, which other processes import too."""
    name = "scperturb_toy"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("toy.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def toy_class():
    return _toy_module().Toy


def build_screen(seed=0, contexts=("",)):
    """Eight singles and four pairs with effects; two pairs, one single and a third of the controls are test."""
    rng = np.random.default_rng(seed)
    effect = {gene: rng.normal(size=N_GENES) for gene in SINGLES}
    labels, types, parts, means = [], [], [], []
    for context in contexts:
        for name in (*SINGLES, *PAIRS):
            labels += [name] * 12
            parts += ["test" if name in HELD_OUT else "train"] * 12
            means += [sum(effect[gene] for gene in name.split("+"))] * 12
        labels += ["control"] * 30
        parts += ["test"] * 10 + ["train"] * 20
        means += [np.zeros(N_GENES)] * 30
        types += [context] * (len(labels) - len(types))
    obs = pd.DataFrame({"perturbation": labels, "split": parts})
    if contexts != ("",):
        obs["cell_type"] = types
    obs.index = [f"cell{i:04d}" for i in rng.permutation(len(obs))]
    values = np.maximum(3 + np.array(means) + 0.3 * rng.normal(size=(len(obs), N_GENES)), 0)
    adata = AnnData(sparse.csr_matrix(values.astype(np.float32)), obs=obs)
    adata.var_names = [f"G{i:02d}" for i in range(N_GENES)]
    return adata


def build_priors():
    """A network in which one perturbed gene is isolated, with two genes that are not measured, and a table."""
    edges = pd.DataFrame({"source": [*SINGLES[:6], "G00", "X01"], "target": [*SINGLES[1:7], "X01", "G03"]})
    edges.attrs.update({"name": "ppi", "version": "2", "licence": "CC0", "isolated": ["G07", "X02"]})
    rng = np.random.default_rng(5)
    table = pd.DataFrame(rng.normal(size=(10, 3)), index=[*SINGLES, "T01", "T02"], columns=["a", "b", "c"])
    table.iloc[2, 1] = np.nan
    table.attrs["name"] = "go/bp"
    return [edges, table]


@pytest.fixture
def screen(toy_class):
    adata = build_screen()
    toy_class.setup_anndata(adata)
    return adata


@pytest.fixture(scope="session")
def make_training(load_file):
    """A training pseudobulk with given changes: name of row -> (G,) vector."""
    return load_file(Path(__file__).resolve().parents[1] / "baselines" / "conftest.py").build_training


@pytest.fixture(scope="session")
def priors():
    return build_priors()


@pytest.fixture(scope="session")
def make_screen():
    return build_screen


@pytest.fixture(scope="session")
def fit(toy_class):
    """Build and train the toy for three epochs."""

    def fitted(adata, **arguments):
        model = toy_class(adata, **arguments)
        model.train(3, batch_size=4, lr=0.05, accelerator="cpu")
        return model

    return fitted


@pytest.fixture(scope="session")
def trained_screen(toy_class):
    adata = build_screen()
    toy_class.setup_anndata(adata)
    return adata


@pytest.fixture(scope="session")
def trained(trained_screen, fit):
    """A trained model that tests may ask but not change."""
    return fit(trained_screen, priors=build_priors())
