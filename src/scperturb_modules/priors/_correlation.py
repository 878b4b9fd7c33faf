"""The strongest correlations of each gene, block by block: the matrix of all pairs of genes is never held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.priors._graph import Array, Index

# Numbers of values held at once. Fixed by the shape alone, so that a sum never depends on the values of other cells.
_READ = 2**24
_PRODUCT = 2**25
_IN_CACHE = 2**18
_WIDEST = 2048
"""Genes on a side of a product: wider ones waste more on the diagonal, smaller ones on preparing each side again."""
_UNIT = 2.0**-24
"""Half the distance from 1 to the next number of single precision."""
DECIMALS = 10
"""Correlations are rounded so, lest rounding decides between genes that are copies of each other."""


class Pairs(NamedTuple):
    """(P,) ordered pairs of genes by number, and their correlation."""

    gene: Index
    partner: Index
    r: Array


@dataclass(frozen=True, eq=False)
class GeneValues:
    """Values of n cells by gene, with the moments that turn a gene into a vector of length one.

    Attributes
    ----------
    values
        (G, n) NumPy array or CSR array of any type of number.
    mean
        (G,) float64.
    norm
        (G,) float64, root of the sum of squared distances to the mean; exactly 0 for a constant gene.
    """

    values: Any
    mean: Array
    norm: Array

    @classmethod
    def of(cls, values: Any) -> GeneValues:
        """Take the moments, the mean before the distances, in float64."""
        n_genes, n_cells = values.shape
        mean, norm = np.zeros(n_genes), np.zeros(n_genes)
        for rows in _slices(n_genes, _IN_CACHE // n_cells):
            block = _dense(values[rows])
            with np.errstate(invalid="ignore"):  # an infinite value leaves a moment that is not finite
                mean[rows] = block.mean(axis=1)
                varies = block.max(axis=1) != block.min(axis=1)  # the mean of equal values may differ in the last bit
                norm[rows] = np.where(varies, np.linalg.norm(block - mean[rows, None], axis=1), 0.0)
        return cls(values, mean, norm)

    def take(self, genes: Index) -> GeneValues:
        return GeneValues(self.values[genes], self.mean[genes], self.norm[genes])

    def unit(self, genes: Any) -> Array:
        """(k, n) float64: centred, of length one; the product of two is their correlation."""
        block = _dense(self.values[genes])
        block -= self.mean[genes, None]
        block /= self.norm[genes, None]
        return block

    def unit_single(self, genes: slice) -> NDArray[np.float32]:
        """The same in single precision, for a range of genes."""
        n_genes, n_cells = genes.stop - genes.start, self.values.shape[1]
        block = np.empty((n_genes, n_cells), dtype=np.float32)
        for rows in _slices(n_genes, _IN_CACHE // n_cells):
            block[rows] = self.unit(slice(genes.start + rows.start, genes.start + rows.stop))
        return block


def gene_rows(matrix: Any, cells: Index, genes: Index) -> Any:
    """The values of some cells, gene by gene and in memory.

    Parameters
    ----------
    matrix
        Cells x genes: NumPy array, SciPy sparse matrix or array, or the ``X`` of a backed AnnData.
    cells, genes
        (n,) and (G,) positions, in the order wanted.

    Returns
    -------
    ndarray or csr_array
        (G, n), of the type of number of ``matrix``.
    """
    if hasattr(matrix, "format"):
        rows = sparse.vstack([block[:, genes] for _, block in _cells_in_file_order(matrix, cells)], format="csr")
        rows = rows[np.argsort(np.argsort(cells))]
        return sparse.csr_array(rows.T)
    values = np.empty((len(genes), len(cells)), dtype=matrix.dtype)
    for place, block in _cells_in_file_order(matrix, cells):
        values[:, place] = block[:, genes].T
    return values


def _cells_in_file_order(matrix: Any, cells: Index) -> Iterator[tuple[Index, Any]]:
    """Blocks of rows, and which of ``cells`` they are; a range is read whole, since single rows of a file are slow."""
    if getattr(matrix, "format", None) == "csc":  # of which rows cannot be read alone
        matrix = (matrix if sparse.issparse(matrix) else matrix.to_memory()).tocsr()
    place = np.argsort(cells)
    in_order = cells[place]
    for rows in _slices(matrix.shape[0], _READ // max(1, matrix.shape[1])):
        first, last = np.searchsorted(in_order, [rows.start, rows.stop])
        if first < last:
            yield place[first:last], matrix[rows][in_order[first:last] - rows.start]


def strongest(genes: GeneValues, *, threshold: float, top: int) -> Pairs:
    """For each gene the ``top`` others with the largest ``|r|`` above a threshold, ties by number.

    Parameters
    ----------
    genes
        Finite values; constant genes have no partner.
    threshold, top
        As in :func:`coexpression`.

    Notes
    -----
    Products in single precision choose candidates, with the bound of their error as margin (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1); the candidates are correlated again in float64, so the
    result is that of float64 throughout.
    """
    varying = np.flatnonzero(genes.norm > 0)
    kept = genes if len(varying) == len(genes.norm) else genes.take(varying)
    gene, partner = _candidates(kept, threshold, top)
    first, second = np.minimum(gene, partner), np.maximum(gene, partner)
    code, pair = np.unique(first * len(varying) + second, return_inverse=True)
    r = _correlations(kept, *np.divmod(code, max(1, len(varying))))[pair]
    above = np.abs(r) > threshold
    gene, partner, r = gene[above], partner[above], r[above]
    order, rank = _ranked(gene, np.abs(r), partner)
    chosen = order[rank < top]
    return Pairs(varying[gene[chosen]], varying[partner[chosen]], r[chosen])


def _candidates(genes: GeneValues, threshold: float, top: int) -> tuple[Index, Index]:
    """Ordered pairs, among them all that can be chosen."""
    n_genes, n_cells = genes.values.shape
    terms = (n_cells + 8) * _UNIT  # 8: the vectors and the cutoffs are rounded too
    margin = terms / (1 - terms)
    cutoff = np.full(n_genes, threshold - margin, dtype=np.float32)
    found = []
    blocks = list(_slices(n_genes, min(_WIDEST, _PRODUCT // n_cells)))
    for i, rows in enumerate(blocks):
        left = genes.unit_single(rows)
        for columns in blocks[i:]:
            right = left if columns is rows else genes.unit_single(columns)
            size = left @ right.T
            np.abs(size, out=size)
            if columns is rows:
                np.fill_diagonal(size, -1)
            else:
                found.append(_above(size.T, cutoff, columns, rows, top, margin))
            found.append(_above(size, cutoff, rows, columns, top, margin))
    if not found:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    gene, partner, size = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order, rank = _ranked(gene, size, partner)
    last = order[rank == top - 1]
    cutoff[gene[last]] = size[last] - 2 * margin
    kept = size >= cutoff[gene]
    return gene[kept], partner[kept]


def _above(
    size: NDArray[np.float32], cutoff: NDArray[np.float32], rows: slice, columns: slice, top: int, margin: float
) -> tuple[Index, Index, NDArray[np.float32]]:
    """Pairs of a block that reach the cutoff of their row; a row with more than ``top`` raises its cutoff before."""
    own = cutoff[rows]
    above = size >= own[:, None]
    crowded = np.flatnonzero(np.count_nonzero(above, axis=1) > top)
    if len(crowded):
        sizes = size[crowded]
        own[crowded] = np.maximum(own[crowded], np.partition(sizes, -top, axis=1)[:, -top] - 2 * margin)
        above[crowded] = sizes >= own[crowded, None]
    row, column = np.nonzero(above)
    return row + rows.start, column + columns.start, size[row, column]


def _correlations(genes: GeneValues, first: Index, second: Index) -> Array:
    """(P,) of pairs sorted by ``first``, rounded."""
    r = np.empty(len(first))
    for pairs in _slices(len(first), _IN_CACHE // genes.values.shape[1]):
        distinct, own = np.unique(first[pairs], return_inverse=True)
        r[pairs] = np.vecdot(genes.unit(distinct)[own], genes.unit(second[pairs]))
    return r.round(DECIMALS)


def _ranked(gene: Index, size: NDArray[Any], partner: Index) -> tuple[Index, Index]:
    """The order by gene, then size, the largest first, then partner; and the rank within the gene at each place."""
    order = np.lexsort((partner, -size, gene))
    in_order = gene[order]
    return order, np.arange(len(order)) - np.searchsorted(in_order, in_order)


def _dense(block: Any) -> Array:
    return np.array(block.toarray() if sparse.issparse(block) else block, dtype=np.float64)


def _slices(n: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
