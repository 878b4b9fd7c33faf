"""Budget curves of known shape."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.metrics._design import budget_gain, saved_share

TESTED = np.array([0.0, 5.0, 10.0])


def around(curve, *, n=20, sd=0.3, seed=0):
    noise = np.random.default_rng(seed).normal(0, sd, (n, len(curve)))
    noise[:, 0] = 0
    return np.array(curve, dtype=float) + noise


def test_area_of_an_oracle_is_1_and_of_the_reference_0():
    reference = around([0, 1, 3])
    oracle = np.minimum(TESTED, 8.0)[None].repeat(20, axis=0)
    true = np.full(20, 8.0)
    assert budget_gain(TESTED, oracle, reference, true).area.value == pytest.approx(1.0)
    assert budget_gain(TESTED, reference, reference, true).area.value == 0.0
    assert budget_gain(TESTED, reference, reference, true).word == "no better"


def test_area_and_ratio_by_hand():
    gain = budget_gain(TESTED, [[0, 4, 6]] * 12, [[0, 2, 4]] * 12, [8] * 12)
    # areas: 5 * (0 + 4) / 2 + 5 * (4 + 6) / 2 = 35; 20; oracle 5 * 5 / 2 + 5 * 13 / 2 = 45
    assert gain.area.value == pytest.approx((35 - 20) / (45 - 20))
    assert gain.ratio.value == 2.0
    assert gain.saved[0] == pytest.approx(0.5)


@pytest.mark.parametrize(("curve", "word"), [([0, 4, 6], "beats"), ([0, 2, 4], "no better"), ([0, 1, 2], "worse")])
def test_words(curve, word):
    gain = budget_gain(TESTED, around(curve, seed=1), around([0, 2, 4]), np.full(20, 8.0))
    assert gain.word == word
    assert ("saves" in gain.text) == (word == "beats")


def test_few_seeds_tell_nothing():
    gain = budget_gain(TESTED, around([0, 4, 6], n=9), around([0, 2, 4], n=9), np.full(9, 8.0))
    assert gain.word == "cannot tell"
    assert gain.text == "Cannot tell the ranking from random: 9 seeds."
    assert np.isnan(gain.saved[1])


def test_noise_alone_is_rarely_called_better():
    wrong = 0
    for seed in range(20):
        mine, theirs = around([0, 2, 4], seed=2 * seed), around([0, 2, 4], seed=2 * seed + 1)
        wrong += budget_gain(TESTED, mine, theirs, np.full(20, 8.0)).word == "beats"
    assert wrong <= 2


def test_nothing_is_saved_by_a_ranking_that_never_gets_there():
    assert saved_share(TESTED, np.array([[0.0, 1, 2]]), np.array([[0.0, 2, 4]]))[0] == 0.0


def test_shapes_that_do_not_agree():
    with pytest.raises(ValueError, match="expected both"):
        budget_gain(TESTED, [[0, 1]], [[0, 1]], [3])
