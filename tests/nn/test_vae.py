from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scperturb_modules.nn._vae import FREE_BITS, ControlVae, active_dimensions


@pytest.fixture
def cells():
    """(2, 6, 8) values, some 0, one gene nowhere found."""
    values = torch.rand(2, 6, 8) * (torch.rand(2, 6, 8) > 0.4)
    values[..., 3] = 0
    return values


@pytest.fixture
def vae():
    return ControlVae(8, hidden=(16, 6), n_latent=4, mean=torch.rand(8), sd=torch.rand(8))


def rank_10_cells(n_cells, n_genes=200, seed=0):
    """log1p CP10k of counts whose log rates have ten directions, negative binomial with dispersion 0.3."""
    rng = np.random.default_rng(seed)
    directions, usual = rng.normal(0, 0.3, (10, n_genes)), rng.normal(0, 1, n_genes)
    rate = np.exp(usual + rng.normal(size=(n_cells, 10)) @ directions)
    mean = 5000 * rate / rate.sum(axis=1, keepdims=True)
    counts = rng.poisson(mean * rng.gamma(1 / 0.3, 0.3, mean.shape))
    return torch.tensor(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4), dtype=torch.float32)


def trained(cells, *, kl_weight, n_steps, free_bits):
    """By the training plan's optimiser, 256 cells per step."""
    vae = ControlVae(cells.shape[1], mean=cells.mean(dim=0), sd=cells.std(dim=0))
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / n_steps)))
    for _ in range(n_steps):
        terms = vae.loss(cells[torch.randperm(len(cells))[:256]], free_bits=free_bits)
        optimizer.zero_grad()
        (terms["reconstruction"] + kl_weight * terms["kl"]).backward()
        optimizer.step()
        schedule.step()
    return vae.eval()


def test_zeros_stay_zero_and_all_else_is_regenerated(vae, cells):
    for training in (True, False):
        vae.train(training)
        regenerated = vae.regenerate(cells, vae.sample(*vae.encode(cells)))
        assert regenerated.shape == cells.shape
        assert torch.equal(regenerated > 0, cells > 0)
        assert (regenerated[cells == 0] == 0).all()


def test_the_loss_is_the_loop_over_the_values_above_zero(vae, cells):
    vae.eval()
    mean, log_variance = vae.encode(cells)
    decoded = vae.decode(mean).detach()
    squares = [float((decoded[place] - cells[place]) ** 2) for place in np.ndindex(*cells.shape) if cells[place] > 0]
    kl = [
        0.5 * sum(m**2 + math.exp(v) - 1 - v for m, v in zip(of_mean, of_variance, strict=True))
        for of_mean, of_variance in zip(mean.reshape(12, 4).tolist(), log_variance.reshape(12, 4).tolist(), strict=True)
    ]
    terms = vae.loss(cells, free_bits=0.0)
    assert set(terms) == {"reconstruction", "kl"}
    assert terms["reconstruction"].item() == pytest.approx(np.mean(squares), rel=1e-5)
    assert terms["kl"].item() == pytest.approx(np.mean(kl), rel=1e-4)
    assert vae.loss(cells, free_bits=10.0)["kl"].item() == pytest.approx(40.0)


def test_values_of_zero_give_the_decoder_no_gradient(vae, cells):
    vae.loss(cells)["reconstruction"].backward()
    of_genes = vae.decoder[-1].weight.grad.abs().sum(dim=1) + vae.decoder[-1].bias.grad.abs()
    assert of_genes[3] == 0
    assert (of_genes[[0, 1, 2, 4, 5, 6, 7]] > 0).all()
    vae.zero_grad()
    vae.regenerate(cells, vae.sample(*vae.encode(cells))).sum().backward()
    assert vae.decoder[-1].bias.grad[3] == 0


def test_cells_without_a_value_are_no_division_by_zero(vae):
    assert vae.loss(torch.zeros(2, 8))["reconstruction"].item() == 0


