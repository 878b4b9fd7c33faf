"""BioDSNN saved and loaded is the same BioDSNN, to the last bit; with its cells and without them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.train import read_folder

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "X01", "G02", "TP53"]


def same_weights(first, second):
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def folder(bio, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    bio.save(path)
    return path


@pytest.fixture(scope="module")
def without_cells(folder):
    return spm.load(folder)


@pytest.fixture(scope="module")
def with_cells(folder, bio_screen):
    return spm.load(folder, bio_screen.copy())


def same_answers(loaded, model):
    for gate in (True, False):
        found, wanted = (one.predict(ASKED, store=False, gate=gate) for one in (loaded, model))
        for layer in ("delta", "sd", "lower", "upper"):
            np.testing.assert_array_equal(found.layers[layer], wanted.layers[layer])
        pd.testing.assert_frame_equal(found.obs, wanted.obs)
    tables = [one.get_pathway_attention(["G12", "G02+G10"], store=False) for one in (loaded, model)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_without_the_cells_it_answers_the_same_bits(bio, without_cells):
    assert isinstance(without_cells, spm.BioDSNN) and same_weights(without_cells, bio)
    same_answers(without_cells, bio)
    with pytest.raises(DataError, match="needs the cells, and this BioDSNN has none.*spm.load"):
        without_cells.predict_cells(["G12"])
    with pytest.raises(DataError, match="BioDSNN learns from cells, and there are none.*spm.load"):
        without_cells.train(1, accelerator="cpu")
    same_answers(without_cells, bio)


def test_with_the_cells_it_predicts_cells_too(bio, with_cells):
    assert same_weights(with_cells, bio)
    same_answers(with_cells, bio)
    found, wanted = (one.predict_cells(["G12", "G02"], n_cells=6, seed=2) for one in (with_cells, bio))
    np.testing.assert_array_equal(found.X, wanted.X)
    assert found.obs["control_cell"].tolist() == wanted.obs["control_cell"].tolist()


def test_it_is_loaded_with_cells_that_it_could_not_be_trained_on(bio, bio_screen, folder):
    controls = bio_screen[bio_screen.obs["perturbation"] == "control"].copy()
    loaded = spm.load(folder, controls)
    same_answers(loaded, bio)
    assert loaded.predict_cells(["G12"], n_cells=3).n_obs == 3
    with pytest.raises(DataError, match="no perturbed training cell"):
        loaded.train(1, accelerator="cpu")


def test_it_is_trained_further_on_genes_in_another_order(bio_screen, folder, monkeypatch):
    monkeypatch.setattr("scperturb_modules.models.biodsnn._streaming.STREAM_STEPS", 2)
    order = np.random.default_rng(3).permutation(bio_screen.n_vars)
    models = [spm.load(folder, cells) for cells in (bio_screen, bio_screen[:, order].copy())]
    for model in models:
        model.train(1, accelerator="cpu")
    assert same_weights(*models)


def test_genes_in_another_order_are_taken_by_name(bio, bio_screen, folder):
    order = np.random.default_rng(2).permutation(bio_screen.n_vars)
    loaded = spm.load(folder, bio_screen[:, order].copy())
    same_answers(loaded, bio)
    found, wanted = (one.predict_cells(["G12"], n_cells=6) for one in (loaded, bio))
    assert found.var_names.equals(wanted.var_names)
    np.testing.assert_array_equal(found.X, wanted.X)


def test_what_was_learned_before_training_is_saved(bio, without_cells, folder):
    assert without_cells.settings == bio.settings and without_cells.option_values == bio.option_values
    assert repr(without_cells.gates) == repr(bio.gates)
    assert without_cells.sd_factors == bio.sd_factors == read_folder(folder).record["fitted"]["sd_factors"]
    found, wanted = without_cells.knowledge, bio.knowledge
    pd.testing.assert_frame_equal(found.coexpression.to_table(), wanted.coexpression.to_table(), check_exact=True)
    assert found.pathways.sets == wanted.pathways.sets
    np.testing.assert_array_equal(without_cells.mask.matrix.toarray(), bio.mask.matrix.toarray())
    assert without_cells.summary() == bio.summary()


def test_a_second_round_trip(without_cells, tmp_path):
    without_cells.save(tmp_path / "again")
    same_answers(spm.load(tmp_path / "again"), without_cells)


def test_training_goes_on_with_the_cells(bio_screen, fit, tmp_path):
    model = fit(bio_screen, max_epochs=1)
    model.save(tmp_path / "model")
    loaded = spm.load(tmp_path / "model", bio_screen.copy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scperturb_modules.models.biodsnn._streaming.STREAM_STEPS", 4)
        loaded.train(1, accelerator="cpu")
    assert not same_weights(loaded, model)
    assert np.isfinite(loaded.predict_cells(["G12"], n_cells=3).X).all()


@pytest.mark.parametrize("settings", [{"preset": "paper"}, {"use_vae": False}, {"modulation_rank": 0}])
def test_other_forms_round_trip(bio_screen, fit, tmp_path, settings):
    model = fit(bio_screen, max_epochs=1, **({"gate": False, "n_folds": 0} if "preset" in settings else {}), **settings)
    model.save(tmp_path / "model")
    loaded = spm.load(tmp_path / "model", bio_screen.copy())
    assert same_weights(loaded, model)
    for gate in (True, False):
        found, wanted = (one.predict(["G12", "G02+G10"], store=False, gate=gate) for one in (loaded, model))
        np.testing.assert_array_equal(found.layers["delta"], wanted.layers["delta"])
    np.testing.assert_array_equal(loaded.predict_cells(["G12"], n_cells=5).X, model.predict_cells(["G12"], n_cells=5).X)


def test_a_model_of_a_pseudobulk_round_trips(bio_screen, priors_of, fit, tmp_path):
    training = spm.pp.pseudobulk(bio_screen, cells="training")
    settings = {"use_coexpression": False, "use_vae": False, "modulation_rank": 0}
    model = fit(training, priors=priors_of(bio_screen), max_epochs=1, **settings)
    model.save(tmp_path / "model")
    found, wanted = (one.predict(["G12"], store=False) for one in (spm.load(tmp_path / "model"), model))
    np.testing.assert_array_equal(found.layers["delta"], wanted.layers["delta"])


def test_settings_stand_in_the_prediction(bio):
    settings = json.loads(
        json.dumps(json.loads(bio.predict(["G12"], store=False).uns[keys.ROOT]["prediction"]["settings"]))
    )
    assert settings["preset"] == "tool" and settings["d"] == bio.settings.d and settings["gate_off"] is False
    assert settings["vae_hidden"] == list(bio.settings.vae_hidden)
