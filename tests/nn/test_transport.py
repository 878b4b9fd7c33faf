from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scperturb_modules.nn import _transport
from scperturb_modules.nn._transport import couple, energy_distance, log_sinkhorn

pytestmark = pytest.mark.usefixtures("float64", "seeded")


def slow_mean_distance(x, y):
    return np.mean([np.linalg.norm(a - b) for a in x for b in y])


def test_the_energy_distance_is_the_loop_over_pairs():
    x, y = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 5, 4) + 1
    out = energy_distance(x, y)
    unbiased = energy_distance(x, y, unbiased=True)
    for m in range(2):
        for k in range(3):
            a, b = x[m, k].numpy(), y[m, k].numpy()
            across, in_a, in_b = slow_mean_distance(a, b), slow_mean_distance(a, a), slow_mean_distance(b, b)
            assert out[m, k].item() == pytest.approx(2 * across - in_a - in_b, rel=1e-12)
            assert unbiased[m, k].item() == pytest.approx(2 * across - in_a * 6 / 5 - in_b * 5 / 4, rel=1e-12)


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


def standard_errors_from_zero(draws):
    return draws.mean().item() / (draws.std() / len(draws) ** 0.5).item()


def test_two_halves_of_a_sample_are_at_distance_zero_on_average_only_without_bias():
    halves = torch.randn(2, 200, 20, 5)
    assert abs(standard_errors_from_zero(energy_distance(*halves, unbiased=True))) < 3
    assert standard_errors_from_zero(energy_distance(*halves)) > 10
    assert energy_distance(halves[0], halves[1] + 0.5, unbiased=True).mean() > 0.1


def test_a_set_that_collapses_gets_farther_by_energy_and_nearer_by_transport():
    x, y = torch.randn(2, 8, 64, 50)
    energy = [energy_distance(s * x, y, unbiased=True).mean().item() for s in (1, 0.75, 0.5, 0)]
    assert sorted(energy) == energy and energy[0] < 0.05 < 3 < energy[-1]
    cost = torch.cdist(x, y).square(), torch.cdist(0.5 * x, y).square()
    spread, shrunken = ((log_sinkhorn(c, 0.05 * c.mean().item()).exp() * c).sum() for c in cost)
    assert shrunken < spread


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_without_bias_are_finite_for_equal_cells_constant_sets_and_single_cells(dtype):
    y = torch.randn(5, 3, dtype=dtype)
    for cells in (y, torch.ones(4, 3, dtype=dtype), y[:1]):
        x = cells.clone().requires_grad_()
        distance = energy_distance(x, y, unbiased=True)
        distance.backward()
        assert distance.dtype == dtype and distance.isfinite() and x.grad.isfinite().all()
    assert energy_distance(y[:1], y[:1], unbiased=True) == 0


def slow_sinkhorn(cost, eps, n_iter):
    """Uniform masses; logarithms of sums of exponentials throughout."""
    log_a, log_b = -math.log(cost.shape[-2]), -math.log(cost.shape[-1])
    g = torch.full_like(cost[..., 0, :], log_b)
    for _ in range(n_iter):
        f = log_a - (g[..., None, :] - cost / eps).logsumexp(dim=-1)
        g = log_b - (f[..., None] - cost / eps).logsumexp(dim=-2)
    f = log_a - (g[..., None, :] - cost / eps).logsumexp(dim=-1)
    return f[..., None] + g[..., None, :] - cost / eps


@pytest.fixture
def costs():
    """(4, 40, 30) squared distances up to 1e5."""
    cost = torch.cdist(torch.randn(4, 40, 10), torch.randn(4, 30, 10) + 1).square()
    return cost * (1e5 / cost.max())


# at the last two the scalings leave the range of float32, at the last also that of float64
@pytest.mark.parametrize("share", [1, 0.05, 0.01, 0.001])
def test_the_plan_is_that_of_the_plain_iteration_in_both_precisions(costs, share):
    eps = share * costs.mean().item()
    slow = slow_sinkhorn(costs, eps, 200)
    fast, single = log_sinkhorn(costs, eps, n_iter=200), log_sinkhorn(costs.float(), eps, n_iter=200)
    torch.testing.assert_close(fast, slow, atol=1e-9, rtol=0)
    assert single.dtype == torch.float32 and single.isfinite().all()
    plan = single.double().exp()
    total, expected = ((p * costs).sum(dim=(-2, -1)) for p in (plan, slow.exp()))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=0)
    assert (plan.sum(dim=-1) - 1 / 40).abs().sum(dim=-1).max() < 1e-5
    if share >= 0.05:
        assert (plan.sum(dim=-2) - 1 / 30).abs().sum(dim=-1).max() < 1e-5


