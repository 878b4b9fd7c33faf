"""Every ablation and every switch builds, trains and predicts; each changes what it says it changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules.models.biodsnn import ABLATIONS

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "G12+G49", "G02", "G02+G10+G24"]

SWITCHES = [
    {"use_go": False},
    {"use_coexpression": False},
    {"target_marker": False},
    {"responses": False},
    {"products": False},
    {"scale_parts": False},
    {"skip": False},
    {"level": "cell"},
    {"direction": "tanh"},
    {"direction": "sign"},
    {"uncertainty": True},
    {"w_mse": 0.0},
    {"w_autofocus": 0.0},
    {"focus": 1.0},
    {"coexpression_weight": 2.0},
    {"coexpression_threshold": 0.1},
    {"top": 1},
    {"max_pathway_size": 19},
    {"heads": 1},
    {"rank": 2},
    {"anchor": "additive"},
    {"anchor": "mean"},
    {"gamma": 1.0},
    {"n_members": 2},
    {"id_dropout": 0.0, "prior_dropout": 0.0, "dropout": 0.0, "p_mask": 0.0},
    {"layer_dropout": 0.3},
    {"preset": "paper"},
]
WITHOUT = {"use_vae": False, "modulation_rank": 0}
"""The knowledge stream alone: no data stream changes a mean."""


def name_of(settings):
    return ",".join(f"{name}={value}" for name, value in settings.items())


def delta_of(model):
    pred = model.predict(ASKED, store=False, gate=False)
    assert pred.obs_names.tolist() == ASKED and np.isfinite(pred.layers["delta"]).all()
    assert np.isfinite([loss for frame in model.history.values() for loss in frame.to_numpy().ravel()]).all()
    return pred.layers["delta"]


def parameters_of(model):
    return {name for name, _ in model.module.named_parameters() if not name.startswith("stream.")}


@pytest.fixture(scope="module")
def plain(bio_screen, fit):
    """The tool, without its data stream."""
    return fit(bio_screen, max_epochs=1, **WITHOUT)


@pytest.fixture(scope="module")
def whole(bio_screen, fit):
    return fit(bio_screen, max_epochs=1)


@pytest.mark.parametrize("settings", SWITCHES, ids=name_of)
def test_every_switch_runs_and_changes_the_answer(bio_screen, fit, plain, settings):
    model = fit(bio_screen, max_epochs=1, **{**WITHOUT, **settings})
    for name, value in settings.items():
        assert model.option_values[name] == value
    assert not np.array_equal(delta_of(model)[:5], delta_of(plain)[:5])


GONE = {
    "use_go": {"of_networks.maps.0.weight", "features.linear.weight"},
    "use_coexpression": {"positions.weight", "coexpressed.maps.0.weight"},
    "target_marker": {"marker"},
    "responses": {"of_parts.weight"},
    "products": {"condition.products.weight"},
    "scale_parts": {"condition.part_scale.weight"},
    "skip": {"skip.coordinates.weight"},
    "use_attention": {f"encoder.mixing.{name}.weight" for name in ("query", "key", "value")},
    "use_knowledge": {"of_networks.maps.0.weight", "positions.weight"},
}


@pytest.mark.parametrize("name", sorted(GONE))
def test_what_is_off_has_no_parameters(bio_screen, priors_of, plain, name):
    model = spm.BioDSNN(bio_screen, priors=priors_of(bio_screen), d=8, n_folds=2, **WITHOUT, **{name: False})
    assert GONE[name] <= parameters_of(plain)
    assert not GONE[name] & parameters_of(model)


# -- ablations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_runs(bio_screen, fit, whole, name):
    model = fit(bio_screen, max_epochs=1, **ABLATIONS[name])
    changed = not np.array_equal(delta_of(model), delta_of(whole))
    assert changed == (name != "noVAE")
    cells = [one.predict_cells(["G12", "G02+G10"], n_cells=5) for one in (model, whole)]
    assert np.isfinite(cells[0].X).all() and not np.array_equal(cells[0].X, cells[1].X)


def test_without_the_autoencoder_means_are_the_same_and_cells_are_their_own(bio_screen, fit, whole):
    model = fit(bio_screen, max_epochs=1, use_vae=False)
    assert model.module.stream.vae is None
    for gate in (True, False):
        found, wanted = (one.predict(ASKED, store=False, gate=gate) for one in (model, whole))
        np.testing.assert_array_equal(found.layers["delta"], wanted.layers["delta"])
    cells = model.predict_cells(["G12"], n_cells=30)
    controls = bio_screen[cells.obs["control_cell"].tolist()].X.toarray()
    with torch.no_grad():
        delta = model.predict(["G12"], store=False).layers["delta"][0]
        changes = model._change_of_cells(("G12", None), delta, controls).numpy()
    np.testing.assert_allclose(cells.X, np.maximum(controls + changes, 0), atol=1e-5)


def test_without_attention_there_are_no_attention_parameters(bio_screen, fit, whole):
    model = fit(bio_screen, max_epochs=1, **ABLATIONS["noAttention"])
    names = {
        name.removeprefix("encoder.mixing.").partition(".")[0] for name in parameters_of(model) if "mixing" in name
    }
    assert names == {"hidden", "out"}
    of_whole = {name for name in parameters_of(whole) if "mixing" in name}
    assert {name.split(".")[2] for name in of_whole} == {"query", "key", "value", "out"}
    assert "attention" not in dict(model._facts()) or model._facts()["attention"] == ""
    assert whole._facts()["attention"]


def test_without_the_mask_all_genes_attend_to_all(bio_screen, fit):
    model = fit(bio_screen, max_epochs=1, **WITHOUT, **ABLATIONS["noMask"])
    assert model.module.encoder.mixing.edges is None
    assert model.mask.n_pairs > 0, "what it would be is still told"


def test_without_knowledge_genes_see_themselves_only(bio_screen, fit):
    model = fit(bio_screen, max_epochs=1, **WITHOUT, **ABLATIONS["noKnowledge"])
    edges = model.module.encoder.mixing.edges.numpy()
    np.testing.assert_array_equal(edges, np.repeat(np.arange(bio_screen.n_vars), 2).reshape(-1, 2))
    assert model.module.of_networks is None and model.module.coexpressed is None
    assert model.knowledge.coexpression is None and model.knowledge.pathways is None


def test_without_an_anchor_the_network_stands_alone(bio_screen, fit):
    model = fit(bio_screen, max_epochs=1, **WITHOUT, **ABLATIONS["noAnchor"])
    pred = model.predict(ASKED, store=False)
    assert (pred.obs["gate"] == 1).all() and set(pred.obs["anchor"]) == {"zero"}
    assert "measured" not in set(pred.obs["status"]), "a training condition is predicted, not looked up"
    np.testing.assert_array_equal(pred.layers["delta"], delta_of(model))


def test_ablations_go_into_one_benchmark(make_screen, priors_of, monkeypatch):
    adata = make_screen(n_pairs=24)
    models = spm.BioDSNN.ablations(d=4, hidden=8, n_folds=2, **WITHOUT)
    assert list(models) == ["BioDSNN", *ABLATIONS]
    chosen = {name: models[name] for name in ("BioDSNN", "noAttention")}
    train = spm.BioDSNN.train
    monkeypatch.setattr(spm.BioDSNN, "train", lambda self: train(self, 1, accelerator="cpu"))
    board = spm.tl.benchmark(adata, chosen, scheme="combination", n_folds=2, n_boot=100, priors=priors_of(adata))
    assert set(chosen) <= set(board.frame["model"]) and set(chosen) <= set(board.summary()["model"])
    assert board.errors.empty, "failed runs would be scored as no change"
    assert {name for name, _ in board.predictions} >= set(chosen)


# -- the data stream -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["mean", "cell"])
@pytest.mark.parametrize("settings", [{}, {"use_vae": False}, {"modulation_rank": 0}], ids=name_of)
def test_both_levels_train_what_there_is(bio_screen, priors_of, fit, trained_between, level, settings):
    model = fit(bio_screen, max_epochs=1, level=level, **settings)
    fresh = spm.BioDSNN(bio_screen, priors=priors_of(bio_screen), **model.option_values)
    before, after = fresh.module.state_dict(), model.module.state_dict()
    trained = [name for name, _ in model.module.named_parameters() if name.startswith("stream.")]
    assert trained
    for name in trained:
        assert trained_between(before[name], after[name]), name
    assert np.isfinite(model.predict_cells(["G12"], n_cells=4).X).all()


def test_history_tells_the_terms_of_both_streams(bio_screen, fit, whole):
    assert {"mse_train", "autofocus_train", "direction_train"} <= set(whole.history)
    assert {"cells_spread_train", "cells_energy_train", "cells_kl_train"} <= set(whole.history)
    assert all(isinstance(frame, pd.DataFrame) for frame in whole.history.values())
    of_cells = fit(bio_screen, max_epochs=1, level="cell", modulation_rank=0)
    assert {"reconstruction_train", "kl_train"} <= set(of_cells.history)
    assert not any(name.startswith("cells_") for name in of_cells.history)
