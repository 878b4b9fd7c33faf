"""The knowledge stream of BioDSNN: from perturbed genes, graphs and pathways to a response over genes; torch only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy import sparse
from scvi.module.base import LossOutput
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scperturb_modules.models._anchored_module import AnchoredModule, Answer, Rows, mean_over_rows
from scperturb_modules.models._condition_tokens import N_PRODUCTS, ConditionTokens
from scperturb_modules.models._node_features import NodeFeatures
from scperturb_modules.models.biodsnn._layers import Perceptron, Propagation
from scperturb_modules.models.biodsnn._loss import terms_of_rows
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.models.biodsnn._stream import DataStream, StreamShape
from scperturb_modules.nn import (
    LowRankHead,
    MaskedEncoderLayer,
    MemberLinear,
    MemberNorm,
    MemberTable,
)

MOST_BYTES = 2**28
"""Memory that the transformer layer may take at a time."""

BYTES_PER_STATE = 80
"""About what it holds for the gradient, for each member, condition, gene and width."""

MOST_LOG_VARIANCE = 8.0
"""The uncertainty head stays within these bounds, around the mean square of all changes."""


@dataclass(frozen=True)
class BioDsnnShape:
    """What the knowledge stream is built from.

    Parameters
    ----------
    networks
        One (P, P) normalised adjacency of perturbation nodes per network.
    tables
        See :class:`NodeFeatures`; of the nodes.
    known
        (M, P) bool, nodes perturbed in the conditions that each member is trained on.
    coexpression
        (G, G) normalised adjacency of measured genes; None: no such branch.
    mask
        (G, G) pairs of measured genes that may attend to each other; None: all.
    gene_of
        (P,) int64, number of each node among the measured genes; -1 if it is not measured.
    response_basis
        (G, K) patterns in which a gene's part of the anchor is read.
    residual_basis
        (M, G, K) patterns of what the anchor leaves over in the conditions that each member is trained on.
    part_scale
        Root mean square of the parts of the anchor: the unit in which they are read.
    scale
        Mean square of the training changes: the unit of the loss.
    stream
        Of control cells; None: there is no data stream.
    n_predicting
        Members that predict, the first ones; the others are of folds.
    """

    networks: tuple[sparse.csr_array, ...]
    tables: Mapping[str, tuple[Tensor, Tensor]]
    known: Tensor
    coexpression: sparse.csr_array | None
    mask: sparse.csr_array | None
    gene_of: Tensor
    response_basis: Tensor
    residual_basis: Tensor
    part_scale: float
    scale: float
    stream: StreamShape | None
    n_predicting: int


@dataclass
class GeneStates:
    """What depends on no perturbation.

    ``base`` (M, G, d) measured genes; ``nodes`` (M, P, d) perturbation nodes; ``encoded`` (M, 1, G, d), the unperturbed
    cell, once it was asked for.
    """

    base: Tensor
    nodes: Tensor
    encoded: Tensor | None = None


class ReadCondition(NamedTuple):
    """Tokens of the perturbed genes, those of genes without a measured part, what is multiplied of each or None."""

    tokens: Tensor
    unmeasured: Tensor
    multiplied: Tensor | None


class BioDsnnModule(AnchoredModule):
    """Perturbation embeddings over the networks, gene embeddings over co-expression, pathway-masked attention.

    Everything that depends on the condition alone is computed once per condition, whatever the number of its cells.
    """

    PER_MEMBER_BUFFERS = frozenset({"known", "basis"})
    SHARED = frozenset({"stream"})

    gene_of: Tensor

    def __init__(self, shape: BioDsnnShape, settings: BioDsnnSettings) -> None:
        super().__init__(shape.known.shape[0], shape.scale, settings)
        self._states_now: GeneStates | None = None
        self.part_scale, anchored = shape.part_scale, settings.anchor != "zero"
        m, d, n_genes = self.n_members, settings.d, len(shape.response_basis)
        self.features = NodeFeatures(
            m, shape.known, shape.tables, d, id_dropout=settings.id_dropout, prior_dropout=settings.prior_dropout
        )
        self.of_networks = Propagation(m, d, shape.networks) if shape.networks else None
        self.genes = MemberTable(m, n_genes, d)
        self.norm = MemberNorm(m, d)
        self.coexpressed = None
        if shape.coexpression is not None:
            self.positions = MemberTable(m, n_genes, d)
            self.coexpressed = Propagation(m, d, (shape.coexpression,))
        self.of_gene = Perceptron(m, d, d)
        self.condition = ConditionTokens(
            m,
            d,
            shape.response_basis if settings.responses else None,
            products=settings.products,
            scale_parts=settings.scale_parts,
            dropout=settings.dropout,
        )
        self.fuse = Perceptron(m, d + N_PRODUCTS * settings.products, d)
        self.marker = nn.Parameter(torch.randn(m, 1, 1, d) / d**0.5) if settings.target_marker else None
        self.of_parts = MemberLinear(m, 2, d, bias=False) if settings.responses else None
        self.recombine = Perceptron(m, d, d)
        self.encoder = MaskedEncoderLayer(
            m, d, settings.hidden, shape.mask, heads=settings.heads, dropout=settings.layer_dropout,
            attention=settings.use_attention,
        )  # fmt: skip
        # with an anchor the residual starts at 0
        spread = 0.0 if anchored else d**-0.5
        self.readout = nn.Parameter(spread * torch.randn(m, n_genes, d))
        self.skip = None
        if settings.skip:
            self.skip = LowRankHead(m, d + N_PRODUCTS * settings.products, shape.residual_basis)
        self.uncertain = None
        if settings.uncertainty:
            self.uncertain = nn.Sequential(Perceptron(m, d, d), MemberLinear(m, d, 1))
        self.register_buffer("gene_of", shape.gene_of)
        self.stream = None if shape.stream is None else DataStream(shape.n_predicting, shape.stream, settings)

    # -- the model ---------------------------------------------------------------------------------------------------

    def gene_states(self) -> GeneStates:
        """States of genes and nodes without a perturbation; kept between calls in evaluation."""
        keep = not self.training and not torch.is_grad_enabled()
        if keep and self._states_now is not None and self._states_now.base.device == self.gene_of.device:
            return self._states_now
        base = torch.relu(self.norm(self.genes()))
        if self.coexpressed is not None:
            base = base + self.settings.coexpression_weight * self.coexpressed(self.positions())
        nodes = self.features(self.n_members)
        if self.of_networks is not None:
            nodes = self.of_networks(nodes)
        states = GeneStates(self.of_gene(base), nodes)
        if keep:
            states.encoded = self.encode(states.base[:, None])
            self._states_now = states
        return states

    def forget(self) -> None:
        """Forget the kept states."""
        self._states_now = None

    def encode(self, x: Tensor) -> Tensor:
        """(M, K, G, d) post-perturbation embeddings to what the transformer layer makes of them.

        Where it would hold too much at a time, some conditions after the others; what they need for the gradient is
        then computed again.
        """
        parts = x.split(self._conditions_at_once(x.shape[0]), dim=1)
        if len(parts) == 1:
            return self._encode_together(x)
        if not torch.is_grad_enabled():
            return torch.cat([self._encode_together(part) for part in parts], dim=1)
        return torch.cat([checkpoint(self._encode_together, part, use_reentrant=False) for part in parts], dim=1)

    def _encode_together(self, x: Tensor) -> Tensor:
        return self.encoder(x + self.recombine(x))

    def _conditions_at_once(self, n_members: int) -> int:
        states = n_members * self.readout.shape[1] * self.settings.d
        return max(1, int(MOST_BYTES / (BYTES_PER_STATE * states)))

    @property
    def rows_at_once(self) -> int:
        """Fewer for large screens."""
        return min(super().rows_at_once, self._conditions_at_once(self.n_members))

    def respond(self, rows: Rows) -> Answer:
        """Response of B conditions, without the anchor."""
        genes = self.gene_states()
        condition = self._read_condition(rows, genes)
        z, z_0, _ = self._encoded(rows, condition, genes)
        # the difference first: what all conditions share cancels before it is read out
        residual = torch.einsum("mkgd,mgd->mkg", z - z_0, self.readout)
        if self.skip is not None:
            said = self._said(condition)
            residual = residual + self.skip(said) - self.skip(torch.zeros_like(said[:, :1]))
        if self.condition.part_scale is not None:
            residual = residual + self.condition.rescaled(rows, *condition)
        return Answer(residual, torch.ones_like(residual[..., 0]), log_variance=self._log_variance(z))

    def attention(self, rows: Rows) -> Tensor:
        """(M, B + 1, E) attention of the permitted pairs in B conditions, and last in the unperturbed cell."""
        genes = self.gene_states()
        x = self._perturbed(rows, self._read_condition(rows, genes), genes)
        x = torch.cat([x, genes.base[:, None]], dim=1)
        found: Tensor = self.encoder.mixing.weights(x + self.recombine(x))  # type: ignore[operator]
        return found

    def _log_variance(self, z: Tensor) -> Tensor | None:
        """(M, B, G) of the error, in squared units of the change."""
        if self.uncertain is None:
            return None
        return self.uncertain(z)[..., 0].clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE) + math.log(self.scale)

    def encoded(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Encoded genes of B conditions (M, B, G, d) and of the unperturbed cell (M, 1, G, d), and what was encoded."""
        genes = self.gene_states()
        return self._encoded(rows, self._read_condition(rows, genes), genes)

    def _encoded(self, rows: Rows, condition: ReadCondition, genes: GeneStates) -> tuple[Tensor, Tensor, Tensor]:
        x = self._perturbed(rows, condition, genes)
        if genes.encoded is not None:
            return self.encode(x), genes.encoded, x
        # with the unperturbed cell as one more condition
        both = self.encode(torch.cat([x, genes.base[:, None]], dim=1))
        return both[:, :-1], both[:, -1:], x

    def _read_condition(self, rows: Rows, genes: GeneStates) -> ReadCondition:
        tokens = self.condition(rows, genes.nodes)
        # what a measured single says of its own gene is in the anchor: only pairs read it
        unmeasured = tokens * (1 - rows.measured)[..., None] if self.settings.responses else tokens
        return ReadCondition(tokens, unmeasured, self.condition.multiplied(tokens))

    def _perturbed(self, rows: Rows, condition: ReadCondition, genes: GeneStates) -> Tensor:
        """(M, B, G, d) post-perturbation embedding of every gene in every condition."""
        u = self._said(condition)
        # no perturbation is exactly 0
        u = self.fuse(u) - self.fuse(torch.zeros_like(u[:, :1]))
        u = nn.functional.dropout(u, self.settings.dropout, self.training)
        x = genes.base[:, None] + u[:, :, None]
        if self.marker is not None:
            x = x + self._targets(rows, x.shape[2])[None, ..., None] * self.marker
        if self.of_parts is not None:
            x = x + self.of_parts(self._parts_by_gene(rows).expand(self.n_members, -1, -1, -1))
        return x

    def _said(self, condition: ReadCondition) -> Tensor:
        """(M, B, width) what is read of the perturbed genes together; the same for A+B and B+A."""
        said = [condition.unmeasured.sum(dim=2)]
        if condition.multiplied is not None:
            said.append(self.condition.of_pairs(condition.multiplied))
        return torch.cat(said, dim=-1)

    def _targets(self, rows: Rows, n_genes: int) -> Tensor:
        """(B, G) 1 at the measured genes that are perturbed."""
        target = self.gene_of[rows.node]
        here = (target >= 0) & (rows.present > 0)
        marks = rows.present.new_zeros(len(target), n_genes)
        return marks.scatter_add(1, target.clamp(min=0), here.to(marks.dtype))

    def _parts_by_gene(self, rows: Rows) -> Tensor:
        """(m, B, G, 2) sum of the parts of the anchor at each gene, and sum of their products over pairs."""
        scaled = rows._replace(
            measured_part=rows.measured_part / self.part_scale, expected_part=rows.expected_part / self.part_scale
        )
        total = scaled.total(rows.present[None])
        squares = scaled._replace(
            measured_part=scaled.measured_part.square(), expected_part=scaled.expected_part.square()
        ).total(rows.present[None])
        products = 0.5 * (total.square() - squares)
        # heavy tails: a product of two strong responses would drown everything else
        return torch.stack([_damped(total), _damped(products)], dim=-1)

    def _training_loss(
        self, tensors: Mapping[str, Tensor], difference: Tensor, step: Tensor, log_variance: Tensor | None
    ) -> LossOutput:
        error = difference - step
        of_cells = self._errors_of_cells(tensors, error) if self.settings.level == "cell" else None
        terms = terms_of_rows(self.settings, self.scale, tensors, error, of_cells, log_variance)
        means = {name: mean_over_rows(tensors, values) / self.scale for name, values in terms.items()}
        loss = torch.stack(list(means.values())).sum()
        if of_cells is not None and self.stream is not None and self.stream.vae is not None:
            of_controls, said = self.stream.of_controls(tensors["control_X"])
            loss, means = loss + of_controls / self.scale, means | said
        return LossOutput(loss=loss, n_obs_minibatch=len(difference), extra_metrics=means)

    def _errors_of_cells(self, tensors: Mapping[str, Tensor], error: Tensor) -> Tensor:
        """(M, B, C, G) of cells that are each paired with a control: regenerated control + predicted change - cell."""
        controls = tensors["control_X"]
        if self.stream is not None:
            controls = self.stream.regenerated(controls)
        # error of the mean is change - prediction
        predicted = controls + (tensors["target"] - error)[:, :, None]
        return predicted - tensors["X"]


def _damped(x: Tensor) -> Tensor:
    """The sign and the logarithm of the size of large values; small values as they are."""
    return x.sign() * torch.log1p(x.abs())
