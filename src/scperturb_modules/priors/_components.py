"""What the embeddings of a network share: connected components, solved one by one and put into one table."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import eigsh

from scperturb_modules._errors import DataError
from scperturb_modules.priors._graph import Array, GeneGraph, Index

logger = logging.getLogger(__name__)

MIN_GENES = 4
"""In fewer connected genes no direction but the trivial one means anything."""
ZERO = 1e-12
"""An eigenvalue of this size is rounding; its eigenvector times it would be noise, not a feature."""
_RESTART: dict[str, Any] = {"rng": 0} if "rng" in inspect.signature(eigsh).parameters else {}
"""Regular graphs make the solver start again from random numbers; where it takes a seed, it gets one."""


class Component(NamedTuple):
    """Connected genes (m,), their features (m, k), and by how much each (k,) deserves a place in the table."""

    genes: Index
    features: Array
    weight: Array


def symmetric_adjacency(network: GeneGraph) -> sparse.csr_array:
    """(n, n) sizes of the weights in the order of the network's genes, both directions of every edge."""
    n_genes = len(network.genes)
    entries = np.abs(network.weight), (network.source, network.target)
    upper = sparse.coo_array(entries, shape=(n_genes, n_genes)).tocsr()
    return sparse.csr_array(upper + upper.T)


def component_genes(adjacency: sparse.csr_array) -> list[Index]:
    """Numbers of the genes of each component that is large enough; larger ones first, then by their first gene."""
    _, label = csgraph.connected_components(adjacency, directed=False)
    by_label = np.argsort(label, kind="stable")
    parts = np.split(by_label, np.flatnonzero(np.diff(label[by_label])) + 1)
    return sorted((part for part in parts if len(part) >= MIN_GENES), key=lambda part: (-len(part), int(part[0])))


def possible_features(network: GeneGraph, components: Sequence[Index], n_features: int, *, clip: bool) -> int:
    """The number of features to compute: ``n_features``, or, with ``clip``, as many as there are.

    Raises
    ------
    DataError
        The components have fewer, and ``clip`` is False; or ``n_features`` is not positive.
    """
    most = sum(len(genes) - 2 for genes in components)
    if 1 <= n_features <= most:
        return n_features
    if clip and n_features >= 1:
        return most
    raise DataError(f"n_features={n_features}, but the graph of {len(network.connected)} genes has 1 to {most}.")


def own_block(adjacency: sparse.csr_array, genes: Index) -> sparse.csr_array:
    """The adjacency of one component; no copy where that is all."""
    return adjacency if len(genes) == adjacency.shape[0] else adjacency[genes][:, genes]


def sparse_eigenpairs(matrix: sparse.csr_array | Array, n: int, which: str) -> tuple[Array, Array]:
    """The n eigenpairs at the end ``which`` of the spectrum of a symmetric matrix; the same at every call."""
    # the start vector is fixed because the solver would otherwise draw one from the global random state
    value, vector = eigsh(matrix, k=n, which=which, v0=np.ones(matrix.shape[0]), **_RESTART)
    return value, vector


def with_fixed_signs(features: Array) -> Array:
    """Columns whose entry of largest size is positive, so that signs do not depend on the solver; no negative zeros."""
    if not features.size:
        return features
    largest = np.abs(features).argmax(axis=0)
    return features * np.sign(features[largest, np.arange(features.shape[1])]) + 0.0


def as_frame(network: GeneGraph, solved: Sequence[Component], n_features: int, *, prefix: str) -> pd.DataFrame:
    """The ``n_features`` of largest weight, for the genes of components that have one; empty without a component."""
    if not solved:
        return pd.DataFrame(dtype=np.float64)
    owner = np.repeat(np.arange(len(solved)), [len(part.weight) for part in solved])
    column = np.concatenate([np.arange(len(part.weight)) for part in solved])
    weight = np.concatenate([part.weight for part in solved])
    table = np.zeros((len(network.genes), n_features))
    placed = np.zeros(len(network.genes), dtype=bool)
    placed[solved[0].genes] = len(solved) > 1  # to be in none of the others is a place too
    for number, which in enumerate(np.argsort(-weight, kind="stable")[:n_features]):
        part = solved[owner[which]]
        feature = part.features[:, column[which]]
        table[part.genes, number] = feature
        placed[part.genes] |= feature.any()
    table = with_fixed_signs(table)
    names = [gene for gene, has_place in zip(network.genes, placed, strict=True) if has_place]
    columns = [f"{prefix}{number + 1}" for number in range(n_features)]
    return pd.DataFrame(table[placed], index=names, columns=columns)


def log_left_out(network: GeneGraph, table: pd.DataFrame, *, what: str) -> None:
    """Say how many connected genes have no position in the table, where there are any."""
    connected = len(network.connected)
    if len(table) < connected or table.empty:
        message = "network %r: %d of %d connected genes get no %s; their components are too small"
        logger.info(message, network.name, connected - len(table), connected, what)
