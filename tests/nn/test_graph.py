from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import sparse

from scperturb_modules.nn import GraphLayer, Relation

M, N, D = 2, 7, 3


def layer_of(adjacencies, *, agg="mean", combine="concat", fuse="gate", activation="relu", edge_dropout=0.0):
    relations = [Relation(sparse.csr_array(one), agg=agg, edge_dropout=edge_dropout) for one in adjacencies]
    layer = GraphLayer(M, D, relations, combine=combine, fuse=fuse, activation=activation)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def draw_graphs(slow, seed, n_relations):
    """Graph 0 has no edge at all."""
    rng = np.random.default_rng(seed)
    return [slow.draw_adjacency(rng, N, share=0.3 if seed else 0.0) for _ in range(n_relations)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("agg", ["mean", "sum", "max"])
def test_a_layer_is_the_loop_over_nodes_and_neighbours(seed, agg, float64, slow):
    n_relations = 3 if seed % 2 else 1
    adjacencies = draw_graphs(slow, seed, n_relations)
    h = torch.randn(M, N, D)
    for combine, fuse in itertools.product(("concat", "add"), ("gate", "concat", "mean")):
        options = {"combine": combine, "fuse": fuse, "activation": ("relu", "leaky_relu", None)[seed % 3]}
        layer = layer_of(adjacencies, agg=agg, **options)
        fast = layer(h).detach().numpy()
        for m in range(M):
            expected = slow.slow_layer(h[m].numpy(), adjacencies, slow.member_arrays(layer, m), agg=agg, **options)
            np.testing.assert_allclose(fast[m], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("fuse", ["gate", "mean"])
def test_the_weights_of_networks_are_the_loop(fuse, float64, slow):
    adjacencies = draw_graphs(slow, 5, 3)
    layer, h = layer_of(adjacencies, fuse=fuse), torch.randn(M, N, D)
    for m in range(M):
        expected = slow.slow_choice(h[m].numpy(), adjacencies, fuse, slow.member_arrays(layer, m))
        np.testing.assert_allclose(layer.relation_weights(h)[m].detach(), expected, rtol=0, atol=1e-12)


def lonely():
    """Node 0 is isolated in both networks, node 1 has a neighbour in the second only."""
    first, second = np.zeros((N, N)), np.zeros((N, N))
    first[2, 3], first[3, 2], second[1, 2], second[2, 1] = 1.0, 2.0, 0.5, 0.5
    return [first, second]


@pytest.mark.parametrize("agg", ["mean", "sum", "max"])
def test_an_isolated_node_hears_exactly_nothing(agg):
    first, second = (Relation(sparse.csr_array(one), agg=agg) for one in lonely())
    h = torch.randn(M, N, D, requires_grad=True)
    assert torch.all(first(h)[:, :2] == 0) and torch.all(second(h)[:, 0] == 0)
    assert torch.all(second(h)[:, 1] != 0)
    (first(h).sum() + second(h).sum()).backward()
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize("fuse", ["gate", "mean", "concat"])
@pytest.mark.parametrize("agg", ["mean", "max"])
@pytest.mark.parametrize("graphs", ["lonely", "no edge", "one node"])
def test_graphs_at_the_edge_give_finite_values_and_gradients(graphs, agg, fuse):
    adjacencies = {"lonely": lonely(), "no edge": [np.zeros((N, N))] * 2, "one node": [np.zeros((1, 1))]}[graphs]
    layer = layer_of(adjacencies, agg=agg, fuse=fuse)
    h = torch.randn(M, len(adjacencies[0]), D, requires_grad=True)
    out = layer(h)
    out.square().sum().backward()
    assert torch.isfinite(out).all() and torch.isfinite(h.grad).all()
    assert all(torch.isfinite(one.grad).all() for one in layer.parameters() if one.grad is not None)


def test_a_node_in_the_second_network_only_listens_to_that_one():
    weights = layer_of(lonely()).relation_weights(torch.randn(M, N, D))
    assert torch.all(weights[:, 0] == 0)
    assert torch.equal(weights[:, 1], torch.tensor([0.0, 1.0]).expand(M, 2))
    torch.testing.assert_close(weights[:, 2].sum(dim=-1), torch.ones(M))


def test_a_node_isolated_everywhere_hears_the_learned_vector_alone():
    layer = layer_of(lonely())
    h = torch.randn(M, N, D)
    before = layer(h)
    with torch.no_grad():
        layer.alone += 1
    moved = (layer(h) != before).any(dim=-1).any(dim=0)
    assert moved[0] and not moved[1:4].any()


def test_every_parameter_gets_a_gradient_also_with_one_network(slow):
    """A parameter that no loss reaches stops training on several devices."""
    for n_relations, fuse in itertools.product((1, 3), ("gate", "concat", "mean")):
        layer = layer_of(draw_graphs(slow, 3, n_relations), fuse=fuse)
        layer(torch.randn(M, N, D)).sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())


@pytest.mark.parametrize("agg", ["mean", "max"])
@pytest.mark.parametrize("combine", ["concat", "add"])
def test_gradients_of_a_layer_against_central_differences(agg, combine, float64, slow):
    layer = layer_of(draw_graphs(slow, 7, 3), agg=agg, combine=combine, activation="leaky_relu")
    names = [name for name, _ in layer.named_parameters()]

    def out(h, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (h,))

    values = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(out, (torch.randn(M, N, D, requires_grad=True), *values), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("agg", ["mean", "sum", "max"])
def test_edges_are_left_out_in_training_only(agg):
    n = 60
    relation = Relation(sparse.csr_array(np.eye(n, k=1) + np.eye(n, k=-1)), agg=agg, edge_dropout=0.5)
    h = torch.rand(M, n, D) + 1
    full = relation.eval()(h)
    assert torch.equal(full, relation(h))
    relation.train()
    draws = torch.stack([relation(h) for _ in range(400)])
    assert not torch.equal(draws[0], draws[1])
    if agg != "max":  # what is left is made larger, so that the mean stays
        torch.testing.assert_close(draws.mean(dim=0), full, rtol=0.2, atol=0.2)
    else:
        assert torch.all(draws <= full) and torch.equal(draws.max(dim=0).values, full)
