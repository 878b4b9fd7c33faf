"""Intervals and tests against scipy and statsmodels, and their error rates on simulated comparisons (E13)."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from scperturb_modules import metrics
from scperturb_modules.metrics import compare, mean_interval, plan, plan_power, verdict

SCATTER, N_GENES = 0.12, 35  # the length of a vector of 35 normal errors scatters by 12 %


def losses(rng: np.random.Generator, n: int, gain: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a model and of a baseline that err independently around the same truth; conditions differ in size."""
    level = rng.lognormal(0, 0.3, n)
    size = np.linalg.norm(rng.normal(size=(2, n, N_GENES)), axis=2) / math.sqrt(N_GENES)
    return (1 - gain) * level * size[0], level * size[1]


def simulate(n_simulations: int, n: int, gain: float, n_boot: int, seed: int = 0) -> list[metrics.Gain]:
    rng = np.random.default_rng(seed)
    return [compare(*losses(rng, n, gain), n_boot=n_boot, seed=i) for i in range(n_simulations)]


# --- intervals -------------------------------------------------------------------------------------------------------


def test_gain_interval_equals_scipys():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(3)
    model, base = losses(rng, 40, gain=0.1)
    model[:4] *= 3  # skewed, so that the correction matters
    expected = bootstrap(
        (model, base),
        lambda m, b, axis=-1: 1 - m.sum(axis) / b.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=2000,
        method="BCa",
        random_state=np.random.default_rng(11),
    ).confidence_interval
    got = compare(model, base, n_boot=2000, seed=11)
    assert got.method == "bca"
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert got.gain == pytest.approx(1 - model.mean() / base.mean(), abs=1e-12)


@pytest.mark.parametrize("n", [12, 30, 60])
@pytest.mark.parametrize("gain", [0.0, 0.03, 0.08])
def test_the_p_of_a_gain_is_the_level_at_which_its_interval_reaches_0(n, gain, monkeypatch):
    from scperturb_modules.metrics import _bootstrap

    for seed in range(4):
        pair = losses(np.random.default_rng([n, seed]), n, gain)
        found = compare(*pair, n_boot=4000, seed=seed)
        if abs(found.low) > 1e-4:
            assert (found.p_gain < 0.05) == (found.low > 0)
        if 0.002 < found.p_gain < 1:
            monkeypatch.setattr(_bootstrap, "ALPHA", found.p_gain)
            assert compare(*pair, n_boot=4000, seed=seed).low == pytest.approx(0, abs=5e-3)
            monkeypatch.undo()


def test_the_p_of_a_gain_at_its_ends():
    base = np.linspace(1, 2, 30)
    for factor, p in ((0.9, 2 / 201), (1.0, 1.0), (1.1, 1.0)):
        for n in (12, 30):
            assert compare(factor * base[:n], base[:n], n_boot=200).p_gain == pytest.approx(p)
    rng = np.random.default_rng(0)
    for n in (30, 60):  # a draw can never show less
        assert compare(rng.uniform(0.1, 0.2, n), rng.uniform(1, 2, n), n_boot=200).p_gain == pytest.approx(2 / 201)
        assert compare(rng.uniform(1, 2, n), rng.uniform(0.1, 0.2, n), n_boot=200).p_gain == 1
    assert math.isnan(compare(base[:9], 2 * base[:9]).p_gain)


def test_mean_interval_equals_scipys_and_leaves_out_nan():
    from scipy.stats import bootstrap

    values = np.random.default_rng(3).lognormal(size=50)
    expected = bootstrap((values,), np.mean, n_resamples=2000, random_state=np.random.default_rng(4))
    got = mean_interval(np.r_[values, np.nan, np.nan], n_boot=2000, seed=4)
    assert (got.value, got.n) == (pytest.approx(values.mean()), 50)
    assert (got.low, got.high) == pytest.approx(tuple(expected.confidence_interval), abs=1e-9)


def test_studentised_interval_equals_a_loop():
    model, base = losses(np.random.default_rng(5), 12, gain=0.1)

    def ratio_and_error(m, b):
        ratio = m.sum() / b.sum()
        return ratio, math.sqrt(np.sum((m - ratio * b) ** 2) / (len(m) - 1) / len(m)) / b.mean()

    ratio, error = ratio_and_error(model, base)
    draws = []
    for rows in np.random.default_rng(2).integers(0, 12, (1000, 12)):
        drawn, own_error = ratio_and_error(model[rows], base[rows])
        draws.append((drawn - ratio) / own_error)
    low, high = np.quantile(draws, [0.025, 0.975])
    got = compare(model, base, n_boot=1000, seed=2)
    assert got.method == "studentised"
    assert (got.low, got.high) == pytest.approx((1 - ratio + low * error, 1 - ratio + high * error), abs=1e-9)


