"""What the networks of SCBIG are built from, on a small screen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models._features import responses_of_genes
from scperturb_modules.models.scbig import _inputs
from scperturb_modules.models.scbig._inputs import _components, make_shape, program_basis
from scperturb_modules.models.scbig._settings import settings_of


@pytest.fixture
def shape_of(big, small_settings):
    """The shape that a model's parts give under other settings."""

    def made(*, cells=big._cells, seed=0, **settings):
        parts = big.nodes, big.sources, big.programs, big._arrays, big._members
        chosen = settings_of("tool", {**small_settings, **settings})
        return make_shape(big.data, *parts, cells, chosen, seed=seed)

    return made


def training_cells(screen, *, controls=False):
    chosen = (screen.obs["split"] != "test").to_numpy()
    if controls:
        chosen &= (screen.obs["perturbation"] == "control").to_numpy()
    return screen[chosen].X.toarray().astype(np.float64)


def test_nodes_are_found_among_the_measured_genes(big, shape_of):
    genes = big.training.var_names.tolist()
    assert {"G12", "X01"} <= set(big.nodes.names)
    for name, number in zip(big.nodes.names, shape_of().gene_of.tolist(), strict=True):
        assert number == (genes.index(name) if name in genes else -1)


def test_units_and_patterns(big, shape_of):
    shape = shape_of()
    assert shape.scale == pytest.approx(np.mean(big.data.delta**2), rel=1e-5)
    np.testing.assert_array_equal(shape.program, big.programs.code)
    np.testing.assert_allclose(shape.control, big.programs.mean, rtol=1e-6)
    expected = program_basis(responses_of_genes(big.data, big._arrays), big.programs.code, 8)
    assert torch.equal(shape.response_basis, expected) and expected.shape == (79, 4 * 2)
    assert shape.residual_basis.shape == (big.module.n_members, 79, 8)
    assert torch.equal(shape.generator.known, shape.known.any(dim=0))


def test_programs_project_changes_to_activities(big, big_screen, shape_of):
    projection = shape_of().generator.projection.numpy()
    sd = training_cells(big_screen, controls=True).std(axis=0)
    for k in range(4):
        own = big.programs.code == k
        assert np.all(projection[~own, k] == 0)
        np.testing.assert_allclose(projection[own, k], 1 / np.maximum(sd[own], 0.1) / own.sum(), rtol=1e-4)


def test_mean_spread_and_components_are_of_training_cells(big_screen, shape_of):
    generator, values = shape_of().generator, training_cells(big_screen)
    np.testing.assert_allclose(generator.mean, values.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(generator.sd, values.std(axis=0), rtol=1e-4, atol=1e-6)
    scaled = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 0.1)
    scores = scaled @ generator.components.numpy()
    np.testing.assert_allclose(np.cov(scores.T, ddof=0), np.eye(4), atol=1e-3)
    explained = np.square(scores.T @ scaled / len(scaled)).sum() * len(scaled)
    size = np.linalg.svd(scaled, compute_uv=False)
    assert explained == pytest.approx(np.square(size[:4]).sum(), rel=1e-4), "the leading ones"


def test_components_are_of_some_cells_where_there_are_many(shape_of, monkeypatch):
    monkeypatch.setattr(_inputs, "MOST_CELLS", 60)
    first, again, other = (shape_of(seed=seed).generator for seed in (0, 0, 1))
    assert torch.equal(first.components, again.components)
    assert not torch.allclose(first.components.abs(), other.components.abs(), atol=1e-3)
    assert torch.equal(first.mean, other.mean), "moments are of all"


def test_the_reference_is_drawn_by_the_seed(big_screen, shape_of, monkeypatch):
    monkeypatch.setattr(_inputs, "N_REFERENCE", 20)
    first, again, other = (shape_of(seed=seed).generator.reference.numpy() for seed in (0, 0, 1))
    assert first.shape == (1, 20, 79) and np.array_equal(first, again) and not np.array_equal(first, other)
    own = {tuple(one) for one in training_cells(big_screen, controls=True).astype(np.float32)}
    assert {tuple(one) for one in first[0]} < own and len({tuple(one) for one in first[0]}) == 20, "each once"


def test_without_cells_there_is_room_for_saved_weights(shape_of):
    with_cells, without = shape_of().generator, shape_of(cells=None).generator
    for name in ("mean", "sd", "components", "reference", "projection", "program", "known"):
        assert getattr(with_cells, name).shape == getattr(without, name).shape, name
    assert torch.all(without.reference == 0) and torch.all(without.components == 0)
    assert shape_of(generate=False).generator is None


def test_fewer_directions_than_latent_states():
    rng = np.random.default_rng(0)
    scaled = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 7))
    components = _components(scaled, 5)
    assert np.all(components[:, 2:] == 0)
    np.testing.assert_allclose(np.square(scaled @ components[:, :2]).mean(axis=0), 1)
    assert np.all(_components(np.zeros((6, 3)), 2) == 0)


def test_prior_tables_reach_both_networks(shape_of, big):
    shape = shape_of()
    assert set(shape.tables) == set(shape.generator.tables) == {"graph (spectral)"}
    values, present = shape.tables["graph (spectral)"]
    names = list(big.nodes.names)
    assert present[names.index("X01")] and not present[names.index("G49")] and len(values) == len(names)
