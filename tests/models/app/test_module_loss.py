"""What is hidden in training, the losses of training and of validation, and whether the network can learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from scperturb_modules.models._features import scaled_patterns
from scperturb_modules.models.app._module import AppModule

KINDS = ("single", "combination")


def test_hidden_genes_bring_what_is_expected_of_them(make, float64):
    module, batch, _ = make()
    masked = torch.tensor(np.random.default_rng(2).random(batch["node"].shape) < 0.5)
    rows, anchor = module.read(batch, masked=masked)
    for b in range(len(batch["node"])):
        expected = batch["offset"][b].clone()
        for k in range(int(batch["present"][b].sum())):
            seen = batch["measured"][b, k] > 0 and not masked[b, k]
            assert rows.measured[0, b, k] == float(seen)
            expected += batch["measured_part" if seen else "expected_part"][b, k]
        torch.testing.assert_close(anchor[0, b], expected, rtol=0, atol=1e-12)


def test_hiding_changes_what_the_network_sees(make):
    module, batch, _ = make()
    everything = torch.ones_like(batch["node"], dtype=torch.bool)
    one, other = (module.respond(module.read(batch, masked=masked)[0]) for masked in (None, everything))
    changed = (one.residual != other.residual).any(dim=-1).any(dim=0)
    assert torch.equal(changed, batch["measured"].sum(dim=1) > 0)


def test_the_share_of_hidden_genes_is_p_mask_for_combinations_only(make):
    module, batch, _ = make(n_rows=3000, sizes={"n_members": 3})
    batch["measured"] = batch["present"].clone()
    rows, anchor = module.read(batch, p_mask=0.3)
    single = batch["present"].sum(dim=1) == 1
    assert rows.measured.shape == (3, *batch["present"].shape) and anchor.shape[0] == 3
    assert torch.equal(rows.measured[:, single], batch["present"][None, single].expand(3, -1, -1))
    combinations = rows.measured[:, ~single]
    for m in range(3):
        share = 1 - float(combinations[m].sum() / batch["present"][~single].sum())
        assert share == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(combinations[0], combinations[1])
    # both genes of a pair are hidden as often as chance has it
    pair = batch["present"].sum(dim=1) == 2
    assert float((rows.measured[:, pair].sum(dim=-1) == 0).float().mean()) == pytest.approx(0.09, abs=0.02)
    assert torch.all(rows.measured * (1 - rows.present) == 0)


def test_nothing_is_hidden_in_evaluation(make):
    module, batch, _ = make(p_mask=0.9)
    first, second = module(batch)[1], module(batch)[1]
    assert torch.equal(first["anchor"], module.read(batch)[1])
    assert torch.equal(first["residual"], second["residual"])
    module.train()
    assert module(batch)[1]["anchor"].shape[0] == module.n_members
    assert not torch.equal(module(batch)[1]["anchor"], module(batch)[1]["anchor"])


@pytest.mark.parametrize("p_mask", [0.0, 0.5])
def test_the_training_loss_is_the_loop(p_mask, make, float64):
    module, batch, shape = make(p_mask=p_mask)
    batch["weight"][2] = 0.0
    module.train()
    _, outputs, output = module(batch)
    per_member = []
    for m in range(module.n_members):
        total = weights = 0.0
        for b in range(len(batch["node"])):
            if not batch["trains"][b, m]:
                continue
            anchor = outputs["anchor"][m if p_mask else 0, b]
            error = batch["target"][b] - anchor - outputs["residual"][m, b]
            weight = float(batch["row_weight"][b] * batch["weight"][b])
            total += weight * sum(float(batch["gene_weight"][b, g] * error[g].detach() ** 2) for g in range(len(error)))
            weights += weight * len(error)
        per_member.append(total / weights / shape.scale)
    assert output.loss.item() == pytest.approx(np.mean(per_member), rel=1e-12)


def test_predicting_no_change_costs_about_one(make):
    module, batch, shape = make(random=False, n_rows=200)
    batch |= {name: torch.zeros_like(batch[name]) for name in ("measured_part", "expected_part", "offset")}
    batch |= {name: torch.ones_like(batch[name]) for name in ("trains", "row_weight", "gene_weight")}
    module.scale = float(batch["target"].square().mean())
    module.train()
    assert module(batch)[2].loss.item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_rows_that_fill_up_a_step_do_not_count(mode, make, float64, no_dropout):
    module, batch, _ = make(n_rows=9, **no_dropout)
    module.train(mode)
    batch["weight"][6:] = 0.0
    wild = batch | {"target": batch["target"].clone()}
    wild["target"][6:] = 1e6
    short = {name: values[:6] for name, values in batch.items()}
    wanted = module(short)[2]
    for each in (batch, wild):
        output = module(each)[2]
        assert output.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-10)
        for name, value in wanted.extra_metrics.items():
            assert output.extra_metrics[name].item() == pytest.approx(value.item(), rel=1e-10)


def test_a_step_without_any_row_of_a_member_is_finite(make):
    module, batch, _ = make()
    batch["trains"][:, 1] = 0.0
    module.train()
    output = module(batch)[2]
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert all(torch.isfinite(one.grad).all() for one in module.parameters() if one.grad is not None)
    module.eval()
    batch["held_out"] = torch.zeros_like(batch["held_out"])
    assert module(batch)[2].extra_metrics["loss_weight"] == 0
    assert torch.isfinite(module(batch)[2].loss)


@pytest.mark.parametrize("gate", [True, False])
def test_the_validation_loss_is_the_loop_under_the_best_gate(gate, make, float64, slow):
    module, batch, shape = make(gate=gate, n_rows=12)
    _, outputs, output = module(batch)
    step, anchor = outputs["residual"].detach().numpy(), outputs["anchor"][0].numpy()
    difference = batch["target"].numpy() - anchor
    total, means = slow.slow_moments(batch, difference, step, shape.scale)
    found = {name: value.item() for name, value in output.extra_metrics.items()}
    assert found.pop("loss_weight") == pytest.approx(total, rel=1e-12)
    assert found == pytest.approx(means, rel=1e-12)
    grid = np.linspace(0, 1, 100_001) if gate else np.ones(1)
    best = sum(np.min(grid**2 * means[f"square_{kind}"] - 2 * grid * means[f"product_{kind}"]) for kind in KINDS)
    assert module.validation_loss(found) == pytest.approx(best, abs=1e-8)
    assert output.loss.item() == pytest.approx(
        sum(means[f"square_{kind}"] - 2 * means[f"product_{kind}"] for kind in KINDS), rel=1e-12
    )


def test_steps_add_up_to_the_epoch(make, float64):
    """Means of the steps, weighed by loss_weight, are those of one large step."""
    module, batch, _ = make(n_rows=10)
    whole = module(batch)[2].extra_metrics
    steps = [
        module({name: values[part] for name, values in batch.items()})[2].extra_metrics
        for part in (slice(3), slice(3, 10))
    ]
    weights = [one["loss_weight"].item() for one in steps]
    for name in whole.keys() - {"loss_weight"}:
        mean = np.average([one[name].item() for one in steps], weights=weights)
        assert mean == pytest.approx(whole[name].item(), rel=1e-12)


@pytest.mark.parametrize(
    ("product", "square", "wanted"), [(0.5, 1.0, -0.25), (2.0, 1.0, -3.0), (-1.0, 1.0, 0.0), (0.0, 0.0, 0.0)]
)
def test_the_gate_of_the_validation_loss_stays_between_none_and_all(product, square, wanted, make):
    module, *_ = make()
    means = dict.fromkeys(("product_single", "square_single"), 0.0)
    assert module.validation_loss(means | {"product_combination": product, "square_combination": square}) == wanted


@pytest.mark.parametrize(("preset", "head"), [("tool", "linear"), ("tool", "mlp"), ("tool", "lowrank")])
def test_five_conditions_are_learned_by_heart(preset, head, make, no_dropout):
    """The low-rank head reaches what four patterns can say, and not less."""
    _, batch, shape = make(n_rows=5, order=2, sizes={"n_genes": 12, "n_members": 1}, d=16, rank=4, **no_dropout)
    batch |= {name: torch.zeros_like(batch[name]) for name in ("measured", "measured_part", "expected_part", "offset")}
    batch |= {name: torch.ones_like(batch[name]) for name in ("trains", "row_weight", "gene_weight")}
    batch["present"] = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    batch["node"] = torch.tensor([[1, 0], [2, 0], [3, 0], [4, 0], [5, 0]])
    target = batch["target"].double().numpy()
    basis = torch.tensor(scaled_patterns(target, None, 4)[None], dtype=torch.float32)
    shape = dataclasses.replace(shape, basis=basis, known=torch.ones_like(shape.known), scale=float((target**2).mean()))
    module, *_ = make(preset=preset, head=head, anchor="zero", d=16, rank=4, gate=False, n_rows=1, **no_dropout)
    module = AppModule(shape, module.settings)
    if head == "mlp":
        module.head.dropout.p = 0.0
    module.spread_attention(batch)
    module.train()
    size = np.linalg.svd(target, compute_uv=False)
    # 1 % of the norm is 1e-4 of the square
    floor = float(size[4] ** 2 / np.sum(size**2)) if head == "lowrank" else 0.0
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(500):
        optimizer.zero_grad()
        output = module(batch)[2]
        if head != "lowrank" and output.loss.item() < 5e-5:
            break
        output.loss.backward()
        optimizer.step()
    error = module(batch)[2].loss.item()
    assert floor - 1e-6 <= error < floor + 1e-4
