"""A vector of a set of tokens, whatever their order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scperturb_modules.nn._set_attention import AttentionBlock


class SetEncoder(nn.Module):
    """Encoder of sets: ``LN(pool(attention(u)) + W sum u)``; of the empty set a learned vector.

    Parameters
    ----------
    width, heads
        d and H.
    n_layers
        Layers of self-attention, without positions.
    dropout
        Of the attention blocks, in training only.

    Attributes
    ----------
    control
        (d,) parameter: the encoding of the empty set.
    null
        (d,) parameter for the caller, of the scale of an encoding: no condition at all, which is not the empty set.

    Notes
    -----
    Pooling is attention of one learned query (set transformer, Lee et al. 2019, equation 11). The sum is of the tokens
    as they come, so that sums of effects need no attention. Tokens are put in an order of their own first: floating
    point sums depend on the order, and so A + B and B + A have the same bits.

    Examples
    --------
    >>> encoder = SetEncoder(8, 2)
    >>> tokens, present = torch.randn(1, 3, 8), torch.tensor([[True, False, True]])
    >>> torch.equal(encoder(tokens, present), encoder(tokens.flip(1), present.flip(1)))
    True
    """

    def __init__(self, width: int, heads: int, n_layers: int = 2, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionBlock(width, heads, dropout=dropout) for _ in range(n_layers))
        self.query = nn.Parameter(torch.randn(width))
        self.pool = AttentionBlock(width, heads, dropout=dropout)
        self.sum = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.control, self.null = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """(B, k, d) tokens and (B, k) bool, which of them are there, to (B, d)."""
        tokens, present = _in_own_order(tokens, present)
        x = tokens
        for layer in self.layers:
            x = layer(x, present=present)
        pooled = self.pool(self.query.expand(len(x), 1, -1), x, present)[:, 0]
        encoded = self.norm(pooled + self.sum(tokens.sum(dim=1)))
        return torch.where(present.any(dim=1, keepdim=True), encoded, self.control)


def _in_own_order(tokens: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens, 0 where absent, in an order that depends on them alone."""
    tokens = tokens.masked_fill(~present[..., None], 0)
    weight = torch.arange(1, tokens.shape[-1] + 1, dtype=tokens.dtype, device=tokens.device)  # a plain sum may be 0
    place = (tokens.detach() * weight).sum(dim=-1).argsort(dim=-1)
    return tokens.take_along_dim(place[..., None], dim=1), present.take_along_dim(place, dim=1)
