"""The part of a network around perturbed genes: which neighbours are worth a place in a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Index: TypeAlias = NDArray[np.intp]
Array: TypeAlias = NDArray[np.float64]


class Network(Protocol):
    """What is read of a ``spm.priors.GeneGraph``."""

    @property
    def name(self) -> str: ...

    @property
    def genes(self) -> Sequence[str]: ...

    @property
    def source(self) -> Index: ...

    @property
    def target(self) -> Index: ...

    @property
    def weight(self) -> Array: ...

    @property
    def directed(self) -> bool: ...


@dataclass(frozen=True)
class Neighbourhood:
    """What is drawn: m nodes, perturbed genes first, and the edges with a perturbed gene, by number of node.

    Attributes
    ----------
    names
        The m genes.
    n_perturbed, n_perturbed_found
        How many of them are perturbed genes, and how many of these the network has.
    n_neighbours_found
        Genes, other than perturbed ones, that the network joins to those drawn.
    source, target, weight
        (e,) arrays.
    """

    names: list[str]
    n_perturbed: int
    n_perturbed_found: int
    n_neighbours_found: int
    source: Index
    target: Index
    weight: Array

    @property
    def n_neighbours(self) -> int:
        """Nodes that are no perturbed gene."""
        return len(self.names) - self.n_perturbed


def neighbourhood(graph: Network, found: list[str], n_neighbours: int, max_nodes: int) -> Neighbourhood:
    """The genes found with their strongest neighbours; where these are too many, each gene keeps its first.

    Parameters
    ----------
    graph
        The network.
    found
        Perturbed genes, all of them in the network; of more than ``max_nodes`` those with most links to each other.
    n_neighbours
        Of each perturbed gene, by size of the weight, then number of perturbed genes joined to it, then name.
    max_nodes
        Most nodes.
    """
    names = np.array(graph.genes, dtype=object)
    is_found = pd.Index(names).isin(found)
    source, target, weight = np.asarray(graph.source), np.asarray(graph.target), np.asarray(graph.weight)
    ends = {"gene": np.concatenate([source, target]), "other": np.concatenate([target, source])}
    links = pd.DataFrame({**ends, "strength": np.tile(np.abs(weight), 2)})
    links = links[is_found[links["gene"]]]
    perturbed = _most_linked(np.flatnonzero(is_found), links, max_nodes)
    outside = links[np.isin(links["gene"], perturbed) & ~is_found[links["other"]]]
    chosen = _strongest(outside, n_neighbours)[: max_nodes - len(perturbed)]
    nodes = np.concatenate([perturbed, chosen])
    number = np.full(len(names), -1)
    number[nodes] = np.arange(len(nodes))
    source, target = number[source], number[target]
    drawn = (source >= 0) & (target >= 0) & (np.minimum(source, target) < len(perturbed))
    edges = source[drawn], target[drawn], weight[drawn]
    n_outside = outside["other"].nunique()
    return Neighbourhood([str(name) for name in names[nodes]], len(perturbed), len(found), n_outside, *edges)


def _most_linked(found: Index, links: pd.DataFrame, most: int) -> Index:
    """The perturbed genes, those with most links to each other if there are too many."""
    among = links[np.isin(links["other"], found)]
    n_links = among.groupby("gene")["other"].nunique().reindex(found, fill_value=0)
    return np.sort(n_links.sort_values(ascending=False, kind="stable").index[:most].to_numpy())


def _strongest(links: pd.DataFrame, n: int) -> Index:
    """The n strongest neighbours of each gene, first places before second ones, then those of several genes."""
    shared = links.groupby("other")["gene"].transform("nunique")
    order = {"gene": True, "strength": False, "shared": False, "other": True}
    ranked = links.assign(shared=shared).sort_values(list(order), ascending=list(order.values()))
    ranked = ranked.drop_duplicates(["gene", "other"])
    ranked["rank"] = ranked.groupby("gene").cumcount()
    best = ranked[ranked["rank"] < n].groupby("other").agg({"rank": "min", "shared": "max", "strength": "max"})
    best = best.sort_values(["rank", "shared", "strength"], ascending=[True, False, False], kind="stable")
    return best.index.to_numpy(dtype=np.intp)
