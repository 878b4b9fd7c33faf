from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from scperturb_modules.nn import at_least_float32, effect_weights, squared_error


def slow_weights(delta, se2, n_cells, gamma):
    of_gene = np.zeros(delta.shape)
    middle = statistics.median(value for row in se2 for value in row if math.isfinite(value))
    for p, row in enumerate(delta):
        t = [abs(d) / math.sqrt(s + middle) if math.isfinite(s) else 0.0 for d, s in zip(row, se2[p], strict=True)]
        of_gene[p] = [0.2 + (value / max(t)) ** gamma for value in t]
        of_gene[p] /= sum(of_gene[p]) / len(t)
    return np.array([n / (n + 50) for n in n_cells]), of_gene


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_weights_by_effect_are_the_loop(gamma):
    rng = np.random.default_rng(0)
    delta, se2 = rng.normal(size=(4, 9)), rng.uniform(0.01, 1, (4, 9))
    se2[1, 3], se2[2, :4] = np.inf, np.inf
    n_cells = np.array([1, 50, 200, 10**6])
    of_condition, of_gene = effect_weights(delta, se2, n_cells, gamma=gamma)
    expected = slow_weights(delta, se2, n_cells, gamma)
    np.testing.assert_allclose(of_condition, expected[0], rtol=1e-6)
    np.testing.assert_allclose(of_gene, expected[1], rtol=1e-6)
    assert of_condition.dtype == of_gene.dtype == np.float32
    assert of_condition[1] == 0.5


def test_without_gamma_all_genes_count_alike():
    _, of_gene = effect_weights(np.random.default_rng(0).normal(size=(3, 5)), np.ones((3, 5)), np.ones(3), gamma=0)
    np.testing.assert_array_equal(of_gene, 1.0)


@pytest.mark.parametrize("se2", [0.0, np.inf])
@pytest.mark.parametrize("size", [0.0, 1.0])
def test_weights_are_finite_without_effect_and_without_known_noise(se2, size):
    delta = size * np.arange(8.0).reshape(2, 4)
    _, of_gene = effect_weights(delta, np.full((2, 4), se2), np.ones(2))
    assert np.isfinite(of_gene).all()
    np.testing.assert_allclose(of_gene.mean(axis=1), 1, rtol=1e-6)
    if size == 0 or np.isinf(se2):
        np.testing.assert_allclose(of_gene, 1)


def test_the_squared_error_is_a_weighted_mean_over_genes(float64):
    error, weight = torch.randn(2, 3, 4), torch.rand(3, 4)
    out = squared_error(error, weight)
    for m in range(2):
        for b in range(3):
            expected = sum(float(weight[b, g] * error[m, b, g] ** 2) for g in range(4)) / 4
            assert float(out[m, b]) == pytest.approx(expected, rel=1e-13)


def test_sums_of_half_precision_are_made_in_float32():
    error = torch.full((1, 1, 1000), 300.0, dtype=torch.float16)
    assert squared_error(error, torch.ones(1, 1000)).item() == 9e4  # more than the largest float16
    kinds = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.float64: torch.float64}
    assert all(at_least_float32(torch.ones(1, dtype=given)).dtype == wanted for given, wanted in kinds.items())
