"""GeneGraph to and from scipy, PyTorch Geometric, networkx and the form of uns: there and back is the same network."""

from __future__ import annotations

import networkx
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from torch_geometric.data import Data
from torch_geometric.utils import to_scipy_sparse_matrix

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph

ATTRS = {"source": "STRING", "version": "12.0", "cutoffs": [0.4, 0.7], "nested": {"n": 3}}


def draw_network(seed, *, directed, signed, n_genes=25, n_edges=60):
    """Odd names, isolated genes, weights that float32 can hold."""
    rng = np.random.default_rng(seed)
    names = ["NA", "nan", "None", "1", "É/β", "a b", *(f"G{i}" for i in range(n_genes - 6))]
    ends = np.array(names, dtype=object)[rng.integers(n_genes - 4, size=(2, n_edges))]
    weight = rng.integers(1, 64, n_edges) / 64 * (rng.choice([-1, 1], n_edges) if signed else 1)
    table = pd.DataFrame({"source": ends[0], "target": ends[1], "weight": weight})
    table.attrs = {**ATTRS, "isolated": names, "name": f"drawn {seed}"}
    return GeneGraph.from_table(table, directed=directed, signed=signed)


@pytest.fixture(params=range(4))
def seed(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["undirected", "directed"])
def directed(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["positive", "signed"])
def drawn(request, seed, directed):
    network = draw_network(seed, directed=directed, signed=request.param)
    assert len(network.isolated) >= 4 and network.n_edges > 30 and network.signed == request.param
    return network


def edges_of(network):
    ends = zip(network.source, network.target, strict=True)
    names = [(network.genes[i], network.genes[j]) for i, j in ends]
    return dict(zip(names, network.weight, strict=True))


def same(one, other, *, attrs=True):
    assert one.genes == other.genes and edges_of(one) == edges_of(other) and one.directed == other.directed
    if attrs:
        assert (one.name, one.attrs) == (other.name, other.attrs)
    assert (one.n_merged, one.n_self_loops) == (0, 0), "nothing was mended on the way"


def test_scipy_there_and_back(drawn):
    order = list(np.random.default_rng(1).permutation(drawn.genes))
    arguments = {"directed": drawn.directed, "signed": drawn.signed}
    for matrix in (drawn.adjacency(order), drawn.adjacency(order).toarray(), drawn.adjacency(order).tocoo()):
        same(GeneGraph.from_scipy(matrix, order, **arguments), drawn, attrs=False)
    assert GeneGraph.from_scipy(drawn.adjacency(), drawn.genes, **arguments).sha256() == drawn.sha256()
    assert GeneGraph.from_scipy(matrix, order, name="mine", **arguments).name == "mine"


def test_networkx_there_and_back(drawn):
    graph = drawn.to_networkx()
    assert type(graph) is (networkx.DiGraph if drawn.directed else networkx.Graph)
    assert graph.name == drawn.name and list(graph.nodes) == list(drawn.genes)
    assert {ends: graph.edges[ends]["weight"] for ends in graph.edges} == edges_of(drawn)
    same(GeneGraph.from_networkx(graph), drawn)
    graph.graph["nested"]["n"] = 4
    assert drawn.attrs == ATTRS, "nothing is shared"


def test_pyg_there_and_back(drawn):
    data = drawn.to_pyg()
    assert data.edge_index.dtype == torch.int64 and data.edge_weight.dtype == torch.float32
    assert data.num_nodes == len(drawn.genes) and data.genes == list(drawn.genes)
    assert data.num_edges == drawn.n_edges * (1 if drawn.directed else 2)
    matrix = to_scipy_sparse_matrix(data.edge_index, data.edge_weight, data.num_nodes)
    np.testing.assert_array_equal(matrix.toarray(), drawn.adjacency().toarray())
    same(GeneGraph.from_pyg(data), drawn)
    del data.directed, data.genes
    same(GeneGraph.from_pyg(data, drawn.genes), drawn)