def test_one_step_changes_every_parameter_and_all_are_saved(vae, cells):
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    optimizer = torch.optim.SGD(vae.parameters(), lr=0.1)
    terms = vae.loss(cells)
    (terms["reconstruction"] + terms["kl"]).backward()
    optimizer.step()
    assert {name for name, _ in vae.named_parameters()} | {"mean", "sd"} == set(before)
    assert all(not torch.equal(value, before[name]) for name, value in vae.named_parameters())
    assert torch.equal(vae.mean, before["mean"])
    other = ControlVae(8, hidden=(16, 6), n_latent=4)
    other.load_state_dict(vae.state_dict())
    assert torch.equal(other.eval().encode(cells)[0], vae.eval().encode(cells)[0])


def test_evaluation_draws_nothing_and_training_draws_from_the_posterior(vae, cells):
    mean, log_variance = vae.encode(cells)
    assert vae.eval().sample(mean, log_variance) is mean
    vae.train()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = vae.sample(mean, log_variance)
        torch.manual_seed(3)
        assert torch.equal(vae.sample(mean, log_variance), first)
    shifted, wide = torch.tensor([2.0]).expand(20_000), torch.tensor([math.log(9.0)]).expand(20_000)
    drawn = vae.sample(shifted, wide)
    assert drawn.mean().item() == pytest.approx(2, abs=0.1)
    assert drawn.std().item() == pytest.approx(3, abs=0.1)


def test_the_encoder_sees_standardised_genes(cells):
    mean, sd = torch.rand(8), torch.tensor([0.0, 0.05, *torch.rand(6) + 0.2])
    vae, plain = ControlVae(8, mean=mean, sd=sd), ControlVae(8)
    plain.encoder = vae.encoder
    floored = sd.clone()
    floored[:2] = 0.1
    torch.testing.assert_close(vae.encode(cells)[0], plain.encode((cells - mean) / floored)[0])


def test_the_decoder_starts_from_the_mean():
    mean = torch.tensor([0.0, 0.1, 0.5, 3.0, 200.0])
    vae = ControlVae(5, mean=mean)
    vae.decoder[-1].weight.data.zero_()
    torch.testing.assert_close(vae.decode(torch.randn(2, 16))[1], mean.clamp(min=0.1))


def test_extreme_cells_keep_the_log_variance_in_bounds(vae):
    mean, log_variance = vae.encode(1e6 * torch.rand(5, 8))
    vae.encoder[-1].bias.data += 100
    assert vae.encode(torch.rand(5, 8))[1].max() == 10
    assert mean.isfinite().all()
    assert log_variance.abs().max() <= 10


def test_active_dimensions_vary_between_cells():
    means = torch.randn(50, 40, 5) * torch.tensor([1.0, 0.2, 0.05, 0.0, 1.0]) + torch.tensor([0.0, 0, 0, 9, 9])
    assert active_dimensions(means) == 3
    assert active_dimensions(means[0]) == 3


def test_most_latent_dimensions_are_used_and_tell_of_new_cells():
    cells, new = rank_10_cells(800).split([600, 200])
    vae = trained(cells, kl_weight=1e-3, n_steps=150, free_bits=0.0)
    usual = cells.sum(dim=0) / (cells > 0).sum(dim=0)
    error_of_usual = (new - usual)[new > 0].square().mean()
    assert 12 <= active_dimensions(vae.encode(new)[0]) <= 16
    assert vae.loss(new)["reconstruction"] < 0.8 * error_of_usual


@pytest.mark.parametrize(("free_bits", "fewest", "most"), [(0.0, 0, 0), (FREE_BITS, 12, 16)])
def test_free_bits_keep_dimensions_that_a_heavy_kl_term_would_collapse(free_bits, fewest, most):
    cells, new = rank_10_cells(800).split([600, 200])
    vae = trained(cells, kl_weight=1.0, n_steps=100, free_bits=free_bits)
    assert fewest <= active_dimensions(vae.encode(new)[0]) <= most
