"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real screens."""
    return _shared_folder("data")


@pytest.fixture(scope="session")
def shared_priors() -> Path:
    """The folder of real prior knowledge."""
    return _shared_folder("priors")


def _shared_folder(name: str) -> Path:
    """In CI a missing folder is a failure: a skipped test proves nothing."""
    folder = SHARED / name
    if not folder.is_dir():
        message = f"the real files are not at {folder}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def load_file():
    """Import a file of the tests that is no test, such as the slow form of a layer."""

    def loaded(path: Path):
        spec = importlib.util.spec_from_file_location(f"scperturb_{path.parent.name}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return loaded


@pytest.fixture
def float64():
    """Torch computes in float64: for what is claimed to be equal."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def seeded():
    """The same random numbers of torch in every test."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make_screen(
    cells: dict[str, int],
    *,
    n_genes: int = 30,
    batches: tuple[str, ...] = (),
    cell_types: tuple[str, ...] = (),
    seed: int = 0,
):
    """A small screen of counts without any effect: ``cells`` gives the number of cells per label (and cell type).

    X is log1p CP10k (float32 CSR), ``layers["counts"]`` int32 CSR. Genes are ``G00``, ``G01``, ...
    """
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    labels = [label for label, n in cells.items() for _ in range(n)]
    contexts = cell_types or ("",)
    obs = pd.DataFrame({"perturbation": labels * len(contexts)})
    if cell_types:
        obs["cell_type"] = np.repeat(cell_types, len(labels))
    if batches:
        obs["batch"] = np.resize(batches, len(obs))
    obs.index = [f"cell{i}" for i in range(len(obs))]
    rate = rng.lognormal(0.5, 1, n_genes)
    counts = rng.poisson(rate, (len(obs), n_genes)) + (np.arange(n_genes) == 0)  # no empty cell
    logged = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    adata = AnnData(sparse.csr_matrix(logged, dtype=np.float32), obs=obs)
    adata.var_names = [f"G{i:02d}" for i in range(n_genes)]
    adata.layers["counts"] = sparse.csr_matrix(counts, dtype=np.int32)
    return adata


@pytest.fixture
def screen():
    """Six singles, four pairs and controls of two batches, thirty genes, no effect."""
    singles = dict.fromkeys(("G01", "G02", "G03", "G04", "G05", "G06"), 40)
    pairs = dict.fromkeys(("G01+G02", "G01+G03", "G02+G04", "G05+G06"), 40)
    return make_screen({"control": 200, **singles, **pairs}, batches=("b1", "b2"))