def test_table_and_uns_there_and_back(drawn):
    same(GeneGraph.from_table(drawn.to_table()), drawn)
    again = GeneGraph.from_uns(drawn.to_uns())
    assert edges_of(again) == edges_of(drawn) and (again.name, again.attrs) == (drawn.name, drawn.attrs)
    assert (again.n_merged, again.n_self_loops) == (drawn.n_merged, drawn.n_self_loops) != (0, 0)


def test_without_edges_all_forms_hold(directed):
    network = GeneGraph.from_scipy(np.zeros((3, 3)), list("CBA"), directed=directed)
    assert network.isolated == ("A", "B", "C") and network.directed == directed
    same(GeneGraph.from_networkx(network.to_networkx()), network)
    same(GeneGraph.from_pyg(network.to_pyg()), network)
    same(GeneGraph.from_uns(network.to_uns()), network)
    empty = GeneGraph.from_scipy(np.zeros((0, 0)), [])
    assert empty.genes == () and GeneGraph.from_pyg(empty.to_pyg()).genes == ()


def test_the_diagonal_and_stored_zeros_are_no_edges():
    matrix = sparse.coo_array(([2.0, 0.0, 0.0, 3.0], ([0, 0, 1, 2], [0, 1, 0, 2])), shape=(3, 3))
    network = GeneGraph.from_scipy(matrix, list("ABC"))
    assert (network.n_edges, network.n_self_loops) == (0, 2)


def test_a_matrix_that_cannot_be_used_is_named(directed):
    def spoiled(value):
        matrix = np.ones((3, 3))
        matrix[2, 0] = value
        return matrix

    for matrix, said in ((np.ones((3, 2)), "3 x 2"), (np.ones((2, 2)), "2 x 2")):
        with pytest.raises(DataError, match=f"the matrix is {said}, but there are 3 genes"):
            GeneGraph.from_scipy(matrix, list("ABC"), directed=directed)
    with pytest.raises(DataError, match="genes occur more than once: 'A'"):
        GeneGraph.from_scipy(np.ones((3, 3)), list("ABA"), directed=directed)
    for value in (np.nan, -np.inf):
        with pytest.raises(DataError, match=r"1 entries that are no finite number: 'C - A'\. .*nan_to_num"):
            GeneGraph.from_scipy(spoiled(value), list("ABC"), directed=directed)
    if directed:
        with pytest.raises(DataError, match=r"1 weights below zero.*C.*A"):
            GeneGraph.from_scipy(spoiled(-1.0), list("ABC"), directed=True)
        assert GeneGraph.from_scipy(spoiled(-1.0), list("ABC"), directed=True, signed=True).signed
    else:
        for value in (0.0, 0.99, -1.0):
            with pytest.raises(DataError, match=r"not symmetric: 2 entries .*'A - C', 'C - A'.*Pass directed=True"):
                GeneGraph.from_scipy(spoiled(value), list("ABC"))


def test_rounding_is_symmetric():
    matrix = np.corrcoef(np.random.default_rng(0).normal(size=(20, 50))).astype(np.float32)
    matrix[3, 5] = np.nextafter(matrix[5, 3], 2, dtype=np.float32)
    network = GeneGraph.from_scipy(matrix, [f"G{i:02d}" for i in range(20)], signed=True)
    assert network.n_edges == 190 and network.n_self_loops == 20


def test_a_multigraph_is_merged_and_counted():
    graph = networkx.MultiGraph([("A", "B", {"weight": 0.2}), ("B", "A", {"weight": 0.7}), ("C", "C", {"weight": 1})])
    network = GeneGraph.from_networkx(graph, name="several")
    assert edges_of(network) == {("A", "B"): 0.7} and network.genes == ("A", "B", "C")
    assert (network.n_merged, network.n_self_loops, network.name) == (1, 1, "several")


