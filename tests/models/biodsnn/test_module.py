"""What the knowledge stream computes: against a slow form, under other orders and numberings, at no perturbation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from scperturb_modules.models.biodsnn import _module
from scperturb_modules.models.biodsnn._module import BioDsnnModule

# every switch occurs, most of them together with others
VARIANTS = [
    {},
    {"uncertainty": True},
    {"preset": "paper"},
    {"preset": "paper", "uncertainty": True, "sizes": {"n_networks": 3}},
    {"heads": 1, "sizes": {"n_networks": 0}},
    {"heads": 4, "sizes": {"with_tables": False}},
    {"use_go": False},
    {"use_coexpression": False, "sizes": {"n_networks": 2}},
    {"use_attention": False},
    {"use_mask": False},
    {"use_knowledge": False, "use_coexpression": False},
    {"target_marker": False, "products": False},
    {"responses": False},
    {"responses": False, "products": False, "scale_parts": False},
    {"responses": False, "products": False},
    {"skip": False},
    {"skip": False, "products": False, "use_mask": False},
    {"scale_parts": False, "coexpression_weight": 3.0},
    {"products": False, "anchor": "zero", "gate": False},
]


@pytest.mark.parametrize("seed", range(len(VARIANTS)))
def test_the_network_is_the_one_written_out(seed, make, float64, slow):
    module, batch, shape = make(seed, **VARIANTS[seed])
    answer = module.respond(module.read(batch)[0])
    assert torch.all(answer.gate == 1)
    for m in range(module.n_members):
        member = slow.member_of(module, shape, m)
        states = module.gene_states()
        np.testing.assert_allclose(states.base[m].detach(), member.base, rtol=0, atol=1e-10)
        np.testing.assert_allclose(states.nodes[m].detach(), member.nodes, rtol=0, atol=1e-10)
        for b, row in enumerate(slow.plain_rows(batch)):
            residual, log_variance = member.answer(row)
            np.testing.assert_allclose(answer.residual[m, b].detach(), residual, rtol=1e-10, atol=1e-10)
            if log_variance is None:
                assert answer.log_variance is None
            else:
                np.testing.assert_allclose(answer.log_variance[m, b].detach(), log_variance, rtol=0, atol=1e-10)


def test_what_is_encoded_is_written_out_too(make, float64, slow):
    module, batch, shape = make(3)
    rows = module.read(batch)[0]
    z, z_0, x = module.encoded(rows)
    for m in range(module.n_members):
        member = slow.member_of(module, shape, m)
        np.testing.assert_allclose(z_0[m, 0].detach(), member.unperturbed, rtol=0, atol=1e-10)
        for b, row in enumerate(slow.plain_rows(batch)):
            np.testing.assert_allclose(x[m, b].detach(), member.perturbed(row), rtol=0, atol=1e-10)
            np.testing.assert_allclose(z[m, b].detach(), member.encode(member.perturbed(row)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_of_pairs_is_the_dense_one(heads, make, float64, slow):
    module, batch, shape = make(4, heads=heads)
    found = module.attention(module.read(batch)[0]).detach().numpy()
    edges = module.encoder.mixing.edges.numpy()
    assert found.shape == (module.n_members, len(batch["node"]) + 1, len(edges))
    for m in range(module.n_members):
        member = slow.member_of(module, shape, m)
        inputs = [member.perturbed(row) for row in slow.plain_rows(batch)] + [member.base]
        for b, x in enumerate(inputs):
            dense = np.zeros((len(x), len(x)))
            dense[edges[:, 0], edges[:, 1]] = found[m, b]
            np.testing.assert_allclose(dense, member.mean_attention(x), rtol=0, atol=1e-10)


# -- no perturbation -------------------------------------------------------------------------------------------------


def nothing_of(batch):
    """The rows of a batch without any gene present: the padding stays as it is."""
    gone = {name: torch.zeros_like(batch[name]) for name in ("present", "measured", "measured_part", "expected_part")}
    return batch | gone


@pytest.mark.parametrize("variant", [{}, {"preset": "paper"}, {"responses": False}, {"use_attention": False}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_perturbation_is_no_change_at_all(variant, dtype, make):
    """With the unperturbed cell kept from an earlier call, and encoded as one more condition."""
    torch.set_default_dtype(dtype)
    try:
        module, batch, _ = make(**variant)
    finally:
        torch.set_default_dtype(torch.float32)
    nothing = nothing_of(batch)
    for b in range(len(batch["node"])):
        rows = module.read({name: values[b : b + 1] for name, values in nothing.items()})[0]
        assert torch.all(module.respond(rows).residual == 0)
        with torch.no_grad():
            residual = module.respond(rows).residual
        assert residual.dtype == dtype and residual.shape == (2, 1, 7) and torch.all(residual == 0)
    everything = module.respond(module.read(nothing)[0]).residual
    assert torch.all(everything.abs() < (1e-12 if dtype == torch.float64 else 1e-4))


def test_a_row_of_nothing_among_others_changes_none(make, float64):
    module, batch, _ = make()
    mixed = {name: torch.cat([values, nothing_of(batch)[name][:1]]) for name, values in batch.items()}
    residual = module.respond(module.read(mixed)[0]).residual
    torch.testing.assert_close(residual[:, :-1], module.respond(module.read(batch)[0]).residual, rtol=0, atol=1e-12)
    assert torch.all(residual[:, -1].abs() < 1e-14)


def test_the_tool_preset_starts_exactly_at_the_anchor(make):
    for uncertainty in (False, True):
        module, batch, _ = make(random=False, uncertainty=uncertainty)
        assert torch.all(module.respond(module.read(batch)[0]).residual == 0)
        module.train()
        assert torch.all(module(batch)[1]["residual"] == 0)


def test_without_an_anchor_it_does_not_start_at_zero(make):
    for preset in ("tool", "paper"):
        module, batch, _ = make(preset=preset, random=False, anchor="zero", gate=False)
        assert module.respond(module.read(batch)[0]).residual.abs().max() > 1e-3


# -- orders and numberings -------------------------------------------------------------------------------------------

ORDERS = [{}, {"preset": "paper"}, {"products": False, "use_attention": False}, {"responses": False, "heads": 4}]


@pytest.mark.parametrize("variant", [*ORDERS, {"use_mask": False}])
def test_conditions_together_are_the_conditions_one_by_one(variant, make, float64):
    module, batch, _ = make(n_rows=7, uncertainty=True, **variant)
    with torch.no_grad():
        together = module.respond(module.read(batch)[0])
        order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
        turned = module.respond(module.read({name: values[order] for name, values in batch.items()})[0])
        for name in ("residual", "log_variance"):
            of_all = getattr(together, name)
            torch.testing.assert_close(getattr(turned, name), of_all[:, order], rtol=0, atol=1e-12)
            for b in range(7):
                row = {key: values[b : b + 1] for key, values in batch.items()}
                alone = getattr(module.respond(module.read(row)[0]), name)
                torch.testing.assert_close(alone, of_all[:, b : b + 1], rtol=0, atol=1e-12)
    # the other path: the unperturbed cell is not kept but encoded in the same batch
    module.train(False)
    torch.testing.assert_close(module.respond(module.read(batch)[0]).residual, together.residual, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", ORDERS)
def test_the_order_of_the_genes_of_a_condition_does_not_matter(variant, make, float64):
    module, batch, _ = make(**variant)
    turned = dict(batch)
    for name in ("node", "present", "measured", "measured_part", "expected_part"):
        turned[name] = batch[name].flip(1)
    one, other = (module.respond(module.read(each)[0]).residual for each in (batch, turned))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ORDERS)
def test_padding_does_not_matter(variant, make):
    """Neither the gene that a padded place names, nor how many there are."""
    module, batch, shape = make(**variant)
    other = batch | {"node": torch.where(batch["present"] > 0, batch["node"], shape.known.shape[1] - 1)}
    expected = module.respond(module.read(batch)[0]).residual
    assert torch.equal(expected, module.respond(module.read(other)[0]).residual)
    longer = dict(batch)
    for name in ("node", "present", "measured", "measured_part", "expected_part"):
        longer[name] = torch.cat([batch[name], torch.zeros_like(batch[name])], dim=1)
    torch.testing.assert_close(expected, module.respond(module.read(longer)[0]).residual, rtol=1e-5, atol=1e-5)


PER_GENE = ("genes.weight", "positions.weight", "readout")
PER_NODE = ("features.free.weight",)


def moved_state(module, twin, names, order, axis_of):
    """The weights of a module for a twin whose genes or nodes are counted in another order."""
    own = dict(module.named_parameters())
    moved = {name: one.index_select(axis_of(one), order) if name in names else one for name, one in own.items()}
    return dict(twin.state_dict()) | {name: one.detach() for name, one in moved.items()}


@pytest.mark.parametrize("variant", [*ORDERS, {"use_mask": False}])
def test_genes_in_another_order_give_outputs_in_that_order(variant, make, float64):
    module, batch, shape = make(uncertainty=True, **variant)
    order = np.random.default_rng(1).permutation(len(shape.response_basis))
    place = np.append(np.argsort(order), -1)

    def turned(matrix):
        return None if matrix is None else sparse.csr_array(matrix.toarray()[order][:, order])

    moved = dataclasses.replace(
        shape,
        coexpression=turned(shape.coexpression),
        mask=turned(shape.mask),
        gene_of=torch.tensor(place[shape.gene_of.numpy()]),
        response_basis=shape.response_basis[order],
        residual_basis=shape.residual_basis[:, order],
        stream=None,
    )
    assert not np.array_equal(moved.gene_of, shape.gene_of)
    twin = BioDsnnModule(moved, module.settings).eval()
    state = moved_state(module, twin, PER_GENE, torch.tensor(order), lambda one: one.dim() - 2)
    twin.load_state_dict({name: one for name, one in state.items() if not name.startswith("stream.")})
    parts = ("measured_part", "expected_part", "offset", "target")
    renamed = batch | {name: batch[name][..., order] for name in parts}
    one, other = module.respond(module.read(batch)[0]), twin.respond(twin.read(renamed)[0])
    torch.testing.assert_close(other.residual, one.residual[..., order], rtol=0, atol=1e-10)
    torch.testing.assert_close(other.log_variance, one.log_variance[..., order], rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", ORDERS)
def test_the_numbering_of_the_nodes_does_not_matter(variant, make, float64):
    module, batch, shape = make(sizes={"n_networks": 2}, **variant)
    order = np.random.default_rng(1).permutation(shape.known.shape[1])
    moved = dataclasses.replace(
        shape,
        networks=tuple(sparse.csr_array(one.toarray()[order][:, order]) for one in shape.networks),
        tables={name: (values[order], present[order]) for name, (values, present) in shape.tables.items()},
        known=shape.known[:, order],
        gene_of=shape.gene_of[order],
    )
    twin = BioDsnnModule(moved, module.settings).eval()
    twin.load_state_dict(moved_state(module, twin, PER_NODE, torch.tensor(order), lambda one: 1))
    renamed = batch | {"node": torch.tensor(np.argsort(order))[batch["node"]]}
    one, other = module.respond(module.read(batch)[0]), twin.respond(twin.read(renamed)[0])
    torch.testing.assert_close(one.residual, other.residual, rtol=0, atol=1e-10)


# -- what reaches what -----------------------------------------------------------------------------------------------


def test_co_expression_reaches_every_condition_of_a_batch(make, float64):
    """What a gene hears from its partner changes that gene alike, in whatever place of the batch a condition is."""
    module, batch, shape = make(n_rows=9)
    gene = int(np.flatnonzero(np.diff(shape.coexpression.indptr) > 1)[0])
    row = slice(shape.coexpression.indptr[gene], shape.coexpression.indptr[gene + 1])
    partner = int(next(j for j in shape.coexpression.indices[row] if j != gene))
    rows = module.read(batch)[0]
    before = module.encoded(rows)[2].detach()
    with torch.no_grad():
        module.positions.weight[:, partner] += 1.0
    moved = module.encoded(rows)[2].detach() - before
    assert moved[:, 0, gene].abs().max() > 1e-3
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-12)
    heard = np.flatnonzero(shape.coexpression.toarray()[:, partner])
    assert set(np.flatnonzero(moved.abs().amax(dim=(0, 1, 3)) > 1e-9)) <= set(heard)


def test_only_the_perturbed_measured_genes_are_marked(make, float64):
    module, batch, shape = make(responses=False)
    rows = module.read(batch)[0]
    x = module.encoded(rows)[2].detach()
    with torch.no_grad():
        module.marker += 1.0
    moved = (module.encoded(rows)[2].detach() - x).abs().sum(dim=-1) > 0.5
    for b, nodes in enumerate(batch["node"]):
        genes = {int(shape.gene_of[node]) for node, here in zip(nodes, batch["present"][b], strict=True) if here}
        for m in range(module.n_members):
            assert set(np.flatnonzero(moved[m, b])) == genes - {-1}
    assert (shape.gene_of[batch["node"][batch["present"] > 0]] == -1).any(), "one gene at least is not measured"


def test_a_network_passes_its_neighbours_on(make, float64):
    module, batch, shape = make()
    changed = []
    for node in range(shape.known.shape[1]):
        before = module.gene_states().nodes.detach()
        with torch.no_grad():
            module.features.linear.bias.zero_()
            module.features.free.weight[:, node] += 1.0
        moved = (module.gene_states().nodes.detach() - before).abs().sum(dim=-1)
        changed.append(moved)
    matrix = shape.networks[0].toarray()
    for node, moved in enumerate(changed[1:], start=1):
        for m in range(module.n_members):
            expected = set(np.flatnonzero(matrix[:, node])) if shape.known[m, node] else set()
            assert set(np.flatnonzero(moved[m] > 1e-9)) == expected


def test_a_pair_says_more_than_its_genes(make):
    """Products of features are 0 for one gene and reach the response to two."""
    module, batch, _ = make(order=2, n_rows=2, responses=False, scale_parts=False)
    with torch.no_grad():
        full = module.respond(module.read(batch)[0]).residual
        module.condition.products.weight.zero_()
        module.forget()
        without = module.respond(module.read(batch)[0]).residual
    torch.testing.assert_close(full[:, 0], without[:, 0], rtol=0, atol=1e-6)
    assert not torch.allclose(full[:, 1], without[:, 1])


def test_many_conditions_are_encoded_some_at_a_time(make, float64, no_dropout, monkeypatch):
    """The same numbers and gradients, with and without what is kept."""
    module, batch, _ = make(n_rows=7, **no_dropout)
    assert module.rows_at_once == 32
    sizes, together = [], BioDsnnModule._encode_together
    monkeypatch.setattr(
        BioDsnnModule, "_encode_together", lambda self, x: sizes.append(x.shape[1]) or together(self, x)
    )

    def answered():
        sizes.clear()
        module.train()
        module.zero_grad()
        module(batch)[2].loss.backward()
        module.eval()
        grads = [one.grad.clone() for one in module.parameters() if one.grad is not None]
        return [residual_of(module, batch), *grads]

    whole = answered()
    assert sizes == [8, 1, 7]
    # room for three conditions of two members, seven genes and four numbers
    monkeypatch.setattr(_module, "MOST_BYTES", 3 * 2 * 7 * 4 * _module.BYTES_PER_STATE)
    parts = answered()
    assert sizes[:3] == [3, 3, 2] and module.rows_at_once == 3
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    monkeypatch.setattr(_module, "MOST_BYTES", 1)
    assert module.rows_at_once == 1


def test_what_a_measured_single_says_is_read_by_pairs_only(make, float64):
    """A measured gene of a condition of one gene has no token left: the anchor has what it says."""
    module, batch, _ = make(n_rows=1, order=1, target_marker=False, scale_parts=False)
    batch |= {"measured": batch["present"].clone(), "measured_part": torch.zeros_like(batch["measured_part"])}
    assert module.respond(module.read(batch)[0]).residual.abs().max() < 1e-12
    hidden = torch.ones_like(batch["node"], dtype=torch.bool)
    assert module.respond(module.read(batch, masked=hidden)[0]).residual.abs().max() > 1e-3


# -- what is kept ----------------------------------------------------------------------------------------------------


def residual_of(module, batch):
    with torch.no_grad():
        return module.respond(module.read(batch)[0]).residual


def test_kept_states_are_forgotten_when_weights_change(make):
    module, batch, _ = make()
    first = residual_of(module, batch)
    state = {name: values.clone() for name, values in module.state_dict().items()}
    module.train()
    with torch.no_grad():
        module.genes.weight.mul_(2)
    module.eval()
    second = residual_of(module, batch)
    assert not torch.equal(first, second)
    module.load_state_dict(state)
    assert torch.equal(residual_of(module, batch), first)


def test_the_unperturbed_cell_is_encoded_once_in_evaluation(make, monkeypatch):
    module, batch, _ = make()
    sizes = []
    encode = BioDsnnModule.encode
    monkeypatch.setattr(BioDsnnModule, "encode", lambda self, x: sizes.append(x.shape[1]) or encode(self, x))
    for _ in range(3):
        residual_of(module, batch)
    assert sizes == [1, 6, 6, 6]
    sizes.clear()
    module.respond(module.read(batch)[0])
    assert sizes == [7], "with gradients it is one more condition"


# -- members ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [{"uncertainty": True}, {"preset": "paper"}, {"use_attention": False}])
def test_each_member_alone_says_what_it_says_among_others(variant, make, float64):
    module, batch, _ = make(sizes={"n_members": 3}, **variant)
    answer = module.respond(module.read(batch)[0])
    for m in range(3):
        alone = module.subset(slice(m, m + 1))
        found = alone.respond(alone.read(batch)[0])
        torch.testing.assert_close(found.residual[0], answer.residual[m], rtol=0, atol=1e-12)
        if answer.log_variance is not None:
            torch.testing.assert_close(found.log_variance[0], answer.log_variance[m], rtol=0, atol=1e-12)


def test_a_subset_keeps_the_data_stream_whole(make):
    module, _, _ = make(sizes={"n_members": 3})
    twin = module.subset(slice(0, 2))
    for name, value in module.stream.state_dict().items():
        assert torch.equal(twin.stream.state_dict()[name], value), name


def test_a_member_learns_from_its_own_rows_only(make, no_dropout):
    module, batch, _ = make(**no_dropout)
    module.train()
    batch["trains"][:, 0] = 0.0
    module(batch)[2].loss.backward()
    named = {name: one.grad for name, one in module.named_parameters() if not name.startswith("stream.")}
    assert all(grad is None or torch.all(grad[0] == 0) for grad in named.values())
    assert sum(grad is not None and bool(grad[1].abs().max() > 0) for grad in named.values()) > 20


@pytest.mark.parametrize("variant", [{}, {"preset": "paper", "heads": 1, "focus": 0.5}])
def test_gradients_against_central_differences(variant, make, float64, no_dropout):
    module, batch, _ = make(n_rows=3, sizes={"n_nodes": 3, "n_genes": 3}, **{**variant, **no_dropout, "use_vae": False})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    module.train()
    wanted = ("encoder.mixing.query", "of_networks", "positions", "readout", "fuse.out.weight", "of_parts")
    chosen = {name: one for name, one in module.named_parameters() if name.startswith(wanted)}
    assert {"encoder.mixing.query.weight", "positions.weight", "fuse.out.weight"} <= chosen.keys()

    def loss(*values):
        return torch.func.functional_call(module, dict(zip(chosen, values, strict=True)), (batch,))[2].loss

    values = [one.detach().clone().requires_grad_() for one in chosen.values()]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, rtol=1e-4, atol=1e-6, fast_mode=True)
