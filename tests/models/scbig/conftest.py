"""Small networks with random weights and their slow form; a small screen, and SCBIG trained on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules.models.scbig._generator import CellGenerator, GeneratorShape
from scperturb_modules.models.scbig._module import ScbigModule, ScbigShape
from scperturb_modules.models.scbig._settings import settings_of

SMALL = {"n_programs": 4, "n_folds": 2, "n_members": 2, "d": 8, "hidden": 12, "rank": 8, "n_latent": 4, "width": 8}
SMALL |= {"n_inducing": 2, "flow_width": 16, "flow_blocks": 1, "autoencoder_steps": 6, "flow_steps": 8, "n_cells": 8}
SMALL |= {"align_every": 2, "n_steps": 3}


@pytest.fixture(scope="session")
def slow(load_file):
    return load_file(Path(__file__).with_name("slow.py"))


def _tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.get_default_dtype())


# -- networks of random numbers --------------------------------------------------------------------------------------


def draw_shape(rng, *, n_nodes=8, n_genes=9, n_programs=3, n_patterns=2, n_members=3, n_contexts=1, n_reference=20):
    """The second node is no measured gene; the last program has one gene."""
    program = torch.tensor([*rng.permutation(np.arange(n_genes - 1) % (n_programs - 1)), n_programs - 1])
    basis = np.zeros((n_genes, n_programs, n_patterns))
    for gene, own in enumerate(program.tolist()):
        basis[gene, own] = rng.normal(size=n_patterns)
    gene_of = rng.permutation(n_genes)[:n_nodes]
    gene_of[1] = -1
    tables = {"table": (_tensor(rng.normal(size=(n_nodes, 3))), torch.tensor(rng.random(n_nodes) < 0.7))}
    known = torch.tensor(rng.random((n_members, n_nodes)) < 0.6)
    size = program.bincount()[program].numpy()
    projection = np.eye(n_programs)[program.numpy()] / (rng.uniform(0.2, 1, n_genes) * size)[:, None]
    cells = rng.normal(1, 1, (n_contexts, n_reference, n_genes)).clip(0)
    generator = GeneratorShape(
        program=program,
        mean=_tensor(cells.mean(axis=(0, 1))),
        sd=_tensor(cells.std(axis=(0, 1))),
        components=_tensor(np.linalg.qr(rng.normal(size=(n_genes, 4)))[0]),
        projection=_tensor(projection),
        reference=_tensor(cells),
        tables=tables,
        known=known.any(dim=0),
    )
    return ScbigShape(
        program=program,
        tables=tables,
        known=known,
        gene_of=torch.tensor(gene_of),
        response_basis=_tensor(basis.reshape(n_genes, -1)),
        residual_basis=_tensor(rng.normal(size=(n_members, n_genes, 3))),
        control=_tensor(rng.uniform(0, 2, n_genes)),
        scale=1.7,
        generator=generator,
    )


def draw_batch(rng, shape, *, n_rows=6, order=3):
    """Conditions of 1 to ``order`` genes, the tail padded; singles have no measured part."""
    n_members, n_nodes = shape.known.shape
    n_genes = len(shape.program)
    count = 1 + np.arange(n_rows) % order
    present = (np.arange(order) < count[:, None]).astype(float)
    node = np.array([rng.permutation(n_nodes)[:order] for _ in range(n_rows)])
    measured = present * (rng.random((n_rows, order)) < 0.6) * (count > 1)[:, None]
    parts = {}
    for name, on in (("measured_part", measured), ("expected_part", present)):
        parts[name] = _tensor(rng.normal(size=(n_rows, order, n_genes)) * on[..., None])
    held_out = rng.random((n_rows, n_members)) < 0.5
    return {
        "node": torch.tensor(node * present.astype(int)),
        "present": _tensor(present),
        "measured": _tensor(measured),
        **parts,
        "offset": _tensor(rng.normal(size=(n_rows, n_genes)) * (count > 1)[:, None]),
        "context": torch.zeros(n_rows, dtype=torch.int64),
        "target": _tensor(rng.normal(size=(n_rows, n_genes))),
        "row_weight": _tensor(rng.uniform(0.2, 1, n_rows)),
        "gene_weight": _tensor(rng.uniform(0.2, 1.8, (n_rows, n_genes))),
        "is_combination": _tensor(count > 1),
        "trains": _tensor(~held_out),
        "held_out": _tensor(held_out),
        "weight": _tensor(np.ones(n_rows)),
    }


def randomised(module, size=0.5):
    """Every parameter random, also those that start at 0; in evaluation mode."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=size)
    return module.eval()


