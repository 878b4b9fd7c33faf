"""What the genes of a network start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scperturb_modules.nn import MemberLinear, MemberTable


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
    width
        d.
    learned
        Whether genes have free vectors.
    id_dropout, prior_dropout
        Shares of free vectors, and of rows of each table, that are left out in training.
    """

    known: Tensor

    def __init__(
        self,
        n_members: int,
        known: Tensor,
        tables: Mapping[str, tuple[Tensor, Tensor]],
        width: int,
        *,
        learned: bool = True,
        id_dropout: float = 0.0,
        prior_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.id_dropout, self.prior_dropout = id_dropout, prior_dropout
        n_nodes = known.shape[1]
        self.free = MemberTable(n_members, n_nodes, width) if learned else None
        self.names = list(tables)
        for name, (values, present) in tables.items():
            self.register_buffer(f"values_{self.names.index(name)}", values)
            self.register_buffer(f"present_{self.names.index(name)}", present.to(values.dtype)[:, None])
        n_features = sum(values.shape[1] + 1 for values, _ in tables.values())
        self.register_buffer("known", known.to(torch.get_default_dtype())[..., None])
        self.linear = None
        if tables:
            self.linear = MemberLinear(n_members, n_features + (width if learned else 0), width)

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
