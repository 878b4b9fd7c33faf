"""What the network over programs computes: against a slow form, under other orders, at no perturbation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models.scbig._inputs import program_basis

VARIANTS = [{}, {"heads": 1, "order": 2}, {"use_tokens": False}, {"heads": 4, "sizes": {"n_programs": 4}}]
OF_GENES = ("node", "present", "measured", "measured_part", "expected_part")


def residual_of(module, batch):
    with torch.no_grad():
        return module.respond(module.read(batch)[0]).residual


@pytest.mark.parametrize("seed", range(len(VARIANTS)))
def test_the_network_is_the_one_written_out(seed, make, float64, slow):
    module, batch, shape = make(seed, **VARIANTS[seed])
    answer = module.respond(module.read(batch)[0])
    assert torch.all(answer.gate == 1) and answer.residual.shape == (3, 6, 9)
    for m in range(3):
        member = slow.member_of(module, shape, m)
        for b, row in enumerate(slow.plain_rows(batch)):
            np.testing.assert_allclose(answer.residual[m, b].detach(), member.answer(row), rtol=1e-9, atol=1e-9)


def test_the_part_of_the_programs_is_the_dense_one(make, float64, slow):
    """Genes hear the token of their own program alone: readouts as one (G, K d) matrix with blocks of 0."""
    module, batch, shape = make(5)
    rows = module.read(batch)[0]
    tokens = module.condition(rows, module.features(3))
    unmeasured = (tokens * (1 - rows.measured)[..., None]).sum(dim=2)
    said = torch.cat([unmeasured, module.condition.of_pairs(module.condition.multiplied(tokens))], dim=-1)
    found = module._of_programs(rows, said).detach().numpy()
    for m in range(3):
        member = slow.member_of(module, shape, m)
        readout = np.zeros((9, 3, 4))
        readout[np.arange(9), shape.program.numpy()] = member.arrays["readout"]
        for b, row in enumerate(slow.plain_rows(batch)):
            moved = member.encode(member.perturbed(row)) - member.encode(member.arrays["programs.weight"])
            np.testing.assert_allclose(found[m, b], readout.reshape(9, -1) @ moved.ravel(), rtol=0, atol=1e-9)


def test_it_starts_exactly_at_the_anchor(make):
    for settings in ({}, {"use_tokens": False}):
        module, batch, _ = make(random=False, **settings)
        assert torch.all(residual_of(module, batch) == 0)
        module.train()
        assert torch.all(module(batch)[1]["residual"] == 0)


def nothing_of(batch):
    """The rows of a batch without any gene present: the padding stays as it is."""
    return batch | {name: torch.zeros_like(batch[name]) for name in ("present", *OF_GENES[2:])}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [{}, {"use_tokens": False}, {"heads": 1}])
def test_no_perturbation_is_exactly_no_change(settings, dtype, make):
    torch.set_default_dtype(dtype)
    try:
        module, batch, _ = make(**settings)
    finally:
        torch.set_default_dtype(torch.float32)
    for b in range(len(batch["node"])):
        row = {name: values[b : b + 1] for name, values in nothing_of(batch).items()}
        assert torch.all(residual_of(module, row) == 0)


def test_a_and_b_is_b_and_a_to_the_bit(make):
    module, batch, _ = make(order=2)
    turned = batch | {name: batch[name].flip(1) for name in OF_GENES}
    assert torch.equal(residual_of(module, turned), residual_of(module, batch))


def test_padding_does_not_matter(make):
    """Neither the gene that a padded place names, nor how many there are, nor where they are."""
    module, batch, _ = make()
    expected = residual_of(module, batch)
    other = batch | {"node": torch.where(batch["present"] > 0, batch["node"], 7)}
    assert torch.equal(residual_of(module, other), expected)
    longer = batch | {name: torch.cat([torch.zeros_like(batch[name]), batch[name]], dim=1) for name in OF_GENES}
    torch.testing.assert_close(residual_of(module, longer), expected, rtol=1e-4, atol=1e-4)


def test_rows_together_are_the_rows_one_by_one(make, float64):
    module, batch, _ = make(n_rows=7)
    together = residual_of(module, batch)
    for b in range(7):
        row = {name: values[b : b + 1] for name, values in batch.items()}
        torch.testing.assert_close(residual_of(module, row), together[:, b : b + 1], rtol=0, atol=1e-10)


def test_members_know_nothing_of_each_other(make):
    module, batch, _ = make(generate=True)
    expected = residual_of(module, batch)
    part = module.subset(slice(1, 3))
    assert part.n_members == 2 and torch.equal(residual_of(part, batch), expected[1:])
    shared = dict(part.named_parameters())
    for name, weight in module.generator.named_parameters():
        assert torch.equal(shared[f"generator.{name}"], weight), "cells have one generator for all members"
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if not name.startswith("generator."):
                weight[0] += 1
    changed = residual_of(module, batch)
    assert torch.equal(changed[1:], expected[1:]) and not torch.allclose(changed[0], expected[0])


def test_a_member_has_gradients_of_its_own_rows_only(make):
    module, batch, _ = make(p_mask=0.0, dropout=0.0, id_dropout=0.0, prior_dropout=0.0)
    module.train()
    batch["trains"] = torch.tensor([1.0, 0.0, 1.0]).expand(6, 3)
    module(batch)[2].loss.backward()
    for name, weight in module.named_parameters():
        assert torch.all(weight.grad[1] == 0), name
        # some biases cancel against the unperturbed cell
        assert torch.any(weight.grad[0] != 0) or name.endswith("bias"), name


def test_what_a_gene_does_to_itself_is_said_of_unmeasured_targets_only(make):
    module, batch, shape = make(random=False)
    with torch.no_grad():
        module.of_target[:] = torch.tensor([2.0, 3.0])
    found = residual_of(module, batch)
    expected = torch.zeros_like(found)
    for b, k in batch["present"].nonzero().tolist():
        gene = int(shape.gene_of[batch["node"][b, k]])
        if gene >= 0 and not batch["measured"][b, k]:
            expected[:, b, gene] += 2 + 3 * shape.control[gene]
    torch.testing.assert_close(found, expected)
    assert expected.any()


def test_patterns_of_responses_are_within_programs():
    rng = np.random.default_rng(0)
    program, responses = np.array([0, 1, 0, 2, 1, 0]), rng.normal(size=(5, 6))
    basis = program_basis(responses, program, rank=6).numpy().reshape(6, 3, 2)
    for k in range(3):
        own = program == k
        assert np.all(basis[~own, k] == 0)
        found = basis[own, k]
        n = min(own.sum(), 2)
        assert np.all(found[:, n:] == 0), "a program of one gene has one pattern"
        _, size, vectors = np.linalg.svd(responses[:, own], full_matrices=False)
        gram = (vectors[:n].T * size[:n] ** 2 / 5) @ vectors[:n]
        np.testing.assert_allclose(found @ found.T, gram, atol=1e-5)
    assert program_basis(responses, program, rank=1).shape == (6, 3), "one of each program at least"
