"""A network as a matrix of weights, and back: methods of GeneGraph; and the edge table that its readers make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._edge_columns import SOURCE, TARGET, WEIGHT

if TYPE_CHECKING:
    from scperturb_modules.priors._graph import GeneGraph

_ROUNDING = 1e-6
"""Relative difference of both halves of a symmetric matrix that still counts as rounding."""


def gene_order(genes: Iterable[object]) -> pd.Index:
    """Names as text, in their order, each once."""
    order = pd.Index([str(gene) for gene in genes], dtype=object)
    if order.has_duplicates:
        raise DataError(f"genes occur more than once: {name_some(order[order.duplicated()].unique())}.")
    return order


def edge_table(order: pd.Index, source: ArrayLike, target: ArrayLike, weight: Any) -> pd.DataFrame:
    """The table that :meth:`GeneGraph.from_table` reads; rows are called by their genes, for its messages."""
    ends = order[np.asarray(source)], order[np.asarray(target)]
    columns = {SOURCE: ends[0], TARGET: ends[1], WEIGHT: np.asarray(weight)}
    table = pd.DataFrame(columns, index=pd.MultiIndex.from_arrays(ends))
    table.attrs["isolated"] = order.tolist()
    return table


def adjacency(graph: GeneGraph, genes: Iterable[str] | None = None) -> sparse.csr_array:
    """Weights as a matrix, for genes in a given order; :meth:`from_scipy` is the way back.

    Parameters
    ----------
    genes
        n names, each once; default: those of the network. A gene that it does not have gets an empty row; edges
        to others are left out.

    Returns
    -------
    csr_array
        (n, n) float64; entry (i, j) is the weight of the edge from gene i to gene j; symmetric if undirected.

    Raises
    ------
    DataError
        A gene occurs twice.
    """
    order = gene_order(graph.genes if genes is None else genes)
    place = order.get_indexer(pd.Index(graph.genes, dtype=object))
    row, column = place[graph.source], place[graph.target]
    known = (row >= 0) & (column >= 0)
    entries = graph.weight[known], (row[known], column[known])
    matrix = sparse.coo_array(entries, shape=(len(order), len(order))).tocsr()
    return matrix if graph.directed else sparse.csr_array(matrix + matrix.T)


def from_scipy(
    cls: type[GeneGraph],
    matrix: sparse.sparray | sparse.spmatrix | ArrayLike,
    genes: Iterable[str],
    *,
    name: str | None = None,
    directed: bool = False,
    signed: bool = False,
) -> GeneGraph:
    """Read a matrix of weights; :meth:`adjacency` is the way back.

    Parameters
    ----------
    matrix
        (n, n) sparse or dense; entry (i, j) is the weight of the edge from gene i to gene j, zero where there is none.
    genes
        n names of rows and columns; all of them are genes of the network, with or without an edge.
    name
        Default: ``"network"``.
    directed
        If not, the matrix is symmetric (up to rounding; the upper half counts).
    signed
        Whether weights below zero are meant.

    Raises
    ------
    DataError
        Another shape than the genes have, a repeated gene, entries that are no finite number, an undirected network
        of a matrix that is not symmetric, negative weights in one that is not signed.

    Notes
    -----
    Entries on the diagonal are self-loops: counted and dropped.

    Examples
    --------
    >>> from scperturb_modules.priors import GeneGraph
    >>> GeneGraph.from_scipy([[0, 0.5, 0], [0.5, 0, 0], [0, 0, 1.0]], ["B", "A", "C"])
    GeneGraph('network', 3 genes, 1 edge, undirected)
    """
    order = gene_order(genes)
    weights = sparse.csr_array(matrix if sparse.issparse(matrix) else np.asarray(matrix), dtype=np.float64)
    if weights.shape != (len(order), len(order)):
        raise DataError(
            f"the matrix is {' x '.join(map(str, weights.shape))}, but there are {len(order)} genes. A network has one "
            "row and one column per gene, in one order."
        )
    wrong = _pairs(weights, ~np.isfinite(weights.data), order)
    if len(wrong):
        raise DataError(
            f"the matrix has {len(wrong)} entries that are no finite number: {name_some(wrong)}. Set them to zero, "
            "which is no edge: np.nan_to_num(matrix)."
        )
    if not directed:
        _require_symmetric(weights, order)
        weights = sparse.triu(weights)
    entries = weights.tocoo()
    some = entries.data != 0
    table = edge_table(order, entries.row[some], entries.col[some], entries.data[some])
    return cls.from_table(table, name=name, directed=directed, signed=signed)


def _pairs(matrix: sparse.csr_array, where: NDArray[np.bool_], order: pd.Index) -> list[str]:
    """Names of both genes of some entries."""
    entries = matrix.tocoo()
    ends = zip(order[entries.row[where]], order[entries.col[where]], strict=True)
    return [f"{source} - {target}" for source, target in ends]


def _require_symmetric(matrix: sparse.csr_array, order: pd.Index) -> None:
    difference = sparse.csr_array(abs(matrix - matrix.T) - _ROUNDING * abs(matrix).maximum(abs(matrix.T)))
    wrong = _pairs(difference, difference.data > 0, order)
    if wrong:
        raise DataError(
            f"the matrix of an undirected network is not symmetric: {len(wrong)} entries differ from their mirror "
            f"image, {name_some(wrong)}. Pass directed=True, or np.maximum(matrix, matrix.T)."
        )
