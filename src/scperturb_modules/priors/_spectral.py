"""From a network to a gene x feature table: the slow directions of a walk along its edges."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules.priors._components import (
    ZERO,
    Component,
    as_frame,
    component_genes,
    log_left_out,
    own_block,
    possible_features,
    sparse_eigenpairs,
    symmetric_adjacency,
)
from scperturb_modules.priors._graph import Array, GeneGraph, Index, as_graph

_MOST_DENSE = 40


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
    log_left_out(network, table, what="spectral features")
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
    adjacency = symmetric_adjacency(network)
    components = component_genes(adjacency)
    n_features = possible_features(network, components, n_features, clip=clip)
    solved = [_solve(adjacency, genes, n_features, member=i > 0) for i, genes in enumerate(components)]
    table = as_frame(network, solved, n_features, prefix="graph")
    return table * np.sqrt(len(table))


def _solve(adjacency: sparse.csr_array, genes: Index, n_features: int, *, member: bool) -> Component:
    own = own_block(adjacency, genes)
    root_degree = np.sqrt(own.sum(axis=1))
    scale = sparse.diags_array(1.0 / root_degree)
    n_wanted = min(n_features, len(genes) - 2) + 1
    value, vector = _largest(scale @ own @ scale, n_wanted)
    order = np.argsort(-value)[0 if member else 1 :]  # the first is the constant: membership
    value = np.where(np.abs(value) < ZERO, 0.0, value)[order]
    return Component(genes, vector[:, order] / root_degree[:, None] * value, value * len(genes))


def _largest(matrix: sparse.csr_array, n: int) -> tuple[Array, Array]:
    """Eigenpairs with the n largest eigenvalues, ascending."""
    if matrix.shape[0] <= _MOST_DENSE:
        value, vector = np.linalg.eigh(matrix.toarray())
        return value[-n:], vector[:, -n:]
    return sparse_eigenpairs(matrix, n, "LA")
