"""The network of APP: from perturbed genes and their parts of the anchor to a response over genes; torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scperturb_modules.models._anchored_module import AnchoredModule, Answer, Rows
from scperturb_modules.models._condition_tokens import N_PRODUCTS, ConditionTokens
from scperturb_modules.models._node_features import NodeFeatures
from scperturb_modules.models.app._attention import GeneAttention
from scperturb_modules.models.app._nodes import NodeEmbedding
from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.nn import (
    LinearHead,
    LowRankHead,
    MemberLinear,
    MlpHead,
    Relation,
)

COUNTS = 3
"""Numbers of perturbed genes that are told apart: 1, 2, 3 and more."""


@dataclass(frozen=True)
class AppShape:
    """What the network is built from; plain tensors.

    Parameters
    ----------
    adjacencies
        One (N, N) sparse matrix per network.
    tables
        See :class:`NodeFeatures`.
    known
        (M, N) bool, genes perturbed in the conditions that each member is trained on.
    outside
        (N,) bool, genes outside the pool of attention.
    isolated
        (N,) bool, genes without a neighbour in any network.
    response_basis
        (G, K) patterns in which a gene's part of the anchor is read.
    basis
        (M, G, K) patterns of the low-rank head, made from what each member is trained on.
    covariates
        (C, n) encoding of each context.
    scale
        Mean square of the training changes: the unit of the loss.
    """

    adjacencies: tuple[Any, ...]
    tables: dict[str, tuple[Tensor, Tensor]]
    known: Tensor
    outside: Tensor
    isolated: Tensor
    response_basis: Tensor
    basis: Tensor
    covariates: Tensor
    scale: float


@dataclass
class GeneStates:
    """What depends on no perturbation.

    ``h`` (M, N, d) embeddings and ``keys`` of attention, of all genes; ``control`` (M, 1, G), what the head says of no
    perturbation, once it was asked.
    """

    h: Tensor
    keys: Tensor | None
    control: Tensor | None = None


class AppModule(AnchoredModule):
    """Gene embeddings, attention from the perturbation over all genes, a head; M members at once."""

    PER_MEMBER_BUFFERS = frozenset({"known", "basis", "table"})

    isolated: Tensor
    covariates: Tensor

    def __init__(self, shape: AppShape, settings: AppSettings) -> None:
        super().__init__(shape.known.shape[0], shape.scale, settings)
        self._states_now: GeneStates | None = None
        m, d = self.n_members, settings.d
        features = NodeFeatures(
            m,
            shape.known,
            shape.tables,
            d,
            learned="learned" in settings.features,
            id_dropout=settings.id_dropout,
            prior_dropout=settings.prior_dropout,
        )
        relations = [Relation(one, agg=settings.agg, edge_dropout=settings.edge_dropout) for one in shape.adjacencies]  # type: ignore[arg-type]
        self.nodes = NodeEmbedding(features, relations, m, settings)
        self.register_buffer("isolated", shape.isolated.to(torch.get_default_dtype()))
        self.register_buffer("covariates", shape.covariates)
        self._build_context(shape, settings)
        self.attention = None
        if settings.attention != "context":
            self.attention = GeneAttention(
                m, d, heads=settings.heads, score=settings.score, uses_context=settings.attention == "all",
                outside=shape.outside,
            )  # fmt: skip
        self._build_head(shape, settings)

    def _build_context(self, shape: AppShape, settings: AppSettings) -> None:
        m, d = self.n_members, settings.d
        self.condition = ConditionTokens(
            m,
            d,
            shape.response_basis if settings.responses else None,
            products=settings.context == "interaction",
            scale_parts=settings.scale_parts,
            dropout=settings.dropout,
        )
        self.covariate = None
        if settings.covariate != "none" and shape.covariates.shape[0] > 1:
            self.covariate = MemberLinear(m, shape.covariates.shape[1], d, bias=False)

    def _build_head(self, shape: AppShape, settings: AppSettings) -> None:
        m, d, n_genes = self.n_members, settings.d, shape.response_basis.shape[0]
        width = d * settings.heads if self.attention is not None else d
        if self.attention is not None and settings.context_skip:
            width += d
        width += COUNTS * (settings.context in ("mean+count", "interaction")) + N_PRODUCTS * (
            self.condition.products is not None
        )
        zero = settings.anchor != "zero"
        self.head: nn.Module
        if settings.head == "lowrank":
            self.head = LowRankHead(m, width, shape.basis)
        elif settings.head == "mlp":
            self.head = MlpHead(m, width, n_genes, zero=zero)
        else:
            self.head = LinearHead(m, width, n_genes, zero=zero)
        self.inner_gate = None
        if settings.inner_gate:
            self.inner_gate = MemberLinear(m, 2 * COUNTS + 1 + shape.covariates.shape[1], 1, zero=True)

    # -- the model ---------------------------------------------------------------------------------------------------

    def gene_states(self) -> GeneStates:
        """Embeddings and attention keys of all genes; kept between calls in evaluation."""
        keep = not self.training and not torch.is_grad_enabled()
        if keep and self._states_now is not None and self._states_now.h.device == self.covariates.device:
            return self._states_now
        h = self.nodes()
        states = GeneStates(h, None if self.attention is None else self.attention.keys(h))
        if keep:
            self._states_now = states
        return states

    def respond(self, rows: Rows) -> Answer:
        """Response of B conditions, without the anchor."""
        genes = self.gene_states()
        tokens = self.condition(rows, genes.h)
        # what a measured single says of its own gene is in the anchor: the head reads of it in products alone
        unmeasured = tokens * (1 - rows.measured)[..., None]
        context, skip = self._context(rows, tokens), self._context(rows, unmeasured)
        products = self.condition.multiplied(tokens)
        state, alpha = self._state(rows, context, skip, products, genes)
        residual = self.head(state)
        if self.settings.center_control:
            if genes.control is None:
                # without a cell type: what it adds to every perturbation would cancel
                nothing = torch.zeros_like(context[:, :1])
                empty = None if products is None else torch.zeros_like(products[:, :1])
                state_0, _ = self._state(None, nothing, nothing, empty, genes)
                genes.control = self.head(state_0)
            residual = residual - genes.control
        if self.condition.part_scale is not None:
            residual = residual + self.condition.rescaled(rows, tokens, unmeasured, products)
        return Answer(residual, self._gate(rows, residual), alpha)

    def _context(self, rows: Rows, tokens: Tensor) -> Tensor:
        """(M, B, d)."""
        context = tokens.sum(dim=2)
        if self.settings.context in ("mean", "mean+count"):
            context = context / rows.present.sum(dim=1).clamp(min=1)[None, :, None]
        if self.covariate is not None:
            context = context + self.covariate(self.covariates[rows.context].expand(self.n_members, -1, -1))
        return context

    def _state(
        self,
        rows: Rows | None,
        context: Tensor,
        skip: Tensor,
        products: Tensor | None,
        genes: GeneStates,
    ) -> tuple[Tensor, Tensor | None]:
        """(M, B, width) of what the head reads; ``rows`` None stands for no perturbation."""
        blocks, alpha = [skip], None
        if self.attention is not None:
            attended, alpha = self.attention(context, genes.h, genes.keys)
            blocks = [attended, skip] if self.settings.context_skip else [attended]
        if self.settings.context in ("mean+count", "interaction"):
            count = torch.zeros_like(context[..., :COUNTS]) if rows is None else _one_hot(rows.present.sum(dim=1), 1)
            blocks.append(count.to(context.dtype).expand(self.n_members, -1, -1))
        if products is not None:
            blocks.append(self.condition.of_pairs(products))
        return torch.cat(blocks, dim=-1), alpha

    def _gate(self, rows: Rows, residual: Tensor) -> Tensor:
        """(M, B) in (0, 1): how much of the residual to believe, by how much of the condition was measured."""
        if self.inner_gate is None:
            return torch.ones_like(residual[..., 0])
        n_genes = rows.present.sum(dim=1)
        n_measured = rows.measured.sum(dim=-1)
        alone = (self.isolated[rows.node] * rows.present).sum(dim=1) / n_genes.clamp(min=1)
        known = [
            _one_hot(n_measured, 0),
            _one_hot(n_genes, 1).expand(*n_measured.shape, COUNTS),
            alone[:, None].expand(*n_measured.shape, 1),
            self.covariates[rows.context].expand(*n_measured.shape, -1),
        ]
        facts = torch.cat([one.to(residual.dtype) for one in known], dim=-1).expand(self.n_members, -1, -1)
        # starts at .73: the residual itself starts at 0
        return torch.sigmoid(self.inner_gate(facts)[..., 0] + 1.0)

    def spread_attention(self, tensors: Mapping[str, Tensor]) -> None:
        """Start with an attention that depends on the perturbation; see :meth:`GeneAttention.spread`."""
        if self.attention is None:
            return
        was_training = self.training
        self.eval()
        with torch.no_grad():
            rows, _ = self.read(tensors)
            h = self.gene_states().h
            self.attention.spread(self._context(rows, self.condition(rows, h)), h)
        self.train(was_training)

    def forget(self) -> None:
        """Forget the kept embeddings."""
        self._states_now = None


def _one_hot(number: Tensor, least: int) -> Tensor:
    """(..., 3) for ``least``, ``least + 1`` and more."""
    return nn.functional.one_hot((number.long() - least).clamp(0, COUNTS - 1), COUNTS)
