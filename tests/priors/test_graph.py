"""GeneGraph and its readers, against plain loops over rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph, as_graph, as_graphs, is_edge_table, named_priors, overlap_error


def slowly_merged(table, *, directed):
    """Edge -> weight, with the numbers of repeated rows and of self-loops."""
    edges, n_merged, n_loops = {}, 0, 0
    for source, target, weight in table.itertuples(index=False):
        ends = (source, target) if directed else tuple(sorted((source, target)))
        if source == target:
            n_loops += 1
        elif ends in edges:
            n_merged += 1
            edges[ends] = max(edges[ends], weight)
        else:
            edges[ends] = weight
    return edges, n_merged, n_loops


def edges_of(network):
    ends = zip(network.source, network.target, strict=True)
    names = [(network.genes[i], network.genes[j]) for i, j in ends]
    return dict(zip(names, network.weight, strict=True))


@pytest.mark.parametrize("directed", [False, True])
def test_duplicates_are_merged_and_self_loops_dropped(table, directed):
    network = GeneGraph.from_table(table, directed=directed)
    edges, n_merged, n_loops = slowly_merged(table, directed=directed)
    assert edges_of(network) == edges
    assert (network.n_merged, network.n_self_loops) == (n_merged, n_loops)
    assert n_merged > 5 and n_loops > 2, "the table has what is tested"
    assert network.n_edges + n_merged + n_loops == len(table)
    assert network.genes == tuple(sorted(set(table["source"]) | set(table["target"])))


def test_a_gene_of_self_loops_alone_is_isolated():
    network = GeneGraph.from_table(pd.DataFrame({"source": ["A", "C"], "target": ["B", "C"]}))
    assert network.genes == ("A", "B", "C") and network.isolated == ("C",)
    np.testing.assert_array_equal(network.weight, [1.0])


def test_the_table_reads_back(network):
    network = GeneGraph.from_table(network.to_table().assign(extra=1), name="other")
    network = network.with_edges(network.source[:9], network.target[:9], network.weight[:9])
    again = GeneGraph.from_table(network.to_table())
    assert len(network.isolated) > 20
    assert (again.name, again.directed, again.genes) == ("other", network.directed, network.genes)
    assert edges_of(again) == edges_of(network) and again.sha256() == network.sha256()
    assert again.isolated == network.isolated


def test_attrs_name_the_network_and_arguments_go_before(table):
    table.attrs = {"name": "TRRUST", "directed": True, "version": "2", "derived_from": "literature"}
    network = GeneGraph.from_table(table)
    assert (network.name, network.directed) == ("TRRUST", True)
    assert network.attrs == {"version": "2", "derived_from": "literature"}
    other = GeneGraph.from_table(table, name="mine", directed=False)
    assert (other.name, other.directed) == ("mine", False)
    assert table.attrs["name"] == "TRRUST", "the user's table is untouched"
    assert network.to_table().attrs == table.attrs


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("source", None, r"1 edges without a gene name, in rows '7'\. Drop them"),
        ("target", " ", r"1 edges without a gene name, in rows '7'\. Drop them"),
        ("weight", np.nan, r"1 weights that are no finite number, in rows '7'"),
        ("weight", np.inf, r"1 weights that are no finite number, in rows '7'"),
        ("weight", 0.0, r"1 weights of zero, in rows '7'"),
        ("weight", -0.5, r"1 weights below zero, in rows '7'.*signed=True.*split_signs"),
    ],
)
def test_what_cannot_be_used_is_named(table, column, value, message):
    table.loc[7, column] = value
    with pytest.raises(DataError, match=message):
        GeneGraph.from_table(table)


def test_a_weight_that_is_text_and_a_table_without_ends(table):
    with pytest.raises(DataError, match=r"300 weights that are no finite number, in rows '0', .* and 295 more"):
        GeneGraph.from_table(table.assign(weight="high"))
    with pytest.raises(DataError, match=r"no column 'target'; its columns are 'source', 'weight'"):
        GeneGraph.from_table(table.drop(columns="target"))


def test_signs_are_split():
    rows = [("A", "B", 0.5), ("B", "A", -0.9), ("B", "C", 0.4), ("C", "D", -0.3), ("D", "E", -0.2), ("E", "D", 0.2)]
    table = pd.DataFrame(rows, columns=["source", "target", "weight"])
    network = GeneGraph.from_table(table, signed=True)
    assert edges_of(network) == {("A", "B"): -0.9, ("B", "C"): 0.4, ("C", "D"): -0.3, ("D", "E"): 0.2}
    positive, negative = network.split_signs()
    assert edges_of(positive) == {("B", "C"): 0.4, ("D", "E"): 0.2}
    assert edges_of(negative) == {("A", "B"): 0.9, ("C", "D"): 0.3}
    assert positive.genes == negative.genes == network.genes
    assert (positive.name, negative.name) == ("network positive", "network negative")
    assert GeneGraph.from_table(network.to_table()).sha256() == network.sha256()


def test_adjacency_follows_the_order_of_genes(network):
    genes = ["absent", *np.random.default_rng(1).permutation(network.genes)[:40]]
    matrix = network.adjacency(genes)
    expected = np.zeros((41, 41))
    for (source, target), weight in edges_of(network).items():
        if source in genes and target in genes:
            expected[genes.index(source), genes.index(target)] = weight
            if not network.directed:
                expected[genes.index(target), genes.index(source)] = weight
    assert matrix.format == "csr" and matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix.toarray(), expected)
    with pytest.raises(DataError, match="more than once: 'absent'"):
        network.adjacency([*genes, "absent"])


def test_adjacency_of_all_genes_is_in_their_order(network):
    np.testing.assert_array_equal(network.adjacency().toarray(), network.adjacency(network.genes).toarray())


@pytest.mark.parametrize("seed", range(4))
def test_subgraph_is_the_edges_among_genes(network, seed):
    rng = np.random.default_rng(seed)
    genes = [*rng.choice(network.genes, 25, replace=False), "absent"]
    part = network.subgraph(genes)
    assert part.genes == tuple(sorted(set(genes) - {"absent"}))
    assert edges_of(part) == {ends: w for ends, w in edges_of(network).items() if set(ends) <= set(genes)}
    assert len(edges_of(part)) > 5 and (part.name, part.attrs, part.directed) == (
        network.name, network.attrs, network.directed,
    )  # fmt: skip
    assert network.subgraph(reversed(network.genes)).sha256() == network.sha256()


def test_a_subgraph_of_strangers_is_an_error(network):
    with pytest.raises(DataError, match=r"network 'drawn': 0 of 2 genes found; first names: 'ENSG1', 'ENSG2' / 'G000'"):
        network.subgraph(["ENSG1", "ENSG2"])


@pytest.mark.parametrize("seed", range(4))
def test_renamed_edges_join_the_renamed_genes(network, seed):
    rng = np.random.default_rng(seed)
    new = {gene: f"{letter}{gene}" for gene, letter in zip(network.genes, rng.choice(list("AXYZ"), 60), strict=True)}
    del new["G007"]
    renamed = network.rename({**new, "absent": "Q"})
    ends_of = {(new.get(a, a), new.get(b, b)): weight for (a, b), weight in edges_of(network).items()}
    if not network.directed:
        ends_of = {tuple(sorted(ends)): weight for ends, weight in ends_of.items()}
    assert edges_of(renamed) == ends_of and renamed.genes == tuple(sorted(new.get(g, g) for g in network.genes))
    assert renamed.rename({now: old for old, now in new.items()}).sha256() == network.sha256()
    with pytest.raises(DataError, match=r"several genes would be called 'G002', 'X'.*subgraph"):
        network.rename({"G001": "G002", "G003": "X", "G004": "X"})


def test_where_edges_come_from(network, table):
    assert (network.origin, network.version) == ("", "") and not network.signed
    table.attrs = {"source": "STRING", "version": 12.0}
    assert (GeneGraph.from_table(table).origin, GeneGraph.from_table(table).version) == ("STRING", "12.0")
    np.testing.assert_array_equal(network.edges, [network.source, network.target])


def test_degree_counts_edges(network):
    degree = dict.fromkeys(network.genes, 0)
    for ends in edges_of(network):
        for gene in ends:
            degree[gene] += 1
    assert network.degree.tolist() == list(degree.values())


def test_fingerprint_is_of_content_not_of_order(table):
    first = GeneGraph.from_table(table, name="a").sha256()
    turned = table.rename(columns={"source": "target", "target": "source"})
    assert GeneGraph.from_table(turned.sample(frac=1, random_state=0), name="b").sha256() == first
    different = [
        GeneGraph.from_table(table, directed=True),
        GeneGraph.from_table(table.iloc[1:]),
        GeneGraph.from_table(table.assign(weight=table["weight"] + 1e-9)),
        GeneGraph.from_table(table.replace("G001", "X001")),
    ]
    assert len({first, *(network.sha256() for network in different)}) == 5


def test_a_network_cannot_be_changed_or_made_out_of_order(network):
    with pytest.raises(ValueError, match="read-only"):
        network.weight[0] = 2.0
    for genes, source, target in ((("B", "A"), [0], [1]), (("A", "B"), [1], [0]), (("A", "B"), [0], [2])):
        with pytest.raises(DataError, match=r"GeneGraph\.from_table"):
            GeneGraph("wrong", genes, np.array(source), np.array(target), np.ones(1))


def test_an_empty_table_is_a_network_without_edges():
    network = GeneGraph.from_table(pd.DataFrame({"source": [], "target": [], "weight": []}))
    assert (network.n_edges, network.genes, network.adjacency(["A", "B"]).nnz) == (0, (), 0)


def test_networks_are_picked_among_priors(table, network):
    features = pd.DataFrame({"x": [1.0]}, index=["A"])
    named = table.copy()
    named.attrs["name"] = "STRING"
    assert as_graphs(None) == {} and as_graphs(features) == {}
    assert list(as_graphs(table)) == ["prior_0"] and list(as_graphs(network)) == ["drawn"]
    several = as_graphs((features, table, named, network, named))
    assert list(several) == ["prior_1", "STRING", "drawn", "STRING_4"]
    assert [one.name for one in several.values()] == list(several), "a network is called as it is listed"
    assert several["drawn"] is network
    mapped = as_graphs({"emb": features, "ppi": network})
    assert list(mapped) == ["ppi"] and mapped["ppi"].name == "ppi" and mapped["ppi"].sha256() == network.sha256()
    assert list(named_priors({"emb": features, "ppi": network})) == ["emb", "ppi"]


class Sets:
    """Stands for a prior that can act as a network and as a table."""

    name = "sets"
    attrs = {"derived_from": "annotation"}

    def __init__(self, network):
        self.network = network

    def to_graph(self):
        return self.network

    def to_frame(self):
        return pd.DataFrame({"x": [1.0]}, index=["A"])


def test_what_can_act_as_a_network_is_one(table, network):
    sets = Sets(network)
    assert list(named_priors(sets)) == ["sets"], "one prior needs no list"
    assert as_graphs(sets)["sets"].name == "sets" and as_graphs(sets)["sets"].sha256() == network.sha256()
    assert as_graph(sets) is network and as_graph(sets, "other").name == "other"
    assert list(as_graphs([table, sets, {"not": "a prior"}])) == ["prior_0", "sets"]
    assert list(named_priors(3)) == ["prior_0"], "what is no prior is told of by its name, not by Python"
    column_called_name = pd.DataFrame({"name": [1.0]}, index=["A"])
    assert list(named_priors([column_called_name])) == ["prior_0"]


def test_what_an_edge_table_is(table, network):
    assert is_edge_table(table) and is_edge_table(table[["target", "source"]])
    assert not any(is_edge_table(other) for other in (table[["source"]], network, None, {"source": 1, "target": 2}))


def test_no_shared_gene_is_an_error_and_one_is_not(network):
    wanted = [f"ENSG{i}" for i in range(2000)]
    message = r"0 of 2000 genes found in the network 'drawn'; first names: 'ENSG0', .* / 'G000', 'G001', 'G002' and"
    with pytest.raises(DataError, match=message):
        overlap_error(network, wanted)
    overlap_error(network, [*wanted, "G000"])
