"""Tokens of gene programs: from the genes of each program to its token, and back."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scperturb_modules.nn._set_attention import AttentionBlock, InducedBlock


class ProgramSlots(nn.Module):
    """Where each gene lies among the genes sorted by program, each program padded to the size L of the largest.

    One batched product over programs then serves them all, several times faster than one per program or than a sum over
    genes by program; genes are fetched as rows, since fetching columns is slower. Only where the largest of many
    programs has three times the mean size is one product per program faster.

    Parameters
    ----------
    program
        (G,) int64, program of each gene.
    """

    gene: Tensor
    slot: Tensor

    def __init__(self, program: Tensor) -> None:
        super().__init__()
        sizes = program.bincount()
        if (sizes == 0).any():
            raise ValueError("Every program from 0 to the last needs at least one gene.")
        order = program.argsort(stable=True)
        rank = torch.arange(len(program)) - (sizes.cumsum(0) - sizes)[program[order]]
        slot = torch.empty_like(program)
        slot[order] = program[order] * sizes.max() + rank
        gene = torch.zeros(len(sizes) * int(sizes.max()), dtype=torch.int64)
        gene[slot] = torch.arange(len(program))
        self.n_programs = len(sizes)
        self.register_buffer("slot", slot, persistent=False)
        self.register_buffer("gene", gene, persistent=False)

    def tokens(self, x: Tensor, weight: Tensor) -> Tensor:
        """(B, G) values and (G, d) weights to (K, B, d): per program, the sum of value times weight over its genes."""
        # padding is filled with gene 0, and its weight is 0
        values = x.t()[self.gene].unflatten(0, (self.n_programs, -1))
        return torch.bmm(values.transpose(1, 2), self._padded(weight))

    def readout(self, tokens: Tensor, weight: Tensor) -> Tensor:
        """(K, B, d) tokens and (G, d) weights to (B, G): each gene's weights times the token of its program."""
        values = torch.bmm(self._padded(weight), tokens.transpose(1, 2))
        return values.flatten(end_dim=1)[self.slot].t()

    def _padded(self, weight: Tensor) -> Tensor:
        """(G, d) to (K, L, d)."""
        padded = weight.new_zeros(len(self.gene), weight.shape[1]).index_copy(0, self.slot, weight)
        return padded.unflatten(0, (self.n_programs, -1))


class TokenEncoder(nn.Module):
    """Scaled genes (..., G) to what their programs say of the latent state (..., q); 0 before training."""

    def __init__(
        self,
        program: Tensor,
        n_latent: int,
        *,
        width: int,
        n_layers: int,
        heads: int,
        n_inducing: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.slots = ProgramSlots(program)
        size = program.bincount()[program, None]
        self.weight = nn.Parameter(torch.randn(len(program), width) / size.sqrt())
        # b_k and the identity of the token are one vector
        self.identity = nn.Parameter(torch.randn(self.slots.n_programs, 1, width))
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(InducedBlock(width, heads, n_inducing, dropout=dropout) for _ in range(n_layers))
        self.query = nn.Parameter(torch.randn(1, width) / math.sqrt(width))
        self.pool = AttentionBlock(width, heads, dropout=dropout)
        self.out = starting_at_zero(nn.Linear(width, n_latent))

    def forward(self, scaled: Tensor) -> Tensor:
        cells = scaled.reshape(-1, scaled.shape[-1])
        tokens = self.norm(self.slots.tokens(cells, self.weight) + self.identity).transpose(0, 1)
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.pool(self.query.expand(len(cells), -1, -1), tokens)[:, 0]
        latents = self.out(pooled)
        return latents.reshape(*scaled.shape[:-1], latents.shape[-1])


class TokenDecoder(nn.Module):
    """Latent states (..., q) to what their programs say of scaled genes (..., G); 0 before training."""

    def __init__(
        self,
        program: Tensor,
        n_latent: int,
        *,
        width: int,
        n_layers: int,
        heads: int,
        n_inducing: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.slots = ProgramSlots(program)
        self.tokens = nn.Parameter(torch.randn(self.slots.n_programs, width))
        self.film = nn.Linear(n_latent, 2 * width)
        self.blocks = nn.ModuleList(InducedBlock(width, heads, n_inducing, dropout=dropout) for _ in range(n_layers))
        self.weight = nn.Parameter(torch.zeros(len(program), width))
        self.bias = nn.Parameter(torch.zeros(len(program)))

    def forward(self, raw: Tensor) -> Tensor:
        scale, shift = self.film(raw.reshape(-1, 1, raw.shape[-1])).chunk(2, dim=-1)
        tokens = self.tokens * (1 + scale) + shift
        for block in self.blocks:
            tokens = block(tokens)
        genes = self.slots.readout(tokens.transpose(0, 1), self.weight) + self.bias
        return genes.reshape(*raw.shape[:-1], genes.shape[-1])


def starting_at_zero(layer: nn.Linear) -> nn.Linear:
    """The layer, with all weights 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
