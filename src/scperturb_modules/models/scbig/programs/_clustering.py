"""Gene programs: genes that are near each other in all relations and graphs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.models.scbig.programs._kmeans import centroids, spherical_kmeans
from scperturb_modules.models.scbig.programs._relations import Relation, table_relation
from scperturb_modules.models.scbig.programs._rounding import improved_by_swaps, with_least_size, within_capacity

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Graph: TypeAlias = sparse.csr_array

EPS = 0.1
"""Entropy of the transport plan, in units of the mean cost."""

RHO = 0.05
"""``balance="soft"``: the price of a program e times as large as the mean, in units of the range of distances."""

SETTLED = 1e-3
"""Rounds end when a smaller share of genes moves."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """Programs of G genes.

    Attributes
    ----------
    labels
        (G,) int64, 0 to K-1 by falling size; of equal ones that with the first gene goes first.
    margin
        (G,) how much nearer a gene is to its program than to the best other one, from -1 to 1; 0 for uncovered genes.
    uncovered
        (G,) bool, genes that no relation knows.
    """

    labels: Index
    margin: Array
    uncovered: NDArray[np.bool_]

    @property
    def sizes(self) -> Index:
        """(K,) genes of each program."""
        return np.bincount(self.labels)


def cluster_genes(
    relations: Sequence[Relation],
    graphs: Sequence[Graph],
    n_programs: int,
    *,
    balance: str = "soft",
    seed: int = 0,
    beta: float | Sequence[float] = 1.0,
    n_rounds: int = 3,
    min_size: int = 8,
) -> Clustering:
    """Put each gene into one of K programs.

    Parameters
    ----------
    relations
        Vectors of genes; without any, the graphs' spectral embedding takes their place.
    graphs
        (G, G) symmetric weights, 0 on the diagonal.
    n_programs
        K.
    balance
        ``"soft"``: sizes are pulled together, and no program has fewer than ``min_size`` genes, if there are so many;
        ``"equal"``: they differ by one at most; ``"none"``: each gene goes to the nearest program.
    seed
        Of the starts of k-means.
    beta
        Weight of the graphs beside the relations, one for all or one for each.
    n_rounds
        Most rounds of means, transport plan and rounding after k-means.

    Raises
    ------
    DataError
        There is neither a relation nor an edge, or there are fewer than 2 K genes.

    Notes
    -----
    The cost of gene i in program k is ``D_sem / range + beta D_graph``. D_sem is one minus the mean cosine with the
    program's means over the relations that cover the gene; D_graph one minus the share of the gene's edges that lead
    into the program, ``(sum_j A_ij + 1/K) / (degree + 1)``, averaged over graphs. Genes without an edge get nothing
    from a graph. Genes that no relation covers are put where their edges lead, else where most room is.

    Examples
    --------
    >>> rows = np.repeat(np.eye(2), 10, axis=0)
    >>> found = cluster_genes([Relation.of("table", rows)], [], 2)
    >>> found.labels.tolist() == [0] * 10 + [1] * 10
    True
    """
    betas = np.broadcast_to(np.asarray(beta, dtype=np.float64), len(graphs))
    pulls = [(_scaled(graph), own / len(graphs)) for graph, own in zip(graphs, betas, strict=True) if graph.nnz]
    graphs = [graph for graph, _ in pulls]
    relations = relations_used(relations, graphs, n_programs)
    n_genes = require_genes_for(relations, n_programs)
    covered = np.logical_or.reduce([one.covered for one in relations])
    known = np.flatnonzero(covered)
    capacity = n_genes // n_programs + (np.arange(n_programs) < n_genes % n_programs)
    least = min(min_size, len(known) // n_programs)
    labels = np.full(n_genes, -1)
    labels[known] = spherical_kmeans(*_joined(relations, known), n_programs, seed=seed)
    for _ in range(n_rounds):
        cost = _cost(relations, pulls, labels, n_programs)
        after = labels.copy()
        after[known] = _assigned(cost[known], capacity, balance, least)
        moved = np.mean(after[known] != labels[known])
        labels = after
        if moved < SETTLED:
            break
    cost = _cost(relations, pulls, labels, n_programs)
    labels = _with_uncovered(labels, graphs, capacity if balance == "equal" else None, n_programs)
    return _in_order(labels, np.where(covered, _margin(cost, labels), 0.0), ~covered)


def relations_used(relations: Sequence[Relation], graphs: Sequence[Graph], n_programs: int) -> list[Relation]:
    """Those that cover a gene; without any, spectral embeddings of the graphs."""
    return [one for one in relations if one.covered.any()] or _of_graphs(graphs, n_programs)


def joined_vectors(relations: Sequence[Relation]) -> tuple[Array, Array]:
    """Covered genes' rows in all relations side by side, of length one, and their weights in means."""
    covered = np.logical_or.reduce([one.covered for one in relations])
    return _joined(relations, np.flatnonzero(covered))


def _joined(relations: Sequence[Relation], known: Index) -> tuple[Array, Array]:
    rows = np.hstack([np.sqrt(one.weight) * one.vectors[known] for one in relations])
    weight = np.array([one.weight for one in relations])
    total = weight @ np.stack([one.covered[known] for one in relations])
    strength = weight @ np.stack([one.strength[known] for one in relations])
    return rows / np.sqrt(total)[:, None], strength / total


