"""The network over gene programs that says what a condition does on average; torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scperturb_modules.models._anchored_module import AnchoredModule, Answer, Rows
from scperturb_modules.models._condition_tokens import N_PRODUCTS, ConditionTokens
from scperturb_modules.models._node_features import NodeFeatures
from scperturb_modules.models.scbig._generator import CellGenerator, GeneratorShape
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.nn import LowRankHead, MaskedEncoderLayer, MemberLinear, MemberTable


@dataclass(frozen=True)
class ScbigShape:
    """What the network over programs is built from.

    Parameters
    ----------
    program
        (G,) int64, program of each gene.
    tables
        See :class:`NodeFeatures`; of the nodes.
    known
        (M, P) bool, nodes perturbed in the conditions that each member is trained on.
    gene_of
        (P,) int64, number of each node among the measured genes; -1 if it is not measured.
    response_basis
        (G, K * r) patterns in which a gene's part of the anchor is read, r of each program and 0 outside of it.
    residual_basis
        (M, G, R) patterns of what the anchor leaves over in the conditions that each member is trained on.
    control
        (G,) mean of each gene in training controls, log1p CP10k.
    scale
        Mean square of the training changes: the unit of the loss.
    generator
        What is learned of single cells; None: nothing is.
    """

    program: Tensor
    tables: Mapping[str, tuple[Tensor, Tensor]]
    known: Tensor
    gene_of: Tensor
    response_basis: Tensor
    residual_basis: Tensor
    control: Tensor
    scale: float
    generator: GeneratorShape | None = None


class ScbigModule(AnchoredModule):
    """A condition as one token for each gene program; programs attend to each other, and each answers for its genes.

    A token is made of what the perturbed genes do to the program (their parts of the anchor, read in patterns within
    the program, and the products of pairs) and of what they are (networks, tables, free vectors).
    """

    PER_MEMBER_BUFFERS = frozenset({"known", "basis"})
    SHARED = frozenset({"generator"})

    program: Tensor
    gene_of: Tensor
    control: Tensor

    def __init__(self, shape: ScbigShape, settings: ScbigSettings) -> None:
        super().__init__(shape.known.shape[0], shape.scale, settings)
        m, d = self.n_members, settings.d
        self.n_programs = int(shape.program.max()) + 1
        self.n_patterns = shape.response_basis.shape[1] // self.n_programs
        self.features = NodeFeatures(
            m, shape.known, shape.tables, d, id_dropout=settings.id_dropout, prior_dropout=settings.prior_dropout
        )
        self.condition = ConditionTokens(m, d, shape.response_basis, dropout=settings.dropout)
        self.programs = MemberTable(m, self.n_programs, d)
        self.of_condition = MemberLinear(m, d + N_PRODUCTS, d)
        self.of_program = MemberLinear(m, 2 * self.n_patterns, d, bias=False)
        self.encoder = MaskedEncoderLayer(m, d, settings.hidden, None, heads=settings.heads, dropout=0.0)
        self.readout = nn.Parameter(torch.zeros(m, len(shape.program), d))
        self.skip = LowRankHead(m, d + N_PRODUCTS, shape.residual_basis)
        self.of_target = nn.Parameter(torch.zeros(m, 2))
        self.register_buffer("program", shape.program)
        self.register_buffer("gene_of", shape.gene_of)
        self.register_buffer("control", shape.control)
        self.generator = None if shape.generator is None else CellGenerator(shape.generator, settings)

    def respond(self, rows: Rows) -> Answer:
        """Response of B conditions, without the anchor."""
        tokens = self.condition(rows, self.features(self.n_members))
        # what a measured single says of its own gene is in the anchor: only pairs read it
        unmeasured = tokens * (1 - rows.measured)[..., None]
        multiplied = self.condition.multiplied(tokens)
        assert multiplied is not None
        said = torch.cat([unmeasured.sum(dim=2), self.condition.of_pairs(multiplied)], dim=-1)
        residual = self.skip(said) - self.skip(torch.zeros_like(said[:, :1]))
        residual = residual + self.condition.rescaled(rows, tokens, unmeasured, multiplied)
        residual = residual + self._of_targets(rows)
        if self.settings.use_tokens:
            residual = residual + self._of_programs(rows, said)
        return Answer(residual, torch.ones_like(residual[..., 0]))

    def _of_programs(self, rows: Rows, said: Tensor) -> Tensor:
        """(M, B, G) what the tokens of the programs say, each of its own genes."""
        u = self.of_condition(said) - self.of_condition(torch.zeros_like(said[:, :1]))
        u = nn.functional.dropout(u, self.settings.dropout, self.training)
        own = self.programs()[:, None]
        parts = self.of_program(self._responses(rows).expand(self.n_members, -1, -1, -1))
        z = self.encoder(torch.cat([own + u[:, :, None] + parts, own], dim=1))
        # the difference to the unperturbed cell: no perturbation is exactly 0
        moved = (z[:, :-1] - z[:, -1:]).index_select(2, self.program)
        return (moved * self.readout[:, None]).sum(dim=-1)

    def _responses(self, rows: Rows) -> Tensor:
        """(m, B, K, 2 r) sum of the parts of the anchor in the patterns of each program, and their products."""
        basis = self.condition.response_basis
        assert basis is not None
        parts = rows.responses(basis) * rows.present[..., None]
        total = parts.sum(dim=2)
        scale = 1 / (basis.square().sum(dim=0) + 1e-12)
        scaled = total * scale
        products = 0.5 * (scaled.square() - (parts * scale).square().sum(dim=2))
        shape = (*total.shape[:2], self.n_programs, self.n_patterns)
        return torch.cat([_damped(scaled).reshape(shape), _damped(products).reshape(shape)], dim=-1)

    def _of_targets(self, rows: Rows) -> Tensor:
        """(M, B, G) what a perturbed gene that was never measured does to itself, by its mean in controls."""
        target = self.gene_of[rows.node]
        here = (target >= 0) * rows.present * (1 - rows.measured)
        at = target.clamp(min=0)
        size = (self.of_target[:, None, None, 0] + self.of_target[:, None, None, 1] * self.control[at]) * here
        nothing = size.new_zeros(self.n_members, len(target), len(self.control))
        return nothing.scatter_add(2, at.expand(self.n_members, -1, -1), size)


def _damped(x: Tensor) -> Tensor:
    """The sign and the logarithm of the size of large values; small values as they are."""
    return x.sign() * torch.log1p(x.abs())
