from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn.attention import SDPBackend, sdpa_kernel

from scperturb_modules.nn import _masked_attention, _permitted
from scperturb_modules.nn._masked_attention import MaskedAttention, MaskedEncoderLayer, MemberNorm, with_diagonal
from scperturb_modules.nn._permitted import DensePairs, EdgePairs, TiledPairs

M, K, D = 2, 3, 6
METHODS = ("auto", "sdpa", "buckets", "edges")


def pathways(rng, n_genes, n_pathways, size):
    """Genes that share one of a few pathways; no diagonal."""
    mask = np.zeros((n_genes, n_genes), dtype=bool)
    for _ in range(n_pathways):
        members = rng.choice(n_genes, size, replace=False)
        mask[np.ix_(members, members)] = True
    return without_diagonal(mask)


def without_diagonal(mask):
    mask = mask.copy()
    np.fill_diagonal(mask, False)
    return mask


def masks():
    rng = np.random.default_rng(0)
    fallback = pathways(rng, 30, 3, 6)
    fallback[0] = rng.random(30) < 0.3  # gene 0 hears genes that do not hear it
    fallback[:, 1] |= rng.random(30) < 0.3  # gene 1 is heard by genes that it does not hear
    one_way = np.zeros((5, 5), dtype=bool)
    one_way[3, 1] = True
    return {
        "one gene": np.zeros((1, 1), dtype=bool),
        "no pair": np.zeros((6, 6), dtype=bool),
        "one pair, one way": one_way,
        "all pairs": without_diagonal(np.ones((40, 40), dtype=bool)),
        "pathways": pathways(rng, 150, 6, 12),
        "one large pathway": pathways(rng, 120, 1, 90) | pathways(rng, 120, 3, 3),
        "directed fallback": without_diagonal(fallback),
        "random": without_diagonal(rng.random((50, 50)) < 0.1),
        "dense random": without_diagonal(rng.random((70, 70)) < 0.8),
    }


MASKS = masks()
EACH_MASK = pytest.mark.parametrize("name", MASKS)


def layer_of(mask, *, method="auto", heads=2, width=D):
    layer = MaskedAttention(M, width, None if mask is None else sparse.csr_array(mask), heads=heads, method=method)
    return drawn(layer)


