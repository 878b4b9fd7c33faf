"""A network as PyTorch Geometric, networkx and h5ad know it, and back: methods of GeneGraph."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError
from scperturb_modules.priors._edge_columns import WEIGHT
from scperturb_modules.priors._graph_matrix import edge_table, gene_order
from scperturb_modules.priors._stored import common_from_uns, common_to_uns

if TYPE_CHECKING:
    from networkx import Graph
    from torch_geometric.data import Data

    from scperturb_modules.priors._graph import GeneGraph

_ARRAYS = ("source", "target", "weight")
_NUMBERS = ("directed", "n_merged", "n_self_loops")


def to_pyg(graph: GeneGraph) -> Data:
    """The network for PyTorch Geometric.

    Returns
    -------
    torch_geometric.data.Data
        ``edge_index`` (2, E') int64, numbers of ``genes``, with both directions of an undirected edge (E' = 2 E);
        ``edge_weight`` (E',) float32; ``num_nodes``; and, for :meth:`from_pyg`, ``genes`` (list of n names), ``name``,
        ``directed``, ``signed`` and ``attrs``.

    Examples
    --------
    >>> from scperturb_modules.priors import GeneGraph
    >>> GeneGraph.from_scipy([[0, 0.5], [0.5, 0]], ["A", "B"]).to_pyg().edge_index
    tensor([[0, 1],
            [1, 0]])
    """
    from torch_geometric.data import Data
    from torch_geometric.utils import from_scipy_sparse_matrix

    edge_index, edge_weight = from_scipy_sparse_matrix(graph.adjacency().astype(np.float32))
    return Data(
        edge_index=edge_index, edge_weight=edge_weight, num_nodes=len(graph.genes), genes=list(graph.genes),
        name=graph.name, directed=graph.directed, signed=graph.signed, attrs=copy.deepcopy(graph.attrs),
    )  # fmt: skip


def from_pyg(
    cls: type[GeneGraph],
    data: Data,
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    directed: bool | None = None,
    signed: bool | None = None,
) -> GeneGraph:
    """Read a graph of PyTorch Geometric.

    Parameters
    ----------
    data
        With ``edge_index`` and, where edges have one, ``edge_weight`` or an ``edge_attr`` of one column.
    genes
        Name of each node; default ``data.genes``, which :meth:`to_pyg` writes.
    name, directed, signed
        Go before what ``data`` says. Where nobody says ``directed``, the network is undirected if every edge stands
        in both directions with one weight, as PyTorch Geometric has it.

    Raises
    ------
    DataError
        Nodes without names or more or fewer names than nodes, a repeated gene, several weights per edge; or weights
        that :meth:`from_table` cannot use.

    Notes
    -----
    An undirected edge may stand in both directions. Other repeated edges are merged and counted, as of a table.
    """
    from torch_geometric.utils import is_undirected

    named = data.get("genes") if genes is None else genes
    if named is None or data.edge_index is None:
        raise DataError(
            "the graph has no gene names or no edges; call GeneGraph.from_pyg(data, genes), a name per node."
        )
    order = gene_order(named)
    source, target = data.edge_index.cpu().numpy()
    # without features and num_nodes nothing says how many nodes there are but the edges
    n_nodes = data.num_nodes if {"num_nodes", "x"} & set(data.keys()) else len(order)
    if n_nodes != len(order) or max(source.max(initial=-1), target.max(initial=-1)) >= len(order):
        raise DataError(
            f"the graph has another number of nodes than there are genes ({len(order)}); name each node once."
        )
    weight = _pyg_weight(data)
    said = data.get("directed") if directed is None else directed
    if said is None:
        said = not is_undirected(data.edge_index, weight, num_nodes=len(order))
    table = edge_table(order, source, target, np.ones(len(source)) if weight is None else weight.detach().cpu().numpy())
    if not said:
        table = table.loc[_one_direction(source, target, table[WEIGHT])]
    table.attrs.update(data.get("attrs") or {}, name=data.get("name"), signed=data.get("signed"))
    return cls.from_table(table, name=name, directed=bool(said), signed=signed)


def _pyg_weight(data: Data) -> Any:
    """(E,) tensor, or None."""
    weight = data.get("edge_weight")
    if weight is None:
        weight = data.get("edge_attr")
    if weight is None or weight.ndim == 1:
        return weight
    if weight.ndim != 2 or weight.shape[1] != 1:
        raise DataError(
            f"edges have {weight.shape[1]} attributes; say which is the weight: data.edge_weight = "
            "data.edge_attr[:, 0]."
        )
    return weight[:, 0]


def _one_direction(source: NDArray[Any], target: NDArray[Any], weight: pd.Series) -> NDArray[np.bool_]:
    """(E,) mask without the edges that stand in the other direction too, with the same weight."""
    turned = pd.MultiIndex.from_arrays([target, source, weight])
    return ~((source > target) & turned.isin(pd.MultiIndex.from_arrays([source, target, weight])))


def to_networkx(graph: GeneGraph) -> Graph:
    """The network for networkx.

    Returns
    -------
    networkx.Graph or DiGraph
        All genes as nodes, edges with ``weight``. Its attributes ``graph.graph`` are those of the table
        (:meth:`to_table`): ``name``, provenance.

    Examples
    --------
    >>> from scperturb_modules.priors import GeneGraph
    >>> GeneGraph.from_scipy([[0, 0.5], [0.5, 0]], ["A", "B"]).to_networkx().edges(data=True)
    EdgeDataView([('A', 'B', {'weight': 0.5})])
    """
    from networkx import DiGraph, Graph

    made = DiGraph() if graph.directed else Graph()
    made.graph.update(copy.deepcopy(graph.attrs), name=graph.name)
    if graph.signed:
        made.graph["signed"] = True
    made.add_nodes_from(graph.genes)
    names = np.array(graph.genes, dtype=object)
    edges = zip(names[graph.source], names[graph.target], graph.weight.tolist(), strict=True)
    made.add_weighted_edges_from(edges, weight=WEIGHT)
    return made


def from_networkx(
    cls: type[GeneGraph],
    graph: Graph,
    *,
    name: str | None = None,
    weight: str | None = "weight",
    signed: bool | None = None,
) -> GeneGraph:
    """Read a graph of networkx.

    Parameters
    ----------
    graph
        Graph or DiGraph, which says whether the network is directed; nodes are genes, by their text. Parallel edges
        of a multigraph are merged and counted, as of a table. ``graph.graph`` may hold ``name``, ``signed`` and
        provenance.
    name
        Goes before what the graph says.
    weight
        Attribute of edges that holds the weight. For None, or where no edge has the default one, each weighs 1.
    signed
        Whether weights below zero are meant; goes before what the graph says.

    Raises
    ------
    DataError
        Two nodes of the same text; some edges without a weight; weights that :meth:`from_table` cannot use.

    Examples
    --------
    >>> import networkx
    >>> from scperturb_modules.priors import GeneGraph
    >>> GeneGraph.from_networkx(networkx.path_graph(["A", "B", "C"]))
    GeneGraph('network', 3 genes, 2 edges, undirected)
    """
    order = gene_order(graph.nodes)
    number = {node: i for i, node in enumerate(graph.nodes)}
    edges = [
        (number[source], number[target], data.get(weight, np.nan)) for source, target, data in graph.edges(data=True)
    ]
    ends = np.array([edge[:2] for edge in edges], dtype=np.intp).reshape(-1, 2).T
    weights = pd.Series([edge[2] for edge in edges], dtype=object)
    # networkx, too, takes a missing attribute called weight for 1
    unweighted = weight is None or (weight == WEIGHT and weights.isna().all())
    table = edge_table(order, ends[0], ends[1], np.ones(len(edges)) if unweighted else weights)
    table.attrs.update({**graph.graph, "isolated": order.tolist(), "directed": graph.is_directed()})
    return cls.from_table(table, name=name, signed=signed)


def to_uns(graph: GeneGraph) -> dict[str, Any]:
    """The plain form that h5ad and zarr keep."""
    arrays = {name: getattr(graph, name) for name in _ARRAYS}
    return common_to_uns(graph) | arrays | {name: getattr(graph, name) for name in _NUMBERS}


def from_uns(cls: type[GeneGraph], stored: Mapping[str, Any]) -> GeneGraph:
    """Undo :meth:`to_uns`."""
    arrays = {name: stored[name] for name in _ARRAYS}
    return cls(
        **common_from_uns(stored), **arrays, directed=bool(stored["directed"]),
        n_merged=int(stored["n_merged"]), n_self_loops=int(stored["n_self_loops"]),
    )  # fmt: skip
