"""Power against simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.tl.design._power import cells_needed, power, smallest_l2

N_CELLS, N_CONTROLS = 40, 160
VARIANCE = np.linspace(0.1, 1.5, 30)


def experiments(change, n, rng):
    """(n, G) measured changes."""
    perturbed = rng.normal(change, np.sqrt(VARIANCE / N_CELLS), (n, len(VARIANCE)))
    return perturbed - rng.normal(0, np.sqrt(VARIANCE / N_CONTROLS), (n, len(VARIANCE)))


def test_smallest_change_is_detected_as_often_as_said():
    planned = power(N_CELLS, N_CONTROLS, variance=VARIANCE, chance=0.8)
    rng = np.random.default_rng(0)
    error = np.sqrt(VARIANCE * (1 / N_CELLS + 1 / N_CONTROLS))
    called = np.abs(experiments(planned.smallest_change, 4000, rng)) > 1.959964 * error
    np.testing.assert_allclose(called.mean(), 0.8, atol=0.01)
    expected = power(N_CELLS, N_CONTROLS, effect=0.3, variance=VARIANCE).detected
    np.testing.assert_allclose(
        (np.abs(experiments(0.3, 4000, rng)) > 1.959964 * error).mean(axis=0), expected, atol=0.04
    )
    assert np.isnan(planned.detected).all()


@pytest.mark.parametrize("chance", [0.5, 0.9])
def test_smallest_l2_is_detected_as_often_as_said(chance):
    planned = power(N_CELLS, N_CONTROLS, variance=VARIANCE, chance=chance)
    rng = np.random.default_rng(1)
    limit = np.quantile(np.linalg.norm(experiments(0.0, 20_000, rng), axis=1), 0.95)
    direction = np.sqrt(VARIANCE / VARIANCE.sum())
    moved = experiments(planned.smallest_l2 * direction, 20_000, rng)
    assert (np.linalg.norm(moved, axis=1) > limit).mean() == pytest.approx(chance, abs=0.04)
    assert planned.smallest_e_distance == pytest.approx(2 * planned.smallest_l2**2)
    assert planned.noise_l2 == pytest.approx(
        np.sqrt(np.mean(np.sum(experiments(0.0, 20_000, rng) ** 2, axis=1))), rel=0.02
    )


def test_one_gene_alone():
    """A squared z score above its 95 % point is a two-sided test."""
    from scipy.stats import norm

    assert smallest_l2([0.25]) == pytest.approx(0.5 * (norm.isf(0.025) + norm.ppf(0.8)), rel=1e-4)


def test_e_distance_of_two_clouds():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 4)), rng.normal(0.7, 1, size=(60, 4))

    def mean_square(a, b):
        return np.mean(np.sum((a[:, None] - b[None]) ** 2, axis=-1))

    distance = 2 * mean_square(x, y) - mean_square(x, x) - mean_square(y, y)
    assert distance == pytest.approx(2 * np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2))


def test_cells_needed_reach_the_reliability():
    rng = np.random.default_rng(3)
    signal = rng.normal(0, 0.3, 20_000)

    def split_half(n_cells):
        halves = signal + rng.normal(0, np.sqrt(1 / n_cells), (2, len(signal)))
        return np.corrcoef(halves)[0, 1]

    needed = cells_needed(10, split_half(10), 0.8)
    assert split_half(needed) == pytest.approx(0.8, abs=0.02)
    assert cells_needed(50, 0.0, 0.8) == float("inf")


def test_reliability_from_the_effect_is_the_correlation_of_two_experiments():
    rng = np.random.default_rng(4)
    effect = rng.normal(0, 0.25, 5000)
    planned = power(30, 30, effect=effect, variance=1.0)
    one, two = effect + rng.normal(0, np.sqrt(2 / 30), (2, 5000))
    assert planned.reliability == pytest.approx(np.corrcoef(one, two)[0, 1], abs=0.03)
    assert np.isfinite(planned.cells_needed)
    assert np.isnan(power(30, 30).reliability) and np.isnan(power(30, 30).cells_needed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_cells": 1}, "at least 2 cells"),
        ({"variance": [1.0, 0.0]}, "1 of 2 variances"),
        ({"target": 1.0}, "target=1.0"),
        ({"reliability": 1.0}, "reliability=1.0"),
        ({"effect": [1.0, 2.0, 3.0], "variance": [1.0, 1.0]}, "pass one number or one per gene"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        power(**({"n_cells": 10, "n_controls": 10} | arguments))
