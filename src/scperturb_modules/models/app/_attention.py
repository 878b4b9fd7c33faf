"""Attention from the context of a perturbation over all genes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from scperturb_modules.nn import MemberLinear, at_least_float32


class GeneAttention(nn.Module):
    """Weights over N genes, given a context; and the state that they sum up.

    ``s_i = v^T tanh(W_c c + W_h h_i + b)`` (additive), ``h_i^T B c / sqrt(d)`` (bilinear), or their sum;
    ``alpha = softmax_i(s_i)`` over the pool; ``z = sum_i alpha_i h_i``, side by side for several heads.

    Parameters
    ----------
    n_members, width, heads
        M, d and H; each head has a width of d / H.
    score
        ``"additive"``, ``"bilinear"`` or ``"additive+bilinear"``.
    uses_context
        False: the scores do not see the context, so that the weights are the same for all perturbations.
    outside
        (N,) bool, genes that get a weight of exactly 0.
    """

    outside: Tensor

    def __init__(
        self, n_members: int, width: int, *, heads: int, score: str, uses_context: bool, outside: Tensor
    ) -> None:
        super().__init__()
        self.heads, self.uses_context = heads, uses_context
        self.is_additive, self.is_bilinear = "additive" in score, "bilinear" in score and uses_context
        if self.is_additive or not uses_context:
            self.of_gene = MemberLinear(n_members, width, width)
            self.v = nn.Parameter(torch.empty(n_members, heads, width // heads))
            nn.init.uniform_(self.v, -math.sqrt(6 * heads / (width + heads)), math.sqrt(6 * heads / (width + heads)))
            if uses_context:
                self.of_context = MemberLinear(n_members, width, width, bias=False)
        if self.is_bilinear:
            self.bilinear = MemberLinear(n_members, width, heads * width, bias=False)
        self.register_buffer("outside", outside)

    def keys(self, h: Tensor) -> Tensor | None:
        """``W_h h + b`` (M, N, d): does not depend on the perturbation, so it is computed once."""
        return self.of_gene(h) if hasattr(self, "of_gene") else None

    def forward(self, context: Tensor, h: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend.

        Parameters
        ----------
        context
            (M, B, d).
        h, keys
            (M, N, d) states of the genes, and :meth:`keys` of them.

        Returns
        -------
        tuple
            States (M, B, H d) and weights (M, B, N), the mean over heads; float32 also under half precision.
        """
        scores = at_least_float32(self.scores(context, h, keys)).masked_fill(self.outside, -torch.inf)
        alpha = scores.softmax(dim=-1)
        states = torch.einsum("mbhn,mnd->mbhd", alpha.to(h.dtype), h)
        return states.flatten(2), alpha.mean(dim=2)

    def scores(self, context: Tensor, h: Tensor, keys: Tensor | None) -> Tensor:
        """(M, B, H, N)."""
        n_members, n_rows, width = context.shape
        total: Tensor | None = None
        if keys is not None:
            split = keys.reshape(n_members, 1, -1, self.heads, width // self.heads)
            if self.uses_context:
                asked = self.of_context(context).reshape(n_members, n_rows, 1, self.heads, -1)
                split = split + asked
            else:
                split = split.expand(-1, n_rows, -1, -1, -1)
            total = torch.einsum("mbnhe,mhe->mbhn", torch.tanh(split), self.v)
        if self.is_bilinear:
            asked = self.bilinear(context).reshape(n_members, n_rows * self.heads, width)
            product = torch.matmul(asked, h.transpose(1, 2)) / math.sqrt(width)
            product = product.reshape(n_members, n_rows, self.heads, -1)
            total = product if total is None else total + product
        assert total is not None
        return total

    @torch.no_grad()
    def spread(self, context: Tensor, h: Tensor) -> None:
        """Rescale the maps so that what enters the scores has a standard deviation of 1 over rows and over genes.

        With small values tanh is linear, the context adds the same number to every gene, and the softmax cancels it:
        the attention would not depend on the perturbation.
        """
        if hasattr(self, "of_context"):
            for layer, values in ((self.of_context, context), (self.of_gene, h)):
                deviation = torch.matmul(values, layer.weight).std(dim=(1, 2), keepdim=True)
                layer.weight.div_(deviation.clamp(min=1e-6))
        if self.is_bilinear:
            deviation = self.scores(context, h, None).std(dim=(1, 2, 3))
            self.bilinear.weight.div_(deviation.clamp(min=1e-6)[:, None, None])


def total_variation(alpha: Tensor) -> float:
    """Mean total variation between the attention of two perturbations, (B, N); 0 with fewer than two."""
    n = len(alpha)
    if n < 2:
        return 0.0
    # sorted per gene, the sum of |a_i - a_j| over pairs is a weighted sum of the ranks
    ranked = alpha.double().sort(dim=0).values
    rank_weight = 2 * torch.arange(n, dtype=torch.float64, device=alpha.device) - (n - 1)
    return float((rank_weight[:, None] * ranked).sum() / (n * (n - 1)))
