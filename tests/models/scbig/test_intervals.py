"""Intervals of program changes: a quantile over left-out conditions that covers fresh ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scperturb_modules.models._left_out import Judged
from scperturb_modules.models.scbig._intervals import LEAST_CONDITIONS, ProgramIntervals

SD = np.array([0.5, 1.0, 3.0])


def judged(rng, n, regime="single_unseen", *, size=1.0):
    """Rows of six genes, two of each program; the residual is what the difference is, but for noise."""
    for row in range(n):
        residual = rng.normal(size=6)
        noise = size * np.repeat(SD, 2) * np.sqrt(2) * rng.normal(size=6)
        yield Judged(row, regime, residual * 0.5 + noise, residual, None)


def project(change):
    return change.reshape(3, 2).mean(axis=1)


def half(regime):
    return 0.5


def test_scale_and_factor_written_out():
    rows = [*judged(np.random.default_rng(0), 30), *judged(np.random.default_rng(1), 19, "pair_2of2", size=2.0)]
    found = ProgramIntervals.fit(rows, half, project)
    error = np.array([project(one.difference - 0.5 * one.residual) for one in rows])
    scale = np.sqrt((error**2).mean(axis=0))
    np.testing.assert_allclose(found.scale, scale)
    for regime, n, rank in (("single_unseen", 30, 28), ("pair_2of2", 19, 18)):
        own = np.abs(error[[one.regime == regime for one in rows]]) / scale
        assert len(own) == n and rank == int(np.ceil(0.9 * (n + 1)))
        expected = np.mean([sorted(own[:, k])[rank - 1] for k in range(3)])
        assert found.factor[regime] == pytest.approx(expected)
        np.testing.assert_allclose(found.half_width(regime), expected * scale)


def test_they_cover_what_was_not_seen():
    """Means over 200 draws: 90 % for every program, by the gate that is used."""
    covered, narrow = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = ProgramIntervals.fit(judged(rng, 40), half, project)
        fresh = np.array([project(one.difference - 0.5 * one.residual) for one in judged(rng, 50)])
        covered.append((np.abs(fresh) <= found.half_width("single_unseen")).mean(axis=0))
        narrow.append((np.abs(fresh) <= 0.7 * found.half_width("single_unseen")).mean())
    assert np.all(np.abs(np.mean(covered, axis=0) - 0.9) < 0.02)
    assert np.mean(narrow) < 0.8


def test_the_gate_is_that_of_the_regime():
    rows = list(judged(np.random.default_rng(0), 20)) + list(judged(np.random.default_rng(1), 20, "pair_1of2"))
    asked = []
    found = ProgramIntervals.fit(rows, lambda regime: asked.append(regime) or 0.0, project)
    assert set(asked) == {"single_unseen", "pair_1of2"}
    np.testing.assert_allclose(found.scale, np.sqrt(np.mean([project(one.difference) ** 2 for one in rows], axis=0)))


def test_few_conditions_have_no_interval():
    rng = np.random.default_rng(0)
    rows = [*judged(rng, LEAST_CONDITIONS), *judged(rng, LEAST_CONDITIONS - 1, "pair_0of2")]
    found = ProgramIntervals.fit(rows, half, project)
    assert np.isfinite(found.half_width("single_unseen")).all()
    for regime in ("pair_0of2", "pair_2of2"):
        assert np.isnan(found.half_width(regime)).all() and found.half_width(regime).shape == (3,)
    again = ProgramIntervals.from_plain(json.loads(json.dumps(found.to_plain(), allow_nan=False)))
    for regime in ("single_unseen", "pair_0of2", "pair_2of2"):
        np.testing.assert_array_equal(again.half_width(regime), found.half_width(regime))


def test_nothing_left_out():
    found = ProgramIntervals.fit([], half, project)
    assert found.half_width("single_unseen").size == 0
    again = ProgramIntervals.from_plain(json.loads(json.dumps(found.to_plain())))
    assert again.scale.size == 0 and again.factor == {}


def test_errors_of_0_are_no_division_by_0():
    rows = [Judged(row, "single_unseen", np.zeros(6), np.zeros(6), None) for row in range(12)]
    found = ProgramIntervals.fit(rows, half, project)
    np.testing.assert_allclose(found.half_width("single_unseen"), 0, atol=1e-9)
