"""Intervals of models: from the rows that fold members left out, to the saved folder and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules.baselines._intervals import Intervals
from scperturb_modules.models import _anchored
from scperturb_modules.models._left_out import left_out_rows

ASKED = ["G49", "G02+G10", "G12+G70", "G12+G49", "G02", "TP53"]


@pytest.fixture(scope="module")
def app_tools(load_file):
    """Screens and small models of the tests of APP."""
    return load_file(Path(__file__).with_name("app") / "conftest.py")


@pytest.fixture(scope="module")
def model(app_tools):
    """A trained model with three folds, and what its intervals were fitted on."""
    given = []
    real = Intervals.fit.__func__

    def fit(cls, training, rows, left_out):
        given.extend(left_out)
        return real(cls, training, rows, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_anchored.Intervals, "fit", classmethod(fit))
        made = app_tools.fitted(app_tools.draw_screen())
    made.given = given
    return made


def assert_none(pred):
    assert np.isnan(pred.layers["lower"]).all() and np.isnan(pred.layers["upper"]).all()
    assert set(pred.obs["interval"]) == {"none"} and pred.obs["error_bound"].isna().all()
    assert keys.INTERVALS not in pred.uns[keys.ROOT][keys.PREDICTION]


def test_the_change_is_inside_its_interval_where_there_is_one(model):
    pred = model.predict(ASKED, store=False)
    assert (pred.obs["interval"] == "none").tolist() == [
        regime not in model.intervals.regimes or "unknown_gene" in status
        for regime, status in zip(pred.obs["seen"], pred.obs["status"], strict=True)
    ]
    assert pred.obs["interval"].tolist()[0] == "coarse"
    assert pred.obs.loc["G02", "interval"] == pred.obs.loc["TP53", "interval"] == "none", "measured, known nowhere"
    has_one = (pred.obs["interval"] != "none").to_numpy()
    lower, delta, upper = (pred.layers[name][has_one] for name in ("lower", "delta", "upper"))
    assert (lower < delta).all() and (delta < upper).all()
    assert np.isnan(pred.layers["lower"][~has_one]).all()
    assert (pred.obs["error_bound"] > 0).tolist() == has_one.tolist()


def test_errors_are_those_of_left_out_rows_as_predict_gives_them(model):
    """Anchor plus gate times residual of the members that did not see the row."""
    judged = list(left_out_rows(model.module, model._arrays, model.data, model._members))
    assert len(judged) == len(model.given) > 30
    for one, given in zip(judged, model.given, strict=True):
        assert (given.row, given.regime) == (one.row, one.regime)
        measured = model.data.delta[one.row]
        anchor = measured - one.difference
        gate = model.gates[one.regime].factor if one.regime in model.gates else 0.0
        np.testing.assert_allclose(given.prediction, anchor + gate * one.residual, atol=1e-9)
        np.testing.assert_allclose(given.prediction + given.error, measured, atol=1e-9)


def test_every_regime_with_ten_left_out_conditions_has_some(model):
    rows: dict[str, set[int]] = {}
    for one in model.given:
        rows.setdefault(one.regime, set()).add(one.row)
    assert {regime: one.n for regime, one in model.intervals.regimes.items()} == {
        regime: len(found) for regime, found in rows.items() if len(found) >= 10
    }
    assert "single_unseen" in model.intervals.regimes


def test_with_the_gate_off_there_are_none(model):
    """They were calibrated on predictions with the gate."""
    assert_none(model.predict(ASKED, store=False, gate=False))


def test_what_is_not_to_be_believed(model):
    pred = model.predict([*ASKED, "G49+G70"], store=False)
    assert pred.obs.loc["TP53", "abstain"] and "known nowhere" in pred.obs.loc["TP53", "abstain_reason"]
    for name in ("G02", "G02+G10"):
        assert not pred.obs.loc[name, "abstain"] and pred.obs.loc[name, "abstain_reason"] == ""
    opened = (pred.obs["gate"] > 0) & (pred.obs["status"] != "unknown_gene")
    assert not pred.obs.loc[opened, "abstain"].any()
    is_mean = pred.obs["anchor"].isin(["mean", "zero", "none"])
    assert pred.obs.loc[is_mean & ~opened, "abstain"].all()


def test_without_folds_there_are_none(app_tools):
    plain = app_tools.fitted(app_tools.draw_screen(), max_epochs=1, n_folds=0, gate=False)
    assert plain.intervals is None
    assert_none(plain.predict(ASKED, store=False))


def test_a_saved_model_gives_the_same_bits_and_old_folders_give_none(model, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    model.save(folder)
    ours, theirs = model.predict(ASKED, store=False), spm.load(folder).predict(ASKED, store=False)
    for layer in ("delta", "lower", "upper"):
        np.testing.assert_array_equal(ours.layers[layer], theirs.layers[layer])
    assert theirs.obs.equals(ours.obs)
    fitted = model._fitted()
    del fitted["intervals"]
    monkeypatch.setattr(model, "_fitted", lambda: fitted)
    model.save(folder, overwrite=True)
    old = spm.load(folder)
    assert old.intervals is None
    assert_none(old.predict(ASKED, store=False))
    np.testing.assert_array_equal(old.predict(ASKED, store=False).layers["delta"], ours.layers["delta"])


def test_predictions_are_the_same_with_and_without(model):
    pred = model.predict(ASKED, store=False)
    kept, model.intervals = model.intervals, None
    try:
        without = model.predict(ASKED, store=False)
    finally:
        model.intervals = kept
    assert_none(without)
    np.testing.assert_array_equal(without.layers["delta"], pred.layers["delta"])
    np.testing.assert_array_equal(without.X, pred.X)
