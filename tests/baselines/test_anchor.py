from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import baselines
from scperturb_modules.baselines import Anchor, TrainingData, shrink_to_zero
from scperturb_modules.priors import as_sources

GENES = [f"G{i:02d}" for i in range(16)]


def changes_of(rng, n_pairs=0):
    singles = {gene: rng.normal(size=40) for gene in GENES}
    pairs = list(itertools.combinations(GENES[:8], 2))[:n_pairs]
    return singles | {f"{a}+{b}": singles[a] + singles[b] + 0.3 * rng.normal(size=40) for a, b in pairs}


@pytest.fixture
def prior():
    return pd.DataFrame(np.random.default_rng(5).normal(size=(18, 3)), index=[f"G{i:02d}" for i in range(18)])


def anchor_of(training, prior=None):
    return Anchor(TrainingData.from_pseudobulk(training), as_sources(prior))


def test_without_noise_it_is_the_additive_sum(make_training, fit):
    training = make_training(changes_of(np.random.default_rng(0)), se2=0.0)
    asked = ["G00+G01", "G02+G03+G04", "G05+G30"]
    shrunk, plain = (
        fit(one, training).predict(asked).layers["delta"] for one in (baselines.AdditiveShrunk, baselines.Additive)
    )
    np.testing.assert_array_equal(shrunk, plain)


def test_infinite_noise_gives_zero(make_training, fit):
    training = make_training(changes_of(np.random.default_rng(0), 12), se2=np.inf)
    delta = fit(baselines.AdditiveShrunk, training).predict(["G00+G09", "G03"]).layers["delta"]
    np.testing.assert_array_equal(delta, 0.0)


def test_shrinkage_is_the_moment_estimate_written_out():
    rng = np.random.default_rng(0)
    delta, se2 = rng.normal(size=(4, 60)), rng.uniform(0.01, 0.9, size=(4, 60))
    told = [0, 1, 3]
    shrunken = shrink_to_zero(delta, se2, reference=np.array([True, True, False, True]))
    common = sum(delta[p, g] ** 2 - se2[p, g] for p in told for g in range(60)) / 180
    for g in range(60):
        of_gene = max(0.0, (sum(delta[p, g] ** 2 - se2[p, g] for p in told) + 5 * common) / 8)
        for p in range(4):
            of_condition = max(0.0, sum(delta[p, h] ** 2 - se2[p, h] for h in range(60)) / 60)
            tau2 = of_condition * of_gene / common
            assert shrunken[p, g] == pytest.approx(delta[p, g] * tau2 / (tau2 + se2[p, g]), rel=1e-12)


def test_a_responsive_gene_is_shrunken_less():
    """Two kinds of genes with the same signal to noise in the conditions, of which one kind responds ten times more."""
    rng = np.random.default_rng(0)
    sd = np.repeat([0.1, 1.0], 100)
    truth = sd * rng.normal(size=(40, 200))
    measured = truth + 0.5 * sd * rng.normal(size=truth.shape)
    shrunken = shrink_to_zero(measured, np.broadcast_to((0.5 * sd) ** 2, truth.shape))
    error = (shrunken - truth)[:, 100:]
    one_variance = np.mean(measured**2 - (0.5 * sd) ** 2, axis=1, keepdims=True)
    pooled = measured * one_variance / (one_variance + (0.5 * sd) ** 2)
    assert np.mean(error**2) < 0.95 * np.mean((pooled - truth)[:, 100:] ** 2)


def test_a_condition_of_unknown_noise_spoils_no_other():
    rng = np.random.default_rng(0)
    delta, se2 = rng.normal(size=(6, 30)), np.full((6, 30), 0.1)
    se2[2] = np.inf
    shrunken = shrink_to_zero(delta, se2)
    np.testing.assert_array_equal(shrunken[2], 0)
    assert (shrunken[[0, 1, 3, 4, 5]] != 0).all()


def test_shrinkage_brings_noisy_changes_nearer_to_the_truth():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(50, 400))
    measured = truth + rng.normal(size=truth.shape)
    shrunken = shrink_to_zero(measured, np.ones(truth.shape))
    # the best linear estimate of variance 1 under noise 1 halves the squared error
    assert np.mean((shrunken - truth) ** 2) == pytest.approx(0.5, abs=0.02)


