"""Genes to programs: sizes, planted programs, graphs, genes without a relation; and the parts of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from scperturb_modules._errors import DataError
from scperturb_modules.models.scbig.programs._clustering import cluster_genes
from scperturb_modules.models.scbig.programs._kmeans import spherical_kmeans
from scperturb_modules.models.scbig.programs._relations import Relation, coexpression_relation
from scperturb_modules.models.scbig.programs._rounding import improved_by_swaps, with_least_size, within_capacity


def noisy_blocks(n_genes, n_programs, *, noise=0.2, sizes=None, seed=0):
    rng = np.random.default_rng(seed)
    program = np.arange(n_genes) % n_programs if sizes is None else np.repeat(np.arange(len(sizes)), sizes)
    program = rng.permutation(program)
    return Relation.of("rows", np.eye(n_programs)[program] + noise * rng.normal(size=(n_genes, n_programs))), program


def graph_of(program, *, degree=4, inside=0.5, seed=0):
    """(G, G) edges of which about a share lies inside programs."""
    rng = np.random.default_rng(seed)
    gene = np.repeat(np.arange(len(program)), degree // 2)
    own = [rng.choice(np.flatnonzero(program == k), np.sum(program[gene] == k)) for k in range(program.max() + 1)]
    partner = rng.integers(len(program), size=len(gene))
    stays = rng.random(len(gene)) < inside
    for k, some in enumerate(own):
        here = np.flatnonzero(program[gene] == k)
        partner[here[stays[here]]] = some[stays[here]]
    edges = sparse.coo_array((np.ones(len(gene)), (gene, partner)), shape=(len(program),) * 2).tocsr()
    edges = edges.maximum(edges.T)
    edges.setdiag(0)
    edges.eliminate_zeros()
    return sparse.csr_array(edges)


# -- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_genes", "n_programs"), [(2048, 32), (2051, 32), (5000, 33), (100, 7)])
def test_equal_sizes_differ_by_one_at_most(n_genes, n_programs):
    rows = np.random.default_rng(0).normal(size=(n_genes, 10))
    sizes = cluster_genes([Relation.of("rows", rows)], [], n_programs, balance="equal").sizes
    assert np.ptp(sizes) <= 1 and sizes.sum() == n_genes and sizes.min() > 0 and len(sizes) == n_programs


def test_unequal_programs_stay_unequal_unless_asked():
    relation, program = noisy_blocks(600, 8, sizes=[200, 120, 80, 60, 50, 40, 30, 20], noise=0.2)
    found = {how: cluster_genes([relation], [], 8, balance=how) for how in ("soft", "equal", "none")}
    score = {how: adjusted_rand_score(program, one.labels) for how, one in found.items()}
    assert score["soft"] > 0.95 and score["none"] > 0.95 and score["equal"] < 0.7
    assert np.ptp(found["equal"].sizes) == 0


def test_soft_programs_are_never_tiny():
    relation, _ = noisy_blocks(120, 3, noise=0.05)
    assert cluster_genes([relation], [], 8, balance="soft").sizes.min() >= 8
    assert cluster_genes([relation], [], 8, balance="none").sizes.min() < 8
    assert cluster_genes([relation], [], 20, balance="soft").sizes.min() >= 6  # 120 / 20


def test_programs_are_numbered_by_falling_size():
    relation, _ = noisy_blocks(300, 5, sizes=[20, 100, 60, 80, 40], noise=0.05)
    found = cluster_genes([relation], [], 5, balance="none")
    assert found.sizes.tolist() == [100, 80, 60, 40, 20]
    equal = cluster_genes([noisy_blocks(60, 3)[0]], [], 3, balance="equal")
    first = [np.flatnonzero(equal.labels == k)[0] for k in range(3)]
    assert first == sorted(first)


# -- planted programs ------------------------------------------------------------------------------------------------


def test_planted_programs_are_found_where_they_can_be(draw_cells):
    for loading, balance in ((0.25, "equal"), (0.25, "soft"), (0.15, "equal")):
        cells, program, _ = draw_cells(loading=loading)
        relation = coexpression_relation(cells, np.zeros((1000, 0)), rank=32, seed=0)
        score = adjusted_rand_score(program, cluster_genes([relation], [], 16, balance=balance).labels)
        assert score > 0.95 if loading == 0.25 else score < 0.7


def test_a_planted_graph_helps(draw_cells):
    cells, program, _ = draw_cells(loading=0.15)
    relation = coexpression_relation(cells, np.zeros((1000, 0)), rank=60, seed=0)
    graph = graph_of(program, degree=4, inside=0.5)
    with_graph, without = (cluster_genes([relation], graphs, 16, balance="equal") for graphs in ([graph], []))
    assert adjusted_rand_score(program, with_graph.labels) > adjusted_rand_score(program, without.labels) + 0.2


def test_graphs_alone_are_enough():
    program = np.repeat(np.arange(4), 50)
    graph = graph_of(program, degree=10, inside=0.95)
    found = cluster_genes([], [graph], 4)
    assert adjusted_rand_score(program, found.labels) > 0.9


def test_the_scale_of_a_graph_means_nothing():
    relation, program = noisy_blocks(200, 4, noise=0.8)
    graph = graph_of(program)
    once, again = (cluster_genes([relation], [scale * graph], 4).labels for scale in (1, 900))
    np.testing.assert_array_equal(once, again)


def test_relations_cover_for_each_other():
    full, program = noisy_blocks(200, 4)
    parts = []
    for half in (np.arange(200) < 120, np.arange(200) >= 80):
        parts.append(Relation.of("half", np.where(half[:, None], full.vectors, 0.0)))
    found = cluster_genes(parts, [], 4)
    assert adjusted_rand_score(program, found.labels) > 0.95 and not found.uncovered.any()


def test_the_same_seed_gives_the_same_programs():
    relation = Relation.of("rows", np.random.default_rng(0).normal(size=(300, 5)))
    first, again = (cluster_genes([relation], [], 10, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.margin, again.margin)


def test_the_margin_is_the_distance_to_the_next_program():
    rows = np.concatenate([np.tile([1.0, 0.0], (10, 1)), np.tile([0.0, 1.0], (10, 1)), [[1.0, 0.99]]])
    found = cluster_genes([Relation.of("rows", rows)], [], 2, balance="none")
    assert found.margin[:20].min() > 0.8 and 0 <= found.margin[20] < 0.2


# -- genes and inputs that are missing -------------------------------------------------------------------------------


@pytest.mark.parametrize("balance", ["soft", "equal", "none"])
def test_uncovered_genes_follow_their_edges_and_are_listed(balance):
    relation, program = noisy_blocks(100, 4, noise=0.1)
    rows = relation.vectors.copy()
    rows[:6] = 0
    graph = sparse.lil_array((100, 100))
    friend = np.flatnonzero(program == program[0])[-1]
    for a, b in ((0, friend), (0, 1)):  # 1 is known by 0 alone
        graph[a, b] = graph[b, a] = 1.0
    found = cluster_genes([Relation.of("rows", rows)], [sparse.csr_array(graph)], 4, balance=balance)
    assert np.flatnonzero(found.uncovered).tolist() == list(range(6))
    if balance == "equal":
        assert np.ptp(found.sizes) <= 1
    else:
        assert found.labels[0] == found.labels[friend] == found.labels[1]
    assert not found.margin[:6].any() and found.labels.min() == 0


def test_nothing_to_find_programs_from():
    empty = Relation.of("nothing", np.zeros((20, 2)))
    for graphs in ([], [sparse.csr_array((20, 20))]):
        with pytest.raises(DataError, match=r"nothing to find gene programs from.*Pass priors="):
            cluster_genes([empty], graphs, 2)


def test_too_few_genes():
    relation, _ = noisy_blocks(15, 4)
    with pytest.raises(DataError, match=r"8 programs need at least 16 genes.*15 of 15. Pass n_programs=1"):
        cluster_genes([relation], [], 8)


# -- parts -----------------------------------------------------------------------------------------------------------


def test_rounding_is_nearly_the_best_assignment():
    rng = np.random.default_rng(0)
    cost, capacity = rng.random((60, 5)), np.full(5, 12)
    labels = improved_by_swaps(cost, within_capacity(-cost, capacity))
    assert np.bincount(labels).tolist() == [12] * 5
    gene, slot = linear_sum_assignment(np.repeat(cost, 12, axis=1))
    best = np.repeat(cost, 12, axis=1)[gene, slot].sum()
    assert best <= cost[np.arange(60), labels].sum() < 1.02 * best


def test_deferred_acceptance_is_stable():
    rng = np.random.default_rng(1)
    score, capacity = rng.random((80, 6)), np.array([20, 20, 15, 15, 6, 4])
    labels = within_capacity(score, capacity)
    assert np.bincount(labels).tolist() == capacity.tolist()
    own = score[np.arange(80), labels]
    worst = np.array([own[labels == k].min() for k in range(6)])
    assert not np.any((score > own[:, None]) & (score > worst))  # no gene and program would rather have each other


def test_swaps_never_cost():
    rng = np.random.default_rng(2)
    cost, labels = rng.random((90, 6)), np.arange(90) % 6
    after = improved_by_swaps(cost, labels)
    assert np.bincount(after).tolist() == [15] * 6
    assert cost[np.arange(90), after].sum() < 0.5 * cost[np.arange(90), labels].sum()


def test_least_sizes_take_what_loses_least():
    cost = np.array([[0.0, 1.0], [0.0, 0.2], [0.0, 0.5], [0.0, 0.3], [1.0, 0.0]])
    assert with_least_size(cost, np.array([0, 0, 0, 0, 1]), 2).tolist() == [0, 1, 0, 0, 1]


def test_kmeans_reaches_the_planted_centres_and_fills_every_cluster():
    relation, program = noisy_blocks(400, 12, noise=0.15)
    labels = spherical_kmeans(relation.vectors, relation.strength, 12, seed=0)
    assert adjusted_rand_score(program, labels) == 1
    few = np.repeat(np.eye(3), 10, axis=0)  # fewer directions than clusters
    assert len(np.unique(spherical_kmeans(few, np.ones(30), 5, seed=0))) == 5
