"""The training loss of BioDSNN against loops over members, rows, cells and genes; whether the network can learn."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from scperturb_modules.models.biodsnn._module import BioDsnnModule

TERMS = ("mse", "autofocus", "direction", "likelihood")


def direction_of(change, target, se, form):
    weight = math.tanh((target / (2 * se)) ** 2)
    tau = max(0.1, se)
    if form == "logistic":
        return weight, 4 * np.logaddexp(0, -np.sign(target) * change / tau) / math.log(2)
    if form == "tanh":
        return weight, (math.tanh(change / tau) - math.tanh(target / tau)) ** 2
    return weight, float(np.sign(change) - np.sign(target)) ** 2


class SlowLoss:
    """The terms of one member and one row, in the unit of squared changes."""

    def __init__(self, module, batch):
        self.settings, self.scale, self.batch = module.settings, module.scale, batch
        self.stream = module.stream

    def errors(self, b, prediction):
        """(C, G) error of each cell; one 'cell', the mean, at the level of means."""
        if self.settings.level == "mean":
            return (prediction - self.batch["target"][b].numpy())[None]
        controls = self.batch["control_X"][b]
        if self.stream is not None:
            controls = self.stream.regenerated(controls)
        return controls.detach().numpy() + prediction - self.batch["X"][b].numpy()

    def terms(self, b, prediction, log_variance):
        settings, row = self.settings, {name: values[b].numpy() for name, values in self.batch.items()}
        errors = self.errors(b, prediction)
        found = np.flatnonzero(row["found"])
        terms = {}
        if log_variance is not None:
            total = np.exp(log_variance) / self.scale + row["se"] ** 2 / self.scale
            squares = (prediction - row["target"]) ** 2 / self.scale
            terms["likelihood"] = self.scale * np.mean(0.5 * total**0.5 * (squares / total + np.log(total)))
        else:
            terms["mse"] = settings.w_mse * np.mean([np.mean(row["gene_weight"] * error**2) for error in errors])
        focused = [np.mean([abs(error[g]) ** (2 + settings.focus) for g in found]) for error in errors]
        terms["autofocus"] = settings.w_autofocus * np.mean(focused)
        signs = [
            direction_of(prediction[g], row["target"][g], row["se"][g], settings.direction)
            for g in range(len(prediction))
        ]
        terms["direction"] = settings.w_direction * sum(w * one for w, one in signs) / sum(w for w, _ in signs)
        return terms

    def means(self, predictions, log_variances):
        """Mean over members of the weighted mean over the rows that each is trained on."""
        totals = dict.fromkeys(TERMS, 0.0)
        for m in range(len(predictions)):
            weights, sums = 0.0, dict.fromkeys(TERMS, 0.0)
            for b in range(len(predictions[m])):
                weight = float(self.batch["trains"][b, m] * self.batch["row_weight"][b] * self.batch["weight"][b])
                weights += weight
                of_variance = None if log_variances is None else log_variances[m, b]
                for name, value in self.terms(b, predictions[m, b], of_variance).items():
                    sums[name] += weight * value
            for name in TERMS:
                totals[name] += sums[name] / weights / len(predictions) / self.scale
        return totals


LOSSES = [
    {},
    {"direction": "tanh", "focus": 0.5},
    {"direction": "sign", "w_direction": 0.7, "focus": 0.0},
    {"w_mse": 0.0, "w_autofocus": 3.0},
    {"uncertainty": True},
    {"level": "cell", "use_vae": False},
    {"level": "cell", "use_vae": False, "modulation_rank": 0, "focus": 1.0},
    {"preset": "paper", "use_vae": False},
]


@pytest.mark.parametrize("variant", LOSSES)
def test_the_training_loss_is_the_loop(variant, make, float64, no_dropout):
    module, batch, _ = make(**{"w_direction": 0.3, **variant, **no_dropout})
    batch["weight"][2] = 0.0
    module.train()
    _, outputs, output = module(batch)
    predictions = (outputs["anchor"] + outputs["residual"]).detach().numpy()
    answer = module.respond(module.read(batch)[0])
    log_variance = None if answer.log_variance is None else answer.log_variance.detach().numpy()
    wanted = SlowLoss(module, batch).means(predictions, log_variance)
    found = {name: values.item() for name, values in output.extra_metrics.items()}
    assert set(found) == {name for name in TERMS if wanted[name]}
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], rel=1e-9), name
    assert output.loss.item() == pytest.approx(sum(wanted.values()), rel=1e-9)


def test_at_the_level_of_cells_the_autoencoder_learns_in_the_same_steps(make, float64, no_dropout):
    """Cells are paired with regenerated controls, and the loss of the autoencoder is in the same unit."""
    module, batch, _ = make(level="cell", w_kl=0.5, w_reconstruction=2.0, **no_dropout)
    module.train()
    module.stream.vae.eval()  # no draws of the latent state
    module.stream.n_seen.fill_(5)
    _, outputs, output = module(batch)
    predictions = (outputs["anchor"] + outputs["residual"]).detach().numpy()
    wanted = SlowLoss(module, batch).means(predictions, None)
    terms = module.stream.vae.loss(batch["control_X"])
    of_controls = 2.0 * terms["reconstruction"].item() + 0.5 * terms["kl"].item()
    assert output.loss.item() == pytest.approx(sum(wanted.values()) + of_controls / module.scale, rel=1e-9)
    for name in ("reconstruction", "kl"):
        assert output.extra_metrics[name].item() == pytest.approx(terms[name].item(), rel=1e-9)
    output.loss.backward()
    assert all(one.grad.abs().max() > 0 for one in module.stream.vae.decoder.parameters() if one.dim() > 1)


def test_terms_without_weight_are_not_made(make):
    module, batch, _ = make(w_mse=0.0, w_direction=0.0)
    module.train()
    assert set(module(batch)[2].extra_metrics) == {"autofocus"}


def test_the_published_direction_term_moves_nothing(make, float64, no_dropout):
    gradients = []
    for form in ("logistic", "tanh", "sign"):
        module, batch, _ = make(direction=form, w_mse=0.0, w_autofocus=0.0, w_direction=1.0, **no_dropout)
        module.train()
        loss = module(batch)[2].loss
        if loss.requires_grad:
            loss.backward()
        found = [one.grad.abs().max().item() for one in module.parameters() if one.grad is not None]
        gradients.append(max(found, default=0.0))
    assert gradients[0] > 1e-3 and gradients[1] > 1e-6 and gradients[2] == 0


@pytest.mark.parametrize("level", ["mean", "cell"])
def test_rows_that_fill_up_a_step_do_not_count(level, make, float64, no_dropout):
    module, batch, _ = make(n_rows=9, level=level, use_vae=False, **no_dropout)
    module.train()
    batch["weight"][6:] = 0.0
    wild = batch | {"target": batch["target"].clone()}
    wild["target"][6:] = 1e3
    short = {name: values[:6] for name, values in batch.items()}
    wanted = module(short)[2].loss.item()
    for each in (batch, wild):
        assert module(each)[2].loss.item() == pytest.approx(wanted, rel=1e-10)


def test_genes_whose_noise_is_unknown_leave_the_loss_finite(make):
    """A condition of one cell has no standard error."""
    for uncertainty in (False, True):
        module, batch, _ = make(uncertainty=uncertainty)
        batch["se"][1] = float("nan")
        batch["se"][2, :3] = float("inf")
        module.train()
        loss = module(batch)[2].loss
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(one.grad).all() for one in module.parameters() if one.grad is not None)


@pytest.mark.parametrize("variant", [{}, {"use_attention": False}, {"level": "cell"}])
def test_five_conditions_are_learned_by_heart(variant, make, no_dropout):
    wide = {"d": 16, "hidden": 32, "heads": 2, "use_vae": False, "modulation_rank": 0, "w_autofocus": 0.0}
    module, batch, shape = make(
        n_rows=5, order=2, sizes={"n_genes": 12, "n_members": 1}, **wide, **variant, w_direction=0.0,
        anchor="zero", gate=False, **no_dropout,
    )  # fmt: skip
    batch |= {name: torch.zeros_like(batch[name]) for name in ("measured", "measured_part", "expected_part", "offset")}
    batch |= {name: torch.ones_like(batch[name]) for name in ("trains", "row_weight", "gene_weight")}
    batch["present"] = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    batch["node"] = torch.tensor([[1, 0], [2, 0], [3, 0], [4, 0], [5, 0]])
    batch["X"] = batch["control_X"] + batch["target"][:, None]
    scale = float(batch["target"].square().mean())
    shape = dataclasses.replace(shape, scale=scale, known=torch.ones_like(shape.known))
    module = BioDsnnModule(shape, module.settings)
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        output = module(batch)[2]
        if output.loss.item() < 1e-3:
            break
        output.loss.backward()
        optimizer.step()
    assert output.loss.item() < 1e-3
