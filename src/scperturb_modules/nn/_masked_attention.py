"""Transformer layer in which a gene attends to permitted genes only, for all ensemble members at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from scperturb_modules.nn._members import MemberLinear
from scperturb_modules.nn._permitted import DENSE_GENES, DensePairs, EdgePairs, TiledPairs

Method = Literal["auto", "sdpa", "buckets", "edges"]

CHUNK_BYTES = 256 * 2**20
"""Memory of gathered keys and values that is in use at a time."""

FEED_FORWARD_FLOATS = 500_000_000
"""More hidden numbers than these are made a part at a time, and again for the gradient instead of being kept."""


class MaskedAttention(nn.Module):
    """Multi-head attention of N genes over permitted pairs: ``softmax(Q K^T / sqrt(d / H)) V``, exact and sparse.

    Parameters
    ----------
    n_members, width
        M and d.
    mask
        (N, N) sparse; entry (i, j) stored and not 0: gene i may attend to gene j. It need not be symmetric. A gene may
        always attend to itself, whatever the diagonal says. None: all pairs are permitted.
    heads
        H; divides d.
    dropout
        Share of genes whose values are left out in training, drawn for each member, condition and head; the same for
        all genes that attend to it, so that no pair has to be drawn.
    method
        How pairs are computed; all forms give the same numbers. ``"sdpa"``: all pairs of genes with a partner, masked;
        ``"buckets"``: blocks of genes with similar partners; ``"edges"``: a list of pairs; ``"auto"``: the cheapest.

    Attributes
    ----------
    edges
        (E, 2) int64 gene and the gene that it attends to, itself too, by rows; None without a mask.

    Notes
    -----
    Let J be the genes that have a partner other than themselves or are one. All others attend to themselves only: their
    output is ``W_o W_v x``, two products, and only J takes part in what ``method`` names. No array of N x N numbers is
    made. Nothing is added in an order that depends on threads.

    Examples
    --------
    >>> mask = sparse.csr_array(np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]]))
    >>> attention = MaskedAttention(1, 4, mask)
    >>> attention(torch.ones(1, 2, 3, 4)).shape
    torch.Size([1, 2, 3, 4])
    >>> attention.edges.tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]]
    """

    inside: Tensor | None
    every_pair: EdgePairs | None
    pairs: DensePairs | TiledPairs | EdgePairs

    def __init__(
        self,
        n_members: int,
        width: int,
        mask: sparse.sparray | None,
        *,
        heads: int = 2,
        dropout: float = 0.1,
        method: Method = "auto",
    ) -> None:
        super().__init__()
        if method not in get_args(Method):
            raise ValueError(f"method={method!r} is none of {', '.join(map(repr, get_args(Method)))}.")
        if width % heads:
            raise ValueError(f"A width of {width} does not split into {heads} heads.")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (MemberLinear(n_members, width, width) for _ in range(4))
        permitted = None if mask is None else with_diagonal(mask)
        self.every_pair = None if permitted is None else EdgePairs(permitted)
        inside = None if permitted is None else with_partner(permitted)
        self.register_buffer("inside", None if inside is None else torch.tensor(inside), persistent=False)
        self.pairs = DensePairs() if permitted is None else pairs_of(permitted[inside][:, inside], method)

    @property
    def edges(self) -> Tensor | None:
        """(E, 2)."""
        return None if self.every_pair is None else torch.stack([self.every_pair.rows, self.every_pair.columns], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(M, K, N, d) to (M, K, N, d)."""
        value = self.value(x)
        if self.inside is None:
            return self.out(self._attended(x, value))
        inside = self.inside
        attended = self._attended(x.index_select(2, inside), value.index_select(2, inside))
        return self.out(value.index_copy(2, inside, attended))

    def weights(self, x: Tensor) -> Tensor:
        """(M, K, N, d) to the attention of all permitted pairs (M, K, E), mean over heads; pairs as in ``edges``."""
        if self.every_pair is None:
            raise ValueError("Without a mask there are no lists of partners, and no attention of pairs is kept.")
        by_column = self._in_chunks(
            self.every_pair.weights,
            [self._split(one(x)) for one in (self.query, self.key)],
            self.every_pair.floats_per_column(x.shape[-1] // self.heads),
        )
        return by_column.T.reshape(x.shape[0], x.shape[1], self.heads, -1).mean(dim=2)

    def _attended(self, x: Tensor, value: Tensor) -> Tensor:
        """(M, K, S, d) states and values of the genes that take part."""
        query, key, value = (self._split(one) for one in (self.query(x), self.key(x), value))
        if self.training and self.dropout:
            value = value * nn.functional.dropout(torch.ones_like(value[..., :1]), self.dropout)
        out = self._in_chunks(self.pairs, [query, key, value], self.pairs.floats_per_column(query.shape[-1]))
        return out.reshape(len(out), x.shape[0], x.shape[1], -1).permute(1, 2, 0, 3)

    def _split(self, x: Tensor) -> Tensor:
        """(M, K, S, d) to (S, M * K * H, e)."""
        return x.permute(2, 0, 1, 3).reshape(x.shape[2], -1, x.shape[-1] // self.heads)

    def _in_chunks(self, call: Callable[..., Tensor], tensors: list[Tensor], floats_per_column: int) -> Tensor:
        """Call with some columns at a time; what is gathered for several chunks is gathered again for the gradient."""
        per_column = max(1, floats_per_column * tensors[0].element_size())
        n = max(1, CHUNK_BYTES // per_column)
        if n >= tensors[0].shape[1]:
            return call(*tensors)
        chunks = zip(*(one.split(n, dim=1) for one in tensors), strict=True)
        return torch.cat(
            [checkpoint(call, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks], dim=1
        )


class MemberNorm(nn.Module):
    """Layer normalisation over the last axis, with a scale and a shift for each member."""

    def __init__(self, n_members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_members, width))
        self.bias = nn.Parameter(torch.zeros(n_members, width))

    def forward(self, x: Tensor) -> Tensor:
        """(M, ..., d) to the same."""
        shape = (x.shape[0], *[1] * (x.dim() - 2), x.shape[-1])
        return nn.functional.layer_norm(x, x.shape[-1:]) * self.weight.view(shape) + self.bias.view(shape)


class FeedForward(nn.Module):
    """d -> F -> d of each row, with a rectifier and dropout between."""

    def __init__(self, n_members: int, width: int, hidden: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.hidden = MemberLinear(n_members, width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = MemberLinear(n_members, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(M, ..., d) to the same."""
        n = x[..., 0].numel() * self.hidden.weight.shape[-1] // FEED_FORWARD_FLOATS + 1
        if n == 1:
            return self._all(x)
        return torch.cat([checkpoint(self._all, part, use_reentrant=False) for part in x.chunk(n, dim=-2)], dim=-2)

    def _all(self, x: Tensor) -> Tensor:
        return self.out(self.dropout(torch.relu(self.hidden(x))))


class MaskedEncoderLayer(nn.Module):
    """Transformer layer, normalised after each part: ``x = LN(x + attn(x))``, then ``LN(x + FFN(x))``.

    Parameters
    ----------
    n_members, width, hidden
        M, d and F.
    mask, heads, dropout
        See :class:`MaskedAttention`; dropout also of what attention and feed-forward add, and of the hidden layer.
    attention
        False: a feed-forward network d-F-d of each gene stands where attention would be.
    """

    def __init__(
        self,
        n_members: int,
        width: int,
        hidden: int,
        mask: sparse.sparray | None,
        *,
        heads: int = 2,
        dropout: float = 0.1,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.mixing: nn.Module
        if attention:
            self.mixing = MaskedAttention(n_members, width, mask, heads=heads, dropout=dropout)
        else:
            self.mixing = FeedForward(n_members, width, hidden, dropout=dropout)
        self.feed_forward = FeedForward(n_members, width, hidden, dropout=dropout)
        self.norms = nn.ModuleList(MemberNorm(n_members, width) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(M, K, N, d) to (M, K, N, d)."""
        x = self.norms[0](x + self.dropout(self.mixing(x)))
        return self.norms[1](x + self.dropout(self.feed_forward(x)))


def with_diagonal(mask: sparse.sparray) -> sparse.csr_array:
    """The permitted pairs as bool CSR with sorted columns, a gene's own among them."""
    permitted = sparse.csr_array(sparse.csr_array(mask).astype(bool) + sparse.eye_array(mask.shape[0], dtype=bool))
    permitted.sort_indices()
    return permitted


def with_partner(permitted: sparse.csr_array) -> NDArray[np.intp]:
    """Genes that attend to another gene or to which another attends; without any, one gene.

    That one attends to itself alone, so that every parameter has a gradient (of 0) whatever the mask.
    """
    as_query, as_key = np.diff(permitted.indptr) > 1, np.bincount(permitted.indices, minlength=permitted.shape[0]) > 1
    found = np.flatnonzero(as_query | as_key)
    return found if len(found) else np.arange(1)


def pairs_of(permitted: sparse.csr_array, method: Method) -> DensePairs | TiledPairs | EdgePairs:
    """The form that computes these pairs.

    ``"auto"`` counts in dense pairs: |J|^2 for ``"sdpa"``, up to 4,000 genes; for ``"buckets"`` 1.2 for each pair of
    the blocks and 30 for each key that is fetched. ``"edges"`` costs 70 to 160 for each pair, as it fetches a key for
    every one; blocks never fetch more keys and compute at most 32 pairs with one, so that a list is never chosen.
    """
    if method == "edges":
        return EdgePairs(permitted)
    n_genes = permitted.shape[0]
    complete = permitted.nnz == n_genes**2
    if method == "buckets" or (method == "auto" and not complete):
        tiled = TiledPairs(permitted)
        if method == "buckets" or n_genes > DENSE_GENES or tiled.cost < n_genes**2:
            return tiled
    return DensePairs(None if complete else permitted)
