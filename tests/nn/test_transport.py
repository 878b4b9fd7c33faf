from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.nn._transport import energy_distance

pytestmark = pytest.mark.usefixtures("float64", "seeded")


def slow_mean_distance(x, y):
    return np.mean([np.linalg.norm(a - b) for a in x for b in y])


def test_the_energy_distance_is_the_loop_over_pairs():
    x, y = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 5, 4) + 1
    out = energy_distance(x, y)
    for m in range(2):
        for k in range(3):
            a, b = x[m, k].numpy(), y[m, k].numpy()
            expected = 2 * slow_mean_distance(a, b) - slow_mean_distance(a, a) - slow_mean_distance(b, b)
            assert out[m, k].item() == pytest.approx(expected, rel=1e-12)


def test_one_dimension_is_twice_the_squared_distance_of_the_distribution_functions():
    x, y = torch.randn(40, 1), torch.randn(30, 1) + 0.5
    both = torch.cat([x, y]).flatten().sort().values
    step = both.diff()
    share_x, share_y = ((z.flatten() <= both[:-1, None]).double().mean(dim=1) for z in (x, y))
    expected = 2 * ((share_x - share_y) ** 2 * step).sum()
    assert energy_distance(x, y).item() == pytest.approx(expected.item(), rel=1e-12)


def test_equal_sets_are_at_distance_zero_whatever_their_order():
    x = torch.randn(50, 16)
    assert energy_distance(x, x[torch.randperm(50)]).item() == pytest.approx(0, abs=1e-12)
    in_float32 = (100 + x).float()
    assert abs(energy_distance(in_float32, in_float32.clone()).item()) < 1e-5


def test_gradients_are_finite_where_cells_coincide_and_move_the_sets_together():
    x = torch.zeros(4, 3, requires_grad=True)
    before = energy_distance(x, torch.ones(5, 3))
    before.backward()
    assert x.grad.isfinite().all()
    assert energy_distance(x - 0.1 * x.grad, torch.ones(5, 3)).item() < before.item()
