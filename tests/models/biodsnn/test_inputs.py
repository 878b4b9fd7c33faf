"""What the module of BioDSNN is built from, on a small screen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules.models import _training_cells
from scperturb_modules.models._training_cells import TrainingCells
from scperturb_modules.models.biodsnn._cells import mean_state, stream_shape
from scperturb_modules.models.biodsnn._inputs import loss_arrays, make_shape
from scperturb_modules.models.biodsnn._knowledge import normalised
from scperturb_modules.models.biodsnn._settings import settings_of


@pytest.fixture
def shape_of(bio):
    """The shape that a model's parts give under other settings."""

    def made(**settings):
        parts = bio.nodes, bio.networks, bio.sources, bio.knowledge, bio.mask, bio._arrays, bio._members
        return make_shape(bio.data, *parts, None, settings_of("tool", {"rank": 6, **settings}))

    return made


def test_nodes_are_found_among_the_measured_genes(bio, shape_of):
    gene_of = shape_of().gene_of.tolist()
    genes = bio.training.var_names.tolist()
    assert {"G12", "X01", "P01"} <= set(bio.nodes.names)
    for name, number in zip(bio.nodes.names, gene_of, strict=True):
        assert number == (genes.index(name) if name in genes else -1)


def test_networks_are_of_the_nodes_and_normalised(bio, shape_of):
    shape = shape_of()
    names = list(bio.nodes.names)
    assert len(shape.networks) == len(bio.networks) == 2, "gene sets act as a network, too"
    for found, network in zip(shape.networks, bio.networks.values(), strict=True):
        np.testing.assert_array_equal(found.toarray(), normalised(network.adjacency(names)).toarray())
    graph = shape.networks[list(bio.networks).index("graph")].toarray()
    alone = graph[names.index("G49")]
    assert alone[names.index("G49")] == 1 and np.count_nonzero(alone) == 1
    assert shape_of(use_go=False).networks == shape_of(use_knowledge=False, use_coexpression=False).networks == ()
    assert shape_of(use_go=False).tables == {} and set(shape_of().tables) == {"graph (spectral)", "modules (sets)"}


def test_co_expression_and_mask_are_of_the_measured_genes(bio, shape_of):
    genes = bio.training.var_names
    expected = normalised(bio.knowledge.coexpression.adjacency(genes)).toarray()
    np.testing.assert_array_equal(shape_of().coexpression.toarray(), expected)
    np.testing.assert_array_equal(shape_of().mask.toarray(), bio.knowledge.mask(genes, bio.settings).matrix.toarray())
    assert shape_of(use_coexpression=False).coexpression is None and shape_of(use_mask=False).mask is None


def test_units(bio, shape_of):
    shape = shape_of()
    assert shape.scale == pytest.approx(np.mean(bio.data.delta**2), rel=1e-5)
    shown = [
        bio._arrays[name][i, k]
        for name in ("measured_part", "expected_part")
        for i in range(len(bio.data.rows))
        for k in range(len(bio.data.genes[i]))
    ]
    assert shape.part_scale == pytest.approx(np.sqrt(np.mean(np.square(shown))), rel=1e-5)
    assert shape.n_predicting == 2


def test_the_arrays_of_the_loss(bio, bio_screen):
    arrays = loss_arrays(bio.data)
    np.testing.assert_allclose(arrays["se"] ** 2, bio.data.se2, rtol=1e-5)
    training = bio_screen[(bio_screen.obs["split"] == "train").to_numpy()]
    labels, values = training.obs["perturbation"].astype(str).to_numpy(), training.X.toarray()
    in_controls = (values[labels == "control"] > 0).any(axis=0)
    for i, (condition, _) in enumerate(bio.data.rows):
        found = in_controls | (values[labels == condition] > 0).any(axis=0)
        np.testing.assert_array_equal(arrays["found"][i], found)


def test_genes_that_nobody_has_are_not_found(make_screen):
    adata = make_screen()
    values = adata.X.toarray()
    labels = adata.obs["perturbation"].astype(str).to_numpy()
    values[:, 3] = 0
    values[labels != "G02", 4] = 0
    values[labels == "G02", 4] = 1
    adata.X = values
    model = spm.BioDSNN(adata, d=4, n_folds=2, use_vae=False, modulation_rank=0)
    found = model._arrays["found"]
    assert not found[:, 3].any() and found[:, 4].tolist() == [row == ("G02", None) for row in model.data.rows]


# -- cells -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(make_screen):
    """A third batch has controls only."""
    adata = make_screen()
    labels = adata.obs["perturbation"].astype(str).to_numpy()
    lonely = np.flatnonzero(labels == "control")[:20]
    adata.obs["batch"] = np.where(np.isin(np.arange(adata.n_obs), lonely), "batch3", adata.obs["batch"].astype(str))
    spm.BioDSNN.setup_anndata(adata, batch_key="batch")
    return adata


def training_controls(adata):
    return ((adata.obs["perturbation"] == "control") & (adata.obs["split"] != "test")).to_numpy()


def test_mean_spread_and_components_are_of_all_training_controls(batches):
    cells = TrainingCells.of(batches)
    values = batches.X.toarray()[training_controls(batches)].astype(np.float64)
    assert len(np.concatenate(list(cells.controls()))) == len(values) == 40
    shape = stream_shape(cells, settings_of("tool", {"use_vae": False, "n_latent": 5}), seed=0)
    np.testing.assert_allclose(shape.mean, values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(shape.sd, values.std(axis=0), rtol=1e-4, atol=1e-6)
    scores = (values - values.mean(axis=0)) @ shape.components.numpy()
    np.testing.assert_allclose(np.cov(scores.T, ddof=0), np.eye(5), atol=1e-3)
    size = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    explained = np.square(scores.T @ (values - values.mean(axis=0)) / len(values)).sum() * len(values)
    assert explained == pytest.approx(np.square(size[:5]).sum(), rel=1e-4), "the leading ones"
    assert torch.all(stream_shape(cells, settings_of("tool", {}), seed=0).components == 0)


def test_the_mean_state_is_that_of_all_training_controls(batches, monkeypatch):
    monkeypatch.setattr(_training_cells, "BLOCK", 7)
    cells, weight = TrainingCells.of(batches), torch.randn(batches.n_vars, 3)
    found = mean_state(cells, lambda x: torch.tanh(x @ weight), torch.device("cpu"))
    values = torch.tensor(batches.X.toarray()[training_controls(batches)])
    torch.testing.assert_close(found, torch.tanh(values @ weight).double().mean(dim=0), rtol=1e-6, atol=1e-6)


def test_some_controls_are_drawn_by_the_seed(batches):
    cells = TrainingCells.of(batches)
    first, again, other = (np.concatenate(list(cells.controls(15, seed=seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (15, batches.n_vars) and not np.array_equal(first, other)


def test_fewer_controls_than_components(make_screen):
    adata = make_screen(n_controls=6)
    shape = stream_shape(TrainingCells.of(adata), settings_of("tool", {"use_vae": False, "n_latent": 16}), seed=0)
    assert torch.isfinite(shape.components).all() and torch.all(shape.components[:, 4:] == 0)
