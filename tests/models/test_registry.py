"""``spm.load`` reads whatever was saved, by the class that the folder names."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.models import MODELS, PerturbationModel, _registry, model_class


@pytest.fixture
def named(monkeypatch):
    monkeypatch.setitem(MODELS, "Toy", "scperturb_toy:Toy")


def test_a_model_is_loaded_by_its_class(trained, trained_screen, named, tmp_path):
    trained.save(tmp_path / "model")
    for cells in (None, trained_screen.copy()):
        loaded = spm.load(tmp_path / "model", cells)
        assert type(loaded) is type(trained) and loaded.adata is cells
        np.testing.assert_array_equal(
            loaded.predict(store=False).layers["delta"], trained.predict(store=False).layers["delta"]
        )


def test_a_baseline_is_loaded_too(trained_screen, tmp_path):
    baseline = spm.baselines.MeanShift(trained_screen)
    baseline.train()
    baseline.save(tmp_path / "baseline")
    loaded = spm.load(tmp_path / "baseline")
    assert type(loaded) is spm.baselines.MeanShift


def test_a_class_that_is_not_known(trained, tmp_path):
    trained.save(tmp_path / "model")
    with pytest.raises(DataError, match=r"There is no model 'Toy'; known: APP.*Is its package installed\?"):
        spm.load(tmp_path / "model")


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"format": "other"})])
def test_what_is_no_saved_model(tmp_path, content):
    if content is not None:
        (tmp_path / "model.json").write_text(content)
    with pytest.raises(FileNotFoundError if content is None else DataError):
        spm.load(tmp_path)


def test_other_packages_name_their_models(monkeypatch, toy_class):
    group = _registry.ENTRY_POINTS
    ours = [EntryPoint("Theirs", "scperturb_toy:Toy", group), EntryPoint("APP", "scperturb_toy:Toy", group)]
    monkeypatch.setattr(_registry, "entry_points", lambda group: EntryPoints(ours))
    assert model_class("Theirs") is toy_class
    assert MODELS["APP"] == "scperturb_modules.models.app:APP"
    monkeypatch.setitem(MODELS, "APP", "scperturb_modules.models:PerturbationModel")
    assert model_class("APP") is PerturbationModel, "a foreign package cannot take the name of ours"
