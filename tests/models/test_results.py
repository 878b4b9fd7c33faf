"""How statuses are joined, and that a network cannot answer nonsense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scperturb_modules.baselines._prediction import Response


def answering(model, monkeypatch, **changes):
    original = type(model)._network_answer
    monkeypatch.setattr(type(model), "_network_answer", lambda self, rows: replace(original(self, rows), **changes))
    return model


@pytest.mark.parametrize(
    ("of_anchor", "of_network", "expected"),
    [
        ("ok", "", "ok"),
        ("no_embedding", "", "no_embedding"),
        ("ok", "isolated", "isolated"),
        ("no_embedding", "isolated;too_few_for_gate", "no_embedding;isolated;too_few_for_gate"),
        ("isolated", "isolated", "isolated"),
    ],
)
def test_statuses_are_joined(trained, monkeypatch, of_anchor, of_network, expected):
    anchor = Response(np.zeros(12), "mean", of_anchor)
    monkeypatch.setattr(type(trained), "_anchor_responses", lambda self, rows: [anchor])
    model = answering(trained, monkeypatch, status=(of_network,))
    assert model.predict(["G07"], store=False).obs["status"].tolist() == [expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual": np.zeros((2, 12))}, "answered 1 rows of 12 genes"),
        ({"status": ()}, "answered 1 rows of 12 genes"),
        ({"tables": {"a": pd.DataFrame(np.zeros((2, 3)))}}, "1 rows with tables of {'a': 2} rows"),
        ({"obsm": {"a": np.zeros((2, 3))}}, "1 rows with obsm of {'a': 2} rows"),
        ({"gate": np.array([1.5])}, "gates outside 0 to 1: 1.5"),
        ({"gate": np.array([np.nan])}, "gates outside 0 to 1"),
    ],
)
def test_answers_that_do_not_fit_are_refused(trained, monkeypatch, changes, message):
    with pytest.raises(ValueError, match=message):
        answering(trained, monkeypatch, **changes).predict(["G07"], store=False)


def test_a_closed_gate_leaves_the_anchor_to_the_last_bit(trained, monkeypatch):
    model = answering(trained, monkeypatch, gate=np.zeros(1), residual=np.full((1, 12), np.inf))
    pred = model.predict(["G07"], store=False)
    np.testing.assert_array_equal(pred.layers["delta"][0], model.anchor_of.of(("G07",), None).delta)
