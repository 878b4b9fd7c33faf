"""Attention between sets of tokens, in which the order of the tokens does not count."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention


class AttentionBlock(nn.Module):
    """Transformer block, normalised before each part: ``x = x + attn(LN(x), LN(keys))``, then ``x + FFN(LN(x))``.

    Parameters
    ----------
    width, heads
        d and H; H divides d.
    dropout
        Of what attention adds, of what the feed-forward network adds and of its hidden layer; in training only.
    hidden
        Width of the hidden layer (GELU); default 2 d.

    Raises
    ------
    ValueError
        H does not divide d.

    Notes
    -----
    There is no axis of ensemble members and there are no positions. The norms have no scale and shift of their own: a
    linear map follows each of them and would absorb both.

    Examples
    --------
    >>> block = AttentionBlock(8, 2)
    >>> queries, keys = torch.ones(3, 1, 8), torch.ones(3, 5, 8)
    >>> block(queries, keys, torch.tensor([[True] * 5, [True] + [False] * 4, [False] * 5])).shape
    torch.Size([3, 1, 8])
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0, hidden: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"A width of {width} does not split into {heads} heads.")
        hidden = 2 * width if hidden is None else hidden
        self.heads = heads
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
        )

    def forward(self, queries: Tensor, keys: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """What the queries are after they have attended.

        Parameters
        ----------
        queries
            (B, q, d).
        keys
            (B, k, d) tokens to attend to; None: the queries themselves.
        present
            (B, k) bool, tokens that are there; None: all. Attention adds nothing in rows without any.

        Returns
        -------
        Tensor
            (B, q, d).
        """
        normed = _normed(queries)
        attended = self._attended(normed, normed if keys is None else _normed(keys), present)
        x = queries + self.dropout(attended)
        return x + self.feed_forward(_normed(x))

    def _attended(self, queries: Tensor, keys: Tensor, present: Tensor | None) -> Tensor:
        key, value = (self._split(one) for one in self.key_value(keys).chunk(2, dim=-1))
        query = self._split(self.query(queries))
        if present is None:
            return self.out(_joined(scaled_dot_product_attention(query, key, value)))
        any_present = present.any(dim=-1)[:, None, None]
        # a softmax over nothing is not a number: such rows attend to everything, and what comes out is left out
        allowed = (present[:, None] | ~any_present)[:, None]
        attended = self.out(_joined(scaled_dot_product_attention(query, key, value, attn_mask=allowed)))
        return torch.where(any_present, attended, torch.zeros_like(attended))

    def _split(self, x: Tensor) -> Tensor:
        """(B, k, d) to (B, H, k, d / H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class InducedBlock(nn.Module):
    """Attention of k tokens by way of a few learned points, at a cost of k rather than k^2.

    The points attend to the tokens, then to each other, and the tokens attend to the points; each an
    :class:`AttentionBlock`.

    Parameters
    ----------
    width, heads, dropout
        See :class:`AttentionBlock`.
    n_inducing
        Number of points.

    Notes
    -----
    Set transformer, Lee et al. 2019, equations 9 and 10; here with attention among the points.

    Examples
    --------
    >>> InducedBlock(8, 2, 4)(torch.ones(3, 5, 8)).shape
    torch.Size([3, 5, 8])
    """

    def __init__(self, width: int, heads: int, n_inducing: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(n_inducing, width) / math.sqrt(width))
        self.gather, self.mix, self.spread = (AttentionBlock(width, heads, dropout=dropout) for _ in range(3))

    def forward(self, tokens: Tensor, present: Tensor | None = None) -> Tensor:
        """(B, k, d) tokens and (B, k) bool, which of them are there (None: all), to (B, k, d)."""
        points = self.gather(self.points.expand(len(tokens), -1, -1), tokens, present)
        return self.spread(tokens, self.mix(points))


def _normed(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:])


def _joined(x: Tensor) -> Tensor:
    """(B, H, q, e) to (B, q, H e)."""
    return x.transpose(1, 2).flatten(-2)
