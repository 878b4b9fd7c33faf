"""A condition as its perturbed genes: a token for each, products of pairs of genes, factors of the anchor's parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scperturb_modules.models._anchored_module import Rows
from scperturb_modules.nn import MemberLinear, root_mean_square_norm

N_PRODUCTS = 128
"""Width of the products of pairs of genes."""


class ConditionTokens(nn.Module):
    """What a network reads of the perturbed genes of a condition; the same for A+B and B+A.

    Parameters
    ----------
    n_members, width
        M and d.
    response_basis
        (G, K) patterns in which a gene's part of the anchor is read into its token; None: it is not.
    products
        Whether there are products of pairs of genes.
    scale_parts
        Whether each gene's part of the anchor is rescaled by what the other genes are.
    dropout
        Of what the map reads.
    """

    response_basis: Tensor | None

    def __init__(
        self,
        n_members: int,
        width: int,
        response_basis: Tensor | None,
        *,
        products: bool = True,
        scale_parts: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_members, self.dropout = n_members, dropout
        n_responses = 0 if response_basis is None else response_basis.shape[1] + 1
        self.token = MemberLinear(n_members, width + n_responses, width) if products or n_responses else None
        self.products = MemberLinear(n_members, width, N_PRODUCTS, bias=False) if products else None
        self.part_scale = None
        if scale_parts:
            self.part_scale = MemberLinear(n_members, width + (N_PRODUCTS if products else width), 1, zero=True)
        self.register_buffer("response_basis", response_basis)

    def forward(self, rows: Rows, h: Tensor) -> Tensor:
        """(M, B, k, d) token of each perturbed gene, 0 where there is none, from embeddings (M, N, d) of all genes."""
        n_rows, k = rows.node.shape
        own = h[:, rows.node.reshape(-1)].reshape(self.n_members, n_rows, k, -1)
        if self.token is not None:
            blocks = [root_mean_square_norm(own)]
            if self.response_basis is not None:
                seen = root_mean_square_norm(rows.responses(self.response_basis))
                said = torch.cat([seen, rows.measured[..., None]], dim=-1)
                blocks.append(said.expand(self.n_members, -1, -1, -1))
            x = nn.functional.dropout(torch.cat(blocks, dim=-1), self.dropout, self.training)
            own = root_mean_square_norm(self.token(x))
        return own * rows.present[None, :, :, None]

    def multiplied(self, tokens: Tensor) -> Tensor | None:
        """(M, B, k, N_PRODUCTS) what is multiplied of each gene; None without products."""
        return None if self.products is None else self.products(tokens)

    @staticmethod
    def of_pairs(multiplied: Tensor) -> Tensor:
        """(M, B, N_PRODUCTS) sum of products over pairs of genes: the same for A+B and B+A, and 0 for one gene."""
        return 0.5 * (multiplied.sum(dim=2).square() - multiplied.square().sum(dim=2))

    def rescaled(self, rows: Rows, tokens: Tensor, unmeasured: Tensor, multiplied: Tensor | None) -> Tensor:
        """(M, B, G): each gene's part of the anchor times a factor that depends on the other genes.

        ``unmeasured``: tokens of genes without a measured part, 0 for the others.
        """
        assert self.part_scale is not None
        if multiplied is None:
            others = tokens.sum(dim=2, keepdim=True) - tokens
        else:
            others = multiplied * (multiplied.sum(dim=2, keepdim=True) - multiplied)
        return rows.total(self.part_scale(torch.cat([unmeasured, others], dim=-1))[..., 0])
