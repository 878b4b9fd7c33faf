"""How many programs are planted, and how many are found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from scperturb_modules.models.scbig.programs._clustering import cluster_genes
from scperturb_modules.models.scbig.programs._n_programs import choose_n_programs
from scperturb_modules.models.scbig.programs._relations import Relation, coexpression_relation

DIRICHLET = [150, 120, 100, 80, 70, 60, 50, 40, 40, 30, 30, 30]


@pytest.mark.parametrize("planted", [{"n_programs": 10}, {"n_programs": 24}, {"sizes": DIRICHLET}])
def test_the_planted_number_is_found(draw_cells, planted):
    cells, program, _ = draw_cells(800, n_cells=1500, loading=0.4, dense=0.2, **planted)
    relation = coexpression_relation(cells, np.zeros((1500, 0)), rank=60, seed=0)
    n_programs, scan = choose_n_programs([relation], [])
    assert n_programs == program.max() + 1
    assert adjusted_rand_score(program, cluster_genes([relation], [], n_programs).labels) > 0.95
    assert scan["n_programs"].iloc[scan["silhouette"].argmax()] == n_programs
    assert scan["n_programs"].is_monotonic_increasing


def test_candidates_are_the_only_ones():
    rows = np.repeat(np.eye(6), 20, axis=0) + 0.1 * np.random.default_rng(0).normal(size=(120, 6))
    n_programs, scan = choose_n_programs([Relation.of("rows", rows)], [], candidates=[12, 3, 6])
    assert n_programs == 6 and scan["n_programs"].tolist() == [3, 6, 12]


@pytest.mark.parametrize(("n_genes", "least", "most"), [(400, 8, 40), (60, 6, 6), (25, 2, 2)])
def test_without_structure_the_number_suits_the_genes(n_genes, least, most):
    rows = np.random.default_rng(0).normal(size=(n_genes, 4))
    assert least <= choose_n_programs([Relation.of("rows", rows)], [])[0] <= most


def test_a_graph_alone_can_be_scanned():
    blocks = np.kron(np.eye(9), np.ones((15, 15))) * (np.random.default_rng(0).random((135, 135)) < 0.5)
    graph = np.triu(blocks, 1) + np.triu(blocks, 1).T
    assert 8 <= choose_n_programs([], [sparse.csr_array(graph)])[0] <= 12