def drawn(layer):
    """In evaluation, every parameter away from what it starts at."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer.eval()


def dense(layer, x, mask):
    """All pairs with -inf on those that are not permitted, a member and a head at a time; output and weights."""
    allowed = torch.tensor(mask) | torch.eye(len(mask), dtype=torch.bool)
    width = x.shape[-1] // layer.heads
    outs, weights = [], []
    for m in range(len(x)):
        q, k, v = (x[m] @ one.weight[m] + one.bias[m] for one in (layer.query, layer.key, layer.value))
        parts = [slice(head * width, (head + 1) * width) for head in range(layer.heads)]
        scores = [q[..., part] @ k[..., part].transpose(1, 2) / width**0.5 for part in parts]
        soft = [one.masked_fill(~allowed, -torch.inf).softmax(dim=-1) for one in scores]
        joined = torch.cat([one @ v[..., part] for one, part in zip(soft, parts, strict=True)], dim=-1)
        outs.append(joined @ layer.out.weight[m] + layer.out.bias[m])
        weights.append(torch.stack(soft).mean(dim=0))
    return torch.stack(outs), torch.stack(weights)


def states(n_genes, *, n_conditions=K):
    return torch.randn(M, n_conditions, n_genes, D, requires_grad=True)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@EACH_MASK
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_values_and_gradients_are_those_of_dense_attention(name, method, heads, float64):
    mask = MASKS[name]
    layer, x = layer_of(mask, method=method, heads=heads), states(len(mask))
    fast, (slow, _) = layer(x), dense(layer, x, mask)
    close(fast, slow)
    weight, inputs = torch.randn_like(fast) / fast.numel() ** 0.5, [x, *layer.parameters()]
    for one, other in zip(
        torch.autograd.grad(fast, inputs, weight), torch.autograd.grad(slow, inputs, weight), strict=True
    ):
        close(one, other)


@EACH_MASK
def test_weights_are_those_of_dense_attention_and_sum_to_one(name, float64):
    mask = MASKS[name]
    layer, x = layer_of(mask), states(len(mask))
    weights, edges = layer.weights(x), layer.edges
    pairs = np.argwhere(mask | np.eye(len(mask), dtype=bool))
    np.testing.assert_array_equal(edges, pairs)
    close(weights, dense(layer, x, mask)[1][:, :, edges[:, 0], edges[:, 1]])
    total = torch.zeros(M, K, len(mask)).index_add(2, edges[:, 0], weights)
    close(total, torch.ones_like(total))


@EACH_MASK
@pytest.mark.parametrize("method", METHODS)
def test_every_row_has_a_key_and_nothing_is_nan(name, method):
    mask = MASKS[name]
    layer, x = layer_of(mask, method=method).train(), states(len(mask))
    out = layer(100 * x)  # scores in the thousands: an exponential without its maximum taken off would be infinite
    out.sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_a_gene_without_partner_is_two_products(method, float64):
    mask = MASKS["pathways"]
    alone = ~(mask.any(axis=0) | mask.any(axis=1))
    assert 0 < alone.sum() < len(mask)
    layer, x = layer_of(mask, method=method), states(len(mask))
    close(layer(x)[:, :, alone], layer.out(layer.value(x))[:, :, alone])
    assert not torch.allclose(layer(x)[:, :, ~alone], layer.out(layer.value(x))[:, :, ~alone])
    empty = layer_of(MASKS["no pair"], method=method)
    x = states(6)
    close(empty(x), empty.out(empty.value(x)))


@pytest.mark.parametrize("diagonal", [0, 1])
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array, sparse.csc_array])
def test_the_diagonal_is_permitted_whatever_the_mask_says(form, diagonal):
    """Stored zeros are no pairs, and numbers count as true."""
    mask = form(np.array([[diagonal, 2.0, 0], [0, diagonal, 0.5], [0, 0, diagonal]]))
    mask.data[mask.data == 0.5] = 0
    permitted = with_diagonal(mask)
    np.testing.assert_array_equal(permitted.toarray(), [[1, 1, 0], [0, 1, 0], [0, 0, 1]])
    assert permitted.nnz == 4


def test_partners_in_any_order_are_listed_in_that_of_the_genes():
    mask = sparse.csr_array((np.ones(3, dtype=bool), [2, 1, 0], [0, 2, 2, 3]), shape=(3, 3))
    np.testing.assert_array_equal(with_diagonal(mask).indices, [0, 1, 2, 1, 0, 2])


@pytest.mark.parametrize("method", METHODS)
def test_conditions_together_are_the_conditions_one_by_one(method, float64):
    mask = MASKS["directed fallback"]
    layer = drawn(MaskedEncoderLayer(M, D, 8, sparse.csr_array(mask)))
    layer.mixing = layer_of(mask, method=method)
    x = states(len(mask), n_conditions=5)
    together = layer(x)
    close(together, torch.cat([layer(x[:, k : k + 1]) for k in range(5)], dim=1))
    order = torch.tensor([3, 0, 4, 2, 1])
    close(together[:, order], layer(x[:, order]))


@pytest.mark.parametrize("method", METHODS)
def test_genes_in_another_order_give_outputs_in_that_order(method, float64):
    mask = MASKS["directed fallback"]
    order = np.random.default_rng(1).permutation(len(mask))
    layer, moved = layer_of(mask, method=method), layer_of(mask[order][:, order], method=method)
    moved.load_state_dict(layer.state_dict())
    x = states(len(mask))
    close(moved(x[:, :, order]), layer(x)[:, :, order])


def test_members_do_not_see_each_other(float64):
    mask = MASKS["pathways"]
    layer, x = drawn(MaskedEncoderLayer(M, D, 8, sparse.csr_array(mask))), states(len(mask))
    (gradient,) = torch.autograd.grad(layer(x)[0].sum(), x)
    assert torch.all(gradient[1] == 0) and torch.any(gradient[0] != 0)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_against_central_differences(method, float64):
    layer = layer_of(np.array([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool), method=method)
    names = [name for name, _ in layer.named_parameters()]

    def out(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    x = torch.randn(M, 1, 4, D, requires_grad=True)
    assert torch.autograd.gradcheck(out, (x, *values), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["buckets", "edges"])
def test_parts_of_the_columns_are_the_whole(method, float64, monkeypatch):
    mask = MASKS["pathways"]
    layer, x = layer_of(mask, method=method), states(len(mask))
    whole, attention = layer(x), layer.weights(x)
    expected = torch.autograd.grad(whole.square().sum(), x)
    calls = []
    layer.pairs.register_forward_pre_hook(lambda _, tensors: calls.append(tensors[0].shape[1]))
    monkeypatch.setattr(_masked_attention, "CHUNK_BYTES", 8 * 5 * layer.pairs.floats_per_column(D // 2))
    parts = layer(x)
    assert calls == [5, 5, 2]
    close(parts, whole)
    close(torch.autograd.grad(parts.square().sum(), x)[0], expected[0])
    close(layer.weights(x), attention)


def test_without_a_mask_all_pairs_are_permitted_and_none_is_listed(float64):
    layer, x = layer_of(None), states(20)
    close(layer(x), dense(layer, x, np.ones((20, 20), dtype=bool))[0])
    assert layer.edges is None and not list(layer.buffers())
    with pytest.raises(ValueError, match="Without a mask"):
        layer.weights(x)


def test_dense_forms_stay_in_the_kernel_that_keeps_no_pairs():
    """Also in training, as dropout is of values and not of pairs."""
    for layer in (layer_of(None).train(), layer_of(MASKS["random"], method="sdpa").train()):
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            layer(states(50)).sum().backward()


def test_the_form_that_costs_least_is_chosen(monkeypatch):
    rng = np.random.default_rng(0)
    many = sparse.csr_array(sparse.block_diag([np.ones((20, 20), dtype=bool)] * 40))
    kinds = {
        "many small pathways": (many, TiledPairs),
        "hardly fewer than all": (without_diagonal(rng.random((200, 200)) < 0.8), DensePairs),
        "all": (without_diagonal(np.ones((50, 50), dtype=bool)), DensePairs),
    }
    for mask, kind in kinds.values():
        assert isinstance(layer_of(mask).pairs, kind)
    assert layer_of(kinds["all"][0]).pairs.permitted is None
    assert isinstance(layer_of(many, method="edges").pairs, EdgePairs)
    monkeypatch.setattr(_masked_attention, "DENSE_GENES", 100)
    assert isinstance(layer_of(kinds["hardly fewer than all"][0]).pairs, TiledPairs)


def test_buckets_are_cut_by_padding_and_by_size(monkeypatch):
    assert _permitted._buckets([40, 10, 11, 13, 41]) == [[1, 2], [3], [0, 4]]
    monkeypatch.setattr(_permitted, "BUCKET_PAIRS", 2 * _permitted.TILE_ROWS * 10)
    assert _permitted._buckets([10] * 5 + [21]) == [[0, 1], [2, 3], [4], [5]]


def test_the_same_numbers_again_with_several_threads():
    """Gradients of gathered rows are summed in one order."""
    mask, n_threads = MASKS["one large pathway"], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for method in ("sdpa", "buckets", "edges"):
            layer, x = layer_of(mask, method=method), states(len(mask))
            runs = [torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]) for _ in range(3)]
            for run in runs[1:]:
                assert all(torch.equal(one, first) for one, first in zip(run, runs[0], strict=True))
    finally:
        torch.set_num_threads(n_threads)


@pytest.mark.parametrize("method", METHODS)
def test_dropout_leaves_out_values_in_training_only(method):
    mask = MASKS["pathways"]
    alone = ~(mask.any(axis=0) | mask.any(axis=1))
    layer, x = layer_of(mask, method=method), states(len(mask))
    full = layer(x)
    assert torch.equal(full, layer(x))
    layer.train()
    layer.dropout = 0.5
    with torch.no_grad():
        draws = torch.stack([layer(x) for _ in range(400)])
    assert not torch.equal(draws[0], draws[1])
    torch.testing.assert_close(draws[0][:, :, alone], full[:, :, alone])
    error = (draws.mean(dim=0) - full).abs().mean() / full.abs().mean()
    assert error < 0.1  # what is left is made larger, so that the mean stays


def test_each_condition_and_member_drops_its_own_values():
    mask = MASKS["pathways"]
    layer = layer_of(mask).train()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[1] = parameter[0]
    out = layer(torch.randn(len(mask), D).expand(M, K, -1, -1)).flatten(0, 1)
    assert len(torch.unique(out, dim=0)) == M * K


def test_all_forms_drop_the_same_values(float64):
    mask, x = MASKS["pathways"], states(150)
    layers = [layer_of(mask, method=method).train() for method in METHODS]
    outs = []
    for layer in layers:
        layer.load_state_dict(layers[0].state_dict())
        torch.manual_seed(3)
        outs.append(layer(x))
    for out in outs[1:]:
        close(out, outs[0])


def test_what_is_given_wrongly_is_said():
    with pytest.raises(ValueError, match="width of 6 does not split into 4 heads"):
        layer_of(None, heads=4)
    with pytest.raises(ValueError, match="'flash' is none of 'auto', 'sdpa'"):
        layer_of(None, method="flash")


# -- the layer around it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", [True, False])
def test_the_layer_is_that_of_torch(attention, float64):
    """Post-norm with a rectifier, a member at a time; without attention a feed-forward network takes its place."""
    mask, width, hidden = MASKS["directed fallback"], 6, 10
    layer = drawn(MaskedEncoderLayer(M, width, hidden, sparse.csr_array(mask), attention=attention))
    x = states(len(mask))
    mixed = dense(layer.mixing, x, mask)[0] if attention else slow_feed_forward(layer.mixing, x)
    first = slow_norm(layer.norms[0], x + mixed)
    close(layer(x), slow_norm(layer.norms[1], first + slow_feed_forward(layer.feed_forward, first)))
    names = {name.rpartition(".")[0] for name, _ in layer.named_parameters()}
    assert ("mixing.query" in names) == attention


def slow_feed_forward(part, x):
    hidden = [torch.relu(x[m] @ part.hidden.weight[m] + part.hidden.bias[m]) for m in range(len(x))]
    return torch.stack([hidden[m] @ part.out.weight[m] + part.out.bias[m] for m in range(len(x))])


def slow_norm(norm, x):
    return torch.stack(
        [torch.nn.functional.layer_norm(x[m], x.shape[-1:], norm.weight[m], norm.bias[m]) for m in range(len(x))]
    )


@pytest.mark.parametrize("shape", [(M, 4), (M, 3, 4), (M, 2, 3, 4)])
def test_the_norm_has_a_scale_for_each_member(shape, float64):
    norm, x = drawn(MemberNorm(M, 4)), torch.randn(shape)
    close(norm(x), slow_norm(norm, x))


def test_the_hidden_layer_in_parts_is_the_whole(float64, monkeypatch):
    layer = drawn(MaskedEncoderLayer(M, D, 10, None, attention=False))
    x = states(20)
    whole = layer(x)
    expected = torch.autograd.grad(whole.square().sum(), [x, *layer.parameters()])
    rows = []
    layer.feed_forward.hidden.register_forward_pre_hook(lambda _, tensors: rows.append(tensors[0].shape[-2]))
    monkeypatch.setattr(_masked_attention, "FEED_FORWARD_FLOATS", M * K * 20 * 10 // 2)
    parts = layer(x)
    assert rows == [7, 7, 6]
    close(parts, whole)
    for one, other in zip(torch.autograd.grad(parts.square().sum(), [x, *layer.parameters()]), expected, strict=True):
        close(one, other)


def test_the_mask_is_no_part_of_the_weights():
    """Members have an axis in everything that is stored; the mask is given again when a model is loaded."""
    layer = MaskedEncoderLayer(M, D, 8, sparse.csr_array(MASKS["pathways"]))
    assert all(len(value) == M for value in layer.state_dict().values())
