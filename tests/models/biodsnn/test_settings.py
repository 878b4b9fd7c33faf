from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields

import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.models import AnchoredSettings
from scperturb_modules.models.biodsnn import ABLATIONS, PRESETS, BioDsnnSettings
from scperturb_modules.models.biodsnn._settings import settings_of

CHOICES = BioDsnnSettings.CHOICES


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


@pytest.mark.parametrize("name", sorted(BioDsnnSettings.LEAST))
def test_numbers_that_are_too_small(name):
    least = BioDsnnSettings.LEAST[name]
    with pytest.raises(DataError, match=f"{name}=.*, but it must be at least {least}"):
        settings_of("tool", {name: least - 0.5})
    with pytest.raises(DataError, match=f"{name}=nan"):
        settings_of("tool", {name: float("nan")})
    overrides = {"gate": False} if name == "n_folds" else {"heads": 1} if name == "d" else {}
    assert getattr(settings_of("tool", {name: least, **overrides}), name) == least


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, float("nan")])
@pytest.mark.parametrize("name", ["p_mask", "dropout", "layer_dropout", "id_dropout", "prior_dropout"])
def test_shares_are_from_0_to_below_1(name, value):
    with pytest.raises(DataError, match=f"{name}={value}, but it is a share from 0 to below 1"):
        settings_of("tool", {name: value})
    assert getattr(settings_of("tool", {name: 0.0}), name) == 0.0


def test_folds_and_gates():
    with pytest.raises(DataError, match="n_folds=1 leaves everything out; use 0, or 2 and more"):
        settings_of("tool", {"n_folds": 1, "gate": False})
    with pytest.raises(DataError, match="gate=True is fitted on left-out folds; set n_folds=5, or gate=False"):
        settings_of("tool", {"n_folds": 0})


def test_heads_share_the_width():
    with pytest.raises(DataError, match="d=10 is no multiple of heads=4"):
        settings_of("tool", {"d": 10, "heads": 4})


def test_presets_and_settings_that_do_not_exist():
    with pytest.raises(DataError, match="preset='best'; choose one of 'tool', 'paper'"):
        settings_of("best", {})
    with pytest.raises(TypeError, match="BioDSNN has no setting 'depth', 'wide'; settings are anchor, gate"):
        settings_of("tool", {"depth": 3, "wide": 1, "d": 8})


def test_overrides_go_before_the_preset():
    chosen = settings_of("paper", {"d": 16, "gate": True, "n_folds": 3})
    assert (chosen.d, chosen.gate, chosen.n_folds) == (16, True, 3)
    assert chosen.level == settings_of("paper", {}).level == "cell"
    assert settings_of("tool", {}) == BioDsnnSettings()


def test_the_published_network_has_nothing_of_the_tool():
    paper = settings_of("paper", {})
    assert (paper.anchor, paper.gate, paper.n_members, paper.n_folds) == ("zero", False, 1, 0)
    added = (paper.target_marker, paper.responses, paper.products, paper.scale_parts, paper.modulation_rank)
    assert not any(added) and paper.w_mse == 0
    assert all((paper.use_vae, paper.use_attention, paper.use_mask, paper.use_go, paper.use_coexpression))


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablations_are_settings_that_are_allowed(name):
    for preset in PRESETS:
        assert settings_of(preset, ABLATIONS[name]) is not None
    assert settings_of("tool", ABLATIONS[name]) != settings_of("tool", {})


def test_presets_name_settings_that_exist():
    names = {field.name for field in fields(BioDsnnSettings)}
    assert all(chosen.keys() <= names for chosen in (*PRESETS.values(), *ABLATIONS.values()))
    assert BioDsnnSettings.LEAST.keys() <= names and CHOICES.keys() <= names and set(BioDsnnSettings.SHARES) <= names


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_settings_survive_json(preset):
    settings = settings_of(preset, {"vae_hidden": [5, 3]})
    stored = json.loads(json.dumps(asdict(settings)))
    assert BioDsnnSettings(**stored) == settings
    assert settings_of(preset, stored) == settings


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        settings_of("tool", {}).d = 3
    with pytest.raises(TypeError):
        ABLATIONS["noVAE"] = {}
    with pytest.raises(TypeError):
        PRESETS["tool"] = {}


def test_every_setting_is_described():
    described = f"{BioDsnnSettings.__doc__}{AnchoredSettings.__doc__}"
    assert all(field.name in described for field in fields(BioDsnnSettings))
