"""Small networks with random weights and their slow form; a small screen, and BioDSNN trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules.models.biodsnn import _streaming
from scperturb_modules.models.biodsnn._knowledge import normalised
from scperturb_modules.models.biodsnn._module import BioDsnnModule, BioDsnnShape
from scperturb_modules.models.biodsnn._settings import settings_of
from scperturb_modules.models.biodsnn._stream import StreamShape

TINY = {"d": 4, "hidden": 6, "rank": 3, "vae_hidden": (5,), "n_latent": 3, "modulation_rank": 2}


@pytest.fixture(scope="session")
def slow(load_file):
    return load_file(Path(__file__).with_name("slow.py"))


@pytest.fixture(autouse=True)
def always_seeded(seeded):
    """Weights are drawn in nearly every test."""


def _tensor(values):
    return torch.tensor(np.asarray(values), dtype=torch.get_default_dtype())


def draw_weights(rng, n, *, share=0.3):
    """(n, n) symmetric weights without self loops; the first node has no neighbour."""
    upper = np.triu(rng.uniform(0.2, 1, (n, n)) * (rng.random((n, n)) < share), 1)
    upper[0] = 0
    return sparse.csr_array(upper + upper.T)


def draw_shape(rng, settings, *, n_nodes=8, n_genes=7, n_members=2, n_networks=1, with_tables=True):
    """A network of random numbers. The last gene attends to itself only; the second node is no measured gene."""
    uses_go = settings.use_knowledge and settings.use_go
    tables = {}
    if uses_go and with_tables:
        for name, width in (("table", 2), ("go", 3)):
            values, present = rng.normal(size=(n_nodes, width)), rng.random(n_nodes) < 0.7
            tables[name] = (_tensor(values), torch.tensor(present))
    mask = draw_weights(rng, n_genes, share=0.5).toarray() > 0
    mask[-1], mask[:, -1] = False, False
    gene_of = np.full(n_nodes, -1)
    gene_of[: min(n_nodes, n_genes)] = rng.permutation(n_genes)[:n_nodes]
    gene_of[min(1, n_nodes - 1)] = -1
    stream = StreamShape(
        _tensor(rng.uniform(0.5, 2, n_genes)),
        _tensor(rng.uniform(0.5, 1, n_genes)),
        _tensor(rng.normal(size=(n_genes, settings.n_latent))),
    )
    has_stream = settings.use_vae or settings.modulation_rank
    return BioDsnnShape(
        networks=tuple(normalised(draw_weights(rng, n_nodes)) for _ in range(n_networks)) if uses_go else (),
        tables=tables,
        known=torch.tensor(rng.random((n_members, n_nodes)) < 0.6),
        coexpression=normalised(draw_weights(rng, n_genes)) if settings.use_coexpression else None,
        mask=sparse.csr_array(mask) if settings.use_mask else None,
        gene_of=torch.tensor(gene_of),
        response_basis=_tensor(rng.normal(size=(n_genes, settings.rank))),
        residual_basis=_tensor(rng.normal(size=(n_members, n_genes, settings.rank))),
        part_scale=1.3,
        scale=1.7,
        stream=stream if has_stream else None,
        n_predicting=n_members,
    )


def draw_batch(rng, shape, *, n_rows=6, order=3, n_cells=4):
    """Conditions of 1 to ``order`` genes, the tail padded; singles have no measured part."""
    n_members, n_nodes = shape.known.shape
    n_genes = len(shape.response_basis)
    count = 1 + np.arange(n_rows) % min(order, n_nodes)
    present = (np.arange(order) < count[:, None]).astype(float)
    node = np.array([rng.permutation(n_nodes)[:order] for _ in range(n_rows)])
    measured = present * (rng.random((n_rows, order)) < 0.6) * (count > 1)[:, None]
    parts = {}
    for name, on in (("measured_part", measured), ("expected_part", present)):
        parts[name] = _tensor(rng.normal(size=(n_rows, order, n_genes)) * on[..., None])
    parts["offset"] = _tensor(rng.normal(size=(n_rows, n_genes)) * (count > 1)[:, None])
    held_out = rng.random((n_rows, n_members)) < 0.5
    cells = rng.normal(1, 1, (2, n_rows, n_cells, n_genes)).clip(0)
    return {
        "node": torch.tensor(node * present.astype(int)),
        "present": _tensor(present),
        "measured": _tensor(measured),
        **parts,
        "context": torch.zeros(n_rows, dtype=torch.int64),
        "target": _tensor(rng.normal(size=(n_rows, n_genes))),
        "se": _tensor(rng.uniform(0.05, 0.4, (n_rows, n_genes))),
        "found": torch.tensor(rng.random((n_rows, n_genes)) < 0.8),
        "row_weight": _tensor(rng.uniform(0.2, 1, n_rows)),
        "gene_weight": _tensor(rng.uniform(0.2, 1.8, (n_rows, n_genes))),
        "is_combination": _tensor(count > 1),
        "trains": _tensor(~held_out),
        "held_out": _tensor(held_out),
        "weight": _tensor(np.ones(n_rows)),
        "X": _tensor(cells[0]),
        "control_X": _tensor(cells[1]),
    }


def random_module(shape, settings, *, size=0.5):
    """Every parameter random, also those that start at 0; in evaluation mode."""
    module = BioDsnnModule(shape, settings)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # that one reads many products of features at once
            parameter.normal_(std=0.02 if name.startswith("skip") else size)
    return module.eval()


@pytest.fixture
def make():
    """Settings, shape, module and batch from a seed and settings; ``preset`` and sizes as keywords."""

    def made(seed=0, *, preset="tool", n_rows=6, order=3, random=True, sizes=None, **settings):
        rng = np.random.default_rng(seed)
        chosen = settings_of(preset, {**TINY, **settings})
        shape = draw_shape(rng, chosen, **(sizes or {}))
        module = random_module(shape, chosen) if random else BioDsnnModule(shape, chosen).eval()
        return module, draw_batch(rng, shape, n_rows=n_rows, order=order), shape

    return made


@pytest.fixture
def no_dropout():
    """Settings under which nothing is random in training."""
    return dict.fromkeys(("dropout", "layer_dropout", "id_dropout", "prior_dropout", "p_mask"), 0.0)


HELD_OUT = ("G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49")
SMALL = {"d": 8, "hidden": 16, "heads": 2, "rank": 6, "n_folds": 2, "n_members": 1, "vae_hidden": (16,), "n_latent": 4}
SMALL |= {"n_cells": 8}


def draw_screen(*, seed=1, **settings):
    """A simulated screen, set up: 12 singles and 18 pairs; test conditions of every regime.

    G12 is perturbed in the test part only and not measured; G49 is in no network and in no pathway.
    """
    adata = spm.datasets.simulate(
        "tiny", seed=seed, **{"n_perturbable": 12, "n_pairs": 18, "n_cells": 20, "n_controls": 60, **settings}
    )
    adata = adata[:, adata.var_names != "G12"].copy()
    labels = adata.obs["perturbation"].astype(str)
    is_truth = (labels == "control") & (np.arange(adata.n_obs) % 3 == 0)
    adata.obs["split"] = np.where(is_truth | labels.isin(HELD_OUT), "test", "train")
    spm.BioDSNN.setup_anndata(adata)
    return adata


def knowledge_of(adata):
    """The simulated network with an unmeasured gene more, and the simulated modules as pathways."""
    edges = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    edges = pd.concat([edges, pd.DataFrame({"source": ["X01"], "target": ["G02"], "weight": [1.0]})])
    edges = edges[(edges["source"] != "G49") & (edges["target"] != "G49")]
    edges.attrs["name"] = "graph"
    modules = adata.var.groupby("module").groups.items()
    members = {f"module {name}": sorted({*genes, "P01"} - {"G49"}) for name, genes in modules}
    return [edges, spm.priors.gene_sets(members, name="modules")]


def fitted(adata, *, max_epochs=2, stream_steps=8, train=None, **settings):
    """BioDSNN, small, trained for a few epochs and steps."""
    priors = settings.pop("priors") if "priors" in settings else knowledge_of(adata)
    model = spm.BioDSNN(adata, priors=priors, **{**SMALL, **settings})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_streaming, "STREAM_STEPS", stream_steps)
        model.train(max_epochs, **{"batch_size": 8, "lr": 0.01, "accelerator": "cpu", **(train or {})})
    return model


def was_trained(before, after):
    """Whether a tensor was moved by more than weight decay, which shrinks all numbers alike."""
    shrunken = before * (before * after).sum() / before.square().sum().clamp(min=1e-30)
    return bool((after - shrunken).abs().max() > 1e-6)


@pytest.fixture(scope="session")
def trained_between():
    return was_trained


@pytest.fixture(scope="session")
def make_screen():
    return draw_screen


@pytest.fixture(scope="session")
def fit():
    return fitted


@pytest.fixture(scope="session")
def priors_of():
    return knowledge_of


@pytest.fixture(scope="session")
def bio_screen():
    """Tests may read it; predictions are stored in it only where a test asks for it."""
    return draw_screen()


@pytest.fixture(scope="session")
def bio(bio_screen):
    """A trained model that tests may ask but not change."""
    return fitted(bio_screen, n_members=2, uncertainty=True)
