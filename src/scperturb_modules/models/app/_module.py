"""The network of APP: from perturbed genes and their parts of the anchor to a response over genes; torch only."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from scperturb_modules.models.app._attention import GeneAttention
from scperturb_modules.models.app._nodes import NodeEmbedding, NodeFeatures
from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.nn import (
    LinearHead,
    LowRankHead,
    MemberLinear,
    MlpHead,
    Relation,
    at_least_float32,
    root_mean_square_norm,
    squared_error,
)

N_PRODUCTS = 128
"""Width of the products of pairs of genes in ``context="interaction"``."""

COUNTS = 3
"""Numbers of perturbed genes that are told apart: 1, 2, 3 and more."""

KINDS = ("single", "combination")

PER_MEMBER_BUFFERS = {"known", "basis", "table"}
"""Buffers with an axis of members; all parameters have one."""


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


class Answer(NamedTuple):
    """What the network says of B rows: (M, B, G) residual, (M, B) inner gate, (M, B, N) attention or None."""

    residual: Tensor
    gate: Tensor
    attention: Tensor | None


@dataclass
class GeneStates:
    """What depends on no perturbation.

    ``h`` (M, N, d) embeddings and ``keys`` of attention, of all genes; ``control`` (M, 1, G), what the head says of no
    perturbation, once it was asked.
    """

    h: Tensor
    keys: Tensor | None
    control: Tensor | None = None


class Rows(NamedTuple):
    """B conditions of at most k genes each, as the network sees them.

    ``node`` (B, k) int64; ``present`` (B, k) 0 or 1; ``measured`` (m, B, k), whether a gene counts as measured, m = 1
    or M; ``measured_part`` and ``expected_part`` (B, k, G), what a gene brings to the anchor if it does and if it does
    not; ``context`` (B,) int64.
    """

    node: Tensor
    present: Tensor
    measured: Tensor
    measured_part: Tensor
    expected_part: Tensor
    context: Tensor

    def total(self, factor: Tensor) -> Tensor:
        """(m, B, G) sum over genes of ``factor`` (m, B, k) times the gene's part.

        One product per row, so that no array of members x rows x genes x outputs comes about.
        """
        both = torch.cat([factor * self.measured, factor * (self.present - self.measured)], dim=-1)
        parts = torch.cat([self.measured_part, self.expected_part], dim=1)
        return torch.matmul(both.transpose(0, 1), parts).transpose(0, 1)

    def responses(self, basis: Tensor) -> Tensor:
        """(m, B, k, K) the parts in a basis (G, K)."""
        measured, expected = torch.matmul(self.measured_part, basis), torch.matmul(self.expected_part, basis)
        return torch.where(self.measured[..., None] > 0, measured, expected)


class AppModule(BaseModuleClass):
    """Gene embeddings, attention from the perturbation over all genes, a head; M members at once.

    The loss is the weighted squared error of ``anchor + gate * residual``, divided by the mean square of the training
    changes: predicting no change costs about 1.
    """

    isolated: Tensor
    response_basis: Tensor
    covariates: Tensor

    def __init__(self, shape: AppShape, settings: AppSettings) -> None:
        super().__init__()
        self.settings, self.scale = settings, shape.scale
        self.n_members, n_nodes = shape.known.shape
        m, d = self.n_members, settings.d
        features = NodeFeatures(m, shape.known, shape.tables, settings)
        relations = [Relation(one, agg=settings.agg, edge_dropout=settings.edge_dropout) for one in shape.adjacencies]  # type: ignore[arg-type]
        self.nodes = NodeEmbedding(features, relations, m, settings)
        self.register_buffer("isolated", shape.isolated.to(torch.get_default_dtype()))
        self.register_buffer("response_basis", shape.response_basis)
        self.register_buffer("covariates", shape.covariates)
        self._build_context(shape, settings)
        self.attention = None
        if settings.attention != "context":
            self.attention = GeneAttention(
                m, d, heads=settings.heads, score=settings.score, uses_context=settings.attention == "all",
                outside=shape.outside,
            )  # fmt: skip
        self._build_head(shape, settings)
        self._states_now: GeneStates | None = None

    def _build_context(self, shape: AppShape, settings: AppSettings) -> None:
        m, d = self.n_members, settings.d
        self.token = None
        if settings.responses or settings.context == "interaction":
            n_responses = shape.response_basis.shape[1] + 1 if settings.responses else 0
            self.token = MemberLinear(m, d + n_responses, d)
        self.products = None
        if settings.context == "interaction":
            self.products = MemberLinear(m, d, N_PRODUCTS, bias=False)
        self.covariate = None
        if settings.covariate != "none" and shape.covariates.shape[0] > 1:
            self.covariate = MemberLinear(m, shape.covariates.shape[1], d, bias=False)

    def _build_head(self, shape: AppShape, settings: AppSettings) -> None:
        m, d, n_genes = self.n_members, settings.d, shape.response_basis.shape[0]
        width = d * settings.heads if self.attention is not None else d
        if self.attention is not None and settings.context_skip:
            width += d
        width += COUNTS * (settings.context in ("mean+count", "interaction")) + N_PRODUCTS * (self.products is not None)
        zero = settings.anchor != "zero"
        self.head: nn.Module
        if settings.head == "lowrank":
            self.head = LowRankHead(m, width, shape.basis)
        elif settings.head == "mlp":
            self.head = MlpHead(m, width, n_genes, zero=zero)
        else:
            self.head = LinearHead(m, width, n_genes, zero=zero)
        self.part_scale = None
        if settings.scale_parts:
            self.part_scale = MemberLinear(m, d + (N_PRODUCTS if self.products is not None else d), 1, zero=True)
        self.inner_gate = None
        if settings.inner_gate:
            self.inner_gate = MemberLinear(m, 2 * COUNTS + 1 + shape.covariates.shape[1], 1, zero=True)

    # -- the model ---------------------------------------------------------------------------------------------------

    def gene_states(self) -> GeneStates:
        """Embeddings and attention keys of all genes; kept between calls in evaluation."""
        keep = not self.training and not torch.is_grad_enabled()
        if keep and self._states_now is not None and self._states_now.h.device == self.response_basis.device:
            return self._states_now
        h = self.nodes()
        states = GeneStates(h, None if self.attention is None else self.attention.keys(h))
        if keep:
            self._states_now = states
        return states

    def respond(self, rows: Rows) -> Answer:
        """Response of B conditions, without the anchor."""
        genes = self.gene_states()
        tokens = self._tokens(rows, genes.h) * rows.present[None, :, :, None]
        # what a measured single says of its own gene is in the anchor: the head reads of it in products alone
        unmeasured = tokens * (1 - rows.measured)[..., None]
        context, skip = self._context(rows, tokens), self._context(rows, unmeasured)
        products = None if self.products is None else self.products(tokens)
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
        if self.part_scale is not None:
            residual = residual + self._rescaled_parts(rows, tokens, unmeasured, products)
        return Answer(residual, self._gate(rows, residual), alpha)

    def _tokens(self, rows: Rows, h: Tensor) -> Tensor:
        """(M, B, k, d) embedding of each perturbed gene."""
        n_rows, k = rows.node.shape
        own = h[:, rows.node.reshape(-1)].reshape(self.n_members, n_rows, k, -1)
        if self.token is None:
            return own
        blocks = [root_mean_square_norm(own)]
        if self.settings.responses:
            seen = root_mean_square_norm(rows.responses(self.response_basis))
            said = torch.cat([seen, rows.measured[..., None]], dim=-1)
            blocks.append(said.expand(self.n_members, -1, -1, -1))
        x = nn.functional.dropout(torch.cat(blocks, dim=-1), self.settings.dropout, self.training)
        return root_mean_square_norm(self.token(x))

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
            # sum over pairs of genes of the products of their features: the same for A+B and B+A, and 0 for one gene
            blocks.append(0.5 * (products.sum(dim=2).square() - products.square().sum(dim=2)))
        return torch.cat(blocks, dim=-1), alpha

    def _rescaled_parts(self, rows: Rows, tokens: Tensor, unmeasured: Tensor, products: Tensor | None) -> Tensor:
        """(M, B, G): each gene's part of the anchor times a factor that depends on the other genes."""
        assert self.part_scale is not None
        if products is None:
            others = tokens.sum(dim=2, keepdim=True) - tokens
        else:
            others = products * (products.sum(dim=2, keepdim=True) - products)
        return rows.total(self.part_scale(torch.cat([unmeasured, others], dim=-1))[..., 0])

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

    # -- scvi's module interface -------------------------------------------------------------------------------------

    def forward(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any], LossOutput]:
        """Outputs and loss of a batch of training conditions."""
        rows, anchor = self.read(tensors, p_mask=self.settings.p_mask if self.training else 0.0)
        answer = self.respond(rows)
        step = answer.gate[..., None] * answer.residual
        difference = tensors["target"] - anchor
        output = (
            self._training_loss(tensors, difference, step)
            if self.training
            else _moments(tensors, difference, step, self.scale)
        )
        return {}, {"residual": step, "anchor": anchor}, output

    def read(
        self, tensors: Mapping[str, Tensor], *, p_mask: float = 0.0, masked: Tensor | None = None
    ) -> tuple[Rows, Tensor]:
        """Rows of a batch and their anchors (m, B, G).

        ``p_mask``: share of measured parts of combinations that are shown as not measured; ``masked`` (B, k): which.
        """
        present, measured = tensors["present"], tensors["measured"][None]
        if p_mask:
            hidden = torch.rand(self.n_members, *present.shape, device=present.device) < p_mask
            measured = measured * ~(hidden & (present.sum(dim=1) > 1)[None, :, None])
        if masked is not None:
            measured = measured * ~masked
        rows = Rows(
            tensors["node"],
            present,
            measured.to(present.dtype) * present,
            tensors["measured_part"],
            tensors["expected_part"],
            tensors["context"],
        )
        return rows, rows.total(present[None]) + tensors["offset"]

    def _training_loss(self, tensors: Mapping[str, Tensor], difference: Tensor, step: Tensor) -> LossOutput:
        error = squared_error(difference - step, tensors["gene_weight"]) / self.scale
        weight = (tensors["trains"] * (tensors["row_weight"] * tensors["weight"])[:, None]).T
        per_member = (error * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
        return LossOutput(loss=per_member.mean(), n_obs_minibatch=len(difference), extra_metrics={})

    def validation_loss(self, means: Mapping[str, float]) -> float:
        """Held-out squared error against that of the anchor, with the best gate for singles and for combinations.

        0 is as good as the anchor, below 0 is better.
        """
        total = 0.0
        for kind in KINDS:
            product, square = means[f"product_{kind}"], means[f"square_{kind}"]
            factor = min(max(product / square, 0.0), 1.0) if square > 0 else 0.0
            factor = factor if self.settings.gate else 1.0
            total += factor**2 * square - 2 * factor * product
        return total

    def spread_attention(self, tensors: Mapping[str, Tensor]) -> None:
        """Start with an attention that depends on the perturbation; see :meth:`GeneAttention.spread`."""
        if self.attention is None:
            return
        was_training = self.training
        self.eval()
        with torch.no_grad():
            rows, _ = self.read(tensors)
            h = self.gene_states().h
            self.attention.spread(self._context(rows, self._tokens(rows, h) * rows.present[None, :, :, None]), h)
        self.train(was_training)

    def subset(self, members: slice) -> Self:
        """A copy with some of the members only, in evaluation mode."""
        twin = copy.deepcopy(self)
        twin.n_members = twin.nodes.n_members = len(range(*members.indices(self.n_members)))
        for module in twin.modules():
            # whatever has an axis of members has it first
            for name, value in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(value.detach()[members].clone(), requires_grad=False))
            for name in PER_MEMBER_BUFFERS & dict(module.named_buffers(recurse=False)).keys():
                module.register_buffer(name, getattr(module, name)[members].clone())
        twin.eval()
        return twin

    def train(self, mode: bool = True) -> Self:
        """Forget the kept embeddings: weights may change."""
        self._states_now = None
        return super().train(mode)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Forget the kept embeddings: weights change."""
        self._states_now = None
        return super().load_state_dict(*args, **kwargs)


def _one_hot(number: Tensor, least: int) -> Tensor:
    """(..., 3) for ``least``, ``least + 1`` and more."""
    return nn.functional.one_hot((number.long() - least).clamp(0, COUNTS - 1), COUNTS)


def _moments(tensors: Mapping[str, Tensor], difference: Tensor, step: Tensor, scale: float) -> LossOutput:
    """What is needed to judge the held-out rows under any gate, as weighted means over rows and members."""
    weight = tensors["held_out"] * (tensors["row_weight"] * tensors["weight"])[:, None]
    total = weight.sum()
    difference, step = at_least_float32(difference), at_least_float32(step)
    product = (difference * step).mean(dim=-1) / scale
    square = step.square().mean(dim=-1) / scale
    metrics = {"loss_weight": total}
    for kind, chosen in zip(KINDS, (tensors["is_combination"] == 0, tensors["is_combination"] > 0), strict=True):
        share = (weight * chosen[:, None]).T / total.clamp(min=1e-6)
        metrics |= {f"product_{kind}": (product * share).sum(), f"square_{kind}": (square * share).sum()}
    loss = metrics["square_single"] + metrics["square_combination"]
    loss = loss - 2 * (metrics["product_single"] + metrics["product_combination"])
    return LossOutput(loss=loss, n_obs_minibatch=len(difference), extra_metrics=metrics)
