"""The mean times a factor, against each condition left out in turn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from scperturb_modules import baselines
from scperturb_modules.priors._fusion import learn

GENES = [f"G{i:02d}" for i in range(14)]
SEEDS = pytest.mark.parametrize("seed", range(4))


def slow_factor(named):
    """Least squares over the conditions, each against the mean of those of other names; in units of the effect.

    ``named`` holds pairs of name and change, since a condition can be there once per context.
    """
    sizes = [math.sqrt(sum(x * x for x in change)) for _, change in named]
    sizes = [max(size, float(np.median(sizes)) / 4) for size in sizes]
    gain = cost = 0.0
    for (name, change), size in zip(named, sizes, strict=True):
        others = [other for another, other in named if another != name]
        for g in range(len(change)):
            mean = sum(other[g] for other in others) / len(others)
            gain, cost = gain + mean * change[g] / size, cost + mean * mean / size
    return min(max(gain / cost, 0.0), 1.0)


def draw(seed, n_pairs=8):
    """Singles with something in common; pairs with more of it."""
    rng = np.random.default_rng(seed)
    common = 0.5 * rng.normal(size=40)
    singles = {gene: common + rng.uniform(0.1, 2) * rng.normal(size=40) for gene in GENES}
    pairs = {f"{a}+{b}" for a, b in itertools.islice(itertools.combinations(GENES, 2), n_pairs)}
    return singles, {name: 3 * common + rng.normal(size=40) for name in sorted(pairs)}


def predicted(model, *names):
    return model.predict(list(names)).layers["delta"]


@SEEDS
def test_the_factor_is_that_of_each_single_left_out(seed, make_training, fit):
    singles, pairs = draw(seed)
    model = fit(baselines.MeanFitted, make_training(singles | pairs))
    factor = slow_factor(list(singles.items()))
    assert 0.1 < factor < 0.95
    assert model.settings["factor"] == {"all": pytest.approx(factor, rel=1e-10)}
    expected = factor * np.mean(list(singles.values()), axis=0)
    pred = model.predict(["G20", "G00"])
    np.testing.assert_allclose(pred.layers["delta"], [expected, expected], rtol=1e-10)
    assert pred.obs["anchor"].tolist() == ["mean", "mean"]


@SEEDS
def test_no_other_factor_predicts_the_singles_left_out_better(seed, make_training, fit):
    singles, _ = draw(seed)
    found = fit(baselines.MeanFitted, make_training(singles)).settings["factor"]["all"]
    least = np.median([np.linalg.norm(change) for change in singles.values()]) / 4

    def error(factor):
        total = 0.0
        for name, change in singles.items():
            mean = np.mean([other for another, other in singles.items() if another != name], axis=0)
            total += np.sum((change - factor * mean) ** 2) / max(np.linalg.norm(change), least)
        return total

    assert error(found) < min(error(found + 0.01), error(found - 0.01), error(0.0), error(1.0))


@pytest.mark.parametrize("n_pairs", [8, 5, 4, 0])
def test_pairs_have_a_factor_of_their_own_where_there_are_five(n_pairs, make_training, fit):
    singles, pairs = draw(0, n_pairs)
    model = fit(baselines.MeanFitted, make_training(singles | pairs))
    own = n_pairs >= 5
    factor = slow_factor(list((pairs if own else singles).items()))
    expected = factor * np.mean(list((pairs if own else singles).values()), axis=0)
    np.testing.assert_allclose(predicted(model, "G10+G20"), [expected], rtol=1e-10)
    assert abs(slow_factor(list(singles.items())) - (slow_factor(list(pairs.items())) if own else 0)) > 0.1
    # without triples, those are predicted as singles are
    np.testing.assert_array_equal(predicted(model, "G10+G11+G12"), predicted(model, "G10"))


def test_what_is_always_the_same_is_the_mean_shift(make_training, fit):
    change = np.linspace(-1, 2, 40)
    training = make_training(dict.fromkeys(GENES, change))
    fitted, shift = (fit(one, training) for one in (baselines.MeanFitted, baselines.MeanShift))
    np.testing.assert_allclose(predicted(fitted, "G20", "G20+G21"), predicted(shift, "G20", "G20+G21"), rtol=1e-12)


@pytest.mark.parametrize("changes", ["opposite", "orthogonal", "none"])
def test_where_nothing_is_in_common_it_is_no_change(changes, make_training, fit):
    rows = {
        "opposite": np.where(np.arange(14) % 2, 1, -1)[:, None] * np.linspace(1, 2, 40),
        "orthogonal": np.eye(14, 40),
        "none": np.zeros((14, 40)),
    }[changes]
    model = fit(baselines.MeanFitted, make_training(dict(zip(GENES, rows, strict=True))))
    assert model.settings["factor"]["all"] == 0.0
    np.testing.assert_array_equal(predicted(model, "G20"), np.zeros((1, 40)))


def test_it_beats_the_mean_where_little_is_in_common_and_no_change_where_something_is(make_training, fit):
    error = {one: [] for one in (baselines.MeanFitted, baselines.MeanShift, baselines.NoChange)}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        changes = {f"G{i:02d}": 0.25 * np.ones(40) + rng.normal(size=40) for i in range(30)}
        for one, found in error.items():
            known = dict(list(changes.items())[:10])
            new = list(changes)[10:]
            pred = predicted(fit(one, make_training(known)), *new)
            found.append(np.mean([np.linalg.norm(row - changes[gene]) for row, gene in zip(pred, new, strict=True)]))
    fitted, shift, nothing = (np.mean(found) for found in error.values())
    assert fitted < min(shift, nothing)


def test_four_singles_do_not_fit_a_factor(make_training, fit):
    singles = dict(list(draw(0)[0].items())[:5])
    assert fit(baselines.MeanFitted, make_training(singles)).settings["factor"]["all"] != 1.0
    del singles["G04"]
    training = make_training(singles)
    fitted, shift = (fit(one, training) for one in (baselines.MeanFitted, baselines.MeanShift))
    np.testing.assert_array_equal(predicted(fitted, "G20"), predicted(shift, "G20"))


def test_each_context_has_its_factor_and_one_with_controls_only_that_of_all(make_training, fit):
    """There a gene that was measured in both contexts is no other of itself."""
    (first, _), (second, _) = draw(0), draw(1)
    changes = {f"{gene}|a": change for gene, change in first.items()}
    changes |= {f"{gene}|b": 0.1 * change + first[gene] for gene, change in second.items()}
    model = fit(baselines.MeanFitted, make_training(changes, contexts=("a", "b", "c")))
    rows = {where: [(name[:3], row) for name, row in changes.items() if name.endswith(where)] for where in "ab"}
    expected = {"a": slow_factor(rows["a"]), "b": slow_factor(rows["b"]), "a,b": slow_factor(rows["a"] + rows["b"])}
    assert model.settings["factor"] == pytest.approx(expected, rel=1e-10)
    mean = np.mean(list(changes.values()), axis=0)
    np.testing.assert_allclose(predicted(model, "G20|c"), [expected["a,b"] * mean], rtol=1e-10)


def test_it_is_what_nearest_prior_learns_to_be_without_a_prior_that_says_anything(make_training, fit):
    rows = np.array(list(draw(0)[0].values()))
    model = fit(baselines.MeanFitted, make_training(draw(0)[0]))
    assert learn({}, rows @ rows.T, GENES).base == model.settings["factor"]["all"]
