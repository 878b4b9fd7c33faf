"""What the network computes: against a slow form, under other orders and numberings, and member by member."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy import sparse

from scperturb_modules.models.app._module import AppModule
from scperturb_modules.models.app._settings import settings_of

# every value of every choice occurs, most of them together with several others
VARIANTS = [
    {},
    {"sizes": {"share": 0.0}},
    {"sizes": {"n_relations": 0}},
    {"sizes": {"n_relations": 3, "n_contexts": 3}},
    {"preset": "paper"},
    {"preset": "paper", "sizes": {"n_relations": 3}, "agg": "sum", "combine": "add"},
    {"preset": "paper", "attention": "context"},
    {"preset": "paper", "attention": "static", "heads": 2},
    {"preset": "paper", "head": "mlp", "center_control": True, "n_layers": 0},
    {"preset": "paper", "context": "sum", "score": "bilinear", "pool": "connected"},
    {"preset": "paper", "features": ("learned", "prior"), "fuse": "gate", "activation": "leaky_relu"},
    {"score": "additive", "heads": 2, "agg": "max"},
    {"score": "additive+bilinear", "heads": 2, "fuse": "mean", "sizes": {"n_relations": 3}},
    {"score": "bilinear", "heads": 4, "context": "mean+count", "final_activation": False},
    {"attention": "context", "context": "mean+count", "head": "linear", "fuse": "concat", "sizes": {"n_relations": 3}},
    {"attention": "static", "context": "sum", "responses": False, "features": "prior"},
    {"context": "mean", "scale_parts": True, "inner_gate": False, "combine": "add"},
    {"embedding": "random", "pool": "connected", "covariate": "profile", "sizes": {"n_contexts": 2}},
    {"embedding": "identity", "context_skip": False, "head": "mlp", "anchor": "zero"},
    {"center_control": False, "covariate": "none", "sizes": {"n_contexts": 3}, "n_layers": 3, "agg": "sum"},
]


@pytest.mark.parametrize("seed", range(len(VARIANTS)))
def test_the_network_is_the_one_written_out(seed, make, float64, slow, slow_graph):
    module, batch, shape = make(seed, **VARIANTS[seed])
    rows, anchor = module.read(batch)
    answer = module.respond(rows)
    for m in range(module.n_members):
        arrays = slow.arrays_of_member(module, m, AppModule.PER_MEMBER_BUFFERS)
        member = slow.SlowMember(arrays, shape, module.settings, slow_graph, m)
        np.testing.assert_allclose(module.gene_states().h[m].detach(), member.h, rtol=0, atol=1e-10)
        for b, row in enumerate(slow.plain_rows(batch)):
            residual, gate, alpha = member.answer(row)
            np.testing.assert_allclose(answer.residual[m, b].detach(), residual, rtol=1e-10, atol=1e-10)
            assert answer.gate[m, b].item() == pytest.approx(gate, abs=1e-12)
            if alpha is None:
                assert answer.attention is None
            else:
                np.testing.assert_allclose(answer.attention[m, b].detach(), alpha, rtol=0, atol=1e-10)
            parts = sum(member.part(row, k) for k in range(len(row["nodes"])))
            np.testing.assert_allclose(anchor[0, b], parts + batch["offset"][b].numpy(), rtol=0, atol=1e-12)


ORDERS = [{}, {"preset": "paper"}, {"score": "additive", "context": "mean+count"}, {"embedding": "identity"}]


@pytest.mark.parametrize("variant", ORDERS)
def test_the_order_of_the_genes_does_not_matter(variant, make, float64):
    module, batch, _ = make(**variant)
    turned = dict(batch)
    for name in ("node", "present", "measured", "measured_part", "expected_part"):
        turned[name] = batch[name].flip(1)
    one, other = (module.respond(module.read(each)[0]) for each in (batch, turned))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ORDERS)
def test_padding_does_not_matter(variant, make):
    """Neither the gene that a padded place names, nor how many there are."""
    module, batch, shape = make(**variant)
    other = batch | {"node": torch.where(batch["present"] > 0, batch["node"], len(shape.isolated) - 1)}
    expected = module.respond(module.read(batch)[0])[:3]
    for a, b in zip(expected, module.respond(module.read(other)[0])[:3], strict=True):
        assert torch.equal(a, b)
    longer = dict(batch)
    for name in ("node", "present", "measured", "measured_part", "expected_part"):
        longer[name] = torch.cat([batch[name], torch.zeros_like(batch[name])], dim=1)
    for a, b in zip(expected, module.respond(module.read(longer)[0])[:3], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", [*ORDERS, {"embedding": "random"}, {"sizes": {"n_relations": 3}, "agg": "max"}])
def test_the_numbering_of_the_nodes_does_not_matter(variant, make, float64):
    module, batch, shape = make(**variant)
    order = np.random.default_rng(1).permutation(len(shape.isolated))
    moved = dataclasses.replace(
        shape,
        adjacencies=tuple(sparse.csr_array(one.toarray()[order][:, order]) for one in shape.adjacencies),
        tables={name: (values[order], present[order]) for name, (values, present) in shape.tables.items()},
        known=shape.known[:, order],
        outside=shape.outside[order],
        isolated=shape.isolated[order],
    )
    twin = AppModule(moved, module.settings).eval()
    per_node = ("nodes.features.free.weight", "nodes.free.weight", "nodes.table")
    own = dict(module.named_parameters()) | {"nodes.table": module.state_dict().get("nodes.table")}
    state = {name: value for name, value in own.items() if value is not None}
    moved_state = {name: value[:, order] if name in per_node else value for name, value in state.items()}
    twin.load_state_dict(twin.state_dict() | moved_state)
    renamed = batch | {"node": torch.tensor(np.argsort(order))[batch["node"]]}
    one, other = module.respond(module.read(batch)[0]), twin.respond(twin.read(renamed)[0])
    torch.testing.assert_close(one.residual, other.residual, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.gate, other.gate, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.attention[..., order], other.attention, rtol=0, atol=1e-10)


@pytest.mark.parametrize("agg", ["mean", "max"])
@pytest.mark.parametrize(
    "sizes", [{"share": 0.0}, {"n_relations": 0}, {"n_nodes": 1}, {"n_relations": 2, "share": 0.05}]
)
def test_sparse_graphs_give_finite_answers_and_gradients(sizes, agg, make):
    module, batch, _ = make(sizes=sizes, agg=agg)
    module.train()
    _, _, output = module(batch)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    for parameter in module.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@pytest.mark.parametrize("variant", [{"preset": "paper"}, {"score": "additive+bilinear", "context": "mean"}])
def test_gradients_against_central_differences(variant, make, float64, no_dropout):
    module, batch, _ = make(n_rows=4, sizes={"n_nodes": 5, "n_genes": 3}, **no_dropout, **variant)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.3)
    module.train()
    wanted = ("attention.", "nodes.layers", "head.", "condition.token.weight")
    chosen = {name: one for name, one in module.named_parameters() if any(part in name for part in wanted)}
    assert {"attention.v", "attention.of_context.weight", "attention.of_gene.weight"} <= chosen.keys()

    def loss(*values):
        return torch.func.functional_call(module, dict(zip(chosen, values, strict=True)), (batch,))[2].loss

    values = [one.detach().clone().requires_grad_() for one in chosen.values()]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("n_nodes", "n_genes", "d", "n_layers"),
    [
        (2000, 2000, 128, 2),
        (50, 30, 8, 0),
        (50, 30, 8, 1),
        (7, 90, 16, 3),
        (1, 1, 1, 2),
        (120, 40, 64, 4),
        (9, 5, 2, 1),
    ],
)
def test_the_published_network_has_the_published_number_of_parameters(n_nodes, n_genes, d, n_layers, make):
    sizes = {"n_nodes": n_nodes, "n_genes": n_genes, "n_members": 1, "share": 0.01}
    module, *_ = make(preset="paper", n_rows=1, random=False, sizes=sizes, d=d, n_layers=n_layers, rank=1)
    count = sum(parameter.numel() for parameter in module.parameters())
    a = d
    formula = n_nodes * d + n_layers * (2 * d * d + d) + (2 * d * a + 2 * a) + (d * n_genes + n_genes)
    assert count == formula
    if n_nodes == 2000:
        assert count == 612_816


@pytest.mark.parametrize("head", ["lowrank", "linear", "mlp"])
def test_the_tool_preset_starts_exactly_at_the_anchor(head, make):
    """For every regime: whatever is measured, hidden or isolated, before and after the attention is spread."""
    module, batch, _ = make(random=False, head=head, sizes={"n_contexts": 2})
    for _ in range(2):
        for hidden in itertools.product([False, True], repeat=3):
            rows, _ = module.read(batch, masked=torch.tensor(hidden).expand(len(batch["node"]), 3))
            answer = module.respond(rows)
            assert torch.all(answer.residual == 0)
            torch.testing.assert_close(answer.gate, torch.full_like(answer.gate, 0.7310586))
        module.spread_attention(batch)
    module.train()
    assert torch.all(module(batch)[1]["residual"] == 0)


def test_without_an_anchor_the_network_does_not_start_at_zero(make):
    for head in ("linear", "mlp"):
        module, batch, _ = make(random=False, anchor="zero", head=head)
        assert module.respond(module.read(batch)[0]).residual.abs().min() > 0


def test_static_attention_without_skip_is_one_prediction_for_all(make):
    module, batch, _ = make(preset="paper", attention="static", n_rows=37)
    answer = module.respond(module.read(batch)[0])
    assert torch.all(answer.residual == answer.residual[:, :1])
    assert torch.all(answer.attention == answer.attention[:, :1])
    skipping, batch, _ = make(preset="paper", attention="static", context_skip=True)
    residual = skipping.respond(skipping.read(batch)[0]).residual
    assert not torch.allclose(residual[:, :1], residual[:, 1:2])


def test_products_of_one_gene_are_zero_and_those_of_two_reach_the_response(make):
    """The response to a pair is more than what sums of single genes can say."""
    module, batch, _ = make(order=2, n_rows=2, attention="context", scale_parts=False)
    with torch.no_grad():
        full = module.respond(module.read(batch)[0]).residual
        module.head.coordinates.weight[:, -128:] = 0
        without = module.respond(module.read(batch)[0]).residual
    assert torch.equal(full[:, 0], without[:, 0])
    assert not torch.allclose(full[:, 1], without[:, 1])


def test_settings_of_the_published_form_have_no_part_of_the_tool(make):
    module, *_ = make(preset="paper", random=False)
    names = {name.partition(".")[0] for name, _ in module.named_parameters()}
    assert names == {"nodes", "attention", "head"}
    assert settings_of("paper", {}).fuse == "concat"