def test_one_cell_has_the_noise_of_the_median_condition(make_training):
    training = make_training({"G00": 1.0, "G01": 1.0, "G02": 1.0}, se2=0.02)
    training.layers["se2"][1] = np.nan
    training.obs["n_cells"] = [50, 1, 50]
    np.testing.assert_allclose(TrainingData.from_pseudobulk(training).se2[1], 0.02 * 50)


def test_measured_conditions_are_returned_shrunken(make_training, fit):
    changes = changes_of(np.random.default_rng(0), 3)
    training = make_training(changes, se2=0.2)
    pred = fit(baselines.AdditiveShrunk, training).predict(["G00+G01", "G05"])
    names = sorted(changes)
    singles = np.array(["+" not in name for name in names])
    everything = np.array([changes[name] for name in names])
    shrunken = shrink_to_zero(everything, np.full(everything.shape, 0.2), reference=singles)
    expected = shrunken[[names.index("G00+G01"), names.index("G05")]]
    np.testing.assert_allclose(pred.layers["delta"], expected, rtol=1e-13)
    assert pred.obs["status"].tolist() == ["measured"] * 2
    assert pred.obs["seen"].tolist() == ["measured"] * 2


def test_an_unmeasured_gene_takes_its_nearest_neighbours(make_training, fit, prior):
    training = make_training(changes_of(np.random.default_rng(0)), se2=0.0)
    shrunk = fit(baselines.AdditiveShrunk, training, priors=prior).predict(["G16", "G30", "G00+G16"])
    nearest = fit(baselines.NearestPrior, training, priors=prior).predict(["G16", "G30", "G00+G16"])
    np.testing.assert_array_equal(shrunk.layers["delta"], nearest.layers["delta"])
    assert shrunk.obs["status"].tolist() == ["ok", "no_embedding", "ok"]
    assert shrunk.obs["anchor"].tolist() == ["neighbours", "mean", "neighbours+shrunken"]


@pytest.mark.parametrize("poison", [np.nan, 1e3])
@pytest.mark.parametrize("gene", ["G00", "G07", "G15"])
def test_the_own_measurement_never_enters_the_leave_one_out_anchor(gene, poison, make_training, prior):
    """Also not through the mean, what is learned of the prior, or the shrinkage of others."""
    rng = np.random.default_rng(0)
    changes = changes_of(rng)
    poisoned = changes | {gene: poison * rng.normal(size=40)}
    for table in (None, prior):
        clean, dirty = (anchor_of(make_training(one, se2=0.1), table) for one in (changes, poisoned))
        before, after = (anchor.leave_one_out((gene,), None) for anchor in (clean, dirty))
        np.testing.assert_array_equal(before.delta, after.delta)
        assert before.anchor == ("mean" if table is None else "neighbours")
        if np.isfinite(poison):  # the test can see a leak: others do change
            other = "G03"
            assert not np.array_equal(
                clean.leave_one_out((other,), None).delta, dirty.leave_one_out((other,), None).delta
            )


def test_the_leave_one_out_mean_is_that_of_the_others(make_training):
    changes = changes_of(np.random.default_rng(0), 4)
    response = anchor_of(make_training(changes)).leave_one_out(("G03",), None)
    others = [change for name, change in changes.items() if "+" not in name and name != "G03"]
    np.testing.assert_allclose(response.delta, np.mean(others, axis=0), rtol=1e-12)


def test_a_pair_is_not_in_its_own_factor(make_training):
    changes = changes_of(np.random.default_rng(0), 12)
    poisoned = changes | {"G00+G01": 1e3 * np.random.default_rng(1).normal(size=40)}
    clean, dirty = (anchor_of(make_training(one, se2=0.1)) for one in (changes, poisoned))
    np.testing.assert_array_equal(
        clean.leave_one_out(("G00", "G01"), None).delta, dirty.leave_one_out(("G00", "G01"), None).delta
    )
    assert not np.array_equal(
        clean.leave_one_out(("G00", "G02"), None).delta, dirty.leave_one_out(("G00", "G02"), None).delta
    )


