"""Embeddings of all genes of the networks by message passing."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from scperturb_modules.models._node_features import NodeFeatures
from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.nn import GraphLayer, MemberTable, Relation


class NodeEmbedding(nn.Module):
    """Gene embeddings ``h`` (M, N, d): features, then L layers of message passing over R networks."""

    table: Tensor

    def __init__(self, features: NodeFeatures, relations: Sequence[Relation], n_members: int, settings: AppSettings):
        super().__init__()
        self.n_members = n_members
        self.embedding = settings.embedding
        n_nodes = features.known.shape[1]
        if settings.embedding == "random":
            self.register_buffer("table", MemberTable(n_members, n_nodes, settings.d).weight.detach())
            return
        if settings.embedding == "identity":
            self.free = MemberTable(n_members, n_nodes, settings.d)
            return
        self.features = features
        self.relations = nn.ModuleList(relations)
        n_layers = settings.n_layers if relations else 0
        self.layers = nn.ModuleList(
            GraphLayer(
                n_members,
                settings.d,
                list(relations),
                combine=settings.combine,  # type: ignore[arg-type]
                fuse=settings.fuse,  # type: ignore[arg-type]
                activation=settings.activation if number + 1 < n_layers or settings.final_activation else None,  # type: ignore[arg-type]
            )
            for number in range(n_layers)
        )

    def forward(self) -> Tensor:
        """(M, N, d)."""
        if self.embedding == "random":
            return self.table
        if self.embedding == "identity":
            return self.free()
        h = self.features(self.n_members)
        for layer in self.layers:
            h = layer(h)
        return h

    def relation_weights(self) -> Tensor | None:
        """(M, R) weight of each network in the first layer, over genes with a neighbour; None without layers."""
        if self.embedding != "graph" or not len(self.layers):
            return None
        first = self.layers[0]
        assert isinstance(first, GraphLayer)
        weights = first.relation_weights(self.features(self.n_members))
        reached = weights.sum(dim=-1) > 0
        return weights.sum(dim=1) / reached.sum(dim=1, keepdim=True).clamp(min=1)
