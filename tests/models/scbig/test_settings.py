from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields

import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.models import AnchoredSettings
from scperturb_modules.models.scbig import ABLATIONS, PRESETS, ScbigSettings
from scperturb_modules.models.scbig._settings import settings_of

OF_CELLS = {"mean_of": "cells", "gate": False}
NEEDS = {"direct": OF_CELLS | {"anchor": "zero"}, "cells": {"gate": False}}
"""Choices that other choices go with."""


@pytest.mark.parametrize("name", sorted(ScbigSettings.CHOICES))
def test_a_value_that_is_no_choice_is_named_with_the_choices(name):
    with pytest.raises(DataError) as caught:
        settings_of("tool", {name: "nonsense"})
    assert str(caught.value).startswith(f"{name}='nonsense'; choose one of ")
    assert all(repr(choice) in str(caught.value) for choice in ScbigSettings.CHOICES[name])


@pytest.mark.parametrize("name", sorted(ScbigSettings.CHOICES))
def test_every_choice_is_allowed(name):
    for choice in ScbigSettings.CHOICES[name]:
        assert getattr(settings_of("tool", NEEDS.get(choice, {}) | {name: choice}), name) == choice


@pytest.mark.parametrize("name", sorted(ScbigSettings.LEAST))
def test_numbers_that_are_too_small(name):
    least = ScbigSettings.LEAST[name]
    with pytest.raises(DataError, match=f"{name}=.*, but it must be at least {least}"):
        settings_of("tool", {name: least - 0.5})
    with pytest.raises(DataError, match=f"{name}=nan"):
        settings_of("tool", {name: float("nan")})
    further = {"gate": False} if name == "n_folds" else {"heads": 1} if name in ("d", "width") else {}
    assert getattr(settings_of("tool", {name: least, **further}), name) == least


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, float("nan")])
@pytest.mark.parametrize(
    "name", ["p_mask", "dropout", "id_dropout", "prior_dropout", "condition_dropout", "p_unconditional"]
)
def test_shares_are_from_0_to_below_1(name, value):
    with pytest.raises(DataError, match=f"{name}={value}, but it is a share from 0 to below 1"):
        settings_of("tool", {name: value})
    assert getattr(settings_of("tool", {name: 0.0}), name) == 0.0


@pytest.mark.parametrize("value", [1, 0, -3, 2.5, "many", None])
def test_numbers_of_programs(value):
    with pytest.raises(DataError, match='n_programs=.*, but it is "auto" or a number from 2'):
        settings_of("tool", {"n_programs": value})
    for number in (2, np.arange(5)[2]):
        assert settings_of("tool", {"n_programs": number}).n_programs == 2


@pytest.mark.parametrize("value", [(), ["coexpresion"], ("priors", "cells")])
def test_relations(value):
    with pytest.raises(DataError, match="relations=.*; choose some of coexpression, response, priors"):
        settings_of("tool", {"relations": value})
    assert settings_of("tool", {"relations": ["priors", "response"]}).relations == ("priors", "response")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_folds": 1, "gate": False}, "n_folds=1 leaves everything out; use 0, or 2 and more"),
        ({"n_folds": 0}, "gate=True is fitted on left-out folds; set n_folds=5, or gate=False"),
        ({"d": 10, "heads": 4}, "d=10 and width=32 must be multiples of heads=4"),
        ({"width": 9}, "d=32 and width=9 must be multiples of heads=2"),
        ({"guidance": 2.0, "p_unconditional": 0.0}, "guidance=2.0 needs training with p_unconditional above 0; set"),
        ({**OF_CELLS, "generate": False}, 'mean_of="cells" needs cells to be generated; leave generate=False out'),
        ({"mean_of": "cells"}, 'With mean_of="cells" nothing is left out that a gate could be.*gate=False too'),
        ({"decode": "direct"}, 'decode="direct" is without an anchor; pass mean_of="cells", anchor="zero"'),
        ({**OF_CELLS, "decode": "direct"}, 'decode="direct" is without an anchor'),
        ({"decode": "direct", "anchor": "zero", "gate": False}, 'decode="direct" is without an anchor'),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(DataError, match=message):
        settings_of("tool", settings)


def test_what_the_messages_say_mends_it():
    assert settings_of("tool", {"guidance": 2.0, "p_unconditional": 0.1}).guidance == 2.0
    assert settings_of("tool", {"p_unconditional": 0.0}).guidance == 1.0
    assert settings_of("tool", OF_CELLS).decode == "rescaled"
    assert settings_of("tool", NEEDS["direct"] | {"decode": "direct"}).anchor == "zero"


def test_presets_and_settings_that_do_not_exist():
    with pytest.raises(DataError, match="preset='best'; choose one of 'tool', 'paper'"):
        settings_of("best", {})
    with pytest.raises(TypeError, match="SCBIG has no setting 'n_modules', 'wide'; settings are anchor, gate"):
        settings_of("tool", {"n_modules": 3, "wide": 1, "d": 8})


def test_overrides_go_before_the_preset():
    chosen = settings_of("paper", {"d": 16, "n_programs": 8, "n_folds": 3})
    assert (chosen.d, chosen.n_programs, chosen.n_folds) == (16, 8, 3)
    assert chosen.decode == settings_of("paper", {}).decode == "direct"
    assert settings_of("tool", {}) == ScbigSettings()


def test_the_published_method_has_nothing_of_the_tool():
    paper = settings_of("paper", {})
    assert (paper.anchor, paper.gate, paper.n_members, paper.n_folds) == ("zero", False, 1, 0)
    assert (paper.n_programs, paper.balance, paper.relations) == (32, "equal", ("priors",))
    assert (paper.mean_of, paper.decode, paper.n_latent) == ("cells", "direct", 50)
    assert paper.use_tokens and paper.use_flow and paper.w_correlation and paper.w_distribution


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablations_are_settings_that_are_allowed(name):
    assert settings_of("tool", ABLATIONS[name]) != settings_of("tool", {})


def test_presets_name_settings_that_exist():
    names = {field.name for field in fields(ScbigSettings)}
    assert all(chosen.keys() <= names for chosen in (*PRESETS.values(), *ABLATIONS.values()))
    assert {*ScbigSettings.LEAST, *ScbigSettings.CHOICES, *ScbigSettings.SHARES} <= names


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_settings_survive_json(preset):
    settings = settings_of(preset, {"n_programs": 7})
    stored = json.loads(json.dumps(asdict(settings)))
    assert ScbigSettings(**stored) == settings
    assert settings_of(preset, stored) == settings


def test_settings_do_not_change():
    with pytest.raises(FrozenInstanceError):
        settings_of("tool", {}).d = 3
    with pytest.raises(TypeError):
        ABLATIONS["noFlow"] = {}
    with pytest.raises(TypeError):
        PRESETS["tool"] = {}


def test_every_setting_is_described():
    described = f"{ScbigSettings.__doc__}{AnchoredSettings.__doc__}"
    assert all(field.name in described for field in fields(ScbigSettings))
