from __future__ import annotations

import math

import pytest
import torch

from scperturb_modules.nn._flow import SOLVERS, Velocity, flow_pair, guided, integrate
from scperturb_modules.nn._transport import couple

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def velocity():
    """Of cells with 3 dimensions and conditions of 4 numbers; not 0, as it would start."""
    made = Velocity(3, 4, width=16, n_blocks=2, n_time=8)
    torch.nn.init.normal_(made.out.weight)
    return made


@pytest.mark.parametrize(("solver", "ratio"), [("euler", 2), ("midpoint", 4), ("heun", 4), ("rk4", 16)])
def test_half_the_step_divides_the_error_by_the_power_of_two_of_the_order(solver, ratio):
    def error(field, truth, n_steps):
        return abs(integrate(field, torch.ones(1, 1), n_steps=n_steps, solver=solver).item() - truth)

    def decay(t, x):
        return -x

    def swing(t, x):  # from 1 to exp(sin 1)
        return t[:, None].cos() * x

    for field, truth in ((decay, math.exp(-1)), (swing, math.exp(math.sin(1)))):
        found = error(field, truth, 32) / error(field, truth, 64)
        assert found == pytest.approx(ratio, rel=0.15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_path_holds_the_states_at_every_step(solver):
    x = torch.randn(2, 5, 3)
    path = integrate(lambda t, x: -x, x, n_steps=4, solver=solver, path=True)
    assert path.shape == (5, 2, 5, 3)
    assert torch.equal(path[0], x)
    assert torch.equal(path[-1], integrate(lambda t, x: -x, x, n_steps=4, solver=solver))
    straight = integrate(lambda t, x: torch.ones_like(x), x, n_steps=4, solver=solver, path=True)
    torch.testing.assert_close(straight, x + torch.linspace(0, 1, 5).view(-1, 1, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_keep_their_dtype_and_have_gradients(dtype):
    x = torch.randn(2, 5, 3, dtype=dtype, requires_grad=True)
    out = integrate(lambda t, x: -x * t[:, None, None], x, n_steps=8)
    out.sum().backward()
    assert out.dtype == dtype
    torch.testing.assert_close(x.grad, torch.full_like(x, math.exp(-0.5)), rtol=1e-5, atol=0)


def test_unknown_solvers_and_no_steps_are_refused():
    with pytest.raises(ValueError, match="'dopri5' is none of 'euler', 'midpoint', 'heun', 'rk4'"):
        integrate(lambda t, x: x, torch.ones(1, 1), n_steps=1, solver="dopri5")
    with pytest.raises(ValueError, match="n_steps=0"):
        integrate(lambda t, x: x, torch.ones(1, 1), n_steps=0)


def test_a_pair_is_on_the_straight_path_with_the_same_noise_at_any_time():
    x0, x1, noise = torch.randn(3, 2, 5, 3)
    for t in (torch.rand(2), torch.rand(2, 5)):
        x_t, target = flow_pair(x0, x1, t, 0.1, noise)
        for row in range(2):
            for cell in range(5):
                time = t[row].item() if t.dim() == 1 else t[row, cell].item()
                expected = (1 - time) * x0[row, cell] + time * x1[row, cell] + 0.1 * noise[row, cell]
                torch.testing.assert_close(x_t[row, cell], expected)
        assert torch.equal(target, x1 - x0)


def test_a_new_network_moves_nothing_and_learns():
    velocity = Velocity(3, 4, width=16)
    out = velocity(torch.rand(2), torch.randn(2, 5, 3), torch.randn(2, 4))
    assert out.shape == (2, 5, 3) and (out == 0).all()
    (out - 1).square().sum().backward()
    assert (velocity.out.weight.grad != 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_parameter_has_a_gradient(velocity, dtype):
    velocity = velocity.to(dtype)
    t, x, c = torch.rand(2, dtype=dtype), torch.randn(2, 5, 3, dtype=dtype), torch.randn(2, 4, dtype=dtype)
    out = velocity(t, x, c)
    out.square().sum().backward()
    assert out.dtype == dtype
    assert all(p.grad.isfinite().all() and (p.grad != 0).any() for p in velocity.parameters())


def test_one_time_of_a_row_is_that_time_of_each_cell_at_less_work(velocity):
    t, x, c = torch.rand(2), torch.randn(2, 5, 3), torch.randn(2, 4)
    shapes = []
    velocity.film.register_forward_hook(lambda module, inputs, out: shapes.append(out.shape[:2]))
    out = velocity(t, x, c)
    torch.testing.assert_close(out, velocity(t[:, None].expand(2, 5), x, c), atol=1e-12, rtol=0)
    assert shapes == [(2, 1), (2, 5)]


def test_a_cell_moves_by_its_own_state_time_and_condition_only(velocity):
    t, x, c = torch.rand(2, 5), torch.randn(2, 5, 3), torch.randn(2, 4)
    out, order = velocity(t, x, c), torch.randperm(5)
    torch.testing.assert_close(velocity(t[:, order], x[:, order], c), out[:, order], atol=1e-12, rtol=0)
    later, elsewhere, other = t.clone(), x.clone(), c.clone()
    later[0, 1], elsewhere[0, 1], other[0] = 0.5, 0, 0
    for changed, which in (
        (velocity(later, x, c), (0, 1)),
        (velocity(t, elsewhere, c), (0, 1)),
        (velocity(t, x, other), 0),
    ):
        expected = torch.zeros(2, 5, dtype=torch.bool)
        expected[which] = True
        assert torch.equal((changed - out).abs().amax(dim=-1) > 1e-12, expected)


def test_guidance_of_one_is_the_condition_in_one_evaluation_and_others_go_beyond_it(velocity):
    calls = []

    def counted(t, x, c):
        calls.append(c)
        return velocity(t, x, c)

    t, x, c, null = torch.rand(2), torch.randn(2, 5, 3), torch.randn(2, 4), torch.randn(4)
    of_condition, of_null = velocity(t, x, c), velocity(t, x, null.expand(2, 4))
    assert torch.equal(guided(counted, c, null, 1)(t, x), of_condition)
    assert torch.equal(guided(counted, c, None, 1)(t, x), of_condition)
    assert len(calls) == 2
    for scale in (0, 0.5, 2):
        expected = of_null + scale * (of_condition - of_null)
        torch.testing.assert_close(guided(counted, c, null, scale)(t, x), expected)


def test_guidance_without_training_for_it_is_refused(velocity):
    with pytest.raises(ValueError, match="also trained without conditions"):
        guided(velocity, torch.randn(2, 4), None, 2)


MATRIX, SHIFT, SD = ((1.5, 0.6), (0.6, 0.8)), (2.0, -1.0), (1.0, 0.5)


def mapped(x):
    """The transport map from N(0, SD^2) to its image: linear, with a symmetric positive matrix."""
    return x @ x.new_tensor(MATRIX) + x.new_tensor(SHIFT)


def learned_map(x, *, coupled, n_steps):
    """Where a network trained on 32 groups of 256 pairs takes the cells."""
    x0, x1 = torch.randn(2, 32, 256, 2) * torch.tensor(SD)
    x1 = mapped(x1)
    if coupled:
        x1 = x1.take_along_dim(couple(x0, x1)[..., None], dim=1)
    velocity, c = Velocity(2, 1, width=32, n_blocks=1, n_time=16), torch.zeros(2, 1)
    optimizer = torch.optim.Adam(velocity.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        some, t = torch.randint(32, (2,)), torch.rand(2, 256)
        x_t, target = flow_pair(x0[some], x1[some], t, 0.1, torch.randn(2, 256, 2))
        optimizer.zero_grad()
        (velocity(t, x_t, c) - target).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return integrate(guided(velocity, c[:1], None, 1), x[None], n_steps=8)[0]


def test_coupled_pairs_teach_the_transport_map_between_gaussians_and_independent_ones_do_not():
    # source and target do not have the same axes, or the flow of independent pairs would end at the same map
    torch.set_default_dtype(torch.float32)
    x = torch.randn(2000, 2) * torch.tensor(SD)
    truth, learned = mapped(x), learned_map(x, coupled=True, n_steps=300)
    assert (learned - truth).square().mean().sqrt() < 0.06
    assert (learned.mean(dim=0) - truth.mean(dim=0)).norm() < 0.06
    assert (torch.cov(learned.T) - torch.cov(truth.T)).norm() < 0.06 * torch.cov(truth.T).norm()
    independent = learned_map(x, coupled=False, n_steps=100)
    assert (independent - truth).square().mean().sqrt() > 0.3
