"""A layer of message passing written out: dense matrices, one node and one neighbour at a time, one member."""

from __future__ import annotations

import numpy as np


def slow_softmax(logits):
    powers = [np.exp(value - max(logits)) for value in logits]
    return np.array([power / sum(powers) for power in powers])


def slow_heard(h, adjacency, agg):
    """(N, d) what each node hears; ``adjacency[i, j]`` is the weight with which i hears j."""
    heard = np.zeros_like(h)
    for i in range(len(h)):
        neighbours = [j for j in range(len(h)) if adjacency[i, j] > 0]
        if not neighbours:
            continue
        if agg == "max":
            for feature in range(h.shape[1]):
                heard[i, feature] = max(h[j, feature] for j in neighbours)
            continue
        for j in neighbours:
            heard[i] += adjacency[i, j] * h[j]
        if agg == "mean":
            heard[i] /= sum(adjacency[i, j] for j in neighbours)
    return heard


def slow_choice(h, adjacencies, fuse, weights):
    """(N, R) weight of each relation at each node."""
    chosen = np.zeros((len(h), len(adjacencies)))
    for i in range(len(h)):
        there = [r for r, adjacency in enumerate(adjacencies) if (adjacency[i] > 0).any()]
        if not there:
            continue
        if fuse == "gate" and len(adjacencies) > 1:
            logits = [h[i] @ weights["choice.weight"][:, r] + weights["choice.bias"][r] for r in there]
            chosen[i, there] = slow_softmax(logits)
        else:
            chosen[i, there] = 1 / len(there)
    return chosen


def slow_layer(h, adjacencies, weights, *, agg, combine, fuse, activation):
    """One layer; ``weights`` are the arrays of one member by the names of the state dict."""
    heard = [slow_heard(h, adjacency, agg) for adjacency in adjacencies]
    chosen = slow_choice(h, adjacencies, fuse, weights)
    out = np.zeros_like(h)
    for i in range(len(h)):
        if fuse == "concat":
            message = sum(one[i] for one in heard)
        else:
            message = sum(chosen[i, r] * one[i] for r, one in enumerate(heard))
        if fuse == "gate" and not any((adjacency[i] > 0).any() for adjacency in adjacencies):
            message = weights["alone"][0]
        if combine == "add":
            x = h[i] + message
        elif fuse == "concat":
            x = np.concatenate([h[i], *(one[i] for one in heard)])
        else:
            x = np.concatenate([h[i], message])
        out[i] = weights["linear.bias"] + sum(x[k] * weights["linear.weight"][k] for k in range(len(x)))
    slope = {"relu": 0.0, "leaky_relu": 0.01, None: 1.0}[activation]
    return np.where(out > 0, out, slope * out)


def member_arrays(module, member):
    """State dict of one member, for a module in which everything has an axis of members."""
    return {name: value.detach().numpy()[member] for name, value in module.state_dict().items()}


def draw_adjacency(rng, n_nodes, *, share=0.3):
    """(N, N) weights, not symmetric, nothing on the diagonal, a node or two without a neighbour."""
    weights = rng.uniform(0.1, 2, (n_nodes, n_nodes)) * (rng.random((n_nodes, n_nodes)) < share)
    np.fill_diagonal(weights, 0)
    weights[rng.integers(n_nodes, size=min(2, n_nodes))] = 0
    return weights
