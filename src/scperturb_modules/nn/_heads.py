"""From the state of a condition to its response over genes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scperturb_modules.nn._members import MemberLinear


class LinearHead(nn.Module):
    """``W_o z + b_o``; ``zero`` starts at a response of 0."""

    def __init__(self, n_members: int, width: int, n_genes: int, *, zero: bool = False) -> None:
        super().__init__()
        self.out = MemberLinear(n_members, width, n_genes, zero=zero)

    def forward(self, state: Tensor) -> Tensor:
        """(M, B, width) to (M, B, G)."""
        return self.out(state)


class LowRankHead(nn.Module):
    """``U q(z)``: coordinates in a basis of K response patterns.

    Parameters
    ----------
    basis
        (M, G, K), a basis for each member, made from the conditions that it is trained on. Columns carry their scale:
        a strong pattern is reached with small coordinates.
    train_basis
        Whether the basis is trained too.
    """

    def __init__(self, n_members: int, width: int, basis: Tensor, *, train_basis: bool = False) -> None:
        super().__init__()
        self.coordinates = MemberLinear(n_members, width, basis.shape[-1], zero=True)
        if train_basis:
            self.basis = nn.Parameter(basis.clone())
        else:
            self.register_buffer("basis", basis.clone())

    def forward(self, state: Tensor) -> Tensor:
        """(M, B, width) to (M, B, G)."""
        return torch.matmul(self.coordinates(state), self.basis.transpose(-1, -2))


class MlpHead(nn.Module):
    """width -> 2 width -> G with a rectifier and dropout: the decoder that the linear one is compared with."""

    def __init__(self, n_members: int, width: int, n_genes: int, *, dropout: float = 0.1, zero: bool = False) -> None:
        super().__init__()
        self.hidden = MemberLinear(n_members, width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.out = MemberLinear(n_members, 2 * width, n_genes, zero=zero)

    def forward(self, state: Tensor) -> Tensor:
        """(M, B, width) to (M, B, G)."""
        return self.out(self.dropout(torch.relu(self.hidden(state))))
