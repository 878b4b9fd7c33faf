"""Networks of genes from plain edge tables: read, checked, merged and counted once, for baselines and models alike."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors import _graph_forms, _graph_matrix
from scperturb_modules.priors._edge_columns import SOURCE, TARGET, WEIGHT, gene_columns, weight_column
from scperturb_modules.priors._identifiers import find_genes

Index: TypeAlias = NDArray[np.intp]
Array: TypeAlias = NDArray[np.float64]

_OWN_ATTRS = ("name", "directed", "signed", "isolated")
"""What ``attrs`` of an edge table say of the network itself; all else there is provenance."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneGraph:
    """Weighted edges between genes; made from a table by :meth:`from_table`.

    Attributes
    ----------
    name
        As the user knows it.
    genes
        The n genes, sorted; some may have no edge (isolated genes).
    source, target
        (E,) intp, numbers of genes. Sorted by source, then target; no self-loop, no edge twice. An undirected edge
        stands once, with ``source < target``.
    weight
        (E,) float64, finite, not zero; negative only in a signed network.
    directed
        Whether an edge points from source to target.
    n_merged, n_self_loops
        Rows of the table that repeated an edge, and that joined a gene to itself.
    attrs
        Provenance: ``source``, ``version``, ``licence``, ``derived_from`` and whatever else the table's ``attrs`` said.
    """

    name: str
    genes: tuple[str, ...]
    source: Index
    target: Index
    weight: Array
    directed: bool = False
    n_merged: int = 0
    n_self_loops: int = 0
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in (("source", np.intp), ("target", np.intp), ("weight", np.float64)):
            values = np.array(getattr(self, name), dtype=dtype)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "attrs", copy.deepcopy(dict(self.attrs)))
        code = self.source * max(len(self.genes), 1) + self.target
        in_order = list(self.genes) == sorted(set(self.genes)) and bool(np.all(np.diff(code) > 0))
        ends = np.concatenate([self.source, self.target])
        in_range = ends.size == 0 or (ends.min() >= 0 and ends.max() < len(self.genes))
        one_way = np.all(self.source != self.target if self.directed else self.source < self.target)
        if not (in_order and in_range and one_way and len(self.source) == len(self.target) == len(self.weight)):
            raise DataError(f"network {self.name!r} is not in order; make it by GeneGraph.from_table(table).")

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, *, name: str | None = None, directed: bool | None = None, signed: bool | None = None
    ) -> GeneGraph:
        """Read an edge table.

        Parameters
        ----------
        table
            One row per edge: ``source``, ``target`` (gene symbols) and, where edges have one, ``weight``; other
            columns are not read. Its ``attrs`` may hold ``name``, ``directed``, ``signed``, ``isolated`` (genes
            without an edge) and provenance.
        name, directed, signed
            Go before what ``attrs`` say. Default: ``"network"``, undirected, not signed.

        Raises
        ------
        DataError
            Genes without a name; weights that are no number, infinite, zero, or negative in a network not signed.

        Notes
        -----
        A repeated edge (an undirected one in either direction) keeps its largest weight; in a signed network the
        strongest, the positive one of equals. Self-loops are dropped. Both are counted.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"source": ["B", "A", "C"], "target": ["A", "B", "C"], "weight": [0.2, 0.9, 1.0]})
        >>> network = GeneGraph.from_table(table, name="interactions")
        >>> network, network.n_merged, network.n_self_loops
        (GeneGraph('interactions', 3 genes, 1 edge, undirected), 1, 1)
        """
        attrs = {str(key): value for key, value in table.attrs.items()}
        said = {key: attrs.pop(key, None) for key in _OWN_ATTRS}
        label = str(name if name is not None else said["name"] or "network")
        is_directed = bool(said["directed"] if directed is None else directed)
        ends = gene_columns(table, label)
        weight = weight_column(table, label, signed=bool(said["signed"] if signed is None else signed))
        isolated = [] if said["isolated"] is None else [str(gene) for gene in said["isolated"]]
        genes, number = _numbered(np.concatenate([*ends, np.array(isolated, dtype=object)]))
        source, target = number[: len(table)], number[len(table) : 2 * len(table)]
        loop = source == target
        edges = _merged(source[~loop], target[~loop], weight[~loop], directed=is_directed)
        n_merged = len(table) - int(loop.sum()) - len(edges[0])
        return cls(label, genes, *edges, is_directed, n_merged, int(loop.sum()), attrs)

    adjacency, from_scipy = _graph_matrix.adjacency, classmethod(_graph_matrix.from_scipy)
    to_pyg, from_pyg = _graph_forms.to_pyg, classmethod(_graph_forms.from_pyg)
    to_networkx, from_networkx = _graph_forms.to_networkx, classmethod(_graph_forms.from_networkx)
    to_uns, from_uns = _graph_forms.to_uns, classmethod(_graph_forms.from_uns)

    @property
    def n_edges(self) -> int:
        """Number of edges; an undirected edge counts once."""
        return len(self.source)

    @property
    def edges(self) -> Index:
        """(2, E) numbers of genes: sources, targets."""
        return np.stack([self.source, self.target])

    @property
    def signed(self) -> bool:
        """Whether a weight is negative."""
        return bool((self.weight < 0).any())

    @property
    def origin(self) -> str:
        """Database that the edges come from, ``attrs["source"]``; empty where nobody said."""
        return str(self.attrs.get("source", ""))

    @property
    def version(self) -> str:
        """Its version, ``attrs["version"]``; empty where nobody said."""
        return str(self.attrs.get("version", ""))

    @cached_property
    def degree(self) -> Index:
        """(n,) number of edges at each gene, in and out, whatever their weight."""
        ends = np.concatenate([self.source, self.target])
        return np.bincount(ends, minlength=len(self.genes)).astype(np.intp)

    @property
    def isolated(self) -> tuple[str, ...]:
        """Genes without an edge."""
        return tuple(gene for gene, degree in zip(self.genes, self.degree, strict=True) if degree == 0)

    @property
    def connected(self) -> frozenset[str]:
        """Genes with an edge."""
        return frozenset(self.genes).difference(self.isolated)

    def with_edges(self, source: ArrayLike, target: ArrayLike, weight: ArrayLike) -> GeneGraph:
        """The same genes with other edges, given by gene numbers (E,) in any order; repeated edges are merged."""
        ends = np.asarray(source, dtype=np.intp), np.asarray(target, dtype=np.intp)
        edges = _merged(*ends, np.asarray(weight, dtype=np.float64), directed=self.directed)
        return replace(self, source=edges[0], target=edges[1], weight=edges[2])

    def subgraph(self, genes: Iterable[str]) -> GeneGraph:
        """The genes among those given, and the edges among them; genes that the network does not have are left out.

        Raises
        ------
        DataError
            It has none of the genes.
        """
        wanted = find_genes(genes, self.genes, what=f"network {self.name!r}")
        kept = np.array([gene in wanted for gene in self.genes], dtype=bool)
        number = np.cumsum(kept) - 1
        among = kept[self.source] & kept[self.target]
        return replace(
            self, genes=tuple(gene for gene in self.genes if gene in wanted),
            source=number[self.source[among]], target=number[self.target[among]], weight=self.weight[among],
        )  # fmt: skip

    def rename(self, names: Mapping[str, str]) -> GeneGraph:
        """The same network with other names of genes.

        Parameters
        ----------
        names
            New name of each gene to rename, by its present name; other entries mean nothing.

        Raises
        ------
        DataError
            Two genes would have the same name.
        """
        new = pd.Index([str(names.get(gene, gene)) for gene in self.genes], dtype=object)
        if new.has_duplicates:
            raise DataError(
                f"network {self.name!r}: several genes would be called {name_some(new[new.duplicated()].unique())}. "
                "Give each gene a name of its own, or leave one out by subgraph(genes)."
            )
        genes, number = _numbered(new.to_numpy())
        nodes = replace(self.with_edges([], [], []), genes=genes)
        return nodes.with_edges(number[self.source], number[self.target], self.weight)

    def split_signs(self) -> tuple[GeneGraph, GeneGraph]:
        """The positive edges, and the negative edges with their strength as weight; both have all genes."""
        positive, negative = self.weight > 0, self.weight < 0
        parts = [self.with_edges(self.source[on], self.target[on], abs(self.weight[on])) for on in (positive, negative)]
        return replace(parts[0], name=f"{self.name} positive"), replace(parts[1], name=f"{self.name} negative")

    def to_table(self) -> pd.DataFrame:
        """The edge table that :meth:`from_table` reads back to an equal network; rows are named by text."""
        names = np.array(self.genes, dtype=object)
        columns = {SOURCE: names[self.source], TARGET: names[self.target], WEIGHT: self.weight.copy()}
        table = pd.DataFrame(columns, index=pd.RangeIndex(self.n_edges).astype(str))
        table.attrs.update(copy.deepcopy(self.attrs))
        table.attrs.update({"name": self.name, "directed": self.directed})
        if self.isolated:
            table.attrs["isolated"] = list(self.isolated)
        if self.signed:
            table.attrs["signed"] = True
        return table

    def sha256(self) -> str:
        """Fingerprint of genes, edges, weights and direction, not of name and provenance."""
        digest = hashlib.sha256(json.dumps([self.directed, self.genes]).encode())
        for values, dtype in ((self.source, "<i8"), (self.target, "<i8"), (self.weight, "<f8")):
            digest.update(values.astype(dtype).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        kind = "directed" if self.directed else "undirected"
        edges = "1 edge" if self.n_edges == 1 else f"{self.n_edges} edges"
        return f"GeneGraph({self.name!r}, {len(self.genes)} genes, {edges}, {kind})"


def _numbered(names: NDArray[np.object_]) -> tuple[tuple[str, ...], Index]:
    """Sorted unique names, and the number of each name among them."""
    code, unique = pd.factorize(names)
    order = sorted(range(len(unique)), key=unique.__getitem__)
    number = np.empty(len(unique), dtype=np.intp)
    number[order] = np.arange(len(unique))
    return tuple(str(unique[i]) for i in order), number[code]


def _merged(source: Index, target: Index, weight: Array, *, directed: bool) -> tuple[Index, Index, Array]:
    """Each edge once, with its strongest weight, sorted by its ends."""
    if not directed:
        source, target = np.minimum(source, target), np.maximum(source, target)
    order = np.lexsort((-weight, -np.abs(weight), target, source))
    source, target, weight = source[order], target[order], weight[order]
    first = np.ones(len(source), dtype=bool)
    first[1:] = (np.diff(source) != 0) | (np.diff(target) != 0)
    return source[first], target[first], weight[first]


class ActsAsGraph(Protocol):
    """A prior that can act as a network."""

    def to_graph(self) -> GeneGraph:
        """The network."""


def as_graph(prior: GeneGraph | ActsAsGraph | pd.DataFrame, name: str | None = None) -> GeneGraph:
    """A network from an edge table or from a prior that can act as one, under another name where one is given."""
    if isinstance(prior, pd.DataFrame):
        return GeneGraph.from_table(prior, name=name)
    network = prior if isinstance(prior, GeneGraph) else prior.to_graph()
    return network if name in (None, network.name) else replace(network, name=str(name))
