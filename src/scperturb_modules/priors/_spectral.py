"""From a network to a gene x feature table: the slow directions of a walk along its edges."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import eigsh

from scperturb_modules._errors import DataError
from scperturb_modules.priors._graph import Array, GeneGraph, Index, as_graph

logger = logging.getLogger(__name__)

MIN_GENES = 4
"""In fewer connected genes no direction but the trivial one means anything."""
_MOST_DENSE = 40
_ZERO = 1e-12
"""An eigenvalue of this size is rounding; its eigenvector times it would be noise, not a feature."""
_RESTART: dict[str, Any] = {"rng": 0} if "rng" in inspect.signature(eigsh).parameters else {}
"""Regular graphs make the solver start again from random numbers; where it takes a seed, it gets one."""


class _Component(NamedTuple):
    """Connected genes (m,), their eigenvalues (k,) and features (m, k)."""

    genes: Index
    value: Array
    features: Array


def spectral_embedding(network: GeneGraph | pd.DataFrame, *, n_features: int = 16, clip: bool = False) -> pd.DataFrame:
    """Coordinates of genes in which neighbours of a network are close.

    Parameters
    ----------
    network
        A :class:`GeneGraph` or an edge table. Directions and signs are not used: an edge counts by the size of its
        weight.
    n_features
        Number of eigenvectors, at most n - 2 for n connected genes.
    clip
        Take what there is where the network is too small for ``n_features``: a table without rows and columns from
        one of fewer than four connected genes.

    Returns
    -------
    DataFrame
        Genes x features, float64, genes sorted; genes without an edge are left out. ``attrs`` are those of the
        network, with its name.

    Raises
    ------
    DataError
        The network has fewer features, and ``clip`` is False.

    Notes
    -----
    Eigenvectors of the normalised adjacency ``D^-1/2 A D^-1/2`` with the largest eigenvalues, divided by
    ``sqrt(degree)`` and multiplied by the eigenvalue (a diffusion map), without the constant one. The entry of
    largest size is positive, so that signs do not depend on the solver.

    Each connected component is solved by itself, since across components the solver's choice would be arbitrary; a
    gene is zero in the features of other components. Membership (the constant vector, eigenvalue 1) is a feature of
    every component but the largest. Of all features those with the largest eigenvalue times number of genes are
    taken, so that small components do not crowd out a large one. Components of fewer than four genes, and all but the
    largest without a feature among the taken, have no position: their genes are left out, and counted in a log line.

    Equal eigenvalues, as symmetric networks have, span a space in which the axes are the solver's: the same on one
    machine, not on all.

    References
    ----------
    Coifman and Lafon, Diffusion maps. Applied and Computational Harmonic Analysis 21 (2006).

    Examples
    --------
    >>> import pandas as pd
    >>> path = pd.DataFrame({"source": list("ABCDE"), "target": list("BCDEF")})
    >>> table = spectral_embedding(path, n_features=1)
    >>> table["graph1"].is_monotonic_decreasing or table["graph1"].is_monotonic_increasing
    True
    """
    network = as_graph(network)
    table = _embedded(_Content(network.sha256(), network), n_features, clip).copy()
    table.attrs.update({**network.attrs, "name": network.name})
    _log_left_out(network, table)
    return table


@dataclass(frozen=True)
class _Content:
    """A network as a key: equal where genes and edges are."""

    sha256: str
    network: GeneGraph = field(compare=False)


@lru_cache(maxsize=4)
def _embedded(content: _Content, n_features: int, clip: bool) -> pd.DataFrame:
    """Kept for the next call, because a benchmark gives the same network to every baseline of every fold."""
    network = content.network
    adjacency = _symmetric(network)
    components = _component_genes(adjacency)
    most = sum(len(genes) - 2 for genes in components)
    if not 1 <= n_features <= most:
        if not clip or n_features < 1:
            n_genes = int((network.degree > 0).sum())
            raise DataError(f"n_features={n_features}, but the graph of {n_genes} genes has 1 to {most}.")
        n_features = most
    solved = [_solve(adjacency, genes, n_features, member=i > 0) for i, genes in enumerate(components)]
    return _as_frame(network, solved, n_features) if solved else pd.DataFrame(dtype=np.float64)


def _symmetric(network: GeneGraph) -> sparse.csr_array:
    n_genes = len(network.genes)
    entries = np.abs(network.weight), (network.source, network.target)
    upper = sparse.coo_array(entries, shape=(n_genes, n_genes)).tocsr()
    return sparse.csr_array(upper + upper.T)


def _component_genes(adjacency: sparse.csr_array) -> list[Index]:
    """Numbers of the genes of each component that is large enough; larger ones first, then by their first gene."""
    _, label = csgraph.connected_components(adjacency, directed=False)
    by_label = np.argsort(label, kind="stable")
    parts = np.split(by_label, np.flatnonzero(np.diff(label[by_label])) + 1)
    return sorted((part for part in parts if len(part) >= MIN_GENES), key=lambda part: (-len(part), int(part[0])))


def _solve(adjacency: sparse.csr_array, genes: Index, n_features: int, *, member: bool) -> _Component:
    own = adjacency if len(genes) == adjacency.shape[0] else adjacency[genes][:, genes]
    root_degree = np.sqrt(own.sum(axis=1))
    scale = sparse.diags_array(1.0 / root_degree)
    n_wanted = min(n_features, len(genes) - 2) + 1
    value, vector = _largest(scale @ own @ scale, n_wanted)
    order = np.argsort(-value)[0 if member else 1 :]  # the first is the constant: membership
    value = np.where(np.abs(value) < _ZERO, 0.0, value)
    return _Component(genes, value[order], vector[:, order] / root_degree[:, None] * value[order])


def _largest(matrix: sparse.csr_array, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenpairs with the n largest eigenvalues, ascending."""
    if matrix.shape[0] <= _MOST_DENSE:
        value, vector = np.linalg.eigh(matrix.toarray())
        return value[-n:], vector[:, -n:]
    # the start vector is fixed because the solver would otherwise draw one from the global random state
    value, vector = eigsh(matrix, k=n, which="LA", v0=np.ones(matrix.shape[0]), **_RESTART)
    return value, vector


