from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import baselines

CONTEXTS = ("k562", "rpe1", "jurkat")


@pytest.fixture
def changes():
    rng = np.random.default_rng(0)
    base = {f"G{i:02d}": rng.normal(size=40) for i in range(6)}
    k562 = {f"{gene}|k562": change for gene, change in base.items()}
    return k562 | {f"{gene}|rpe1": 0.5 * base[gene] for gene in list(base)[:4]}


def test_it_averages_the_other_contexts_times_a_factor(changes, make_training, fit):
    model = fit(baselines.Transfer, make_training(changes, contexts=CONTEXTS))
    # each of the four shared genes predicts the other context: 0.5 and 2
    square = np.array([np.sum(changes[f"G{i:02d}|k562"] ** 2) for i in range(4)]).sum()
    factor = (0.5 * square + 0.5 * square) / (square + 0.25 * square)
    assert model.settings["factor"] == pytest.approx(factor)
    pred = model.predict(["G05|rpe1", "G00|jurkat", "G00|k562", "G20|rpe1"])
    delta = pred.layers["delta"]
    np.testing.assert_allclose(delta[0], factor * changes["G05|k562"])
    np.testing.assert_allclose(delta[1], factor * 0.75 * changes["G00|k562"])
    np.testing.assert_allclose(delta[2], factor * changes["G00|rpe1"], err_msg="never its own measurement")
    own = [change for name, change in changes.items() if name.endswith("rpe1")]
    np.testing.assert_allclose(delta[3], np.mean(own, axis=0))
    assert pred.obs["anchor"].tolist() == ["transfer", "transfer", "transfer", "mean"]


def test_why_not(changes, make_training):
    assert baselines.Transfer.why_not(make_training({"G00": 1.0})) == "one context only"
    training = make_training(changes, contexts=CONTEXTS)
    assert baselines.Transfer.why_not(training, None, ["G00|jurkat", "G30|k562"]) is None
    reason = "no condition was measured in another context"
    assert baselines.Transfer.why_not(training, None, ["G05|k562", "G30|rpe1"]) == reason