TINY = {"d": 4, "hidden": 6, "rank": 6, "width": 4, "n_latent": 4, "n_inducing": 2, "flow_width": 8, "flow_blocks": 1}


@pytest.fixture
def make(seeded):
    """Module, batch and shape from a seed and settings; sizes of the shape as ``sizes``."""

    def made(seed=0, *, n_rows=6, order=3, random=True, sizes=None, **settings):
        rng = np.random.default_rng(seed)
        shape = draw_shape(rng, **(sizes or {}))
        chosen = settings_of("tool", {**TINY, "generate": False, **settings})
        shape = shape if chosen.generate else replace(shape, generator=None)
        module = ScbigModule(shape, chosen)
        module = randomised(module) if random else module.eval()
        return module, draw_batch(rng, shape, n_rows=n_rows, order=order), shape

    return made


@pytest.fixture
def make_generator(seeded):
    """Generator, and the rows and batch of random conditions."""

    def made(seed=0, *, n_rows=4, order=3, random=True, sizes=None, **settings):
        rng = np.random.default_rng(seed)
        shape = draw_shape(rng, **(sizes or {}))
        chosen = settings_of("tool", TINY | settings)
        network = CellGenerator(shape.generator, chosen)
        network = randomised(network, 0.3) if random else network.eval()
        batch = draw_batch(rng, shape, n_rows=n_rows, order=order)
        return network, ScbigModule(replace(shape, generator=None), chosen).eval().read(batch)[0], batch

    return made


# -- screens and models ----------------------------------------------------------------------------------------------

HELD_OUT = ("G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49")


def draw_screen(*, seed=1, **settings):
    """A simulated screen, set up: 12 singles and 18 pairs; test conditions of every regime, test controls.

    G12 is perturbed in the test part only and not measured; G49 is in no network.
    """
    sizes = {"n_perturbable": 12, "n_pairs": 18, "n_cells": 24, "n_controls": 90, "library_log_mean": 6.0}
    adata = spm.datasets.simulate("tiny", seed=seed, **(sizes | settings))
    adata = adata[:, adata.var_names != "G12"].copy()
    labels = adata.obs["perturbation"].astype(str)
    is_truth = (labels == "control") & (np.arange(adata.n_obs) % 3 == 0)
    adata.obs["split"] = np.where(is_truth | labels.isin(HELD_OUT), "test", "train")
    spm.SCBIG.setup_anndata(adata, cell_type_key="cell_type" if "cell_type" in adata.obs else None)
    return adata


def network_of(adata):
    """The simulated network with an unmeasured gene more."""
    edges = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    edges = pd.concat([edges, pd.DataFrame({"source": ["X01"], "target": ["G02"], "weight": [1.0]})])
    edges = edges[(edges["source"] != "G49") & (edges["target"] != "G49")]
    edges.attrs["name"] = "graph"
    return edges


def built(adata, **settings):
    """SCBIG, small; not trained."""
    priors = settings.pop("priors") if "priors" in settings else network_of(adata)
    return spm.SCBIG(adata, priors=priors, **(SMALL | settings))


def fitted(adata, *, max_epochs=2, train=None, **settings):
    """SCBIG, small, trained for a few epochs and steps."""
    model = built(adata, **settings)
    model.train(max_epochs, **({"batch_size": 8, "lr": 0.02, "accelerator": "cpu"} | (train or {})))
    return model


@pytest.fixture(scope="session")
def make_screen():
    return draw_screen


@pytest.fixture(scope="session")
def priors_of():
    return network_of


@pytest.fixture(scope="session")
def build():
    return built


@pytest.fixture(scope="session")
def fit():
    return fitted


@pytest.fixture(scope="session")
def small_settings():
    return dict(SMALL)


@pytest.fixture(scope="session")
def big_screen():
    """Tests may read it, and store what a model says in it."""
    return draw_screen()


@pytest.fixture(scope="session")
def big(big_screen):
    """A trained model that tests may ask but not change."""
    return fitted(big_screen)


@pytest.fixture(scope="session")
def draw_cells(load_file):
    """Cells with planted programs."""
    return load_file(Path(__file__).with_name("planted.py")).draw_cells