def test_a_pair_is_not_in_the_mean_that_stands_for_its_singles(make_training):
    """Without any single the mean per gene of the pairs takes their place."""
    changes = {name: change for name, change in changes_of(np.random.default_rng(0), 12).items() if "+" in name}
    without = {name: change for name, change in changes.items() if name != "G00+G01"}
    anchor = anchor_of(make_training(changes, se2=0.1))
    left_out = anchor.leave_one_out(("G00", "G01"), None).delta
    removed = anchor_of(make_training(without, se2=0.1))
    np.testing.assert_allclose(left_out, removed.of(("G00", "G01"), None).delta, rtol=1e-12)
    poisoned = anchor_of(make_training(changes | {"G00+G01": np.full(40, 1e3)}, se2=0.1))
    np.testing.assert_array_equal(left_out, poisoned.leave_one_out(("G00", "G01"), None).delta)
    # a pair that is not left out has it in its mean
    other = ("G02", "G05")
    assert not np.array_equal(anchor.leave_one_out(other, None).delta, poisoned.leave_one_out(other, None).delta)


@pytest.mark.parametrize("condition", [("G03",), ("G00", "G01"), ("G00", "G01", "G02")])
def test_leaving_out_is_what_the_anchor_is_without_the_condition(condition, make_training):
    changes = changes_of(np.random.default_rng(0), 12) | {"G00+G01+G02": np.random.default_rng(1).normal(size=40)}
    without = {name: change for name, change in changes.items() if name != "+".join(condition)}
    left_out = anchor_of(make_training(changes, se2=0.1)).leave_one_out(condition, None)
    removed = anchor_of(make_training(without, se2=0.1)).of(condition, None)
    np.testing.assert_allclose(left_out.delta, removed.delta, atol=1e-14)
    assert left_out.anchor == removed.anchor


def test_a_context_with_controls_only_changes_no_anchor_of_the_others(make_training):
    rng = np.random.default_rng(0)
    changes = {f"{gene}|{context}": rng.normal(size=40) for gene in GENES for context in ("a", "b")}
    two, three = (anchor_of(make_training(changes, contexts=contexts)) for contexts in (("a", "b"), ("a", "b", "c")))
    expected = np.mean([changes[f"{gene}|a"] for gene in GENES[1:]], axis=0)
    for anchor in (two, three):
        np.testing.assert_allclose(anchor.leave_one_out(("G00",), "a").delta, expected, rtol=1e-12)


def test_masked_singles_count_as_unmeasured(make_training):
    changes = changes_of(np.random.default_rng(0))
    anchor = anchor_of(make_training(changes))
    response = anchor.leave_one_out(("G00", "G01"), None, masked={"G01"})
    others = [change for name, change in changes.items() if name != "G01"]
    np.testing.assert_allclose(response.delta, changes["G00"] + np.mean(others, axis=0), rtol=1e-12)
    assert response.anchor == "mean+shrunken"


def test_the_only_single_has_nothing_to_learn_from(make_training):
    anchor = anchor_of(make_training({"G00": 1.0, "G01+G02": 3.0}))
    np.testing.assert_array_equal(anchor.leave_one_out(("G00",), None).delta, 0.0)


def test_a_part_is_the_shrunken_single_or_what_would_be_expected(make_training, prior):
    changes = changes_of(np.random.default_rng(0), 12)
    for table, unseen in ((None, "mean"), (prior, "neighbours")):
        anchor = anchor_of(make_training(changes, se2=0.1), table)
        seen = anchor.part("G03", None)
        np.testing.assert_array_equal(seen.delta, anchor.effects[anchor.data.index["G03", None]])
        assert seen.anchor == "shrunken"
        hidden = anchor.part("G03", None, masked=True)
        np.testing.assert_array_equal(hidden.delta, anchor.leave_one_out(("G03",), None).delta)
        assert hidden.anchor == unseen and not np.array_equal(hidden.delta, seen.delta)
        new = anchor.part("G17", None)
        np.testing.assert_array_equal(new.delta, anchor.of(("G17",), None).delta)
        assert new.anchor == unseen


def test_a_part_leaves_out_the_row_that_it_is_for(make_training):
    """Without any single the mean of the pairs stands for them, and the pair that asks must not be in it."""
    changes = {name: change for name, change in changes_of(np.random.default_rng(0), 12).items() if "+" in name}
    anchor = anchor_of(make_training(changes))
    row = anchor.data.index["G00+G01", None]
    others = [change / 2 for name, change in changes.items() if name != "G00+G01"]
    np.testing.assert_allclose(anchor.part("G00", None, without=row).delta, np.mean(others, axis=0), rtol=1e-12)
    everything = np.mean([change / 2 for change in changes.values()], axis=0)
    np.testing.assert_allclose(anchor.part("G00", None).delta, everything, rtol=1e-12)


