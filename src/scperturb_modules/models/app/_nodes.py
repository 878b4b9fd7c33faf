"""Embeddings of all genes of the networks: what they start from, and message passing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.nn import GraphLayer, MemberLinear, MemberTable, Relation


class NodeFeatures(nn.Module):
    """What a gene starts from: free vectors, expression in controls, rows of prior tables; mapped to width d.

    Parameters
    ----------
    n_members
        M.
    known
        (M, N) bool: genes perturbed in what the member is trained on. A free vector of any other gene was never trained
        and is 0, unless free vectors are all there is.
    tables
        Name to ((N, F) float32, (N,) bool mask of present rows). A missing row is 0 with a bit that says so.
    """

    known: Tensor

    def __init__(
        self, n_members: int, known: Tensor, tables: dict[str, tuple[Tensor, Tensor]], settings: AppSettings
    ) -> None:
        super().__init__()
        self.id_dropout, self.prior_dropout = settings.id_dropout, settings.prior_dropout
        n_nodes = known.shape[1]
        self.free = MemberTable(n_members, n_nodes, settings.d) if "learned" in settings.features else None
        self.names = list(tables)
        for name, (values, present) in tables.items():
            self.register_buffer(f"values_{self.names.index(name)}", values)
            self.register_buffer(f"present_{self.names.index(name)}", present.to(values.dtype)[:, None])
        width = sum(values.shape[1] + 1 for values, _ in tables.values())
        self.register_buffer("known", known.to(torch.get_default_dtype())[..., None])
        self.linear = None
        if tables:
            self.linear = MemberLinear(n_members, width + (settings.d if self.free is not None else 0), settings.d)

    def forward(self, n_members: int) -> Tensor:
        """(M, N, d)."""
        blocks = [] if self.free is None else [self._free()]
        for number in range(len(self.names)):
            values, present = getattr(self, f"values_{number}"), getattr(self, f"present_{number}")
            kept = present.expand(n_members, -1, 1)
            if self.training and self.prior_dropout:
                kept = kept * (torch.rand(kept.shape, device=kept.device) >= self.prior_dropout)
            blocks.append(torch.cat([values * kept, kept], dim=-1))
        return blocks[0] if self.linear is None else self.linear(torch.cat(blocks, dim=-1))

    def _free(self) -> Tensor:
        assert self.free is not None
        table = self.free()
        if self.linear is not None:
            table = table * self.known
        if self.training and self.id_dropout:
            table = table * (torch.rand(table.shape[:2], device=table.device) >= self.id_dropout)[..., None]
        return table


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
