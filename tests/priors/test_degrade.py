"""T14: what ``degrade`` promises of edges, degrees and seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph, degrade
from scperturb_modules.priors._degrade import _ends_at, _place

ALL = {"remove": 0.25, "rewire": 0.5, "add": 0.4, "permute_labels": True}


def edges_of(network):
    return set(zip(network.source.tolist(), network.target.tolist(), strict=True))


def weights_of(network):
    return dict(zip(zip(network.source.tolist(), network.target.tolist(), strict=True), network.weight, strict=True))


def in_and_out(network):
    n = len(network.genes)
    if not network.directed:
        return [network.degree.tolist()]
    return [np.bincount(ends, minlength=n).tolist() for ends in (network.source, network.target)]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_edge_counts_are_exact(network, share):
    n = network.n_edges
    assert degrade(network, remove=share).n_edges == n - round(share * n)
    assert degrade(network, add=share).n_edges == n + round(share * n)
    assert degrade(network, rewire=share).n_edges == n
    assert degrade(network, permute_labels=True).n_edges == n
    both = degrade(network, remove=share, add=share, rewire=share)
    assert both.n_edges == n and both.genes == network.genes
    record = both.attrs["degraded"]
    assert (record["n_removed"], record["n_added"]) == (round(share * n), round(share * n))


def test_removal_is_nested_and_keeps_weights(network):
    shares = (0.1, 0.25, 0.5, 0.9)
    left = [edges_of(degrade(network, remove=share, seed=3)) for share in shares]
    for more, fewer in itertools.pairwise([edges_of(network), *left]):
        assert fewer < more
    degraded = degrade(network, remove=0.5, seed=3, add=0.2, rewire=0.1)
    assert weights_of(degrade(network, remove=0.5, seed=3)).items() <= weights_of(network).items()
    record = degraded.attrs["degraded"]
    assert record["n_rewired"] == round(0.1 * network.n_edges) // 2 * 2
    assert degrade(network, remove=1.0).isolated == network.genes


def test_every_edge_is_removed_equally_often():
    network = GeneGraph.from_table(pd.DataFrame({"source": list("ABCDEFGH"), "target": list("BCDEFGHI")}))
    counts = np.zeros(8)
    for seed in range(400):
        left = edges_of(degrade(network, remove=0.5, seed=seed))
        counts += [(i, i + 1) not in left for i in range(8)]
    assert np.abs(counts / 400 - 0.5).max() < 0.1


def test_rewiring_keeps_degrees_and_moves_what_it_says(network):
    for share in (0.1, 0.5, 1.0):
        moved = degrade(network, rewire=share, seed=1)
        assert in_and_out(moved) == in_and_out(network)
        n_moved = len(edges_of(network) - edges_of(moved))
        assert n_moved == moved.attrs["degraded"]["n_rewired"]
        assert n_moved >= 0.95 * (round(share * network.n_edges) - 1)
        np.testing.assert_array_equal(np.sort(moved.weight), np.sort(network.weight))


def test_a_star_cannot_be_rewired():
    star = GeneGraph.from_table(pd.DataFrame({"source": "hub", "target": [f"L{i}" for i in range(9)]}))
    moved = degrade(star, rewire=1.0)
    assert edges_of(moved) == edges_of(star) and moved.attrs["degraded"]["n_rewired"] == 0


def test_no_self_loop_and_no_duplicate(network):
    for seed in range(20):
        worse = degrade(network, **ALL, seed=seed)
        edges = edges_of(worse)
        assert len(edges) == worse.n_edges
        assert all(i != j if network.directed else i < j for i, j in edges)
    # with_edges would merge a duplicate and so hide it, but the count would then be short
    assert worse.n_edges == network.n_edges - round(0.25 * network.n_edges) + round(0.4 * network.n_edges)


def test_added_edges_were_absent_and_carry_weights_of_the_network(network):
    worse = degrade(network, remove=0.5, add=0.5, seed=2)
    kept = edges_of(degrade(network, remove=0.5, seed=2))
    new = edges_of(worse) - kept
    assert len(new) == round(0.5 * network.n_edges) and not new & edges_of(network)
    weights = weights_of(worse)
    assert {weights[edge] for edge in new} <= set(network.weight)
    assert len({weights[edge] for edge in new}) > 20


def test_added_edges_are_uniform_over_the_absent_ones():
    network = GeneGraph.from_table(pd.DataFrame({"source": ["A", "B", "C", "D"], "target": ["B", "C", "D", "E"]}))
    counts = dict.fromkeys([(0, 2), (0, 3), (0, 4), (1, 3), (1, 4), (2, 4)], 0)
    for seed in range(600):
        for edge in edges_of(degrade(network, add=0.25, seed=seed)) - edges_of(network):
            counts[edge] += 1
    assert sum(counts.values()) == 600 and all(70 < count < 130 for count in counts.values())


def test_a_network_can_be_filled_but_no_further(network):
    n = len(network.genes)
    n_pairs = n * (n - 1) // (1 if network.directed else 2)
    full = degrade(network, add=(n_pairs - network.n_edges) / network.n_edges)
    assert full.n_edges == n_pairs
    with pytest.raises(DataError, match=r"add asks for \d+ edges, but only 0 are absent"):
        degrade(full, add=0.1)


@pytest.mark.parametrize("directed", [False, True])
def test_places_number_all_pairs(directed):
    pairs = itertools.permutations(range(7), 2) if directed else itertools.combinations(range(7), 2)
    source, target = np.array(list(pairs)).T
    network = GeneGraph("all", tuple("ABCDEFG"), source, target, np.ones(len(source)), directed)
    place = _place(network)
    np.testing.assert_array_equal(place, np.arange(len(source)))
    for found, expected in zip(_ends_at(place, 7, directed=directed), (source, target), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_permuted_labels_are_the_same_graph_under_other_names(table):
    table = table.assign(weight=np.arange(1.0, len(table) + 1))  # a weight tells each edge
    network = GeneGraph.from_table(table)
    permuted = degrade(network, permute_labels=True, seed=4)
    assert permuted.genes == network.genes
    assert sorted(permuted.degree) == sorted(network.degree) and permuted.degree.tolist() != network.degree.tolist()
    before = {weight: set(edge) for edge, weight in weights_of(network).items()}
    after = {weight: set(edge) for edge, weight in weights_of(permuted).items()}
    assert before.keys() == after.keys()
    candidates = {}
    for weight, ends in before.items():
        for gene in ends:
            candidates[gene] = candidates.get(gene, after[weight]) & after[weight]
    names = {gene: found.pop() for gene, found in candidates.items() if len(found) == 1}
    assert len(names) >= 0.9 * len(network.genes) and len(set(names.values())) == len(names)
    assert np.mean([old == new for old, new in names.items()]) < 0.1


def test_the_original_is_untouched(network):
    before, attrs = network.sha256(), dict(network.attrs)
    degrade(network, **ALL)
    assert network.sha256() == before and network.attrs == attrs
    table = network.to_table()
    copy, copied = table.copy(), dict(table.attrs)
    degrade(table, **ALL)
    pd.testing.assert_frame_equal(table, copy)
    assert table.attrs == copied


def test_same_seed_same_graph_whatever_the_order_of_rows(table):
    first = degrade(GeneGraph.from_table(table), **ALL, seed=5).sha256()
    shuffled = GeneGraph.from_table(table.sample(frac=1, random_state=0))
    assert degrade(shuffled, **ALL, seed=5).sha256() == first
    assert degrade(shuffled, **ALL, seed=6).sha256() != first


def test_a_table_gives_a_table_that_remembers_its_genes(table):
    table.attrs = {"name": "PPI", "derived_from": "annotation"}
    worse = degrade(table, remove=0.9, seed=1)
    assert isinstance(worse, pd.DataFrame) and worse.attrs["derived_from"] == "annotation"
    again = GeneGraph.from_table(worse)
    expected = degrade(GeneGraph.from_table(table), remove=0.9, seed=1)
    assert again.sha256() == expected.sha256() and len(again.isolated) > 10
    assert again.isolated == tuple(worse.attrs["isolated"])


def test_provenance_tells_each_step(network):
    once = degrade(network, remove=0.1, seed=7)
    twice = degrade(once, add=0.1)
    record = twice.attrs["degraded"]
    assert (record["add"], record["from_sha256"]) == (0.1, once.sha256())
    assert record["before"]["remove"] == 0.1 and record["before"]["seed"] == 7


@pytest.mark.parametrize("wrong", [{"remove": 1.1}, {"remove": -0.1}, {"rewire": 2}, {"add": float("nan")}])
def test_shares_are_checked(network, wrong):
    with pytest.raises(DataError, match=f"{next(iter(wrong))}=.* a share of the edges is"):
        degrade(network, **wrong)


def test_a_network_without_edges_stays_so():
    empty = GeneGraph.from_table(pd.DataFrame({"source": [], "target": []}))
    assert degrade(empty, **ALL).n_edges == 0
