"""Softmax attention over permitted pairs of genes only, in three forms that give the same numbers.

All three take queries, keys and values (S, C, e): S genes, C columns (members x conditions x heads) and e the width of
a head; a gene is first, so that the vectors of one gene lie together. All three return (S, C, e).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch_geometric.utils import softmax

TILE_ROWS = 32
"""Queries that share one list of keys; 16 and 64 are as fast or slower, on pathways of human genes."""

WASTE = 1.25
"""Tiles are padded to the longest of their bucket, which is at most this much longer than the shortest."""

BUCKET_PAIRS = 2**24
"""Most pairs, padding too, of a bucket of several tiles: the mask of a call is then at most 64 MiB of numbers."""

DENSE_GENES = 4000
"""More genes than these are never computed densely, as their mask would take more than a bucket's."""

GATHER_COST = 30
"""Fetching a key and its value costs as much as this many dense pairs, measured on a processor."""

TILE_COST = 1.2
"""A pair within a tile against one of a large dense product."""


class DensePairs(nn.Module):
    """One call of scaled dot-product attention; ``permitted`` (S, S) bool, or None for all pairs."""

    permitted: Tensor | None

    def __init__(self, permitted: sparse.csr_array | None = None) -> None:
        super().__init__()
        block = None if permitted is None else torch.tensor(permitted.toarray())
        self.register_buffer("permitted", block, persistent=False)

    def floats_per_column(self, width: int) -> int:
        """Numbers of a column that are held beside its queries, keys, values and outputs."""
        return 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(S, C, e) each to (S, C, e)."""
        query, key, value = (one.transpose(0, 1)[None] for one in (query, key, value))
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.permitted)
        return out[0].transpose(0, 1)


class Tiles(nn.Module):
    """B blocks of T queries with U keys each; queries of a block attend to the permitted among its keys.

    Parameters
    ----------
    rows, columns
        (B, T) and (B, U) int64, genes.
    permitted
        (B, T, U) bool; every query has a key.
    """

    rows: Tensor
    columns: Tensor
    permitted: Tensor

    def __init__(self, rows: NDArray[np.int64], columns: NDArray[np.int64], permitted: NDArray[np.bool_]) -> None:
        super().__init__()
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("permitted", torch.tensor(permitted)[:, None], persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(S, C, e) each to (B * T, C, e)."""
        query = genes_of(query, self.rows).transpose(1, 2)
        key, value = (genes_of(one, self.columns).transpose(1, 2) for one in (key, value))
        out = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=self.permitted)
        return out.transpose(1, 2).flatten(0, 1)


class TiledPairs(nn.Module):
    """Blocks of queries with similar keys, each of which is small dense attention over the union of their keys.

    The order of Cuthill and McKee (1969) brings genes with the same partners together. Blocks with unions of about the
    same size are one bucket: padded to the longest and computed together.

    Attributes
    ----------
    cost
        In dense pairs.
    """

    place: Tensor

    def __init__(self, permitted: sparse.csr_array) -> None:
        super().__init__()
        order = sparse.csgraph.reverse_cuthill_mckee(sparse.csr_matrix(permitted), symmetric_mode=False).astype(
            np.int64
        )
        blocks = [order[start : start + TILE_ROWS] for start in range(0, len(order), TILE_ROWS)]
        unions = [np.unique(permitted[block].indices).astype(np.int64) for block in blocks]
        tiles = [
            _tiles(permitted, [blocks[i] for i in bucket], [unions[i] for i in bucket])
            for bucket in _buckets([len(union) for union in unions])
        ]
        self.buckets = nn.ModuleList(tiles)
        self._n_gathered = sum(one.rows.numel() + one.columns.numel() for one in tiles)
        self.cost = sum(TILE_COST * one.permitted.numel() + GATHER_COST * one.columns.numel() for one in tiles)
        computed = torch.cat([one.rows.flatten() for one in tiles]).numpy()
        place = np.empty(permitted.shape[0], dtype=np.int64)
        place[computed] = np.arange(len(computed))
        self.register_buffer("place", torch.tensor(place), persistent=False)

    def floats_per_column(self, width: int) -> int:
        """Numbers of a column that are held beside its queries, keys, values and outputs."""
        return 2 * width * self._n_gathered

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(S, C, e) each to (S, C, e)."""
        return genes_of(torch.cat([tiles(query, key, value) for tiles in self.buckets]), self.place)


class EdgePairs(nn.Module):
    """A list of pairs: scores of the pairs, softmax over the keys of each query, sum of their values."""

    rows: Tensor
    columns: Tensor
    pointer: Tensor

    def __init__(self, permitted: sparse.csr_array) -> None:
        super().__init__()
        rows = np.repeat(np.arange(permitted.shape[0]), np.diff(permitted.indptr))
        self.register_buffer("rows", torch.tensor(rows), persistent=False)
        self.register_buffer("columns", torch.tensor(permitted.indices, dtype=torch.int64), persistent=False)
        self.register_buffer("pointer", torch.tensor(permitted.indptr, dtype=torch.int64), persistent=False)

    def floats_per_column(self, width: int) -> int:
        """Numbers of a column that are held beside its queries, keys, values and outputs."""
        return len(self.rows) * (4 * width + 4)

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """(S, C, e) each to the attention of the pairs (E, C)."""
        scores = (genes_of(query, self.rows) * genes_of(key, self.columns)).sum(dim=-1) / query.shape[-1] ** 0.5
        return softmax(scores, ptr=self.pointer)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(S, C, e) each to (S, C, e)."""
        heard = self.weights(query, key)[..., None] * genes_of(value, self.columns)
        return torch.segment_reduce(heard, "sum", lengths=self.pointer.diff())


def genes_of(x: Tensor, genes: Tensor) -> Tensor:
    """``x[genes]`` along the first axis.

    As an embedding, since its gradient is summed in a fixed order; that of plain indexing is not, with several threads.
    """
    return nn.functional.embedding(genes, x.flatten(1)).unflatten(-1, x.shape[1:])


def _buckets(lengths: list[int]) -> list[list[int]]:
    """Tiles by number of keys, from few to many, cut where padding or the mask of a call would be too much."""
    buckets: list[list[int]] = []
    for tile in np.argsort(lengths, kind="stable").tolist():
        last = buckets[-1] if buckets else []
        too_long = bool(last) and lengths[tile] > WASTE * lengths[last[0]]
        if not last or too_long or (len(last) + 1) * TILE_ROWS * lengths[tile] > BUCKET_PAIRS:
            buckets.append([])
        buckets[-1].append(tile)
    return buckets


def _tiles(permitted: sparse.csr_array, blocks: list[NDArray[np.int64]], unions: list[NDArray[np.int64]]) -> Tiles:
    """Blocks padded with their last query, unions with gene 0, to which no query attends as padding."""
    longest = max(len(union) for union in unions)
    rows = np.stack([np.pad(block, (0, TILE_ROWS - len(block)), mode="edge") for block in blocks])
    columns = np.stack([np.pad(union, (0, longest - len(union))) for union in unions])
    allowed = np.zeros((len(blocks), TILE_ROWS, longest), dtype=bool)
    for tile, (block, union) in enumerate(zip(rows, unions, strict=True)):
        allowed[tile, :, : len(union)] = permitted[block][:, union].toarray()
    return Tiles(rows, columns, allowed)
