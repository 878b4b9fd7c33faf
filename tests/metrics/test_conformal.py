"""Intervals of predicted changes: each part against a slow form, and what they promise on a world that is known."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from scperturb_modules.metrics import _conformal
from scperturb_modules.metrics._conformal import (
    LEVEL,
    LEVELS,
    MIN_CONDITIONS,
    Conformal,
    ErrorScale,
    expression_thirds,
    quantiles,
)

N_GENES = 150
GENE_VARIANCE = np.geomspace(0.02, 1.0, N_GENES)[np.random.default_rng(3).permutation(N_GENES)]
ON_EFFECT = 0.3
CELL_VARIANCE = 2.0
THIRDS = expression_thirds(np.arange(N_GENES, dtype=float))
TOP = np.arange(50, N_GENES)


def draw(rng, n, *, gene=GENE_VARIANCE, on_effect=ON_EFFECT, n_cells=50.0):
    """Errors, predicted changes and noise of conditions, some of which are harder to predict than others."""
    prediction = rng.normal(size=(n, N_GENES)) * rng.gamma(2.0, 0.5, size=(n, 1))
    noise = np.full((n, N_GENES), CELL_VARIANCE / n_cells)
    hardness = rng.gamma(5.0, 0.2, size=(n, 1))
    variance = (gene + on_effect * prediction**2) * hardness
    error = np.sqrt(variance) * rng.normal(size=variance.shape) + np.sqrt(noise) * rng.normal(size=variance.shape)
    return error, prediction, noise


def calibrated(rng, n, **settings):
    return Conformal.fit(*draw(rng, n, **settings), np.arange(n), THIRDS, TOP)


@pytest.mark.parametrize("n_values", [1, 4])
def test_weighted_quantiles_equal_a_loop(n_values):
    rng = np.random.default_rng(n_values)
    for _ in range(20):
        values = rng.integers(0, 9, size=(rng.integers(1, 15), n_values)).astype(float)  # with ties
        weight = rng.choice([1.0, 0.5, 1 / 3], size=len(values))
        for level, found in zip(LEVELS, quantiles(values, weight, np.array(LEVELS)), strict=True):
            total = weight.sum() * n_values
            for value in np.unique(values):
                below = sum(weight[i] for i in range(len(values)) for one in values[i] if one <= value)
                if below >= level * total - 1e-9:
                    break
            assert found == value


def slow_scale(error, prediction, noise, weight):
    """Bounded least squares of the squared errors of all genes and conditions, one row of a table each."""
    n, n_genes = error.shape
    square = error**2 - noise
    common = sum(weight[p] * square[p].mean() for p in range(n)) / sum(weight)
    common = max(common, 1e-3 * noise.mean(), 1e-12)
    gene = np.array([(weight @ square[:, g] + 10 * common) / (sum(weight) + 10) for g in range(n_genes)])
    gene = np.maximum(gene, 0.05 * common)
    factor = np.array([1.0, 0.5])
    for _ in range(3):
        table, told = [], []
        for p in range(n):
            for g in range(n_genes):
                parts = np.array([gene[g], prediction[p, g] ** 2])
                trust = np.sqrt(weight[p]) / (factor @ parts + noise[p, g])
                table.append(trust * parts)
                told.append(trust * square[p, g])
        factor = lsq_linear(np.array(table), np.array(told), bounds=([0.05, 0.0], np.inf), tol=1e-14).x
    return factor[0] * gene, factor[1]


@pytest.mark.parametrize("kind", ["both", "no effect", "small where predicted", "less than noise", "predicted 0"])
def test_the_scale_equals_bounded_least_squares(kind):
    rng = np.random.default_rng(len(kind))
    weight = rng.choice([1.0, 0.5], size=12)
    prediction = rng.normal(size=(12, 8))
    noise = rng.uniform(0.01, 0.2, size=(12, 8))
    spread = {
        "both": np.sqrt(GENE_VARIANCE[:8] + ON_EFFECT * prediction**2),
        "no effect": 0.5,
        "small where predicted": 1 / (0.5 + prediction**2),
        "less than noise": 1e-3,
        "predicted 0": GENE_VARIANCE[:8],
    }[kind]
    error = spread * rng.normal(size=prediction.shape)
    if kind == "predicted 0":
        prediction = np.zeros_like(prediction)
    found = ErrorScale.fit(error, prediction, noise, weight)
    gene, on_effect = slow_scale(error, prediction, noise, weight)
    # where nothing is predicted, the second factor may be anything for the slow form
    expected = 0.0 if kind == "predicted 0" else on_effect
    np.testing.assert_allclose(found.gene, gene, rtol=1e-5)
    assert found.on_effect == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (found.gene > 0).all() and found.on_effect >= 0


def test_the_scale_finds_what_the_errors_were_drawn_with():
    error, prediction, noise = draw(np.random.default_rng(0), 2000)
    found = ErrorScale.fit(error, prediction, noise, np.ones(2000))
    assert found.on_effect == pytest.approx(ON_EFFECT, rel=0.1)
    # what a gene shows of the effect of others stays in it: the order is right, the size about
    assert np.corrcoef(found.gene, GENE_VARIANCE)[0, 1] > 0.95
    expected = found.of(prediction, noise)
    known = np.sqrt(GENE_VARIANCE + ON_EFFECT * prediction**2 + noise)
    assert np.median(np.abs(expected / known - 1)) < 0.15


def slow_fit(error, prediction, noise, condition, thirds, top):
    """Factors, constant and bound, condition by condition."""
    found = sorted(set(condition.tolist()))
    weight = np.array([1 / (condition == one).sum() for one in condition])
    fold_of = dict(zip(found, np.random.default_rng(0).permutation(len(found)) % 5, strict=True))
    expected = np.empty_like(error)
    for i, one in enumerate(condition):
        rest = [j for j, other in enumerate(condition) if fold_of[other] != fold_of[one]]
        expected[i] = ErrorScale.fit(error[rest], prediction[rest], noise[rest], weight[rest]).of(
            prediction[i], noise[i]
        )
    relative = np.abs(error) / expected
    factors = np.array([quantiles(relative[:, thirds == third], weight, np.array(LEVELS)) for third in (0, 1, 2)]).T
    whole = [np.linalg.norm(error[i, top]) / np.linalg.norm(expected[i, top]) for i in range(len(error))]
    of_condition = sorted(np.mean([whole[i] for i in np.flatnonzero(condition == one)]) for one in found)
    return (
        factors,
        quantiles(np.abs(error), weight, np.array(LEVELS)),
        of_condition[int(np.ceil((len(found) + 1) * LEVEL)) - 1],
    )


def test_the_fit_equals_the_slow_one():
    """Some conditions were left out in two ways."""
    rng = np.random.default_rng(1)
    condition = np.concatenate([np.arange(20), np.arange(5, 12)]) * 3
    case = draw(rng, len(condition))
    found = Conformal.fit(*case, condition, THIRDS, TOP)
    factors, constant, bound = slow_fit(*case, condition, THIRDS, TOP)
    np.testing.assert_allclose(found.factors, factors, rtol=1e-12)
    np.testing.assert_allclose(found.constant, constant, rtol=1e-12)
    assert found.bound == pytest.approx(bound, rel=1e-12)
    assert found.n == 20


@pytest.fixture(scope="module")
def runs():
    """Number of conditions to coverage per third, coverage of the bound, and interval scores, for 200 runs each."""
    rng = np.random.default_rng(7)
    n_new = 20
    found = {}
    for n in (20, 40, 100):
        inside, below, score, constant = [], [], [], []
        for _ in range(200):
            fitted = calibrated(rng, n)
            error, prediction, noise = draw(rng, n_new)
            half = fitted.half_width(prediction, noise, THIRDS)
            missed = np.abs(error)
            inside.append([(missed <= half)[:, third == THIRDS].mean() for third in range(3)])
            below.append((np.linalg.norm(error[:, TOP], axis=1) <= fitted.error_bound(prediction, noise, TOP)).mean())
            equal = fitted.constant[LEVELS.index(LEVEL)]
            for scores, width in ((score, half), (constant, equal)):
                scores.append(np.mean(2 * width + 20 * np.maximum(missed - width, 0)))
        found[n] = np.array(inside), np.mean(below), np.mean(score), np.mean(constant)
    return found


@pytest.mark.parametrize("n", [20, 40, 100])
def test_nine_of_ten_measured_changes_are_inside(runs, n):
    inside, below, _, _ = runs[n]
    assert 0.88 <= inside.mean() <= 0.92
    assert inside.mean(axis=0).min() >= 0.85
    assert inside.mean(axis=1).std() < 0.05, "single runs scatter, but not that much"
    rank = int(np.ceil((n + 1) * LEVEL))
    assert below == pytest.approx(rank / (n + 1), abs=0.02)


@pytest.mark.parametrize("n", [20, 40, 100])
def test_where_errors_differ_intervals_that_do_are_sharper(runs, n):
    _, _, score, constant = runs[n]
    assert score < 0.95 * constant


@pytest.mark.parametrize("n", [12, 20])
def test_a_guarantee_covers_at_least_what_was_promised(n):
    rng = np.random.default_rng(11)
    aimed, sure = [], []
    for _ in range(150):
        known, new = draw(rng, n), draw(rng, 10)
        for found, guarantee in ((aimed, False), (sure, True)):
            fitted = Conformal.fit(*known, np.arange(n), THIRDS, TOP, guarantee=guarantee)
            found.append((np.abs(new[0]) <= fitted.half_width(*new[1:], THIRDS)).mean())
    assert np.mean(sure) >= 0.895
    assert np.mean(aimed) < np.mean(sure) < np.mean(aimed) + 1.5 / n


def test_other_levels_cover_too():
    rng = np.random.default_rng(8)
    fitted = calibrated(rng, 400)
    error, prediction, noise = draw(rng, 400)
    halves = [fitted.half_width(prediction, noise, THIRDS, level) for level in LEVELS]
    for level, half in zip(LEVELS, halves, strict=True):
        assert (np.abs(error) <= half).mean() == pytest.approx(level, abs=0.02)
    assert all((narrow < wide).all() for narrow, wide in zip(halves, halves[1:], strict=False))


def test_few_conditions_give_none():
    """Nine left out in two ways are nine."""
    rng = np.random.default_rng(2)
    few = MIN_CONDITIONS - 1
    assert calibrated(rng, few) is None
    assert Conformal.fit(*draw(rng, 2 * few), np.tile(np.arange(few), 2), THIRDS, TOP) is None
    assert calibrated(rng, MIN_CONDITIONS).n == MIN_CONDITIONS


@pytest.mark.parametrize("times", [2, 3])
def test_a_condition_left_out_more_than_once_counts_once(times):
    case = draw(np.random.default_rng(4), 25)
    once = Conformal.fit(*case, np.arange(25), THIRDS, TOP)
    rows = np.concatenate([np.arange(25), *[np.arange(6)] * (times - 1)])
    often = Conformal.fit(*(part[rows] for part in case), rows, THIRDS, TOP)
    np.testing.assert_allclose(often.scale.gene, once.scale.gene)
    assert often.scale.on_effect == pytest.approx(once.scale.on_effect)
    np.testing.assert_allclose(often.factors, once.factors)
    np.testing.assert_allclose(often.constant, once.constant)
    assert (often.bound, often.n) == (pytest.approx(once.bound), 25)


def test_fewer_cells_widen():
    rng = np.random.default_rng(5)
    fitted = calibrated(rng, 40)
    prediction = draw(rng, 3)[1]
    halves = [fitted.half_width(prediction, np.full(N_GENES, CELL_VARIANCE / n), THIRDS) for n in (10, 50, 1000)]
    assert (halves[0] > halves[1]).all() and (halves[1] > halves[2]).all()
    bounds = [fitted.error_bound(prediction, np.full((3, N_GENES), CELL_VARIANCE / n), TOP) for n in (10, 1000)]
    assert (bounds[0] > bounds[1]).all()


def test_large_predicted_changes_widen_only_where_errors_grow_with_them():
    rng = np.random.default_rng(6)
    noise = np.full(N_GENES, CELL_VARIANCE / 50)
    small, large = np.full((1, N_GENES), 0.1), np.full((1, N_GENES), 2.0)
    growing, even = calibrated(rng, 100), calibrated(rng, 100, on_effect=0.0)
    ratio = [
        (fitted.half_width(large, noise, THIRDS) / fitted.half_width(small, noise, THIRDS)).mean()
        for fitted in (growing, even)
    ]
    assert ratio[0] > 1.5
    assert ratio[1] == pytest.approx(1.0, abs=0.05)


def test_intervals_do_not_ask_for_units():
    """Tenfold changes have tenfold intervals."""
    error, prediction, noise = draw(np.random.default_rng(9), 30)
    one = Conformal.fit(error, prediction, noise, np.arange(30), THIRDS, TOP)
    ten = Conformal.fit(10 * error, 10 * prediction, 100 * noise, np.arange(30), THIRDS, TOP)
    np.testing.assert_allclose(
        ten.half_width(10 * prediction, 100 * noise, THIRDS), 10 * one.half_width(prediction, noise, THIRDS)
    )


def test_few_genes_are_not_cut_in_thirds():
    rng = np.random.default_rng(10)
    error, prediction, noise = (part[:, :40] for part in draw(rng, 20))
    thirds = expression_thirds(np.arange(40.0))
    assert set(thirds) == {0}
    fitted = Conformal.fit(error, prediction, noise, np.arange(20), thirds, np.arange(40))
    assert fitted.factors.shape == (len(LEVELS), 1)
    n = _conformal.N_THIRDS * _conformal.MIN_THIRD
    assert set(expression_thirds(np.zeros(n))) == {0, 1, 2} and set(expression_thirds(np.zeros(n - 1))) == {0}


def test_errors_of_nothing_give_intervals_of_nothing():
    """A screen without change and without noise, as a toy has it: no division by nothing."""
    nothing = np.zeros((12, N_GENES))
    fitted = Conformal.fit(nothing, nothing, nothing, np.arange(12), THIRDS, TOP)
    half = fitted.half_width(nothing, nothing, THIRDS)
    assert (half >= 0).all() and half.max() < 1e-6
    assert (fitted.error_bound(nothing, nothing, TOP) < 1e-6).all()
