"""Small networks with random weights, batches of conditions for them, and the slow forms they are compared with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from scperturb_modules.models.app._module import AppModule, AppShape
from scperturb_modules.models.app._settings import settings_of

TESTS = Path(__file__).resolve().parents[2]


def _loaded(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def slow():
    return _loaded("scperturb_slow_app", Path(__file__).with_name("slow.py"))


@pytest.fixture(scope="session")
def slow_graph():
    return _loaded("scperturb_slow_graph", TESTS / "nn" / "slow.py")


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


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


@pytest.fixture(scope="session")
def make_training():
    """A training pseudobulk with given changes: name of row -> (G,) vector."""
    return _loaded("scperturb_trainings", TESTS / "baselines" / "conftest.py").build_training
