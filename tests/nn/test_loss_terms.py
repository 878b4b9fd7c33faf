from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scperturb_modules.nn._loss_terms import autofocus, beta_nll, direction_loss, kl_divergence, variance_error

pytestmark = pytest.mark.usefixtures("float64", "seeded")


def central_difference(of, x, step=1e-6):
    """Gradient of the scalar function ``of`` at x, entry by entry."""
    out = torch.zeros_like(x)
    for place in np.ndindex(*x.shape):
        ahead, behind = x.clone(), x.clone()
        ahead[place] += step
        behind[place] -= step
        out[place] = (of(ahead) - of(behind)) / (2 * step)
    return out


def gradient(of, x):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(of(x), x)
    return slope


def one(value):
    return torch.tensor([value])


# -- KL --------------------------------------------------------------------------------------------------------------


def test_kl_is_the_expected_log_ratio_of_the_densities():
    mean, log_variance = torch.tensor([0.7, -1.2, 0.0]), torch.tensor([0.5, -2.0, 1.0])
    z = mean + torch.exp(0.5 * log_variance) * torch.randn(400_000, 3)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    ratio = posterior.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)
    assert kl_divergence(mean, log_variance).item() == pytest.approx(ratio.sum(dim=-1).mean().item(), abs=1e-2)


def test_kl_is_zero_at_the_prior_alone_and_nowhere_negative():
    assert kl_divergence(torch.zeros(4), torch.zeros(4)).item() == 0
    anywhere = kl_divergence(torch.randn(500, 3), 4 * torch.randn(500, 3))
    assert anywhere.shape == (500,)
    assert (anywhere > 0).all()


def test_kl_near_the_prior_keeps_its_digits_in_float32():
    small = torch.tensor([1e-3], dtype=torch.float32)
    assert kl_divergence(0 * small, small).item() == pytest.approx(2.5e-7 * (1 + 1e-3 / 3), rel=1e-3)


def test_free_bits_are_a_floor_of_each_dimension():
    mean = torch.tensor([0.1, 2.0])
    assert kl_divergence(mean, torch.zeros(2), free_bits=0.05).item() == pytest.approx(0.05 + 2.0)
    slope = gradient(lambda m: kl_divergence(m, torch.zeros(2), free_bits=0.05), mean)
    assert slope.tolist() == [0.0, 2.0]


# -- autofocus -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 1.0, 1.5, 2.0])
def test_autofocus_is_the_mean_power_and_has_its_gradient(gamma):
    error = torch.randn(2, 3, 5)
    expected = [[sum(abs(e) ** (2 + gamma) for e in row) / 5 for row in block] for block in error.tolist()]
    np.testing.assert_allclose(autofocus(error, gamma=gamma), expected, rtol=1e-12)
    slope = gradient(lambda e: autofocus(e, gamma=gamma).sum(), error)
    given = (2 + gamma) * error.abs() ** (1 + gamma) * error.sign() / 5
    torch.testing.assert_close(slope, given, rtol=1e-12, atol=0)
    assert gradient(lambda e: autofocus(e, gamma=gamma), torch.zeros(4)).tolist() == [0.0] * 4


def test_autofocus_counts_the_genes_that_are_present():
    error = torch.randn(2, 3, 5)
    present = torch.tensor([[True, True, False, True, False], [False, True, True, True, True], [False] * 5])
    out = autofocus(error, gamma=1.0, present=present)
    for k in range(2):
        torch.testing.assert_close(out[:, k], (error[:, k, present[k]].abs() ** 3).mean(dim=-1))
    assert out[:, 2].tolist() == [0.0, 0.0]


def test_the_fourth_power_does_not_estimate_a_mean():
    """A gene at v in a share p of cells and at 0 in the others is fitted by v p^(1/3) / (p^(1/3) + (1 - p)^(1/3))."""
    p, v = 0.05, 3.0
    cells = torch.zeros(100, 1)
    cells[:5] = v
    candidates = torch.linspace(0, v, 3001)
    best = candidates[autofocus((candidates - cells).T, gamma=2.0).argmin()]
    assert best.item() == pytest.approx(v * p ** (1 / 3) / (p ** (1 / 3) + (1 - p) ** (1 / 3)), abs=1e-3)
    assert candidates[autofocus((candidates - cells).T, gamma=0.0).argmin()].item() == pytest.approx(p * v, abs=1e-3)