def test_large_problems_are_drawn_in_blocks_with_the_same_numbers(monkeypatch):
    model, base = losses(np.random.default_rng(0), 33, gain=0.05)
    whole = compare(model, base, n_boot=500)
    monkeypatch.setattr("scperturb_modules.metrics._bootstrap._DRAWS_AT_ONCE", 100)
    assert compare(model, base, n_boot=500) == whole


def test_same_seed_same_interval_and_another_seed_another():
    model, base = losses(np.random.default_rng(0), 30)
    assert compare(model, base, n_boot=500, seed=1) == compare(model, base, n_boot=500, seed=1)
    assert compare(model, base, n_boot=500, seed=1).low != compare(model, base, n_boot=500, seed=2).low


@pytest.mark.parametrize("n", [12, 50])
def test_a_copy_of_the_baseline_gains_exactly_nothing(n):
    base = losses(np.random.default_rng(0), n)[1]
    result = compare(base.copy(), base)
    assert (result.gain, result.low, result.high, result.p, result.p_wilcoxon) == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert result.win_share == 0


def test_the_kind_of_interval_follows_the_number_of_conditions():
    rng = np.random.default_rng(0)
    kinds = {n: compare(*losses(rng, n), n_boot=200).method for n in (9, 10, 39, 40)}
    assert kinds == {9: "none", 10: "studentised", 39: "studentised", 40: "bca"}


@pytest.mark.parametrize("n", [12, 50])
def test_the_same_gain_in_every_condition_is_certain(n):
    base = losses(np.random.default_rng(0), n)[1]
    result = compare(0.9 * base, base, n_boot=500)
    assert (result.gain, result.low, result.high) == pytest.approx((0.1, 0.1, 0.1), abs=1e-12)
    assert result.method == "percentile" and result.win_share == 1


def test_one_condition_with_a_difference_gives_a_one_sided_interval():
    base = np.ones(50)
    model = np.r_[0.5, np.ones(49)]
    result = compare(model, base, n_boot=2000)
    assert result.low == 0 and result.high > result.gain > 0  # no draw can fall below 0


def test_a_baseline_without_error_leaves_the_gain_undefined():
    result = compare(np.ones(25), np.zeros(25))
    assert math.isnan(result.gain) and math.isnan(result.low) and math.isnan(result.high)


def test_few_conditions_give_a_gain_without_an_interval():
    model, base = losses(np.random.default_rng(0), 9, gain=0.1)
    result = compare(model, base)
    assert result.method == "none" and math.isnan(result.low) and not math.isnan(result.gain) and result.n == 9


def test_undefined_conditions_are_left_out_in_pairs():
    model, base = losses(np.random.default_rng(0), 30, gain=0.1)
    expected = compare(model[2:], base[2:], n_boot=300)
    model[0], base[1] = np.nan, np.nan
    got = compare(model, base, n_boot=300)
    assert (got.gain, got.low, got.n, got.n_undefined) == (expected.gain, expected.low, 28, 2)


