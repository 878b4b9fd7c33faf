from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from scperturb_modules.models._gate import (
    CLOSED,
    MIN_CONDITIONS,
    Gate,
    LeftOut,
    fit_gates,
    gates_from_plain,
    gates_to_plain,
)


def left_out_of(truth, residual, *, rows=None, regime="pair_2of2"):
    """From changes beyond the anchor (n, G) and residuals (n, G)."""
    rows = np.arange(len(truth)) if rows is None else np.asarray(rows)
    regimes = [regime] * len(truth) if isinstance(regime, str) else regime
    product, square, anchor = (
        np.sum(a * b, axis=1) for a, b in ((truth, residual), (residual, residual), (truth, truth))
    )
    return LeftOut(rows, regimes, product, square, anchor)


def slow_gate(truth, residual, rows):
    """Leave one condition out, fit the factor on the others, and see whether it would have helped the one."""

    def factor(numbers):
        top = sum(statistics.fmean(truth[i] @ residual[i] for i in variants[n]) for n in numbers)
        bottom = sum(statistics.fmean(residual[i] @ residual[i] for i in variants[n]) for n in numbers)
        return min(max(top / bottom, 0.0), 1.0) if bottom > 0 else 0.0

    variants = {n: [i for i, row in enumerate(rows) if row == n] for n in sorted(set(rows))}
    gains, anchors = [], []
    for n in variants:
        c = factor([other for other in variants if other != n])
        error, anchor = (
            math.sqrt(statistics.fmean(sum((truth[i] - f * residual[i]) ** 2) for i in variants[n])) for f in (c, 0.0)
        )
        gains.append(anchor - error)
        anchors.append(anchor)
    mean, se = statistics.fmean(gains), statistics.stdev(gains) / math.sqrt(len(gains))
    best = factor(list(variants))
    helps = mean > se and mean >= 0.02 * statistics.fmean(anchors)
    return Gate(best if len(gains) >= 5 and helps else 0.0, best, len(gains), mean, se)


@pytest.mark.parametrize("use", [-0.3, 0.0, 0.1, 0.4, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_the_gate_is_the_leave_one_out_loop(seed, use):
    rng = np.random.default_rng(seed)
    residual = rng.normal(size=(14, 30))
    truth = use * residual + rng.normal(size=(14, 30))
    rows = [*range(9), 0, 3, 3, 8, 8]
    gate, wanted = fit_gates(left_out_of(truth, residual, rows=rows))["pair_2of2"], slow_gate(truth, residual, rows)
    for name in ("factor", "least_squares", "n", "gain", "se"):
        assert getattr(gate, name) == pytest.approx(getattr(wanted, name), rel=1e-9, abs=1e-12), name


def test_both_sides_of_the_rule_occur_in_the_loop():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(9, 30))
    for use, opens in ((0.6, True), (0.0, False)):
        truth = use * residual + rng.normal(size=(9, 30))
        assert (fit_gates(left_out_of(truth, residual))["pair_2of2"].factor > 0) == opens


@pytest.mark.parametrize("n", [1, 2, MIN_CONDITIONS - 1, MIN_CONDITIONS])
def test_few_conditions_open_no_gate(n):
    """However well the network does."""
    truth = np.random.default_rng(0).normal(size=(n, 10))
    gate = fit_gates(left_out_of(truth, truth))["pair_2of2"]
    assert gate.least_squares == 1.0 and gate.n == n
    assert gate.factor == (1.0 if n >= MIN_CONDITIONS else 0.0)
    assert gate.fitted == (n >= MIN_CONDITIONS)
    assert math.isnan(gate.gain) == (n < 2)


def test_many_variants_of_few_conditions_are_few_conditions():
    truth = np.random.default_rng(0).normal(size=(40, 10))
    gate = fit_gates(left_out_of(truth, truth, rows=np.arange(40) % 4))["pair_2of2"]
    assert gate.n == 4 and gate.factor == 0.0


def test_a_condition_that_was_predicted_in_many_ways_counts_once():
    rng = np.random.default_rng(1)
    residual = rng.normal(size=(8, 12))
    truth = 0.5 * residual + 0.1 * rng.normal(size=(8, 12))
    truth[0] = -residual[0]
    once = fit_gates(left_out_of(truth, residual))["pair_2of2"]
    again = [*range(8), *[0] * 20]
    often = fit_gates(left_out_of(truth[again], residual[again], rows=again))["pair_2of2"]
    assert often.least_squares == pytest.approx(once.least_squares)
    assert often.gain == pytest.approx(once.gain) and often.n == once.n


def test_a_gain_within_its_standard_error_opens_no_gate():
    """One condition gains much, the others nothing: the mean gain is not above its error by more than chance."""
    truth, residual = np.zeros((6, 4)), np.zeros((6, 4))
    truth[:, 0] = 1.0
    residual[0, 0], residual[1:, 1] = 1.0, 0.3
    gate = fit_gates(left_out_of(truth, residual))["pair_2of2"]
    assert gate.least_squares > 0.5 and gate.factor == 0.0
    assert gate.gain <= gate.se
    residual[:, 0] = 1.0
    helped = fit_gates(left_out_of(truth, residual))["pair_2of2"]
    assert helped.gain > helped.se and helped.factor == helped.least_squares > 0


def test_the_factor_is_cut_to_0_and_1():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(10, 8))
    assert fit_gates(left_out_of(3 * residual, residual))["pair_2of2"].factor == 1.0
    assert fit_gates(left_out_of(-residual, residual))["pair_2of2"].least_squares == 0.0


def test_a_network_that_says_nothing_has_a_closed_gate():
    truth = np.random.default_rng(0).normal(size=(8, 5))
    gate = fit_gates(left_out_of(truth, np.zeros_like(truth)))["pair_2of2"]
    assert (gate.factor, gate.least_squares, gate.gain) == (0.0, 0.0, 0.0)


def test_regimes_are_fitted_apart():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(24, 20))
    use = np.repeat([0.7, -0.7], 12)[:, None]
    regimes = ["single_unseen"] * 12 + ["pair_2of2"] * 12
    gates = fit_gates(left_out_of(use * residual, residual, regime=regimes))
    assert list(gates) == ["pair_2of2", "single_unseen"]
    assert gates["single_unseen"].factor == pytest.approx(0.7) and gates["pair_2of2"].factor == 0.0
    assert fit_gates(left_out_of(residual[:0], residual[:0])) == {}


def test_gates_survive_json():
    residual = np.random.default_rng(0).normal(size=(8, 5))
    gates = fit_gates(left_out_of(0.5 * residual, residual)) | {"higher_order": CLOSED}
    restored = gates_from_plain(json.loads(json.dumps(gates_to_plain(gates))))
    assert restored["pair_2of2"] == gates["pair_2of2"]
    assert restored["higher_order"].factor == 0.0 and not restored["higher_order"].fitted
    assert math.isnan(restored["higher_order"].gain)


def test_a_gain_below_two_percent_is_not_worth_a_network():
    """The same certain gain, of 1 % and of 3 % of the anchor's error."""
    rows, ones = np.arange(40), np.ones(40)
    for share, opened in ((0.01, False), (0.03, True)):
        # a residual r along t - A with |r| = share |t - A|: added in full, the error is smaller by that share
        left_out = LeftOut(rows, ["pair_2of2"] * 40, share * ones, share**2 * ones, ones)
        gate = fit_gates(left_out)["pair_2of2"]
        assert gate.gain == pytest.approx(share)
        assert (gate.factor > 0) is opened
