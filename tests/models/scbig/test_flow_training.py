"""Training of the flow on random weights: what is matched, what is aligned, what stays put; stages with little data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scperturb_modules.models.scbig import _flow
from scperturb_modules.models.scbig._alignment import correlation_loss, distribution_loss
from scperturb_modules.models.scbig._flow import FlowModule
from scperturb_modules.nn import integrate

QUIET = {"condition_dropout": 0.0, "p_unconditional": 0.0, "p_mask": 0.0, "id_dropout": 0.0, "prior_dropout": 0.0}
N, K = 10, 3


@pytest.fixture
def make_flow(make_generator, make):
    """A module that trains a flow, in training mode, and a batch; nothing is random but time and noise."""

    def made(**settings):
        generator, _, batch = make_generator(**(QUIET | settings))
        read = make(random=False)[0].read
        n_rows = len(batch["node"])
        change, shift = torch.randn(n_rows + 2, 9), torch.randn(n_rows + 2, 4)
        covariance = torch.randn(n_rows + 2, 20, K)
        covariance = covariance.transpose(1, 2) @ covariance / 20
        module = FlowModule(generator, read, change, shift, covariance)
        batch |= {"X": torch.randn(n_rows, N, 4 + K), "control_X": torch.randn(n_rows, N, 4 + K)}
        batch["group"] = torch.arange(n_rows) + 1
        batch["weight"] = torch.tensor([1.0, 0.5, 0.0, 1.0])
        return module.train(), batch

    return made


def parts_of(module, batch):
    """States of controls where the flow starts, and of perturbed cells; activities of both; conditions."""
    start = batch["control_X"][..., :4] + module._shift[batch["group"]][:, None]
    condition = module.generator.condition(module._read(batch)[0])
    return start, batch["X"][..., :4], batch["control_X"][..., 4:], batch["X"][..., 4:], condition


@pytest.fixture
def fixed_draws(monkeypatch):
    """Time 0.3, no noise, cells paired in their order."""
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.full(shape if isinstance(shape[0], int) else
                                                                          tuple(shape[0]), 0.3))  # fmt: skip
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    pairs = torch.arange(N)
    monkeypatch.setattr(_flow, "couple", lambda start, cells, eps: pairs.expand(len(start), -1))


@pytest.mark.parametrize("use_flow", [True, False])
def test_matching_is_the_squared_error_of_the_velocity(make_flow, fixed_draws, use_flow):
    module, batch = make_flow(w_correlation=0.0, w_distribution=0.0, use_flow=use_flow)
    start, cells, _, _, condition = parts_of(module, batch)
    velocity, none = module.generator.velocity, module.generator.conditions.control[None]

    def error(x0, x1, c):
        if not use_flow:
            return ((x0 + velocity(torch.zeros(1), x0, c) - x1) ** 2).mean()
        found = velocity(torch.full((1, N), 0.3), 0.7 * x0 + 0.3 * x1, c)
        return ((found - (x1 - x0)) ** 2).mean()

    expected = 0.0
    for b, weight in enumerate([1.0, 0.5, 0.0, 1.0]):
        expected += weight * error(start[b : b + 1], cells[b : b + 1], condition[b : b + 1]) / 2.5
    controls = batch["control_X"][:1, :, :4]
    expected += error(controls, controls, none) / 4
    found = module(batch)[2]
    torch.testing.assert_close(found.loss, expected)
    assert found.extra_metrics.keys() == {"matching"} and found.n_obs_minibatch == 4


def test_controls_learn_to_stay_under_the_empty_set(make_flow):
    module, batch = make_flow(w_correlation=0.0, w_distribution=0.0)
    batch["weight"] = torch.zeros(4)
    generator, controls = module.generator, batch["control_X"][:1, :, :4]
    none = generator.conditions.control[None]

    def moved():
        with torch.no_grad():
            return (generator.transport(controls, none) - controls).abs().mean().item()

    before, optimiser = moved(), torch.optim.Adam(generator.velocity.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        module(batch)[2].loss.backward()
        optimiser.step()
    assert moved() < 0.2 * before


def test_the_autoencoder_stays_put(make_flow):
    module, batch = make_flow(align_every=1)
    module(batch)[2].loss.backward()
    generator = module.generator
    assert all(one.grad is None and not one.requires_grad for one in generator.autoencoder.parameters())
    trained = {name for name, one in generator.named_parameters() if one.grad is not None and one.grad.any()}
    assert {"velocity.out.weight", "token.0.weight", "conditions.control", "context.weight"} <= trained


@pytest.mark.parametrize("mean_of", ["programs", "cells"])
def test_alignment_is_of_moved_control_cells(make_flow, mean_of):
    module, batch = make_flow(align_every=1, mean_of=mean_of, gate=False, w_correlation=0.3, w_distribution=0.7)
    start, _, control_activity, activity, condition = parts_of(module, batch)
    generator, group = module.generator, batch["group"]
    end = integrate(lambda t, x: generator.velocity(t, x, condition), start, n_steps=8, solver="midpoint")
    deviation = (generator.autoencoder.decode(end) - generator.autoencoder.decode(start)) @ generator.projection
    if mean_of == "programs":
        deviation = deviation - deviation.mean(dim=1, keepdim=True)
    generated = control_activity + (module._change[group] @ generator.projection)[:, None] + deviation
    correlation = correlation_loss(generated, module._covariance[group])[0]
    distribution = distribution_loss(generated, activity)[0]
    torch.manual_seed(3)
    found = module(batch)[2]
    torch.testing.assert_close(found.extra_metrics["correlation"], correlation.detach())
    torch.testing.assert_close(found.extra_metrics["distribution"], distribution.detach())
    torch.manual_seed(3)
    module.settings = replace(module.settings, w_correlation=0.0, w_distribution=0.0)
    torch.testing.assert_close(found.loss - module(batch)[2].loss, 0.3 * correlation + 0.7 * distribution)


def test_alignment_is_now_and_then_and_of_what_has_weight(make_flow):
    def told(**settings):
        module, batch = make_flow(**settings)
        return [set(module(batch)[2].extra_metrics) for _ in range(5)]

    both = told(align_every=2)
    assert [len(names) > 1 for names in both] == [True, False, True, False, True]
    assert {"correlation", "correlation_signal", "distribution", "distribution_spread"} <= both[0]
    assert not any("correlation" in name for name in told(align_every=1, w_correlation=0.0)[0])
    assert not any("distribution" in name for name in told(align_every=1, w_distribution=0.0)[0])
    assert told(align_every=1, w_correlation=0.0, w_distribution=0.0) == [{"matching"}] * 5


def test_coupling(make_flow):
    module, _ = make_flow()
    start = torch.randn(3, N, 4)
    order = torch.stack([torch.randperm(N) for _ in range(3)])
    cells = torch.take_along_dim(start, order.argsort(dim=1)[..., None], dim=1)
    assert (module._partner(start, cells) == order).float().mean() > 0.8, "the same cell is the nearest"
    module.settings = replace(module.settings, coupling="independent")
    partner = module._partner(start, cells)
    assert torch.equal(partner.sort(dim=1).values, torch.arange(N).expand(3, -1)), "every cell once"
    assert not torch.equal(partner, order)


def test_some_measured_genes_are_hidden(make_flow):
    module, batch = make_flow(p_mask=0.5)
    batch["measured"] = batch["present"]
    seen = torch.stack([module._rows(batch).measured[0] for _ in range(200)])
    assert torch.all(seen <= batch["present"])
    share = seen.mean(dim=0)[batch["present"] > 0]
    assert torch.all((share > 0.3) & (share < 0.7))


def test_conditions_with_gaps(make_flow):
    module, _ = make_flow(condition_dropout=0.25, p_unconditional=0.0)
    condition = torch.randn(2000, 8)
    found = module._with_gaps(condition)
    gone = found == 0
    assert 0.2 < gone.float().mean() < 0.3
    torch.testing.assert_close(found[~gone], condition[~gone] / 0.75)
    assert torch.equal(module.eval()._with_gaps(condition), condition)
    module, _ = make_flow(p_unconditional=0.3)
    found = module._with_gaps(condition)
    null = (found == module.generator.conditions.null).all(dim=1)
    assert 0.25 < null.float().mean() < 0.35 and torch.equal(found[~null], condition[~null])
    assert torch.equal(module.eval()._with_gaps(condition), condition)


# -- the stages of a model -------------------------------------------------------------------------------------------


def test_starts_and_covariances_are_of_training_cells(big_screen, fit):
    model = fit(big_screen, max_epochs=1)
    rows = np.flatnonzero(model._members.trains.any(axis=1))
    change, shift = model._starts(rows)
    np.testing.assert_allclose(change, model.data.delta[rows], atol=1e-6)
    torch.testing.assert_close(shift, model.module.generator.shift(change, torch.zeros(len(rows), dtype=torch.int64)))
    states = model._states_of_training_cells()
    is_training = (big_screen.obs["split"] != "test").to_numpy()
    assert np.all(states[~is_training] == 0)
    latent = model.get_latent_representation(store=False)
    activity = model.get_program_activity(store=False)
    np.testing.assert_allclose(states[is_training, :4], latent[is_training], atol=1e-4)
    np.testing.assert_allclose(states[is_training, 4:], activity[is_training], atol=1e-5)
    found = model._covariance(states, rows).numpy()
    labels = big_screen.obs["perturbation"].astype(str).to_numpy()
    perturbed = is_training & (labels != "control")
    own = [activity[perturbed & (labels == model.data.rows[row][0])].to_numpy(np.float64) for row in rows]
    pooled = sum((len(one) - 1) * np.cov(one.T) for one in own) / sum(len(one) - 1 for one in own)
    for i, one in enumerate(own):
        weight = len(one) / (len(one) + 200)
        np.testing.assert_allclose(found[i], weight * np.cov(one.T) + (1 - weight) * pooled, atol=1e-5)


def test_without_another_network_for_means_the_flow_starts_from_the_anchor(big_screen, build):
    model = build(big_screen, mean_of="cells", gate=False)
    rows = np.arange(len(model.data.rows))
    change, _ = model._starts(rows)
    parts = np.where(
        model._arrays["measured"][..., None] > 0, model._arrays["measured_part"], model._arrays["expected_part"]
    )
    np.testing.assert_allclose(change, parts.sum(axis=1) + model._arrays["offset"], atol=1e-5)
    assert not np.allclose(change, model.data.delta, atol=0.05)
