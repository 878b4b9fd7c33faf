"""Message passing over one or several gene networks, for all ensemble members at once."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.nn import SimpleConv

from scperturb_modules.nn._members import MemberLinear

Aggregation = Literal["mean", "sum", "max"]
Fusion = Literal["gate", "concat", "mean"]

with warnings.catch_warnings():
    # torch says once per process that CSR is in beta; what is used of it here is tested against dense matrices
    warnings.simplefilter("ignore")
    torch.eye(1).to_sparse_csr()


class Relation(nn.Module):
    """One network over N nodes: aggregates what the neighbours of each node send.

    Parameters
    ----------
    adjacency
        (N, N) sparse; entry (i, j) is the weight with which node i hears node j. Not negative.
    agg
        ``"mean"``: mean weighted by the edges; ``"sum"``: weighted sum; ``"max"``: per feature, without weights.
    edge_dropout
        Share of edges left out at each step of training.

    Notes
    -----
    A node without a neighbour hears exactly 0. Mean and sum are one product with a sparse CSR matrix, in which every
    row is summed in a fixed order: no atomic addition, so that results do not depend on the number of threads.
    Aggregation is PyTorch Geometric's :class:`~torch_geometric.nn.SimpleConv`.
    """

    rows: Tensor
    columns: Tensor
    weights: Tensor
    has_neighbours: Tensor

    def __init__(self, adjacency: sparse.sparray, *, agg: Aggregation = "mean", edge_dropout: float = 0.0) -> None:
        super().__init__()
        matrix = sparse.csr_array(adjacency)
        matrix.sort_indices()
        total = np.asarray(matrix.sum(axis=1)).ravel()
        weights = matrix.data.astype(np.float64)
        if agg == "mean":
            weights = weights / np.repeat(total, np.diff(matrix.indptr))
        self.n_nodes = matrix.shape[0]
        self.agg, self.edge_dropout = agg, edge_dropout
        self._conv = SimpleConv(aggr="max" if agg == "max" else "sum")
        self.register_buffer("rows", torch.tensor(matrix.indptr, dtype=torch.int64))
        self.register_buffer("columns", torch.tensor(matrix.indices, dtype=torch.int64))
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.get_default_dtype()))
        self.register_buffer("has_neighbours", torch.tensor(np.diff(matrix.indptr) > 0))

    def forward(self, h: Tensor) -> Tensor:
        """(M, N, d) states of the nodes to (M, N, d) messages."""
        n_members, n_nodes, width = h.shape
        together = h.transpose(0, 1).reshape(n_nodes, n_members * width)
        heard = self._heard_max(together) if self.agg == "max" else self._conv(together, self._adjacency())
        return heard.reshape(n_nodes, n_members, width).transpose(0, 1)

    def _adjacency(self) -> Tensor:
        weights = self.weights
        if self.training and self.edge_dropout:
            weights = nn.functional.dropout(weights, self.edge_dropout)
        size = (self.n_nodes, self.n_nodes)
        return torch.sparse_csr_tensor(self.rows, self.columns, weights, size, check_invariants=False)

    def _heard_max(self, h: Tensor) -> Tensor:
        target = torch.repeat_interleave(self.rows.diff())
        edges = torch.stack([self.columns, target])
        if self.training and self.edge_dropout:
            edges = edges[:, torch.rand(edges.shape[1], device=edges.device) >= self.edge_dropout]
        return self._conv(h, edges)


class GraphLayer(nn.Module):
    """One layer of message passing: ``h' = act(W [h ; m] + b)`` or ``act(W (h + m) + b)``.

    Parameters
    ----------
    n_members, width
        M and d.
    relations
        R networks over the same nodes.
    combine
        ``"concat"`` or ``"add"`` (of a node's state and what it hears).
    fuse
        How messages of several networks become one: ``"gate"``: weighted by a softmax over the networks in which the
        node has a neighbour, logits = bias of the network + linear map of the state, and a node isolated in all of them
        hears a learned vector; ``"concat"``: side by side; ``"mean"``: mean over the networks in which it has a
        neighbour.
    activation
        Applied to the result; None for none.
    """

    def __init__(
        self,
        n_members: int,
        width: int,
        relations: list[Relation],
        *,
        combine: Literal["concat", "add"] = "concat",
        fuse: Fusion = "gate",
        activation: Literal["relu", "leaky_relu"] | None = "relu",
    ) -> None:
        super().__init__()
        self.relations = relations  # shared by all layers and registered by the module that owns them
        self.combine, self.fuse, self.activation = combine, fuse, activation
        n_heard = len(relations) if fuse == "concat" else 1
        self.linear = MemberLinear(n_members, width * (1 + n_heard if combine == "concat" else 1), width)
        if fuse == "gate":
            # with one network there is nothing to choose, and a parameter that no loss reaches would stop DDP
            self.choice = MemberLinear(n_members, width, len(relations), zero=True) if len(relations) > 1 else None
            self.alone = nn.Parameter(torch.zeros(n_members, 1, width))

    def forward(self, h: Tensor) -> Tensor:
        """(M, N, d) to (M, N, d)."""
        heard = [relation(h) for relation in self.relations]
        messages = heard if self.fuse == "concat" and self.combine == "concat" else [self._fused(h, heard)]
        out = self.linear.of_blocks([h, *messages]) if self.combine == "concat" else self.linear(h + messages[0])
        if self.activation is None:
            return out
        return torch.relu(out) if self.activation == "relu" else nn.functional.leaky_relu(out)

    def relation_weights(self, h: Tensor) -> Tensor:
        """(M, N, R) weight of each network at each node; rows of isolated nodes are 0."""
        mask = torch.stack([relation.has_neighbours for relation in self.relations], dim=-1)
        if self.fuse != "gate":
            return (mask / mask.sum(dim=-1, keepdim=True).clamp(min=1)).to(h.dtype).expand(h.shape[0], -1, -1)
        if self.choice is None:
            return mask.to(h.dtype).expand(h.shape[0], -1, -1)
        # a finite stand-in for -inf: a softmax over nothing would be NaN, and so would its gradient
        logits = self.choice(h).masked_fill(~mask, -1e9)
        return logits.softmax(dim=-1) * mask

    def _fused(self, h: Tensor, heard: list[Tensor]) -> Tensor:
        if self.fuse == "concat":
            return torch.stack(heard).sum(dim=0)
        if len(heard) == 1:
            message = heard[0]
        else:
            weights = self.relation_weights(h)
            message = torch.stack([weights[..., r, None] * one for r, one in enumerate(heard)]).sum(dim=0)
        if self.fuse == "gate":
            reached = torch.stack([relation.has_neighbours for relation in self.relations]).any(dim=0)
            message = torch.where(reached[:, None], message, self.alone)
        return message
