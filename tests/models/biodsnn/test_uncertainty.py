"""Factors of predicted standard deviations against a plain loop, and the coverage that they give."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.models._left_out import Judged
from scperturb_modules.models.biodsnn._uncertainty import COVERED, NORMAL_QUANTILE, scale_factors

N_GENES = 40


def drawn(rng, n, *, regime="pair_2of2", true_sd=0.3, predicted_sd=0.1, start=0, gate=0.5, se=0.05):
    """Rows whose measured error has a known spread beside the noise of the measurement."""
    rows, noise = [], []
    for i in range(n):
        residual = rng.normal(size=N_GENES)
        sd = predicted_sd * np.exp(rng.normal(size=N_GENES))
        error = true_sd / predicted_sd * sd * rng.normal(size=N_GENES) + se * rng.normal(size=N_GENES)
        rows.append(Judged(start + i, regime, gate * residual + error, residual, sd**2))
        noise.append(np.full(N_GENES, se))
    return rows, np.array(noise)


def slow_factor(rows, gate, se):
    """The smallest factor at which 90 % of the entries lie in their interval, tried one entry after the other."""
    tried = [0.0]
    for row in rows:
        for g in range(N_GENES):
            needed = ((row.difference[g] - gate * row.residual[g]) / NORMAL_QUANTILE) ** 2 - se[row.row, g] ** 2
            tried.append(np.sqrt(max(needed, 0.0) / row.variance[g]))
    return next(factor for factor in sorted(tried) if share(rows, gate, se, factor) >= COVERED)


def share(rows, gate, se, factor):
    """Of the entries of all rows, those that an interval of 90 % covers."""
    covered = [
        np.abs(row.difference - gate * row.residual)
        <= NORMAL_QUANTILE * np.sqrt(factor**2 * row.variance + se[row.row] ** 2) * (1 + 1e-12)
        for row in rows
    ]
    return float(np.mean(covered))


@pytest.mark.parametrize("se", [0.0, 0.05, 0.4])
def test_the_factor_is_the_loop(se):
    rng = np.random.default_rng(0)
    rows, noise = drawn(rng, 6, se=se)
    found = scale_factors(rows, lambda _: 0.5, noise)["pair_2of2"]
    wanted = slow_factor(rows, 0.5, noise)
    n = 6 * N_GENES
    assert share(rows, 0.5, noise, found) >= COVERED
    # one entry more or less, by the definition of a quantile
    assert abs(share(rows, 0.5, noise, found) - share(rows, 0.5, noise, wanted)) <= 1.5 / n


def test_a_known_spread_is_found():
    rows, noise = drawn(np.random.default_rng(1), 200)
    assert scale_factors(rows, lambda _: 0.5, noise)["pair_2of2"] == pytest.approx(3.0, rel=0.05)


def test_conditions_of_another_draw_are_covered_as_often():
    rng = np.random.default_rng(2)
    rows, noise = drawn(rng, 60)
    factor = scale_factors(rows, lambda _: 0.5, noise)["pair_2of2"]
    others, other_noise = drawn(rng, 200)
    assert share(others, 0.5, other_noise, factor) == pytest.approx(0.9, abs=0.02)


def test_regimes_have_their_own_factor_and_gate():
    rng = np.random.default_rng(3)
    pairs, noise = drawn(rng, 30)
    singles, other = drawn(rng, 30, regime="single_unseen", true_sd=1.0, start=30, gate=0.2)
    gates = {"pair_2of2": 0.5, "single_unseen": 0.2}
    found = scale_factors([*singles, *pairs], gates.__getitem__, np.concatenate([noise, other]))
    assert found["pair_2of2"] == pytest.approx(3, rel=0.15) and found["single_unseen"] == pytest.approx(10, rel=0.15)
    wrong = scale_factors(pairs, lambda _: 0.0, noise)["pair_2of2"]
    assert wrong > 1.3 * found["pair_2of2"], "the residual that the gate lets through is no error"


def test_few_conditions_have_no_factor_however_often_they_were_judged():
    rows, noise = drawn(np.random.default_rng(4), 5)
    assert set(scale_factors(rows, lambda _: 0.5, noise)) == {"pair_2of2"}
    assert scale_factors([*rows[:4], *rows[:4]], lambda _: 0.5, noise) == {}


def test_entries_whose_noise_is_unknown_do_not_count():
    """A condition of one cell has no standard error."""
    rows, noise = drawn(np.random.default_rng(5), 6)
    wanted = scale_factors(rows[:5], lambda _: 0.5, noise)["pair_2of2"]
    for unknown in (np.nan, np.inf):
        noise[5] = unknown
        found = scale_factors(rows, lambda _: 0.5, noise)["pair_2of2"]
        assert found == pytest.approx(wanted, rel=1e-12)


def test_a_regime_of_nothing_but_unknown_noise_has_no_factor():
    rows, noise = drawn(np.random.default_rng(6), 6)
    assert scale_factors(rows, lambda _: 0.5, np.full_like(noise, np.nan)) == {}