# -- direction -------------------------------------------------------------------------------------------------------


def slow_direction(a, t, se, form):
    total = weights = 0.0
    for change, truth, error in zip(a, t, se, strict=True):
        tau = max(0.1, error)
        weight = math.tanh((truth / (2 * error)) ** 2)
        sign = (truth > 0) - (truth < 0)
        if form == "logistic":
            value = 4 * math.log2(1 + math.exp(-sign * change / tau))
        elif form == "tanh":
            value = (math.tanh(change / tau) - math.tanh(truth / tau)) ** 2
        else:
            value = ((change > 0) - (change < 0) - sign) ** 2
        total, weights = total + weight * value, weights + weight
    return total / weights


@pytest.mark.parametrize("form", ["logistic", "tanh", "sign"])
def test_direction_is_the_loop(form):
    change, truth, scale = torch.randn(2, 3, 6), torch.randn(3, 6), torch.rand(3, 6) * 0.4 + 0.02
    out = direction_loss(change, truth, scale, form=form)
    for m in range(2):
        for k in range(3):
            expected = slow_direction(change[m, k].tolist(), truth[k].tolist(), scale[k].tolist(), form)
            assert out[m, k].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["logistic", "tanh"])
def test_direction_has_the_gradient_of_its_value(form):
    change, truth, scale = 0.2 * torch.randn(3, 6), 0.2 * torch.randn(3, 6), torch.rand(3, 6) * 0.3

    def of(a):
        return direction_loss(a, truth, scale, form=form).sum()

    slope = gradient(of, change)
    assert (slope - central_difference(of, change)).norm() < 1e-6 * slope.norm()
    assert gradient(of, torch.zeros_like(change)).abs().min() > 0


def test_a_wrong_sign_keeps_its_gradient_in_the_logistic_form_alone():
    def slope(form):
        return abs(gradient(lambda a: direction_loss(a, one(0.3), one(0.05), form=form).sum(), one(-0.5)).item())

    assert slope("logistic") == pytest.approx(4 / (0.1 * math.log(2)) / (1 + math.exp(-5)), rel=1e-9)
    assert slope("tanh") < 0.01
    assert slope("sign") == 0


def test_the_logistic_form_is_nowhere_below_the_published_one_and_tanh_tends_to_it():
    change, truth, scale = torch.randn(500, 1), torch.randn(500, 1), torch.full((500, 1), 0.1)
    published = direction_loss(change, truth, scale, form="sign")
    assert set(published.tolist()) == {0.0, 4.0}
    assert (direction_loss(change, truth, scale) >= published).all()
    far = direction_loss(1e5 * change, 1e5 * truth, scale, form="tanh")  # as with a temperature of 1e-6
    torch.testing.assert_close(far, published, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", ["logistic", "tanh", "sign"])
def test_genes_without_a_sure_sign_have_no_weight(form):
    change, truth, scale = torch.tensor([-1.0, 2.0, -3.0]), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.1, 0.0, 0.2])
    alone = direction_loss(change[[0, 2]], truth[[0, 2]], scale[[0, 2]], form=form)
    torch.testing.assert_close(direction_loss(change, truth, scale, form=form), alone)
    for unknown in (math.nan, math.inf):
        scale[2] = unknown
        alone = direction_loss(change[:1], truth[:1], scale[:1], form=form)
        torch.testing.assert_close(direction_loss(change, truth, scale, form=form), alone)
        slope = gradient(lambda a: direction_loss(a, truth, scale, form=form), change)
        assert slope[1:].tolist() == [0.0, 0.0]
    assert direction_loss(change, torch.zeros(3), scale, form=form).item() == 0


def test_an_unknown_form_is_named():
    with pytest.raises(ValueError, match="form='hard' is unknown"):
        direction_loss(one(1.0), one(1.0), one(1.0), form="hard")