def slow_pair_fit(changes, anchor, without=None):
    """Factor and offset by loops over pairs and genes."""
    pairs = [name for name in changes if name.count("+") == 1 and name != without]
    sums = {name: sum(anchor.part(gene, None).delta for gene in name.split("+")) for name in pairs}
    factor = sum(sums[name] @ changes[name] for name in pairs) / sum(sums[name] @ sums[name] for name in pairs)
    left = np.array([changes[name] - factor * sums[name] for name in pairs])
    found = []
    for column in left.T:
        mean = sum(column) / len(pairs)
        found.append((mean, sum((x - mean) ** 2 for x in column) / (len(pairs) - 1) / len(pairs)))
    variance = max(sum(mean**2 - noise for mean, noise in found) / len(found), 0.0)
    return factor, np.array([mean * variance / (variance + noise) for mean, noise in found])


def test_factor_and_offset_of_pairs_are_the_loop(make_training):
    changes = changes_of(np.random.default_rng(0), 14)
    changes |= {name: 0.8 * change + np.linspace(-1, 1, 40) for name, change in changes.items() if "+" in name}
    anchor = anchor_of(make_training(changes, se2=0.1))
    for condition in (("G00", "G01"), ("G10", "G11"), ("G08", "G30")):
        factor, offset = slow_pair_fit(changes, anchor, without="+".join(condition))
        assert anchor.factor(condition, None) == pytest.approx(factor, rel=1e-12)
        np.testing.assert_allclose(anchor.offset(condition, None), offset, rtol=1e-10, atol=1e-13)
    assert factor < 0.95 and np.abs(offset).max() > 0.5
    # what all pairs share is counted once more in a triple
    np.testing.assert_allclose(anchor.offset(("G08", "G09", "G10"), None), 2 * offset, rtol=1e-10, atol=1e-13)
    whole = factor * sum(anchor.part(gene, None).delta for gene in ("G10", "G11")) + offset
    np.testing.assert_allclose(anchor.of(("G10", "G11"), None).delta, whole, rtol=1e-10, atol=1e-12)


def test_singles_and_few_pairs_have_neither_factor_nor_offset(make_training):
    anchor = anchor_of(make_training(changes_of(np.random.default_rng(0), 12), se2=0.1))
    assert anchor.factor(("G00",), None) == 1.0 and not anchor.offset(("G00",), None).any()
    few = anchor_of(make_training(changes_of(np.random.default_rng(0), 10), se2=0.1))
    assert few.factor(("G10", "G11"), None) != 1.0 and few.offset(("G10", "G11"), None).any()
    # without itself a pair of ten has nine
    assert few.factor(("G00", "G01"), None) == 1.0 and not few.offset(("G00", "G01"), None).any()


def test_a_pair_is_not_in_its_own_offset(make_training):
    changes = changes_of(np.random.default_rng(0), 12)
    poisoned = changes | {"G00+G01": 1e3 * np.random.default_rng(1).normal(size=40)}
    clean, dirty = (anchor_of(make_training(one, se2=0.1)) for one in (changes, poisoned))
    np.testing.assert_array_equal(clean.offset(("G00", "G01"), None), dirty.offset(("G00", "G01"), None))
    assert not np.array_equal(clean.offset(("G00", "G02"), None), dirty.offset(("G00", "G02"), None))


def test_an_offset_of_noise_alone_is_shrunken(make_training):
    """Pairs that are the sums of their singles but for noise: the offset is smaller than the mean of what is left."""
    anchor = anchor_of(make_training(changes_of(np.random.default_rng(0), 14), se2=0.0))
    fit = anchor.factor(("G10", "G11"), None)
    pairs = anchor.data.rows_of(anchor.data.sources[0], order=2)
    left = [
        anchor.data.delta[row] - fit * sum(anchor.part(gene, None).delta for gene in anchor.data.genes[row])
        for row in pairs
    ]
    assert np.linalg.norm(anchor.offset(("G10", "G11"), None)) < 0.5 * np.linalg.norm(np.mean(left, axis=0))
