from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.models import AnchoredSettings
from scperturb_modules.models.app._settings import FEATURES, PRESETS, AppSettings, settings_of

CHOICES = AppSettings.CHOICES


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_a_value_that_is_no_choice_is_named_with_the_choices(name):
    with pytest.raises(DataError) as caught:
        settings_of("tool", {name: "nonsense"})
    assert str(caught.value).startswith(f"{name}='nonsense'; choose one of ")
    assert all(repr(str(choice)) in str(caught.value) for choice in CHOICES[name])


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_every_choice_is_allowed(name):
    for choice in CHOICES[name]:
        assert getattr(settings_of("tool", {name: choice}), name) == choice


@pytest.mark.parametrize("features", ["text", ("learned", "text"), ()])
def test_features_that_do_not_exist(features):
    with pytest.raises(DataError, match="choose one or several of 'learned', 'expression', 'prior'"):
        settings_of("tool", {"features": features})


@pytest.mark.parametrize("features", [*FEATURES, ["learned", "prior"], FEATURES])
def test_features_are_one_or_several(features):
    expected = (features,) if isinstance(features, str) else tuple(features)
    assert settings_of("tool", {"features": features}).features == expected


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("d", 0, 1), ("n_layers", -1, 0), ("heads", 0, 1), ("rank", 0, 1), ("n_members", 0, 1), ("n_folds", -2, 0),
     ("gamma", -0.5, 0)],
)  # fmt: skip
def test_numbers_that_are_too_small(name, value, least):
    with pytest.raises(DataError, match=f"{name}={value}, but it must be at least {least}"):
        settings_of("tool", {name: value})
    overrides = {"gate": False} if name == "n_folds" else {}
    assert getattr(settings_of("tool", {name: least, **overrides}), name) == least


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, float("nan")])
@pytest.mark.parametrize("name", ["p_mask", "dropout", "id_dropout", "prior_dropout", "edge_dropout"])
def test_shares_are_from_0_to_below_1(name, value):
    with pytest.raises(DataError, match=f"{name}={value}, but it is a share from 0 to below 1"):
        settings_of("tool", {name: value})
    assert getattr(settings_of("tool", {name: 0.0}), name) == 0.0


def test_one_fold_leaves_everything_out():
    with pytest.raises(DataError, match="n_folds=1 leaves everything out; use 0, or 2 and more"):
        settings_of("tool", {"n_folds": 1, "gate": False})


def test_heads_share_the_width():
    with pytest.raises(DataError, match="d=10 is no multiple of heads=4"):
        settings_of("tool", {"d": 10, "heads": 4})


@pytest.mark.parametrize(
    "others", [{}, {"attention": "static", "context_skip": False, "scale_parts": False, "anchor": "zero"}]
)
def test_a_gate_needs_folds(others):
    with pytest.raises(DataError, match="gate=True is fitted on left-out folds; set n_folds=5, or gate=False"):
        settings_of("tool", {"n_folds": 0, **others})


def test_presets_and_settings_that_do_not_exist():
    with pytest.raises(DataError, match="preset='best'; choose one of 'tool', 'paper'"):
        settings_of("best", {})
    with pytest.raises(TypeError, match="APP has no setting 'depth', 'wide'; settings are anchor, gate"):
        settings_of("tool", {"depth": 3, "wide": 1, "d": 8})


def test_overrides_go_before_the_preset():
    assert settings_of("paper", {}).d == 128
    chosen = settings_of("paper", {"d": 16, "gate": True, "n_folds": 3})
    assert (chosen.d, chosen.gate, chosen.n_folds, chosen.head) == (16, True, 3, "linear")
    assert settings_of("tool", {}) == AppSettings()


def test_presets_name_settings_that_exist():
    names = {field.name for field in fields(AppSettings)}
    assert all(preset.keys() <= names for preset in PRESETS.values())


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_settings_survive_json(preset):
    settings = settings_of(preset, {"features": ["learned", "prior"]})
    stored = json.loads(json.dumps(asdict(settings)))
    assert AppSettings(**stored) == settings
    assert settings_of(preset, stored) == settings


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        settings_of("tool", {}).d = 3


def test_every_setting_is_described():
    described = f"{AppSettings.__doc__}{AnchoredSettings.__doc__}"
    assert all(field.name in described for field in fields(AppSettings))
