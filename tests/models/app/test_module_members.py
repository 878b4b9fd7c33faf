"""Members of the ensemble beside each other: what one of them does must not depend on the others."""

from __future__ import annotations

import pytest
import torch

from scperturb_modules.models.app._module import AppModule

VARIANTS = [
    {},
    {"preset": "paper"},
    {"embedding": "random", "attention": "static"},
    {"embedding": "identity", "score": "additive+bilinear", "heads": 2},
    {"head": "mlp", "sizes": {"n_relations": 3, "n_contexts": 2, "n_members": 4}},
    {"head": "linear", "context": "mean+count", "fuse": "mean", "sizes": {"n_relations": 2, "n_members": 4}},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_member_alone_says_what_it_says_among_others(variant, make, float64):
    module, batch, _ = make(**variant)
    with torch.no_grad():  # embeddings of all members are kept, and must not reach the copies
        together = module.respond(module.read(batch)[0])[:3]
        for m in range(module.n_members):
            alone = module.subset(slice(m, m + 1))
            for one, all_of_them in zip(alone.respond(alone.read(batch)[0])[:3], together, strict=True):
                torch.testing.assert_close(one[0], all_of_them[m], rtol=0, atol=1e-10)


def test_a_subset_of_several_members(make, float64):
    module, batch, _ = make(sizes={"n_members": 4})
    some = module.subset(slice(1, 3))
    one, other = some.respond(some.read(batch)[0]), module.respond(module.read(batch)[0])
    assert some.n_members == 2
    torch.testing.assert_close(one.residual, other.residual[1:3], rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_subset_keeps_buffers_needs_no_gradient_and_leaves_the_module(variant, make):
    module, batch, _ = make(**variant)
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    twin = module.subset(slice(0, 1))
    assert not twin.training and module.training
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert twin.state_dict().keys() == before.keys()
    for name, value in dict(twin.named_buffers()).items():
        per_member = name.rpartition(".")[2] in AppModule.PER_MEMBER_BUFFERS
        assert torch.equal(value, before[name][:1] if per_member else before[name])
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_a_member_are_its_own(variant, make):
    """The sum of losses over members is that of each: no gradient crosses."""
    module, batch, _ = make(**variant)
    module.respond(module.read(batch)[0]).residual[0].square().sum().backward()
    reached = 0
    for name, parameter in module.named_parameters():
        if parameter.grad is None:
            continue
        assert torch.all(parameter.grad[1:] == 0), name
        reached += bool(parameter.grad[0].abs().sum() > 0)
    assert reached > 3


def test_a_member_learns_from_its_own_rows_only(make):
    module, batch, _ = make()
    module.train()
    batch["trains"] = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)

    def gradients(changed):
        module.zero_grad()
        torch.manual_seed(3)
        module(batch | {"target": changed})[2].loss.backward()
        return {
            name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None
        }

    other = batch["target"].clone()
    other[3:] += 5.0  # rows of the second member
    one, two = gradients(batch["target"]), gradients(other)
    assert all(torch.equal(one[name][0], two[name][0]) for name in one)
    assert any(not torch.equal(one[name][1], two[name][1]) for name in one)


def test_first_weights_are_drawn_per_member(make):
    module, *_ = make(random=False)
    for name, parameter in module.named_parameters():
        if parameter.abs().sum() > 0:
            assert not torch.equal(parameter[0], parameter[1]), name


def test_kept_embeddings_are_forgotten_when_weights_change(make):
    module, batch, _ = make()
    rows, _ = module.read(batch)

    def residual():
        with torch.no_grad():
            return module.respond(rows).residual

    first = residual()
    assert torch.equal(first, residual())
    state = {name: value.clone() for name, value in module.state_dict().items()}
    module.train()
    with torch.no_grad():
        for parameter in module.nodes.parameters():
            parameter.mul_(1.5)
    module.eval()
    changed = residual()
    assert not torch.allclose(first, changed)
    module.load_state_dict(state)
    assert torch.equal(first, residual())


def test_embeddings_are_kept_in_evaluation_only(make):
    module, batch, _ = make()
    with torch.no_grad():
        assert module.gene_states().h is module.gene_states().h
    assert module.gene_states().h is not module.gene_states().h
    assert module.gene_states().h.requires_grad
    module.train()
    with torch.no_grad():
        assert module.gene_states().h is not module.gene_states().h


def test_the_output_without_a_perturbation_is_kept_in_evaluation_only(make):
    module, batch, _ = make()
    rows, _ = module.read(batch)
    asked = []
    module.head.register_forward_hook(lambda *_: asked.append(1))

    def n_asked(times=2):
        asked.clear()
        for _ in range(times):
            module.respond(rows)
        return len(asked)

    with torch.no_grad():
        assert n_asked() == 3
        assert n_asked() == 2
    assert n_asked() == 4, "gradients go through it"
    module.train()
    with torch.no_grad():
        assert n_asked() == 4
        module.eval()
        assert n_asked() == 3, "weights may have changed"
