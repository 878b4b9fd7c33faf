"""Profiles of genes and their cosine, by powers of dense matrices and by loops over sets and columns."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from scperturb_modules.priors import GeneGraph, gene_sets, interactions, spectral_embedding
from scperturb_modules.priors import _profiles as profiles_module
from scperturb_modules.priors._profiles import Against, Profiles, Walk, profiles_of
from scperturb_modules.priors._standardise import standardised

SEEDS = pytest.mark.parametrize("seed", range(4))


def draw_graph(seed, *, directed=False, n_genes=40):
    """Weighted, signed, in several parts, some genes without an edge."""
    rng = np.random.default_rng(seed)
    names = np.array([f"G{i:02d}" for i in range(n_genes)])
    connected = np.delete(names, np.arange(0, n_genes, 7))
    source, target = rng.choice(connected, size=(2, 55))
    table = pd.DataFrame({"source": source, "target": target, "weight": rng.uniform(0.1, 2, 55)})
    table["weight"] *= rng.choice([-1, 1], 55)
    graph = GeneGraph.from_table(
        table[table["source"] != table["target"]], name="drawn", directed=directed, signed=True
    )
    genes = tuple(sorted({*graph.genes, *names[::7]}))
    place = np.array([genes.index(gene) for gene in graph.genes])
    ends = place[graph.source], place[graph.target]
    return GeneGraph("drawn", genes, *ends, graph.weight, directed)


def slow_profiles(graph):
    """Gene to profile, by sums of powers of a dense transition matrix."""
    n = len(graph.genes)
    weight = np.zeros((n, n))
    for source, target, value in zip(graph.source, graph.target, graph.weight, strict=True):
        weight[source, target] += abs(value)
        weight[target, source] += abs(value)
    found = {}
    for i in np.flatnonzero(weight.sum(axis=0)):
        goes = np.divide(weight, weight.sum(axis=0), out=np.zeros((n, n)), where=weight.sum(axis=0) > 0)
        visits = sum(0.5**k * np.linalg.matrix_power(goes, k)[:, i] for k in range(7))
        found[graph.genes[i]] = visits / np.linalg.norm(visits)
    return found


def walk_of(graph):
    return profiles_of(graph, spectral_embedding(graph, clip=True))["walk"]


def similarity(profiles, genes):
    return Against(profiles, tuple(genes)).similarity(list(genes))


def slow_cosine(one, other):
    length = math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))
    return max(sum(x * y for x, y in zip(one, other, strict=True)) / length, 0.0) if length > 0 else 0.0


@SEEDS
@pytest.mark.parametrize("directed", [False, True])
def test_a_walk_is_the_sum_of_powers(seed, directed):
    graph = draw_graph(seed, directed=directed)
    profiles, expected = walk_of(graph), slow_profiles(graph)
    assert profiles.genes == tuple(expected), "genes without an edge have none"
    assert len(profiles.genes) < len(graph.genes) - 5
    asked = list(np.random.default_rng(seed).choice(profiles.genes, 15))
    np.testing.assert_allclose(profiles.of(asked), [expected[gene] for gene in asked], rtol=1e-12, atol=1e-15)
    cosines = [[slow_cosine(expected[a], expected[b]) for b in profiles.genes] for a in profiles.genes]
    np.testing.assert_allclose(similarity(profiles, profiles.genes), cosines, rtol=1e-10, atol=1e-11)


def test_walks_computed_in_blocks_are_the_same(monkeypatch):
    graph = draw_graph(0)
    at_once = walk_of(graph).of(walk_of(graph).genes)
    monkeypatch.setattr(profiles_module, "_BLOCK", 7)
    np.testing.assert_array_equal(walk_of(graph).of(walk_of(graph).genes), at_once)
    assert walk_of(graph).of([]).shape == (0, len(graph.genes))


def test_a_walk_by_hand():
    """A - B - C: of a walk from A half ends there, and from B it is as likely to come back as to go on."""
    graph = GeneGraph.from_table(pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]}))
    at = {"A": np.array([1.0, 0, 0]), "B": np.array([0, 1.0, 0])}
    goes = np.array([[0, 0.5, 0], [1, 0, 1], [0, 0.5, 0]])
    for gene, visits in at.items():
        step, total = visits, visits
        for _ in range(6):
            step = goes @ step / 2
            total = total + step
        np.testing.assert_allclose(walk_of(graph).of([gene])[0], total / np.linalg.norm(total), rtol=1e-14)


@SEEDS
def test_weights_count_their_unit_sign_and_direction_do_not(seed):
    graph = draw_graph(seed, directed=True)
    expected = similarity(walk_of(graph), graph.genes)

    def changed(source=graph.source, target=graph.target, weight=graph.weight):
        return similarity(walk_of(GeneGraph("other", graph.genes, source, target, weight, True)), graph.genes)

    np.testing.assert_allclose(changed(weight=5 * graph.weight), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(changed(weight=np.abs(graph.weight)), expected, rtol=1e-10, atol=1e-12)
    order = np.lexsort((graph.source, graph.target))
    turned = changed(graph.target[order], graph.source[order], graph.weight[order])
    np.testing.assert_allclose(turned, expected, rtol=1e-10, atol=1e-12)
    assert np.abs(changed(weight=np.ones(graph.n_edges)) - expected).max() > 0.05


def test_walks_stay_in_their_part_and_neighbours_are_nearer():
    ring = [(f"A{i}", f"A{(i + 1) % 8}") for i in range(8)]
    table = pd.DataFrame([*ring, ("B0", "B1")], columns=["source", "target"])
    profiles = walk_of(GeneGraph.from_table(table))
    values = pd.DataFrame(similarity(profiles, profiles.genes), profiles.genes, profiles.genes)
    assert (values.loc["A0":"A7", "B0":"B1"] == 0).all(axis=None)
    assert values.loc["A0", "A1"] > values.loc["A0", "A2"] > values.loc["A0", "A3"] > values.loc["A0", "A4"] > 0
    np.testing.assert_allclose(np.diag(values), 1.0)


def test_a_graph_without_an_edge_knows_no_gene():
    none = np.zeros(0, dtype=np.intp)
    graph = GeneGraph("empty", ("A", "B"), none, none, np.zeros(0), False)
    assert Walk.on(graph).start.size == 0
    views = profiles_of(graph, spectral_embedding(graph, clip=True))
    assert [view.genes for view in views.values()] == [(), ()]
    np.testing.assert_array_equal(similarity(views["walk"], ["A", "B"]), np.zeros((2, 2)))


def slow_set_cosine(sets, genes, one, other):
    """From the sets by name: each weighs the log of all genes over its genes."""
    weight = {name: math.log(len(genes) / len(members)) for name, members in sets.items() if members}
    profiles = [[weight[name] * (gene in sets[name]) for name in sorted(weight)] for gene in (one, other)]
    return slow_cosine(*profiles)


@SEEDS
def test_of_gene_sets_it_is_the_cosine_of_memberships_weighted_by_rarity(seed):
    rng = np.random.default_rng(seed)
    names = np.array([f"G{i:02d}" for i in range(30)])
    drawn = {f"S{i}": set(rng.choice(names, rng.integers(2, 12), replace=False).tolist()) for i in range(14)}
    only = {*names.tolist(), "lonely"}
    drawn["all"] = only
    table = gene_sets({name: sorted(members) for name, members in drawn.items()})
    profiles = profiles_of(table, table.to_frame(clip=True))
    assert list(profiles) == ["sets"]
    asked = sorted(only)
    expected = [[slow_set_cosine(drawn, only, a, b) for b in asked] for a in asked]
    np.testing.assert_allclose(similarity(profiles["sets"], asked), expected, rtol=1e-12, atol=1e-12)
    told = {gene for name, members in drawn.items() if name != "all" for gene in members}
    assert set(profiles["sets"].genes) == told, "the set of all genes tells nothing"


@SEEDS
def test_of_a_table_it_is_the_cosine_of_standardised_columns(seed):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(3, 5, size=(25, 6)) * [1, 10, 100, 0.1, 1, 1], [f"G{i:02d}" for i in range(25)])
    table[4] = 7.0
    table.iloc[3, 2] = table.iloc[8, 0] = np.nan
    table = table.sample(frac=1, random_state=seed)
    profiles = profiles_of(table, table)
    assert list(profiles) == ["features"]
    complete = table.drop(["G03", "G08"])
    columns = []
    for name in (0, 1, 2, 3, 5):
        values = complete[name].tolist()
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((x - mean) ** 2 for x in values) / len(values))
        columns.append([(x - mean) / spread for x in values])
    rows = dict(zip(complete.index, zip(*columns, strict=True), strict=True))
    assert profiles["features"].genes == tuple(sorted(rows))
    asked = sorted(table.index)
    expected = [[slow_cosine(rows[a], rows[b]) if a in rows and b in rows else 0.0 for b in asked] for a in asked]
    np.testing.assert_allclose(similarity(profiles["features"], asked), expected, rtol=1e-10, atol=1e-12)


@SEEDS
def test_the_place_in_a_network_is_its_spectral_embedding_as_a_table(seed):
    graph = draw_graph(seed)
    table = spectral_embedding(graph, clip=True)
    views = profiles_of(graph, table)
    assert list(views) == ["walk", "spectral"]
    as_table = profiles_of(table, table)["features"]
    assert views["spectral"].genes == as_table.genes
    np.testing.assert_array_equal(views["spectral"].of(as_table.genes), as_table.of(as_table.genes))


def test_rounding_is_not_likeness():
    """Corners of a square are at right angles."""
    corners = pd.DataFrame({"x": np.tile([0.1, 0.3], 20), "y": np.repeat([0.2, 0.7], 20)}, [f"G{i}" for i in range(40)])
    rows = standardised(corners).to_numpy()
    products = np.abs(rows @ rows.T)
    assert ((products > 0) & (products < 1e-14)).any(), "the test would see no rounding"
    values = similarity(profiles_of(corners, corners)["features"], corners.index)
    same = np.equal.outer(*[corners.apply(tuple, axis=1).to_numpy()] * 2)
    np.testing.assert_array_equal(values == 0, ~same)


@SEEDS
def test_genes_that_were_filled_in_with_the_mean_are_not_known(seed):
    """They would all be alike, by what rounding left of them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(50, 5)), index=[f"G{i:02d}" for i in range(50)])
    table.iloc[:8] = np.nan
    filled = table.fillna(table.mean())
    profiles = profiles_of(filled, filled)["features"]
    assert profiles.genes == tuple(table.index[8:])
    near = filled.copy()
    near.iloc[0] += 1e-6
    assert "G00" in profiles_of(near, near)["features"].row
    # as if their rows were not there
    np.testing.assert_allclose(
        similarity(profiles, table.index), similarity(profiles_of(table, table)["features"], table.index), atol=1e-12
    )


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_against_genes_that_are_unknown_opposite_or_there_twice(form):
    if form == "dense":
        table = pd.DataFrame({"x": [1.0, 0.9, -1.0, -0.9], "y": [1.0, 1.1, -1.0, -1.1]}, index=list("ABCD"))
        profiles = profiles_of(table, table)["features"]
    else:
        profiles = profiles_of(sets := gene_sets({"p": ["A", "B"], "q": ["C", "D"]}), sets.to_frame(clip=True))["sets"]
    against = Against(profiles, ("C", "A", "TP53", "A"))
    values = against.similarity(["TP53", "B", "A", "C", "B"])
    assert values.shape == (5, 4) and (values >= 0).all()
    near = values[1, 1]
    assert 0.9 < near <= 1 + 1e-12
    expected = [[0, 0, 0, 0], [0, near, 0, near], [0, 1, 0, 1], [1, 0, 0, 0], [0, near, 0, near]]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_array_equal(against.similarity(["B"]), values[1:2])
    assert against.similarity([]).shape == (0, 4)
    np.testing.assert_array_equal(against.similarity(["TP53"]), np.zeros((1, 4)))
    np.testing.assert_array_equal(Against(profiles, ("TP53",)).similarity(["A"]), [[0.0]])
    assert Against(profiles, ()).similarity(["A", "B"]).shape == (2, 0)


def test_profiles_of_no_gene():
    profiles = Profiles((), np.zeros((0, 3)))
    np.testing.assert_array_equal(similarity(profiles, ["A"]), [[0.0]])


def test_genes_of_a_complex_are_alike_in_a_real_network(shared_priors):
    graph = interactions(shared_priors / "string_high_confidence_pairs.tsv.gz")
    profiles = profiles_of(graph, spectral_embedding(graph.subgraph(["PSMA1", "PSMB1"]), clip=True))["walk"]
    proteasome, ribosome = ["PSMA1", "PSMB1", "PSMC1", "PSMD1"], ["RPS3", "RPL4", "RPS6", "RPL11"]
    values = similarity(profiles, proteasome + ribosome)
    np.testing.assert_allclose(np.diag(values), 1.0)
    assert min(values[:4, :4].min(), values[4:, 4:].min()) > 20 * values[:4, 4:].max()
    # a walk goes somewhere
    np.testing.assert_allclose(Walk.on(graph).step.sum(axis=0)[Walk.on(graph).start], 1.0)