def test_masses_are_kept_and_a_large_penalty_keeps_them_too(costs):
    row_mass, column_mass = torch.rand(40) + 0.1, torch.rand(4, 30) + 0.1
    row_mass, column_mass = row_mass / row_mass.sum(), column_mass / column_mass.sum(dim=-1, keepdim=True)
    eps = 0.1 * costs.mean().item()
    for rho in (None, 1e6 * eps):
        plan = log_sinkhorn(costs, eps, row_mass=row_mass, column_mass=column_mass, rho=rho, n_iter=1000).exp()
        torch.testing.assert_close(plan.sum(dim=-1), row_mass.expand(4, -1), atol=1e-12, rtol=0)
        torch.testing.assert_close(plan.sum(dim=-2), column_mass, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [1, 0.002])
def test_with_a_penalty_no_change_that_keeps_the_rows_lowers_the_objective(costs, share):
    column_mass = (torch.rand(30) + 0.1).softmax(dim=0)
    eps, rho = share * costs.mean().item(), 0.3 * costs.mean().item()
    log_plan = log_sinkhorn(costs, eps, column_mass=column_mass, rho=rho, n_iter=3000, tol=1e-13)
    moved = log_plan.exp().sum(dim=-2) / column_mass
    gradient = costs + eps * (log_plan - column_mass.log()) + rho * moved.log()[..., None, :]
    assert moved.log().abs().max() > 0.05
    torch.testing.assert_close(gradient, gradient[..., :1].expand_as(gradient), rtol=1e-8, atol=0)


def test_iterations_stop_at_the_tolerance(costs, monkeypatch):
    calls = []
    original = _transport._by_products
    monkeypatch.setattr(_transport, "_by_products", lambda *args: calls.append(args) or original(*args))
    eps = 0.03 * costs.mean().item()
    plan = log_sinkhorn(costs, eps, n_iter=10_000, tol=1e-6).exp()
    assert 1 < len(calls) < 100
    assert 1e-12 < (plan.sum(dim=-2) - 1 / 30).abs().sum(dim=-1).max() < 1e-6
    earlier = log_sinkhorn(costs, eps, n_iter=20 * (len(calls) - 1) - 1).exp()  # what the look before this one saw
    assert (earlier.sum(dim=-2) - 1 / 30).abs().sum(dim=-1).max() > 1e-6


def test_the_gradient_of_the_plan_is_that_of_finite_differences():
    cost = torch.rand(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: log_sinkhorn(c, 0.3, n_iter=21), cost)
    assert torch.autograd.gradcheck(lambda c: log_sinkhorn(c, 0.3, rho=0.2, n_iter=21), cost)


def test_partners_are_drawn_by_the_plan():
    x0, x1 = torch.randn(6, 2), torch.randn(5, 2)
    cost = torch.cdist(x0, x1).square()
    plan = slow_sinkhorn(cost / cost.mean(), 0.2, 20).exp() * 6
    drawn = couple(x0.expand(20_000, -1, -1), x1.expand(20_000, -1, -1), eps=0.2)
    share = torch.nn.functional.one_hot(drawn, 5).double().mean(dim=0)
    assert ((share - plan).abs() < 4 * (plan * (1 - plan) / 20_000).sqrt() + 1e-12).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_partners_have_a_seed_no_gradient_and_ignore_the_scale(dtype):
    x0, x1 = torch.randn(2, 7, 3, dtype=dtype, requires_grad=True), torch.randn(2, 9, 3, dtype=dtype)
    first, again, larger = (
        couple(scale * x0, scale * x1, generator=torch.Generator().manual_seed(1)) for scale in (1, 1, 1024)
    )
    assert first.shape == (2, 7) and first.dtype == torch.int64 and torch.equal(first, again)
    assert torch.equal(first, larger)
    assert couple(torch.ones(3, 2, dtype=dtype), torch.ones(4, 2, dtype=dtype)).max() < 4


def test_entropy_of_a_twentieth_of_the_mean_cost_leaves_few_partners_and_all_of_it_nearly_all():
    cost = torch.cdist(torch.randn(8, 64, 50), torch.randn(8, 64, 50)).square()
    log_plans = [log_sinkhorn(cost, share * cost.mean().item()) for share in (0.05, 1)]
    few, many = (torch.exp(-(p.softmax(-1) * p.log_softmax(-1)).sum(dim=-1)).mean().item() for p in log_plans)
    assert 8 < few < 14 and many > 60


def test_partners_have_the_mean_of_their_set_where_shares_of_clusters_differ():
    x0, x1 = (torch.randn(16, 64, 10) + 4 * (torch.rand(16, 64, 1) < share) for share in (0.5, 0.3))
    drawn = [x1.take_along_dim(couple(x0, x1, n_iter=n)[..., None], dim=1).mean() - x1.mean() for n in (20, 500)]
    assert abs(drawn[0]) > 0.1 > 0.03 > abs(drawn[1])


@pytest.mark.parametrize("power", [1, 0.4])
def test_both_forms_of_an_iteration_give_the_same_potentials_and_the_same_mass_moved(costs, power):
    log_a, log_b, g = torch.randn(4, 40), torch.randn(4, 30), torch.randn(4, 30)
    state = -costs / costs.mean(), log_a.log_softmax(-1), log_b.log_softmax(-1), g, power, 3
    for fast, slow in zip(_transport._by_products(*state), _transport._by_logarithms(*state), strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-12, rtol=1e-9)
