"""Vectors of genes: from cells with planted programs, from responses, from tables."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from scperturb_modules.models.scbig.programs._clustering import cluster_genes
from scperturb_modules.models.scbig.programs._relations import (
    Relation,
    coexpression_relation,
    leading_directions,
    response_relation,
    standardised_residuals,
    table_relation,
    weighted_by_agreement,
)

NONE = np.zeros((1000, 0))


def recovered(relation, program):
    found = cluster_genes([relation], [], int(program.max()) + 1, balance="none")
    return adjusted_rand_score(program, found.labels)


# -- co-expression ---------------------------------------------------------------------------------------------------


def test_residuals_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    covariates = np.column_stack([rng.normal(size=60), np.arange(60) % 3 == 0, np.arange(60) % 3 == 1])
    cells = covariates @ rng.normal(size=(3, 7)) + rng.normal(size=(60, 7)) + 2
    cells[0, 3] += 1000.0
    found, varies = standardised_residuals(cells.astype(np.float32), covariates)
    design = np.column_stack([np.ones(60), covariates])
    left = cells - design @ np.linalg.lstsq(design, cells, rcond=None)[0]
    expected = np.clip(left / left.std(axis=0), -10, 10)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert varies.all() and found.dtype == np.float32


def test_covariates_that_repeat_each_other_are_no_harm():
    rng = np.random.default_rng(0)
    cells, column = rng.normal(size=(50, 5)).astype(np.float32), rng.normal(size=(50, 1))
    once, _ = standardised_residuals(cells, column)
    twice, _ = standardised_residuals(cells, np.hstack([column, column, np.ones((50, 1))]))
    np.testing.assert_allclose(once, twice, atol=1e-5)


def test_sparse_dense_and_float64_give_the_same(draw_cells):
    cells, _, shared = draw_cells(200, 4, 400, loading=0.6)
    cells = np.maximum(cells, 0)
    forms = cells, sparse.csr_array(cells), sparse.csc_matrix(cells), cells.astype(np.float64)
    first, *others = [coexpression_relation(form, shared[:400], rank=10, seed=0) for form in forms]
    for other in others:
        np.testing.assert_allclose(other.vectors, first.vectors, atol=1e-5)
    again = coexpression_relation(cells, sparse.csr_array(shared[:400]), rank=10, seed=0)
    np.testing.assert_allclose(again.vectors, first.vectors, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shared_factor_given_as_covariate_does_not_hide_programs(draw_cells, seed):
    cells, program, shared = draw_cells(depth=0.3, seed=seed)
    assert recovered(coexpression_relation(cells, shared, rank=60, seed=0), program) > 0.95
    assert recovered(coexpression_relation(cells, NONE, rank=60, seed=0), program) < 0.9


def test_a_leading_direction_can_be_dropped(draw_cells):
    cells, program, _ = draw_cells(depth=0.3)
    kept = recovered(coexpression_relation(cells, NONE, rank=60, seed=0), program)
    dropped = recovered(coexpression_relation(cells, NONE, rank=60, seed=0, remove_top_pcs=1), program)
    assert dropped > 0.95 and kept < 0.9


def test_directions_are_those_above_the_noise(draw_cells):
    cells, _, _ = draw_cells(600, 8, loading=0.4)
    relation = coexpression_relation(cells, NONE, rank=60, seed=0)
    assert relation.n_directions == 8 == relation.vectors.shape[1]
    np.testing.assert_allclose(np.linalg.norm(relation.vectors, axis=1), 1)


def test_noise_has_no_directions_and_that_is_said(caplog):
    cells = np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        relation = coexpression_relation(cells, NONE[:300], rank=10, seed=0)
    assert relation.n_directions == 0 and relation.covered.all() and relation.vectors.shape == (200, 10)
    assert "no direction stands out" in caplog.text


def test_depths_of_cells_make_no_direction():
    """Cells of more variance than others widen the noise of all genes; random signs keep that, permutations do not."""
    rng = np.random.default_rng(0)
    cells = (rng.normal(size=(400, 300)) * rng.lognormal(0, 1, (400, 1))).astype(np.float32)
    assert coexpression_relation(cells, NONE[:400], rank=10, seed=0).n_directions == 0


def test_constant_genes_are_not_covered(draw_cells):
    cells, _, _ = draw_cells(100, 4, 300, loading=1.0)
    cells[:, 7] = 2.5
    cells[:, 8] = 0
    relation = coexpression_relation(cells, NONE[:300], rank=10, seed=0)
    assert np.flatnonzero(~relation.covered).tolist() == [7, 8]
    assert not relation.vectors[7].any() and relation.strength[7] == 0 < relation.strength[6]
    nothing = coexpression_relation(np.ones((300, 20), np.float32), NONE[:300], rank=10, seed=0)
    assert not nothing.covered.any()


def test_programs_are_found_beside_factors_of_all_genes(draw_cells):
    """Two unknown factors; sizes from 5 to 35 % of the genes."""
    cells, program, _ = draw_cells(sizes=[210, 120, 90, 60, 50, 40, 30], n_cells=2000, loading=0.5, dense=0.25)
    relation = coexpression_relation(cells, np.zeros((2000, 0)), rank=60, seed=0)
    assert recovered(relation, program) > 0.95


def test_leading_directions_are_those_of_the_decomposition():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(80, 5)) * [9, 7, 5, 4, 3] @ rng.normal(size=(5, 50)) + 0.01 * rng.normal(size=(80, 50))
    size, vectors = leading_directions(matrix, 4, rng)
    _, expected, rows = np.linalg.svd(matrix)
    np.testing.assert_allclose(size, expected[:4], rtol=1e-8)
    np.testing.assert_allclose(np.abs(np.sum(vectors * rows[:4].T, axis=0)), 1, rtol=1e-8)
    assert np.all(vectors[np.abs(vectors).argmax(axis=0), range(4)] > 0)


def test_the_seed_decides(draw_cells):
    cells, _, _ = draw_cells(200, 4, 300, loading=0.6)
    first, again = (coexpression_relation(cells, NONE[:300], rank=10, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.vectors, again.vectors)


# -- responses and tables --------------------------------------------------------------------------------------------


def test_genes_that_respond_alike(draw_cells):
    delta, program, _ = draw_cells(300, 4, 40, loading=1.0, seed=2)
    se2 = np.random.default_rng(0).uniform(0.5, 2, delta.shape[1])[None] * np.ones((40, 1))
    delta = delta * np.sqrt(se2) + 5.0  # what all conditions share says nothing
    delta[:, 3], se2[:, 3] = 0.0, 0.0
    relation = response_relation(delta, se2)
    assert relation.n_directions == 4 and not relation.covered[3]
    assert recovered(Relation.of("", np.delete(relation.vectors, 3, 0)), np.delete(program, 3)) > 0.9
    assert response_relation(delta[:19], se2[:19]) is None


def test_a_table_is_aligned_by_name():
    table = pd.DataFrame({"a": [1.0, 3.0, np.nan], "b": [0.0, 4.0, 1.0]}, index=["Y", "X", "Z"])
    relation = table_relation("table", table, ["X", "W", "Y", "Z"])
    assert relation.covered.tolist() == [True, False, True, False]
    half = np.array([1.0, 2.0]) / np.sqrt(5)
    np.testing.assert_allclose(relation.vectors, [half, [0, 0], -half, [0, 0]])
    assert relation.strength.tolist() == [1, 0, 1, 0]
    assert not table_relation("empty", table.iloc[:, :0], ["X", "Y"]).covered.any()


def test_relations_count_by_how_far_they_agree_with_the_first():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 6))
    like, unlike = rows + 0.5 * rng.normal(size=rows.shape), rng.normal(size=rows.shape)
    relations = [Relation.of(name, one) for name, one in (("first", rows), ("like", like), ("unlike", unlike))]
    weights = [one.weight for one in weighted_by_agreement(relations, seed=0)]
    assert weights[0] == 1 and weights[1] > 0.6 and 0.01 <= weights[2] < 0.05
    alone = Relation.of("elsewhere", np.where(np.arange(300)[:, None] == 0, 1.0, 0.0))
    assert weighted_by_agreement([relations[0], alone], seed=0)[1].weight == 0.01
