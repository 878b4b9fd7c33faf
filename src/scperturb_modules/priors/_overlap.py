"""How similar genes are by the sets that they share, for all pairs, and the most similar others of each gene."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.priors._graph import Array, Index

Measure: TypeAlias = Literal["jaccard", "rarity"]
Pairs: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int32], Array]
"""Genes and others (numbers), and how similar they are; (P,) each."""

_BLOCK = 4_000_000
"""Pairs of genes at a time; it bounds the memory."""
_DENSE = 24
"""A set of more than one gene in 24 is cheaper in a dense product than in a sparse one."""
_WAIT = 500_000
"""Similar pairs that may come in before it is looked which of them can still be among the best."""
_BINS = 128
_SLACK = np.float32(1 - 1e-5)
_STEP = 2.0**-30


def idf(membership: sparse.csr_array) -> Array:
    """(S,) ``log(n / size)`` of each set of a (n, S) table; 0 for an empty set."""
    size = np.bincount(membership.indices, minlength=membership.shape[1])
    return np.log(membership.shape[0] / np.where(size > 0, size, membership.shape[0]))


def rarity_rows(membership: sparse.csr_array) -> tuple[Index, sparse.csr_array]:
    """Genes that are in a set but not in sets of all genes alone, and their rows: weighted by idf, of length one."""
    weighted = sparse.csr_array(membership * idf(membership))
    length = np.sqrt(weighted.power(2).sum(axis=1))
    known = np.flatnonzero(length)
    return known, sparse.csr_array(sparse.diags_array(1 / length[known]) @ weighted[known])


def best_of(gene: NDArray[Any], other: NDArray[Any], value: Array, top: int) -> tuple[Any, Any, Array]:
    """Of pairs (P,), for each gene the ``top`` others by (value descending, number ascending), in that order."""
    order = np.lexsort((other, -value, gene))
    gene, other, value = gene[order], other[order], value[order]
    rank = np.arange(len(gene)) - np.searchsorted(gene, gene)
    return gene[rank < top], other[rank < top], value[rank < top]


@dataclass(frozen=True)
class Overlap:
    """Similarity of n genes by the sets (S) that they share.

    With ``I`` the summed weight of the shared sets and ``a``, ``b`` the summed weights of the sets of each gene,
    ``jaccard`` (all weights 1) is ``I / (a + b - I)``, and ``rarity`` (weight ``log(n / size)**2``) is
    ``I / sqrt(a b)``: the cosine of memberships weighted by ``log(n / size)``. Those weights are rounded to multiples
    of 2^-30, so that sums are exact in any order: genes with the same sets tie on every machine.
    """

    membership: sparse.csr_array
    weight: Array
    measure: Measure

    @classmethod
    def of(cls, membership: sparse.csr_array, measure: Measure) -> Overlap:
        """For a (n, S) table of ones; another measure than these is a :class:`DataError`."""
        if measure not in get_args(Measure):
            raise DataError(f"measure={measure!r}; choose one of {', '.join(map(repr, get_args(Measure)))}.")
        weight = np.ones(membership.shape[1])
        if measure == "rarity":
            weight = np.round(idf(membership) ** 2 / _STEP) * _STEP
        return cls(membership, weight, measure)

    @cached_property
    def total(self) -> Array:
        """(n,) summed weight of the sets of each gene."""
        return np.asarray(self.membership @ self.weight)

    def between(self, rows: Index, columns: Index) -> Array:
        """(len(rows), len(columns)) similarity; 0 where nothing is shared."""
        weighted = sparse.csr_array(self.membership[rows] * self.weight)
        shared = sparse.coo_array(weighted @ self.membership[columns].T)
        value = self._similarity(shared.data, rows[shared.row], columns[shared.col])
        return sparse.coo_array((value, (shared.row, shared.col)), shape=shared.shape).toarray()

    def best(self, top: int, minimum: float) -> Pairs:
        """For each gene the ``top`` others above ``minimum`` by (similarity descending, number ascending).

        Each pair is looked at once, block by block; of a block only those pairs are kept that can be among the best
        of either gene, by what is known from the blocks before.
        """
        if top < 1 or not 0 <= minimum < 1:
            raise DataError(f"top={top}, minimum={minimum}; top is at least 1, minimum from 0 to below 1.")
        n_genes = self.membership.shape[0]
        shared, best = _Shared.of(self), _Best(n_genes, top, minimum)
        n_rows = max(_BLOCK // max(n_genes, 1), 1)
        for start in range(0, n_genes, n_rows):
            block = shared.block(start, start + n_rows)
            likely = np.flatnonzero(block > self._least_shared(best.floor, start, start + n_rows))
            row, column = np.divmod(likely, block.shape[1])
            upper = column > row
            gene, other = row[upper] + start, column[upper] + start
            value = self._similarity(block.ravel()[likely[upper]].astype(np.float64), gene, other)
            above = value > minimum
            best.add(gene[above].astype(np.int32), other[above].astype(np.int32), value[above])
        return best.pairs()

    def _similarity(self, shared: Array, gene: Index, other: Index) -> Array:
        """From the weight that pairs of genes share, which is not zero."""
        total, others = self.total[gene], self.total[other]
        return shared / (total + others - shared if self.measure == "jaccard" else np.sqrt(total * others))

    def _least_shared(self, floor: Array, start: int, stop: int) -> NDArray[np.float32]:
        """What genes of a block must share at least with genes from ``start`` on to be as similar as a floor (n,)."""
        adding = self.measure == "jaccard"
        total = (self.total if adding else np.sqrt(self.total)).astype(np.float32)
        # rounded down: the exact value is compared afterwards
        factor = (floor / (1 + floor) if adding else floor).astype(np.float32) * _SLACK
        bound = (np.add if adding else np.multiply).outer(total[start:stop], total[start:])
        bound *= np.minimum.outer(factor[start:stop], factor[start:])
        return np.asarray(bound)


@dataclass(frozen=True)
class _Shared:
    """Summed weight of shared sets by matrix products: sparse for the many small sets, dense for the few large ones."""

    small: sparse.csr_array
    large: NDArray[Any]
    small_weight: NDArray[Any]
    large_weight: NDArray[Any]

    @classmethod
    def of(cls, overlap: Overlap) -> _Shared:
        # sums of ones are exact in float32; other weights need float64
        dtype = np.float32 if overlap.measure == "jaccard" else np.float64
        table, weight = overlap.membership.astype(dtype), overlap.weight.astype(dtype)
        size = np.bincount(table.indices, minlength=len(weight))
        large = size * _DENSE > table.shape[0]
        small = ~large & (size > 1)
        return cls(sparse.csr_array(table[:, small]), table[:, large].toarray(), weight[small], weight[large])

    def block(self, start: int, stop: int) -> NDArray[Any]:
        """Of genes from ``start`` to ``stop`` with all genes from ``start`` on; each with itself means nothing."""
        few = sparse.csr_array(self.small[start:stop] * self.small_weight) @ self.small[start:].T.tocsr()
        shared: NDArray[Any] = few.toarray()
        shared += (self.large[start:stop] * self.large_weight) @ self.large[start:].T
        return shared


class _Best:
    """Pairs that can be among the ``top`` best of one of their genes.

    ``floor`` (n,) is a similarity that ``top`` others of a gene have or exceed, by a histogram of all pairs so far;
    who is below the floors of both genes is out.
    """

    def __init__(self, n_genes: int, top: int, minimum: float) -> None:
        self.floor = np.full(n_genes, float(minimum))
        self._top = top
        self._histogram = np.zeros((n_genes, _BINS), dtype=np.int32)
        self._kept: list[Pairs] = []
        self._new: list[Pairs] = []

    def add(self, gene: NDArray[np.int32], other: NDArray[np.int32], value: Array) -> None:
        self._new.append((gene, other, value))
        if sum(len(pairs[0]) for pairs in self._new) > _WAIT:
            self._raise_floor()

    def _raise_floor(self) -> None:
        gene, other, value = _joined(self._new)
        level = np.minimum((value * _BINS).astype(np.int64), _BINS - 1)
        for end in (gene, other):
            counts = np.bincount(end * _BINS + level, minlength=self._histogram.size)
            self._histogram += counts.reshape(self._histogram.shape).astype(np.int32)
        enough = self._histogram[:, ::-1].cumsum(axis=1) >= self._top
        level = _BINS - 1 - enough.argmax(axis=1)
        self.floor = np.where(enough.any(axis=1), np.maximum(level / _BINS, self.floor), self.floor)
        gene, other, value = _joined([*self._kept, *self._new])
        keep = value >= np.minimum(self.floor[gene], self.floor[other])
        self._kept, self._new = [(gene[keep], other[keep], value[keep])], []

    def pairs(self) -> Pairs:
        gene, other, value = _joined([*self._kept, *self._new])
        one, two, both = np.append(gene, other), np.append(other, gene), np.append(value, value)
        keep = both >= self.floor[one]
        return best_of(one[keep], two[keep], both[keep], self._top)


def _joined(parts: list[Pairs]) -> Pairs:
    none = np.zeros(0, dtype=np.int32)
    gene, other, value = zip((none, none, np.zeros(0)), *parts, strict=True)
    return np.concatenate(gene), np.concatenate(other), np.concatenate(value)
