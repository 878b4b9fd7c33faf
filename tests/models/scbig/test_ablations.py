"""Every ablation and every switch builds, trains and predicts; each changes what it says it changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules.models.scbig import ABLATIONS

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "X01"]
OF_CELLS = {"mean_of": "cells", "gate": False}
MEANS = {"randomPrograms", "noTokens", "cellsOnly", "noAnchor"}
"""Ablations in which predicted means differ; in the others only cells do."""


def delta_of(model):
    pred = model.predict(ASKED, store=False, gate=False)
    assert pred.obs_names.tolist() == ASKED and np.isfinite(pred.layers["delta"]).all()
    assert np.isfinite([loss for frame in model.history.values() for loss in frame.to_numpy().ravel()]).all()
    return pred.layers["delta"]


def cells_of(model, n_cells=5):
    cells = model.predict_cells(["G12", "G02+G10"], n_cells=n_cells).X
    assert np.isfinite(cells).all() and cells.min() >= 0
    return cells


@pytest.fixture(scope="module")
def whole(big_screen, fit):
    return fit(big_screen, max_epochs=1)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_runs(big_screen, fit, whole, name):
    model = fit(big_screen, max_epochs=1, **ABLATIONS[name])
    assert np.array_equal(delta_of(model), delta_of(whole)) == (name not in MEANS)
    assert not np.array_equal(cells_of(model), cells_of(whole))
    said = {term for term in ("correlation", "distribution") if f"flow_{term}_train" in model.history}
    assert said == {"correlation", "distribution"} - {name.removeprefix("no").lower()}


def test_without_alignment(big_screen, fit, whole):
    model = fit(big_screen, max_epochs=1, w_correlation=0.0, w_distribution=0.0)
    assert {name for name in model.history if name.startswith("flow_")} == {"flow_train_loss", "flow_matching_train"}
    assert not np.array_equal(cells_of(model), cells_of(whole))


@pytest.mark.parametrize(
    "settings",
    [
        {"balance": "equal"},
        {"balance": "none", "relations": ("coexpression",)},
        {"coupling": "independent"},
        {"sigma": 0.0},
        {"guidance": 2.0},
        {"solver": "euler", "n_steps": 1},
        {"mean_of": "cells", "gate": False, "decode": "shifted", "use_flow": False},
    ],
    ids=lambda settings: ",".join(settings),
)
def test_switches_of_programs_and_of_the_flow(big_screen, fit, whole, settings):
    model = fit(big_screen, max_epochs=1, **settings)
    for name, value in settings.items():
        assert model.option_values[name] == value
    same = np.array_equal(delta_of(model), delta_of(whole))
    assert same == settings.keys().isdisjoint({"balance", "mean_of"})
    assert not np.array_equal(cells_of(model), cells_of(whole))


def test_random_programs_are_of_equal_sizes_and_of_the_seed(big_screen, build):
    models = [build(big_screen, random_programs=True, generate=False, seed=seed) for seed in (0, 0, 1)]
    labels = [one.programs.labels.tolist() for one in models]
    assert labels[0] == labels[1] != labels[2]
    assert np.ptp(models[0].programs.sizes) <= 1


def test_without_tokens_no_network_knows_the_programs(big_screen, fit):
    model = fit(big_screen, max_epochs=1, use_tokens=False)
    assert not any("slots" in name for name, _ in model.module.named_modules())
    assert np.array_equal(model.module.readout.detach(), np.zeros_like(model.module.readout.detach()))


def test_without_an_anchor_the_network_stands_alone(big_screen, fit):
    model = fit(big_screen, max_epochs=1, **ABLATIONS["noAnchor"])
    pred = model.predict([*ASKED, "G02"], store=False)
    assert (pred.obs["gate"] == 1).all() and set(pred.obs["anchor"]) == {"zero"}
    assert "measured" not in set(pred.obs["status"]), "a training condition is predicted, not looked up"


# -- means of cells, as published ------------------------------------------------------------------------------------


def reference_of(model):
    return model.module.generator.reference[0].numpy().astype(np.float64)


@pytest.mark.parametrize("decode", ["rescaled", "shifted"])
def test_the_mean_of_cells_is_the_prediction(big_screen, fit, decode):
    model = fit(big_screen, max_epochs=1, decode=decode, **OF_CELLS)
    assert not any(name in model.history for name in ("train_loss", "validation_loss")), "no other network is trained"
    pred = model.predict(["G12", "G02+G10"], store=False)
    for name, delta in zip(pred.obs_names, pred.layers["delta"], strict=True):
        anchor = model.anchor_of.of(tuple(name.split("+")), None).delta
        assert np.abs(delta - anchor).max() > 1e-4, "the flow adds to the anchor"
        found = model._generated((name, None), delta).astype(np.float64).mean(axis=0)
        wanted = reference_of(model).mean(axis=0) + delta
        np.testing.assert_allclose(found, wanted if decode == "shifted" else np.maximum(wanted, 0), rtol=0, atol=1.2e-4)


def test_before_training_means_of_cells_are_the_anchor(big_screen, build):
    model = build(big_screen, **OF_CELLS)
    model.is_trained_ = True
    expected = [model.anchor_of.of(tuple(name.split("+")), None).delta for name in ASKED]
    np.testing.assert_allclose(model.predict(ASKED, store=False).layers["delta"], expected, atol=1e-6)


@pytest.fixture(scope="module")
def paper(big_screen, fit):
    settings = {"n_programs": 5, "n_latent": 6, "n_folds": 0, "n_members": 1}
    return fit(big_screen, preset="paper", **settings)


def test_the_published_method(paper, big_screen):
    pred = paper.predict([*ASKED, "G02"], store=False)
    assert (pred.obs["gate"] == 1).all() and set(pred.obs["anchor"]) == {"zero"}
    assert np.ptp(paper.programs.sizes) <= 1 and paper.gates == {}
    for name, delta in zip(pred.obs_names, pred.layers["delta"], strict=True):
        found = paper._generated((name, None), delta).astype(np.float64)
        np.testing.assert_allclose(found.mean(axis=0) - reference_of(paper).mean(axis=0), delta, atol=1e-5)
    assert "training:" in paper.summary(), "of the flow, since nothing else is trained"
    assert np.isfinite(cells_of(paper)).all()


def test_direct_cells_are_what_the_decoder_says(paper, big_screen):
    cells = paper.predict_cells(["G12"], n_cells=6)
    controls = torch.tensor(big_screen[cells.obs["control_cell"].tolist()].X.toarray())
    generator = paper.module.generator
    rows, change = paper._seen(("G12", None), paper.predict(["G12"], store=False).layers["delta"][0])
    assert torch.all(change == 0), "without an anchor the flow starts at the control cells"
    with torch.no_grad():
        end = generator.transport(generator.autoencoder.encode(controls)[None], generator.condition(rows))
        expected = generator.autoencoder.decode(end)[0].clamp(min=0)
    np.testing.assert_allclose(cells.X, expected, atol=1e-4)


def test_ablations_by_name(big_screen, priors_of, small_settings):
    models = spm.SCBIG.ablations(**small_settings)
    assert list(models) == ["SCBIG", *ABLATIONS]
    for name in ("SCBIG", "noFlow", "cellsOnly"):
        model = models[name](big_screen, priors=priors_of(big_screen), seed=3)
        changed = small_settings | dict(ABLATIONS.get(name, {})) | {"seed": 3}
        assert changed.items() <= model.option_values.items()
