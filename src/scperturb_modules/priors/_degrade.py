"""Worse copies of a network, to learn how much a model owes to its edges and how much noise in them it bears."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError
from scperturb_modules.priors._graph import Array, GeneGraph, Index, as_graph

GraphOrTable = TypeVar("GraphOrTable", GeneGraph, pd.DataFrame)

_MOST_ROUNDS = 100
"""Edges that found no partner in so many rounds of swaps stay: a star has no legal swap at all."""


def degrade(
    network: GraphOrTable,
    *,
    remove: float = 0.0,
    add: float = 0.0,
    rewire: float = 0.0,
    permute_labels: bool = False,
    seed: int = 0,
) -> GraphOrTable:
    """Copy a network with edges removed, moved and added, or under permuted gene names.

    Parameters
    ----------
    network
        A :class:`GeneGraph` or an edge table of E edges, after duplicates are merged.
    remove
        Share of the edges to delete: ``round(remove * E)``, drawn uniformly. Under one seed, what a small share
        deletes a larger share deletes too.
    add
        Edges to add, as a share of E, drawn uniformly among those that neither the network nor its degraded copy
        has; weights are drawn from those of the network.
    rewire
        Share of the E edges to move by double-edge swaps, after removal: a-b, c-d become a-d, c-b (a-c, b-d) with
        their weights. Every gene keeps its number of edges (in and out, if directed); a moved edge is one that the
        network did not have.
    permute_labels
        Give every gene the place of another, drawn at random: the same graph, with the wrong genes. The decisive
        control of what a network contributes.
    seed
        Seed of all draws. The order is remove, rewire, add, permute; each has random numbers of its own.

    Returns
    -------
    GeneGraph or DataFrame
        The type that was given; of a table, ``source``, ``target`` and ``weight`` alone. It has the same genes, some
        of which may have no edge any more (a table lists them in ``attrs["isolated"]``). ``attrs["degraded"]`` holds
        the arguments, the numbers of edges concerned, the fingerprint of the network given and, where that was
        degraded itself, its record.

    Raises
    ------
    DataError
        A share outside 0 to 1 (``add`` may be larger), or more edges to add than are absent.

    Notes
    -----
    Where too few swaps are legal, as among hubs, fewer edges are moved; ``attrs["degraded"]["n_rewired"]`` is the
    number that were. Swaps keep the number of edges of a gene, not the sum of their weights.

    Examples
    --------
    >>> import pandas as pd
    >>> ring = pd.DataFrame({"source": list("ABCDEF"), "target": list("BCDEFA")})
    >>> worse = degrade(ring, remove=0.5, seed=1)
    >>> len(ring), len(worse), worse.attrs["degraded"]["n_removed"]
    (6, 3, 3)
    """
    _require_shares(remove=remove, rewire=rewire, add=add)
    original = as_graph(network)
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    kept = _without(original, round(remove * original.n_edges), streams[0])
    moved, n_rewired = _rewired(kept, original, round(rewire * original.n_edges), streams[1])
    more = _with_more(moved, original, round(add * original.n_edges), streams[2])
    result = _relabelled(more, streams[3]) if permute_labels else more
    record = {
        "remove": remove, "rewire": rewire, "add": add, "permute_labels": permute_labels, "seed": seed,
        "n_removed": original.n_edges - kept.n_edges, "n_rewired": n_rewired, "n_added": more.n_edges - moved.n_edges,
        "from_sha256": original.sha256(),
    }  # fmt: skip
    if "degraded" in original.attrs:
        record["before"] = original.attrs["degraded"]
    result = replace(result, attrs={**original.attrs, "degraded": record})
    return result if isinstance(network, GeneGraph) else result.to_table()


def _require_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not (0 <= share < np.inf) or (share > 1 and name != "add"):
            highest = "at least 0" if name == "add" else "between 0 and 1"
            raise DataError(f"{name}={share}, but a share of the edges is {highest}.")


def _without(network: GeneGraph, n: int, rng: np.random.Generator) -> GeneGraph:
    """Delete the first n edges of one random order, which does not depend on n."""
    kept = np.sort(rng.permutation(network.n_edges)[n:])
    return network.with_edges(network.source[kept], network.target[kept], network.weight[kept])


def _code(network: GeneGraph, source: Index, target: Index) -> Index:
    """One number per edge, the same for both directions of an undirected one."""
    n_genes = len(network.genes)
    if network.directed:
        return source * n_genes + target
    return np.minimum(source, target) * n_genes + np.maximum(source, target)


def _codes(network: GeneGraph) -> Index:
    return _code(network, network.source, network.target)


def _rewired(network: GeneGraph, original: GeneGraph, n: int, rng: np.random.Generator) -> tuple[GeneGraph, int]:
    """Move up to n edges, in pairs, each once; also the number that were moved."""
    source, target = network.source.copy(), network.target.copy()
    has_moved = np.zeros(network.n_edges, dtype=bool)
    n_wanted = min(n, network.n_edges) // 2 * 2
    taken = _codes(original)
    for _ in range(_MOST_ROUNDS):
        n_left = n_wanted - int(has_moved.sum())
        if n_left == 0:
            break
        # drawn anew in each round, because the last few may have no legal swap among themselves
        first, second = rng.permutation(np.flatnonzero(~has_moved))[:n_left].reshape(2, -1)
        ends = _swapped(network, source, target, (first, second), rng)
        legal = _legal(network, ends, taken)
        for edges, (new_source, new_target) in zip((first, second), ends, strict=True):
            source[edges[legal]], target[edges[legal]] = new_source[legal], new_target[legal]
            has_moved[edges[legal]] = True
        # an edge that was there at any time stays taken, so that no swap undoes another
        taken = np.concatenate([taken, *(_code(network, *end)[legal] for end in ends)])
    return network.with_edges(source, target, network.weight), int(has_moved.sum())


Ends = tuple[Index, Index]


def _swapped(
    network: GeneGraph, source: Index, target: Index, pairs: tuple[Index, Index], rng: np.random.Generator
) -> tuple[Ends, Ends]:
    """The new ends of both edges of each pair: a-b, c-d become a-d, c-b; an undirected c-d may be read as d-c."""
    first, second = pairs
    turned = np.zeros(len(second), dtype=bool) if network.directed else rng.random(len(second)) < 0.5
    c = np.where(turned, target[second], source[second])
    d = np.where(turned, source[second], target[second])
    return (source[first], d), (c, target[first])


def _legal(network: GeneGraph, ends: tuple[Ends, Ends], taken: Index) -> np.ndarray:
    """Pairs whose two new edges are no self-loops, not taken, and proposed by no pair before."""
    codes = np.stack([_code(network, *end) for end in ends])
    is_free = ~np.isin(codes, taken) & np.stack([source != target for source, target in ends])
    _, first_seen, same = np.unique(codes, return_index=True, return_inverse=True)
    is_first = first_seen[same.reshape(-1)] == np.arange(codes.size)
    return (is_free & is_first.reshape(codes.shape)).all(axis=0)


def _with_more(network: GeneGraph, original: GeneGraph, n: int, rng: np.random.Generator) -> GeneGraph:
    """Add n edges that neither network has; exact, also for nearly full networks."""
    n_genes = len(network.genes)
    n_pairs = n_genes * (n_genes - 1) // (1 if network.directed else 2)
    present = np.unique(np.concatenate([_place(network), _place(original)]))
    if n > n_pairs - len(present):
        raise DataError(f"add asks for {n} edges, but only {n_pairs - len(present)} are absent.")
    if n == 0:
        return network
    rank = rng.choice(n_pairs - len(present), n, replace=False)
    # the r-th absent place comes after as many present ones as have at most r absent places before them
    place = rank + np.searchsorted(present - np.arange(len(present)), rank, side="right")
    source, target = _ends_at(place, n_genes, directed=network.directed)
    weight: Array = rng.choice(original.weight, n)
    columns: list[tuple[Any, Any]] = [(network.source, source), (network.target, target), (network.weight, weight)]
    return network.with_edges(*(np.concatenate(column) for column in columns))


def _row_starts(n_genes: int) -> Index:
    """Place of the first pair (i, i + 1) of each i, when pairs i < j are numbered row by row."""
    i = np.arange(n_genes, dtype=np.intp)
    return i * (2 * n_genes - i - 1) // 2


def _place(network: GeneGraph) -> Index:
    """Number of each edge among all pairs of genes that could have one."""
    source, target, n_genes = network.source, network.target, len(network.genes)
    if network.directed:
        return source * (n_genes - 1) + target - (target > source)
    return _row_starts(n_genes)[source] + target - source - 1


def _ends_at(place: Index, n_genes: int, *, directed: bool) -> Ends:
    """Inverse of :func:`_place`."""
    if directed:
        source, rest = np.divmod(place, n_genes - 1)
        return source, rest + (rest >= source)
    starts = _row_starts(n_genes)
    source = np.searchsorted(starts[:-1], place, side="right") - 1
    return source, source + 1 + place - starts[source]


def _relabelled(network: GeneGraph, rng: np.random.Generator) -> GeneGraph:
    new = rng.permutation(len(network.genes))
    return network.with_edges(new[network.source], new[network.target], network.weight)