def test_weights_of_networkx():
    graph = networkx.Graph([(1, 2, {"score": 0.5}), (2, 3, {"score": 0.6})])
    assert set(edges_of(GeneGraph.from_networkx(graph)).values()) == {1.0}, "no edge has a weight"
    assert edges_of(GeneGraph.from_networkx(graph, weight="score")) == {("1", "2"): 0.5, ("2", "3"): 0.6}
    assert set(edges_of(GeneGraph.from_networkx(graph, weight=None)).values()) == {1.0}
    with pytest.raises(DataError, match="2 weights that are no finite number"):
        GeneGraph.from_networkx(graph, weight="scoer")
    graph.add_edge(3, 4, weight=0.5)
    with pytest.raises(DataError, match=r"2 weights that are no finite number, in rows .*'1', '2'"):
        GeneGraph.from_networkx(graph)
    with pytest.raises(DataError, match="genes occur more than once: '1'"):
        GeneGraph.from_networkx(networkx.Graph([(1, "1")]))
    negative = networkx.Graph([("A", "B", {"weight": -0.5})])
    with pytest.raises(DataError, match="below zero"):
        GeneGraph.from_networkx(negative)
    assert GeneGraph.from_networkx(negative, signed=True).weight.tolist() == [-0.5]


def test_graphs_of_pyg_made_elsewhere():
    both = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    undirected = GeneGraph.from_pyg(Data(edge_index=both), list("ABCD"))
    assert not undirected.directed and edges_of(undirected) == {("A", "B"): 1.0, ("B", "C"): 1.0}
    assert undirected.isolated == ("D",) and undirected.n_merged == 0
    one_way = GeneGraph.from_pyg(Data(edge_index=both[:, [0, 3]]), list("ABC"))
    assert one_way.directed and set(edges_of(one_way)) == {("A", "B"), ("C", "B")}
    weighted = Data(edge_index=both, edge_attr=torch.tensor([[0.25], [0.5], [1.0], [1.0]], requires_grad=True))
    assert GeneGraph.from_pyg(weighted, list("ABC")).directed, "the weights of both directions differ"
    merged = GeneGraph.from_pyg(weighted, list("ABC"), directed=False, name="mine")
    assert edges_of(merged) == {("A", "B"): 0.5, ("B", "C"): 1.0} and (merged.n_merged, merged.name) == (1, "mine")


@pytest.mark.parametrize(
    ("data", "genes", "message"),
    [
        (Data(edge_index=torch.tensor([[0], [1]])), None, r"no gene names.*from_pyg\(data, genes\)"),
        (Data(num_nodes=2), ["A", "B"], "no edges"),
        (Data(edge_index=torch.tensor([[0], [2]])), ["A", "B"], r"another number of nodes than there are genes \(2\)"),
        (Data(edge_index=torch.tensor([[0], [1]]), num_nodes=3), ["A", "B"], "another number of nodes"),
        (Data(edge_index=torch.tensor([[0], [1]]), x=torch.ones(3, 1)), ["A", "B"], "another number of nodes"),
        (Data(edge_index=torch.tensor([[0], [1]])), ["A", "A"], "more than once"),
        (
            Data(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.ones(1, 2)),
            ["A", "B"],
            r"edges have 2 attributes.*edge_attr\[:, 0\]",
        ),
        (Data(edge_index=torch.tensor([[0], [1]]), edge_weight=torch.tensor([np.nan])), ["A", "B"], "no finite number"),
        (Data(edge_index=torch.tensor([[0], [1]]), edge_weight=torch.tensor([-1.0])), ["A", "B"], "below zero"),
    ],
)
def test_a_graph_of_pyg_that_cannot_be_used_is_named(data, genes, message):
    with pytest.raises(DataError, match=message):
        GeneGraph.from_pyg(data, genes)


def test_real_networks_there_and_back(shared_priors):
    table = pd.read_csv(shared_priors / "dorothea_hs_ABCD.tsv.gz", sep="\t", keep_default_na=False)
    table = table.rename(columns={"tf": "source", "mor": "weight"})
    network = GeneGraph.from_table(table, directed=True, signed=True, name="DoRothEA")
    clean = GeneGraph.from_table(network.to_table())
    assert clean.n_edges > 20_000 and clean.signed
    same(GeneGraph.from_networkx(clean.to_networkx()), clean)
    same(GeneGraph.from_pyg(clean.to_pyg()), clean)
    same(GeneGraph.from_scipy(clean.adjacency(), clean.genes, directed=True, signed=True), clean, attrs=False)
