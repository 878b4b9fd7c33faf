"""Small networks with random weights and their slow forms; a small screen, and APP trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._settings import settings_of

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def slow(load_file):
    return load_file(Path(__file__).with_name("slow.py"))


@pytest.fixture(scope="session")
def slow_graph(load_file):
    return load_file(TESTS / "nn" / "slow.py")


@pytest.fixture(autouse=True)
def always_seeded(seeded):
    """Weights are drawn in nearly every test."""


def tool(**settings):
    """The tool preset, small."""
    return settings_of("tool", {"d": 4, "rank": 3, **settings})


def draw_shape(rng, settings, *, n_nodes=9, n_genes=6, n_members=2, n_relations=1, n_contexts=1, share=0.25):
    """A network of random numbers; the first node has no neighbour."""
    adjacencies = []
    for _ in range(n_relations):
        weights = rng.uniform(0.1, 2, (n_nodes, n_nodes)) * (rng.random((n_nodes, n_nodes)) < share)
        weights[0], weights[:, 0] = 0, 0
        np.fill_diagonal(weights, 0)
        adjacencies.append(sparse.csr_array(weights))
    tables = {}
    if set(settings.features) - {"learned"}:
        for name, width in (("expression", 2), ("go", 3)):
            tables[name] = (_tensor(rng.normal(size=(n_nodes, width))), torch.tensor(rng.random(n_nodes) < 0.7))
    alone = np.all([one.sum(axis=1) == 0 for one in adjacencies], axis=0) if adjacencies else np.ones(n_nodes, bool)
    outside = rng.random(n_nodes) < 0.3 if settings.pool == "connected" else np.zeros(n_nodes, bool)
    outside[min(1, n_nodes - 1)] = False
    return AppShape(
        adjacencies=tuple(adjacencies),
        tables=tables,
        known=torch.tensor(rng.random((n_members, n_nodes)) < 0.6),
        outside=torch.tensor(outside),
        isolated=torch.tensor(alone),
        response_basis=_tensor(rng.normal(size=(n_genes, 3))),
        basis=_tensor(rng.normal(size=(n_members, n_genes, settings.rank))),
        covariates=_tensor(rng.normal(size=(n_contexts, 2)) if n_contexts > 1 else np.zeros((1, 1))),
        scale=1.7,
    )


def draw_batch(rng, shape, *, n_rows=6, order=3):
    """Conditions of 1 to ``order`` genes, the tail padded; singles have no measured part."""
    n_members, n_nodes = shape.known.shape
    n_genes = len(shape.response_basis)
    count = 1 + np.arange(n_rows) % min(order, n_nodes)
    present = (np.arange(order) < count[:, None]).astype(float)
    node = np.array([rng.permutation(n_nodes)[:order] if n_nodes >= order else [0] * order for _ in range(n_rows)])
    measured = present * (rng.random((n_rows, order)) < 0.6) * (count > 1)[:, None]
    parts = {}
    for name, on in (("measured_part", measured), ("expected_part", present)):
        parts[name] = _tensor(rng.normal(size=(n_rows, order, n_genes)) * on[..., None])
    parts["offset"] = _tensor(rng.normal(size=(n_rows, n_genes)) * (count > 1)[:, None])
    held_out = rng.random((n_rows, n_members)) < 0.5
    return {
        "node": torch.tensor(node * present.astype(int)),
        "present": _tensor(present),
        "measured": _tensor(measured),
        **parts,
        "context": torch.tensor(rng.integers(len(shape.covariates), size=n_rows)),
        "target": _tensor(rng.normal(size=(n_rows, n_genes))),
        "row_weight": _tensor(rng.uniform(0.2, 1, n_rows)),
        "gene_weight": _tensor(rng.uniform(0.2, 1.8, (n_rows, n_genes))),
        "is_combination": _tensor(count > 1),
        "trains": _tensor(~held_out),
        "held_out": _tensor(held_out),
        "weight": _tensor(np.ones(n_rows)),
    }


def _tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.get_default_dtype())


def random_module(shape, settings, *, size=0.7):
    """Every parameter random, also those that start at 0; in evaluation mode."""
    module = AppModule(shape, settings)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=size)
    return module.eval()


@pytest.fixture
def make():
    """Settings, shape, module and batch from a seed and settings; ``preset`` and sizes as keywords."""

    def made(seed=0, *, preset=None, n_rows=6, order=3, random=True, sizes=None, **settings):
        rng = np.random.default_rng(seed)
        chosen = tool(**settings) if preset is None else settings_of(preset, {"d": 4, "rank": 3, **settings})
        shape = draw_shape(rng, chosen, **(sizes or {}))
        module = random_module(shape, chosen) if random else AppModule(shape, chosen).eval()
        return module, draw_batch(rng, shape, n_rows=n_rows, order=order), shape

    return made


@pytest.fixture
def no_dropout():
    """Settings under which nothing is random in training."""
    return dict.fromkeys(("dropout", "id_dropout", "prior_dropout", "edge_dropout", "p_mask"), 0.0)


HELD_OUT = ("G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49")
SMALL = {"d": 8, "rank": 6, "n_members": 2, "n_folds": 3}


def draw_screen(*, seed=1, val=(), **settings):
    """A simulated screen, set up: 12 singles and 18 pairs; test conditions of every regime.

    G12 is perturbed in the test part only and not measured; G49 is in no network.
    """
    adata = spm.datasets.simulate(
        "tiny", seed=seed, **{"n_perturbable": 12, "n_pairs": 18, "n_cells": 25, "n_controls": 80, **settings}
    )
    adata = adata[:, adata.var_names != "G12"].copy()
    parts = dict.fromkeys(HELD_OUT, "test") | dict.fromkeys(val, "val")
    labels = adata.obs["perturbation"].astype(str)
    is_truth = (labels == "control") & (np.arange(adata.n_obs) % 3 == 0)
    adata.obs["split"] = np.where(is_truth, "test", labels.map(parts).fillna("train"))
    spm.APP.setup_anndata(adata, cell_type_key="cell_type" if "cell_type" in adata.obs else None)
    return adata


def network_of(adata, *, seed=0):
    """The simulated network with an unmeasured gene more, and a table that has a gene of its own, T01."""
    edges = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    edges = pd.concat([edges, pd.DataFrame({"source": ["X01"], "target": ["G02"], "weight": [1.0]})])
    edges.attrs["name"] = "graph"
    genes = ["G02", "G10", "G12", "G24", "G70", "T01"]
    table = pd.DataFrame(np.random.default_rng(seed).normal(size=(6, 3)), index=genes, columns=["a", "b", "c"])
    table.attrs["name"] = "table"
    return [edges, table]


def fitted(adata, *, max_epochs=3, train=None, **settings):
    """APP, small, trained for a few epochs."""
    priors = settings.pop("priors") if "priors" in settings else network_of(adata)
    model = spm.APP(adata, priors=priors, **{**SMALL, **settings})
    model.train(max_epochs, **{"batch_size": 8, "lr": 0.01, "accelerator": "cpu", **(train or {})})
    return model


@pytest.fixture(scope="session")
def make_screen():
    return draw_screen


@pytest.fixture(scope="session")
def fit():
    return fitted


@pytest.fixture(scope="session")
def priors_of():
    return network_of


@pytest.fixture(scope="session")
def app_screen():
    """Tests may read it; predictions are stored in it only where a test asks for it."""
    return draw_screen()


@pytest.fixture(scope="session")
def app(app_screen):
    """A trained model that tests may ask but not change."""
    return fitted(app_screen)
