"""Intervals of program changes: those of genes, with programs in their place."""

from __future__ import annotations

import json

import numpy as np

from scperturb_modules.baselines._intervals import LeftOut
from scperturb_modules.metrics._conformal import LEVEL, LEVELS, MIN_CONDITIONS, Conformal
from scperturb_modules.models.scbig._intervals import ProgramIntervals

SD = np.array([0.5, 1.0, 3.0])
NOISE = np.full((60, 3), 0.01)


def left_out(rng, n, regime="single_unseen", *, size=1.0):
    """Rows of six genes, two of each program, whose errors have a size of their own."""
    for row in range(n):
        error = size * np.repeat(SD, 2) * np.sqrt(2) * rng.normal(size=6)
        yield LeftOut(row, regime, rng.normal(size=6), error)


def project(change):
    return change.reshape(3, 2).mean(axis=1)


def test_each_regime_is_calibrated_on_its_projected_errors():
    rows = [
        *left_out(np.random.default_rng(0), 30),
        *left_out(np.random.default_rng(1), 19, "pair_2of2", size=2.0),
    ]
    found = ProgramIntervals.fit(rows, NOISE, project)
    change = np.array([0.1, -2.0, 0.5])
    for regime in ("single_unseen", "pair_2of2"):
        own = [one for one in rows if one.regime == regime]
        number = np.array([one.row for one in own])
        fitted = Conformal.fit(
            np.array([project(one.error) for one in own]), np.array([project(one.prediction) for one in own]),
            NOISE[number], number, np.arange(3), np.arange(3), guarantee=True,
        )  # fmt: skip
        expected = fitted.factors[LEVELS.index(LEVEL)] * fitted.scale.of(change[None], NOISE[0])[0]
        np.testing.assert_allclose(found.half_width(regime, change), expected)
    wide, narrow = (found.half_width(regime, change) for regime in ("pair_2of2", "single_unseen"))
    assert (wide > 1.4 * narrow).all() and narrow[2] > 3 * narrow[0]


def test_they_cover_what_was_not_seen():
    """Means over 200 draws, also where few conditions were left out."""
    for n in (15, 40):
        covered, narrow = [], []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            found = ProgramIntervals.fit(left_out(rng, n), NOISE, project)
            for one in left_out(rng, 20):
                width = found.half_width("single_unseen", project(one.prediction))
                error = np.abs(project(one.error))
                covered.append(error <= width)
                narrow.append((error <= 0.7 * width).mean())
        assert 0.89 < np.mean(covered) < 0.91 + 1 / n
        assert np.all(np.mean(covered, axis=0) > 0.86)
    assert np.mean(narrow) < 0.83, "of 40 conditions"


def test_few_conditions_have_no_interval():
    rng = np.random.default_rng(0)
    rows = [*left_out(rng, MIN_CONDITIONS), *left_out(rng, MIN_CONDITIONS - 1, "pair_0of2")]
    found = ProgramIntervals.fit(rows, NOISE, project)
    change = np.ones(3)
    assert np.isfinite(found.half_width("single_unseen", change)).all()
    for regime in ("pair_0of2", "pair_2of2"):
        assert np.isnan(found.half_width(regime, change)).all() and found.half_width(regime, change).shape == (3,)
    again = ProgramIntervals.from_plain(json.loads(json.dumps(found.to_plain(), allow_nan=False)))
    for regime in ("single_unseen", "pair_0of2"):
        np.testing.assert_array_equal(again.half_width(regime, change), found.half_width(regime, change))


def test_nothing_left_out():
    found = ProgramIntervals.none()
    assert np.isnan(found.half_width("single_unseen", np.ones(3))).all()
    again = ProgramIntervals.from_plain(json.loads(json.dumps(found.to_plain())))
    assert again.regimes == {} and again.noise.size == 0


def test_errors_of_0_are_no_division_by_0():
    rows = [LeftOut(row, "single_unseen", np.zeros(6), np.zeros(6)) for row in range(12)]
    found = ProgramIntervals.fit(rows, np.zeros((12, 3)), project)
    np.testing.assert_allclose(found.half_width("single_unseen", np.zeros(3)), 0, atol=1e-6)