def require_genes_for(relations: Sequence[Relation], n_programs: int) -> int:
    """G, where enough is known of enough genes; a DataError with the mend where it is not."""
    if not relations:
        raise DataError(
            "There is nothing to find gene programs from: no gene varies in the training cells, and no prior knows the "
            "genes. Pass priors= with the names of these genes, or relations=('coexpression',) with expression that "
            "varies."
        )
    n_genes = len(relations[0].covered)
    n_known = int(np.logical_or.reduce([one.covered for one in relations]).sum())
    if n_known < 2 * n_programs:
        raise DataError(
            f"{n_programs} programs need at least {2 * n_programs} genes that something is known of; there are "
            f"{n_known} of {n_genes}. Pass n_programs={max(1, n_known // 8)} or fewer, or more genes."
        )
    return n_genes


def _scaled(graph: Graph) -> Graph:
    """With a mean weight of 1, so that the extra one in the degree means one edge."""
    return sparse.csr_array(graph / graph.data.mean())


def _of_graphs(graphs: Sequence[Graph], n_programs: int) -> list[Relation]:
    """Spectral embeddings of the graphs."""
    from scperturb_modules.priors import GeneGraph, spectral_embedding

    found = []
    for number, graph in enumerate(graph for graph in graphs if graph.nnz):
        names = [f"{gene:09d}" for gene in range(graph.shape[0])]
        table = spectral_embedding(GeneGraph.from_scipy(graph, names), n_features=2 * n_programs, clip=True)
        found.append(table_relation(f"graph {number}", pd.DataFrame(table), names))
    return [one for one in found if one.covered.any()]


def _cost(relations: Sequence[Relation], pulls: Sequence[tuple[Graph, float]], labels: Index, n_programs: int) -> Array:
    """(G, K) distances in units of their range, and those in the graphs by their weights."""
    distance = _semantic_distance(relations, labels, n_programs)
    cost = distance / max(np.ptp(distance), 1e-12)
    for graph, weight in pulls:
        cost += weight * _graph_distance(graph, labels, n_programs)
    return cost


def _semantic_distance(relations: Sequence[Relation], labels: Index, n_programs: int) -> Array:
    total = np.maximum(sum(one.weight * one.covered for one in relations), 1e-12)
    cosine = np.zeros((len(labels), n_programs))
    for one in relations:
        own = one.covered & (labels >= 0)
        means = centroids(one.vectors[own], one.strength[own], labels[own], n_programs)
        cosine += one.weight * (one.vectors @ means.T)
    return 1 - cosine / total[:, None]


def _graph_distance(graph: Graph, labels: Index, n_programs: int) -> Array:
    degree = graph.sum(axis=1)
    return 1 - (_edges_into(graph, labels, n_programs) + 1 / n_programs) / (degree[:, None] + 1)


def _edges_into(graph: Graph, labels: Index, n_programs: int) -> Array:
    """(G, K) weight of each gene's edges into each program."""
    known = np.flatnonzero(labels >= 0)
    ones = np.ones(len(known))
    members = sparse.csr_array((ones, (known, labels[known])), shape=(len(labels), n_programs))
    return (graph @ members).toarray()


def _assigned(cost: Array, capacity: Index, balance: str, least: int) -> Index:
    """(G,) programs by the cost."""
    if balance == "none":
        return cost.argmin(axis=1)
    plan = _log_plan(cost, None if balance == "equal" else RHO)
    if balance == "equal":
        return improved_by_swaps(cost, within_capacity(plan, capacity))
    return with_least_size(cost, plan.argmax(axis=1), least)


def _log_plan(cost: Array, rho: float | None) -> Array:
    import torch

    from scperturb_modules.nn._transport import log_sinkhorn

    eps = EPS * float(cost.mean())
    return log_sinkhorn(torch.from_numpy(cost), eps, rho=rho, n_iter=500, tol=1e-6).numpy()


def _with_uncovered(labels: Index, graphs: Sequence[Graph], capacity: Index | None, n_programs: int) -> Index:
    """Genes without a label go where their edges lead, step by step, and the rest where most room is."""
    labels = labels.copy()
    room = None if capacity is None else capacity - np.bincount(labels[labels >= 0], minlength=n_programs)
    while graphs and (labels < 0).any():
        pull = np.mean([_edges_into(graph, labels, n_programs) for graph in graphs], axis=0)
        next_to = np.flatnonzero((labels < 0) & pull.any(axis=1))
        if not len(next_to):
            break
        if room is None:
            labels[next_to] = pull[next_to].argmax(axis=1)
        else:
            labels[next_to] = within_capacity(pull[next_to], room)
            room = room - np.bincount(labels[next_to], minlength=n_programs)
    for gene in np.flatnonzero(labels < 0):
        size = np.bincount(labels[labels >= 0], minlength=n_programs)
        labels[gene] = int(np.argmin(size))
    return labels


def _margin(cost: Array, labels: Index) -> Array:
    genes = np.arange(len(labels))
    own = cost[genes, labels]
    others = cost.copy()
    others[genes, labels] = np.inf
    return others.min(axis=1) - own


def _in_order(labels: Index, margin: Array, uncovered: NDArray[np.bool_]) -> Clustering:
    _, first, label, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return Clustering(rank[label], margin, uncovered)
