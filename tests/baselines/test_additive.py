from __future__ import annotations

import itertools

import numpy as np
import pytest

from scperturb_modules import baselines

GENES = [f"G{i:02d}" for i in range(8)]


def additive_changes(rng, n_pairs, factor=1.0):
    singles = {gene: rng.normal(size=40) for gene in GENES}
    pairs = list(itertools.combinations(GENES, 2))[:n_pairs]
    return singles, singles | {f"{a}+{b}": factor * (singles[a] + singles[b]) for a, b in pairs}


def test_additive_is_exact_on_additive_truth(make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), 0)
    model = fit(baselines.Additive, make_training(changes))
    delta = model.predict(["G00+G01", "G00+G01+G05"]).layers["delta"]
    np.testing.assert_array_equal(delta[0], singles["G00"] + singles["G01"])
    np.testing.assert_allclose(delta[1], singles["G00"] + singles["G01"] + singles["G05"], rtol=1e-13)


@pytest.mark.parametrize("baseline", [baselines.AdditiveFitted, baselines.AdditiveShrunk])
def test_fitted_factor_recovers_the_planted_one(baseline, make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), 12, factor=0.7)
    model = fit(baseline, make_training(changes))
    assert model.settings["factor"] == pytest.approx({"all": 0.7}, abs=1e-12)
    assert model.settings["n_pairs"] == {"all": 12}
    delta = model.predict(["G06+G07"]).layers["delta"][0]
    np.testing.assert_allclose(delta, 0.7 * (singles["G06"] + singles["G07"]), rtol=1e-12)


def test_nine_pairs_fit_no_factor(make_training, fit):
    _, changes = additive_changes(np.random.default_rng(0), 9, factor=0.7)
    model = fit(baselines.AdditiveFitted, make_training(changes))
    assert model.settings["factor"] == {"all": 1.0}
    assert model.settings["n_pairs"] == {"all": 9}


def test_the_factor_leaves_singles_alone(make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), 12, factor=0.7)
    delta = fit(baselines.AdditiveFitted, make_training(changes)).predict(["G03"]).layers["delta"][0]
    np.testing.assert_array_equal(delta, singles["G03"])


def test_a_single_of_two_is_completed_by_the_mean_single(make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), 3)
    pred = fit(baselines.Additive, make_training(changes)).predict(["G00+G30"])
    expected = singles["G00"] + np.mean(list(singles.values()), axis=0)
    np.testing.assert_allclose(pred.layers["delta"][0], expected, rtol=1e-13)
    assert pred.obs["anchor"].tolist() == ["mean+measured"]
    assert pred.obs["seen"].tolist() == ["pair_1of2"]


@pytest.mark.parametrize("n_pairs", [4, 5])
def test_two_unmeasured_genes_get_the_mean_of_five_pairs_or_twice_the_mean_single(n_pairs, make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), n_pairs, factor=0.5)
    delta = fit(baselines.Additive, make_training(changes)).predict(["G30+G31"]).layers["delta"][0]
    pairs = np.mean([change for name, change in changes.items() if "+" in name], axis=0)
    expected = pairs if n_pairs == 5 else 2 * np.mean(list(singles.values()), axis=0)
    np.testing.assert_allclose(delta, expected, rtol=1e-12)


def test_a_measured_pair_is_still_summed(make_training, fit):
    """Only training singles enter: the additive bar does not look up the answer."""
    singles, changes = additive_changes(np.random.default_rng(0), 3, factor=0.5)
    delta = fit(baselines.Additive, make_training(changes)).predict(["G00+G01"]).layers["delta"][0]
    np.testing.assert_array_equal(delta, singles["G00"] + singles["G01"])


@pytest.mark.parametrize("n_pairs, order", [(4, 1), (5, 2)])
def test_mean_shift_of_pairs(n_pairs, order, make_training, fit):
    _, changes = additive_changes(np.random.default_rng(0), n_pairs)
    model = fit(baselines.MeanShift, make_training(changes))
    same = [change for name, change in changes.items() if name.count("+") == order - 1]
    np.testing.assert_allclose(model.predict(["G20+G21"]).layers["delta"][0], np.mean(same, axis=0), rtol=1e-13)
    singles = [change for name, change in changes.items() if "+" not in name]
    np.testing.assert_allclose(model.predict(["G20"]).layers["delta"][0], np.mean(singles, axis=0), rtol=1e-13)


def test_matching_mean_averages_profiles(make_training, fit):
    singles, changes = additive_changes(np.random.default_rng(0), 3)
    delta = fit(baselines.MatchingMean, make_training(changes)).predict(["G00+G01", "G00+G30"]).layers["delta"]
    np.testing.assert_allclose(delta[0], (singles["G00"] + singles["G01"]) / 2, rtol=1e-13)
    perturbed_mean = np.mean(list(changes.values()), axis=0)
    np.testing.assert_allclose(delta[1], (singles["G00"] + perturbed_mean) / 2, rtol=1e-12)


def test_only_pairs_measured(make_training, fit):
    """Without a single the mean single is the change per gene."""
    changes = {"G00+G01": 2.0, "G02+G03": 4.0}
    delta = fit(baselines.MeanShift, make_training(changes)).predict(["G05"]).layers["delta"]
    np.testing.assert_array_equal(delta, 1.5)


def test_why_not_names_the_missing_pair(make_training):
    training = make_training({"G00": 1.0, "G01": 2.0})
    for baseline in (baselines.Additive, baselines.AdditiveFitted, baselines.AdditiveShrunk, baselines.MatchingMean):
        assert baseline.why_not(training, None, ["G03", "G04"]) == "no pair to add up"
        assert baseline.why_not(training, None, ["G03", "G04+G05"]) is None
        assert baseline.why_not(training, None) is None
    assert baselines.MeanShift.why_not(training, None, ["G03"]) is None
