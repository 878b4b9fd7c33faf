"""Perturbed cells from control cells: latent states, a condition as a vector, the flow between them; torch only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scperturb_modules.models._anchored_module import Rows
from scperturb_modules.models._node_features import NodeFeatures
from scperturb_modules.models.scbig._encoder import ProgramAutoencoder
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.nn import SetEncoder, Velocity, guided, integrate, root_mean_square_norm

N_REFERENCE = 512
"""Control cells of each context that stand for all: generated cells are centred on them."""

N_SHIFTED = 64
"""Of these, cells whose latent states tell how far a change moves the latent."""

LEAST_EXPRESSION = 0.02
"""Decoded expression below this counts as this much (log1p CP10k): ratios of nothing mean nothing."""

MOST_LOG_RATIO = 2.0
"""The flow makes no gene of a cell more than exp(2) times stronger or weaker than the mean change does."""


@dataclass(frozen=True)
class GeneratorShape:
    """What generation is built from.

    Parameters
    ----------
    program
        (G,) int64, program of each gene.
    mean, sd, components
        (G,), (G,) and (G, q) of training cells; see :class:`ProgramAutoencoder`.
    projection
        (G, K) expression to the activities of programs: a change times it is a change of activities.
    reference
        (C, N_REFERENCE, G) training controls of each context, log1p CP10k.
    tables
        Name to values and mask of the nodes; see :class:`NodeFeatures`.
    known
        (P,) bool, nodes perturbed in training.
    """

    program: Tensor
    mean: Tensor
    sd: Tensor
    components: Tensor
    projection: Tensor
    reference: Tensor
    tables: Mapping[str, tuple[Tensor, Tensor]]
    known: Tensor


class CellGenerator(nn.Module):
    """Moves control cells in the latent of an autoencoder to where the cells of a condition are.

    A cell starts from its latent state, shifted as the predicted mean change shifts it; the flow then has only to say
    how the cells of the condition differ from that.

    Parameters
    ----------
    shape, settings
        See there.
    """

    projection: Tensor
    reference: Tensor

    def __init__(self, shape: GeneratorShape, settings: ScbigSettings) -> None:
        super().__init__()
        self.settings = settings
        n_programs, width = shape.projection.shape[1], settings.flow_width
        self.n_latent = shape.components.shape[1]
        self.autoencoder = ProgramAutoencoder(
            shape.program,
            shape.mean,
            shape.sd,
            shape.components,
            width=settings.width,
            n_layers=settings.n_layers,
            heads=settings.heads,
            n_inducing=settings.n_inducing,
            tokens=settings.use_tokens,
        )
        self.features = NodeFeatures(
            1, shape.known[None], shape.tables, width,
            id_dropout=settings.id_dropout, prior_dropout=settings.prior_dropout,
        )  # fmt: skip
        self.token = nn.Sequential(nn.Linear(width + n_programs + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.conditions = SetEncoder(width, settings.heads)
        self.context = nn.Embedding(len(shape.reference), width)
        self.velocity = Velocity(self.n_latent, width, width, settings.flow_blocks)
        self.register_buffer("projection", shape.projection)
        self.register_buffer("reference", shape.reference)

    def condition(self, rows: Rows) -> Tensor:
        """(B, d) vector of each condition; rows count genes as measured in one way, m = 1."""
        parts = rows.responses(self.projection)[0]
        own = self.features(1)[0][rows.node]
        said = [root_mean_square_norm(own), root_mean_square_norm(parts), rows.measured[0][..., None]]
        encoded: Tensor = self.conditions(self.token(torch.cat(said, dim=-1)), rows.present > 0)
        return encoded + self.context(rows.context)

    def transport(
        self, start: Tensor, condition: Tensor, *, path: bool = False, differentiable: bool = False
    ) -> Tensor:
        """(B, n, q) latent states where the flow takes (B, n, q) start; with ``path`` (T + 1, B, n, q) of the way.

        ``differentiable``: by a cheaper solver, as alignment uses it in training.
        """
        settings = self.settings
        if not settings.use_flow:
            end = start + self.velocity(torch.zeros(len(start), device=start.device), start, condition)
            return torch.stack([start, end]) if path else end
        if differentiable:
            field = guided(self.velocity, condition, None, 1.0)
            return integrate(field, start, n_steps=settings.n_steps, solver="midpoint")
        field = guided(self.velocity, condition, self.unknown(condition), settings.guidance)
        return integrate(field, start, n_steps=settings.n_steps, solver=settings.solver, path=path)  # type: ignore[arg-type]

    def unknown(self, condition: Tensor) -> Tensor | None:
        """The vector that stood for unknown conditions in training."""
        return self.conditions.null.to(condition.dtype) if self.settings.p_unconditional else None

    def shift(self, change: Tensor, context: Tensor) -> Tensor:
        """(B, q) how far changes of the mean (B, G) move the latent states of controls, on average."""
        controls = self.reference[:, :N_SHIFTED]
        states = self.autoencoder.encode(controls).mean(dim=1)
        moved = [
            self.autoencoder.encode(controls[code] + one).mean(dim=0) - states[code]
            for code, one in zip(context.tolist(), change, strict=True)
        ]
        return torch.stack(moved)

    def deviation(self, start: Tensor, end: Tensor) -> Tensor:
        """(..., G) what cells are at the end of the flow, minus what they were at its start."""
        return self.autoencoder.decode(end) - self.autoencoder.decode(start)


def log_ratio(before: Tensor, after: Tensor) -> Tensor:
    """Log of how much stronger expression is after than before, both decoded (log1p CP10k), within bounds."""
    strength = [torch.expm1(one.clamp(min=LEAST_EXPRESSION)).log() for one in (before, after)]
    return (strength[1] - strength[0]).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