def test_conditions_of_one_gene_set_are_one_unit():
    rng = np.random.default_rng(0)
    model, base = losses(rng, 20, gain=0.05)
    alone = compare(model, base, n_boot=400)
    labels = np.array([f"c{i:02d}" for i in range(20)])
    twice = compare(np.r_[model, model], np.r_[base, base], np.r_[labels, labels], n_boot=400)
    assert twice.n == 20
    assert (twice.gain, twice.low, twice.high) == pytest.approx((alone.gain, alone.low, alone.high), abs=1e-12)
    unaware = compare(np.r_[model, model], np.r_[base, base], n_boot=400)
    assert unaware.high - unaware.low < 0.8 * (twice.high - twice.low)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        compare([-1.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="no condition has a value on both sides"):
        compare([np.nan, 1.0], [1.0, np.nan])
    with pytest.raises(ValueError, match="3 cluster labels for 2"):
        compare([1.0, 1.0], [1.0, 1.0], ["a", "b", "c"])


def test_a_comparison_is_fast():
    model, base = losses(np.random.default_rng(0), 62)
    seconds = []
    for _ in range(4):  # the first one imports; others may be disturbed
        started = time.perf_counter()
        compare(model, base)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2


# --- tests -----------------------------------------------------------------------------------------------------------


def test_sign_flips_equal_scipys_exact_permutation_test():
    from scipy.stats import permutation_test

    for seed in range(5):
        values = np.round(np.random.default_rng(seed).normal(0.4, 1, 9), 1)
        exact = permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert metrics.sign_flip_test(values) == pytest.approx(exact.pvalue, abs=1e-12)


def test_drawn_sign_flips_approach_the_exact_test(monkeypatch):
    values = np.random.default_rng(1).normal(0.5, 1, 14)
    exact = metrics.sign_flip_test(values)
    monkeypatch.setattr("scperturb_modules.metrics._statistics.EXACT_LIMIT", 10)
    drawn = metrics.sign_flip_test(values, n_draws=20_000)
    assert drawn != exact and drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_holm_equals_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(0).beta(0.4, 2, 9)
    np.testing.assert_allclose(metrics.holm(p), multipletests(p, method="holm")[1], atol=1e-14)
    with_nan = metrics.holm(np.insert(p, 4, np.nan))
    assert np.isnan(with_nan[4])
    np.testing.assert_allclose(np.delete(with_nan, 4), metrics.holm(p), atol=1e-14)


# --- error rates -----------------------------------------------------------------------------------------------------


def share_of_beats(gains: list[metrics.Gain]) -> float:
    words = [verdict("Model", "measured", {"NoChange": gain}, n=gain.n, room=0.5).word for gain in gains]
    return words.count("beats") / len(words)


def check_null(n_simulations: int, n: int, n_boot: int) -> None:
    falsely = share_of_beats(simulate(n_simulations, n, 0.0, n_boot))
    assert 0 < falsely <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 400)


def check_coverage(n_simulations: int, n: int, n_boot: int) -> None:
    gains = simulate(n_simulations, n, 0.05, n_boot, seed=1)
    assert 0.92 <= np.mean([gain.low <= 0.05 <= gain.high for gain in gains]) <= 0.97


def check_power(n_simulations: int, n: int, n_boot: int) -> None:
    gains = simulate(n_simulations, n, 0.05, n_boot, seed=2)
    assert np.mean([gain.low > 0 for gain in gains]) == pytest.approx(plan_power(n, SCATTER, 0.05), abs=0.1)


@pytest.mark.parametrize("n", [12, 20, 62])
def test_an_equal_model_is_rarely_said_to_beat(n):
    check_null(400, n, 2000)


@pytest.mark.parametrize("n", [12, 20, 62])
def test_the_interval_covers_the_true_gain(n):
    check_coverage(600, n, 1000)


@pytest.mark.parametrize("n", [31, 62])
def test_a_true_gain_is_found_as_often_as_planned(n):
    check_power(300, n, 1000)


@pytest.mark.full
@pytest.mark.parametrize("n", [12, 20, 31, 62])
def test_error_rates_at_full_size(n):
    check_null(1000, n, 10_000)
    check_coverage(1000, n, 10_000)
    check_power(400, n, 10_000)


def test_plan_gives_the_known_figures():
    """A gain of 5 % is found in about 60 % of experiments with 62 conditions, in less than 40 % with 31."""
    assert 0.55 < plan_power(62, SCATTER, 0.05) < 0.65
    assert 0.30 < plan_power(31, SCATTER, 0.05) < 0.42
    assert plan_power(62, SCATTER, 0.0) == pytest.approx(0.025)


def test_plan_undoes_its_power():
    for n, power in ((12, 0.5), (62, 0.8), (310, 0.95)):
        assert plan_power(n, SCATTER, plan(n, SCATTER, power=power)) == pytest.approx(power)
    with pytest.raises(ValueError, match="n_conditions=1"):
        plan(1, SCATTER)
    with pytest.raises(ValueError, match="sd=0"):
        plan(10, 0)


def test_the_scatter_of_a_comparison_is_the_sd_that_plan_wants():
    rng = np.random.default_rng(0)
    model, base = rng.normal(1, SCATTER, (2, 5000))
    assert compare(model, base, n_boot=50).scatter == pytest.approx(SCATTER, rel=0.05)