# -- uncertainty -----------------------------------------------------------------------------------------------------


def test_beta_nll_is_the_loop_with_a_weight_that_has_no_gradient():
    error, v, se2 = torch.randn(2, 3, 4), torch.randn(3, 4), torch.rand(3, 4)
    out = beta_nll(error, v, se2, beta=0.5)
    slope = gradient(lambda x: beta_nll(error, x, se2, beta=0.5).sum(), v)
    for k in range(3):
        for u in range(4):
            t = math.exp(v[k, u]) + se2[k, u].item()
            ahead = sum(0.5 * t**0.5 * (1 / t - e**2 / t**2) * math.exp(v[k, u]) / 4 for e in error[:, k, u].tolist())
            assert slope[k, u].item() == pytest.approx(ahead, rel=1e-10)
    total = v.exp() + se2
    expected = (0.5 * total.sqrt() * (error**2 / total + total.log())).mean(dim=-1)
    torch.testing.assert_close(out, expected)


def test_genes_whose_noise_is_unknown_are_left_out_of_the_likelihood():
    error, v = torch.randn(4), torch.randn(4)
    se2 = torch.tensor([0.1, math.nan, math.inf, 0.2])
    torch.testing.assert_close(beta_nll(error, v, se2), beta_nll(error[[0, 3]], v[[0, 3]], se2[[0, 3]]))
    slope = gradient(lambda x: beta_nll(error, x, se2), v)
    assert slope[[1, 2]].tolist() == [0.0, 0.0]
    assert beta_nll(error, v, torch.full((4,), math.nan)).item() == 0


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_likelihood_finds_the_variance_of_the_errors_beside_known_noise(beta):
    """With errors of variance 1 + SE^2, v tends to log 1, and 90 % intervals cover 90 %."""
    se2 = torch.rand(4000)
    error = torch.randn(4000) * (1 + se2).sqrt()
    v = one(-3.0).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        beta_nll(error, v.expand(4000), se2, beta=beta).backward()
        optimizer.step()
    assert v.item() == pytest.approx(0, abs=0.1)
    covered = error.abs() < 1.6449 * (v.exp() + se2).sqrt()
    assert 0.87 < covered.double().mean().item() < 0.93


def test_the_likelihood_has_a_bottom_where_the_published_loss_has_none():
    error, steps = torch.randn(1000), torch.linspace(-12, 12, 49)
    ours = torch.stack([beta_nll(error, v.expand(1000), torch.zeros(1000)) for v in steps])
    published = torch.stack([(torch.exp(-v) * error.abs() ** 4).mean() for v in steps])
    assert 0 < ours.argmin() < 48
    assert published.argmin() == 48


# -- variance between cells ------------------------------------------------------------------------------------------


def test_the_error_of_variances_is_the_loop():
    predicted, true = torch.randn(2, 7, 3), 2 * torch.randn(2, 5, 3)
    out = variance_error(predicted, true, eps=0.01)
    for k in range(2):
        of_genes = [
            (math.log(np.var(p, ddof=1) + 0.01) - math.log(np.var(t, ddof=1) + 0.01)) ** 2
            for p, t in zip(predicted[k].T.numpy(), true[k].T.numpy(), strict=True)
        ]
        assert out[k].item() == pytest.approx(np.mean(of_genes), rel=1e-12)


def test_variances_of_constant_genes_have_a_finite_gradient():
    predicted = torch.ones(4, 2)
    slope = gradient(lambda x: variance_error(x, torch.randn(4, 2), eps=1e-3), predicted)
    assert slope.isfinite().all()


# -- precision -------------------------------------------------------------------------------------------------------


def test_sums_of_half_precision_are_made_in_float32():
    half = torch.full((1000,), 300.0, dtype=torch.float16)
    assert autofocus(half, gamma=0.0).item() == 9e4  # more than the largest float16
    noise, v = torch.ones_like(half), torch.zeros_like(half)
    for value in (kl_divergence(half, v), beta_nll(half, v, noise), direction_loss(-half, half, noise)):
        assert value.dtype == torch.float32
        assert value.isfinite()
