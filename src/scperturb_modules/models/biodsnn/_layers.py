"""Layers of the knowledge stream, for all ensemble members at once."""

from __future__ import annotations

import torch
from scipy import sparse
from torch import Tensor, nn

from scperturb_modules.nn import MemberLinear, Relation


class Propagation(nn.Module):
    """One step over each network and a map of what is heard: ``sum_r S_r x W_r`` (simple graph convolution)."""

    def __init__(self, n_members: int, width: int, networks: tuple[sparse.csr_array, ...]) -> None:
        super().__init__()
        self.relations = nn.ModuleList(Relation(one, agg="sum") for one in networks)
        self.maps = nn.ModuleList(MemberLinear(n_members, width, width) for _ in networks)

    def forward(self, x: Tensor) -> Tensor:
        """(M, N, d) to (M, N, d)."""
        heard = [of_map(relation(x)) for relation, of_map in zip(self.relations, self.maps, strict=True)]
        return torch.stack(heard).sum(dim=0)


class Perceptron(nn.Module):
    """d -> 2 d -> d, with a rectifier between."""

    def __init__(self, n_members: int, n_in: int, width: int, *, zero: bool = False) -> None:
        super().__init__()
        self.hidden = MemberLinear(n_members, n_in, 2 * width)
        self.out = MemberLinear(n_members, 2 * width, width, bias=False, zero=zero)

    def forward(self, x: Tensor) -> Tensor:
        """(M, ..., n_in) to (M, ..., d)."""
        return self.out(torch.relu(self.hidden(x)))
