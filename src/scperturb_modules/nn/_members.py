"""Layers with a leading axis of ensemble members."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MemberLinear(nn.Module):
    """M linear maps side by side: ``y[m] = x[m] W[m] + b[m]``.

    Parameters
    ----------
    n_members, n_in, n_out
        M and the widths.
    bias
        Whether there is a ``b``; it starts at 0.
    zero
        Start at ``W = 0``, so that the output is 0; else Xavier (uniform).

    Notes
    -----
    Inputs are (M, ..., n_in). The members draw their first weights one after the other.
    """

    def __init__(self, n_members: int, n_in: int, n_out: int, *, bias: bool = True, zero: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_members, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_members, n_out)) if bias else None
        if not zero:
            bound = math.sqrt(6 / (n_in + n_out))
            nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(M, ..., n_in) to (M, ..., n_out)."""
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        out = (
            torch.matmul(flat, self.weight)
            if self.bias is None
            else torch.baddbmm(self.bias[:, None], flat, self.weight)
        )
        return out.reshape(*x.shape[:-1], self.weight.shape[-1])

    def of_blocks(self, blocks: Sequence[Tensor]) -> Tensor:
        """The map of the blocks side by side, (M, n, width) each, without putting them together."""
        out: Tensor | None = None if self.bias is None else self.bias[:, None]
        start = 0
        for block in blocks:
            weight = self.weight[:, start : start + block.shape[-1]]
            out = torch.matmul(block, weight) if out is None else torch.baddbmm(out, block, weight)
            start += block.shape[-1]
        assert out is not None
        return out


class MemberTable(nn.Module):
    """A free vector per row and member: (M, n_rows, width), initial entries N(0, 1 / width)."""

    def __init__(self, n_members: int, n_rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_members, n_rows, width) / math.sqrt(width))

    def forward(self) -> Tensor:
        """The whole table."""
        return self.weight


def root_mean_square_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last axis; a zero vector stays zero."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