def _as_frame(network: GeneGraph, solved: list[_Component], n_features: int) -> pd.DataFrame:
    """The features of all components that weigh most, for the genes of the components that have one."""
    values = np.concatenate([part.value for part in solved])
    weight = np.concatenate([part.value * len(part.genes) for part in solved])
    owner = np.repeat(np.arange(len(solved)), [len(part.value) for part in solved])
    column = np.concatenate([np.arange(len(part.value)) for part in solved])
    table = np.zeros((len(network.genes), n_features))
    placed = np.zeros(len(network.genes), dtype=bool)
    placed[solved[0].genes] = len(solved) > 1  # to be in none of the others is a place too
    for number, which in enumerate(np.argsort(-weight, kind="stable")[:n_features]):
        part = solved[owner[which]]
        table[part.genes, number] = part.features[:, column[which]]
        placed[part.genes] |= values[which] != 0
    largest = np.abs(table).argmax(axis=0)
    table = table * np.sign(table[largest, np.arange(n_features)]) + 0.0  # no negative zeros
    names = [gene for gene, has_place in zip(network.genes, placed, strict=True) if has_place]
    columns = [f"graph{number + 1}" for number in range(n_features)]
    return pd.DataFrame(table[placed] * np.sqrt(placed.sum()), index=names, columns=columns)


def _log_left_out(network: GeneGraph, table: pd.DataFrame) -> None:
    connected = int((network.degree > 0).sum())
    if len(table) < connected or table.empty:
        message = "network %r: %d of %d connected genes get no spectral features; their components are too small"
        logger.info(message, network.name, connected - len(table), connected)
