"""Similarity by shared sets against a double loop over Python sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.priors import _overlap
from scperturb_modules.priors._overlap import Overlap, best_of, idf


def random_membership(seed, n_genes=60, n_sets=40):
    """Genes with few sets and with many, sets of one gene and of nearly all, genes with equal sets, one with none."""
    rng = np.random.default_rng(seed)
    share = rng.choice([0.02, 0.1, 0.5, 0.95], size=n_sets, p=[0.5, 0.3, 0.15, 0.05])
    table = rng.random((n_genes, n_sets)) < share * rng.choice([0.3, 1.0], size=(n_genes, 1))
    table[1] = table[5] = table[7]
    table[3] = False
    return sparse.csr_array(table.astype(np.float64))


def as_python_sets(membership):
    return [set(row.nonzero()[0].tolist()) for row in membership.toarray()]


def slow_similarity(membership, measure):
    """(n, n) by a double loop."""
    members = as_python_sets(membership)
    n_genes = len(members)
    size = membership.toarray().sum(axis=0)
    values = np.zeros((n_genes, n_genes))
    for i, one in enumerate(members):
        for j, other in enumerate(members):
            shared = one & other
            if measure == "jaccard" and shared:
                values[i, j] = len(shared) / len(one | other)
            elif shared:
                square = {k: math.log(n_genes / size[k]) ** 2 for k in one | other}
                norm = math.sqrt(sum(square[k] for k in one) * sum(square[k] for k in other))
                values[i, j] = sum(square[k] for k in shared) / norm if norm else 0.0
    return values


def slow_best(similarity, top, minimum):
    """[(gene, other, value)]: others by (value descending, number ascending); rounding does not break ties."""
    lists = []
    for gene, row in enumerate(similarity):
        others = [j for j in range(len(row)) if j != gene and row[j] > minimum]
        others.sort(key=lambda j: (-round(row[j], 7), j))
        lists += [(gene, j, row[j]) for j in others[:top]]
    return lists


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """All genes at once; or few at a time, with the floor raised again and again."""
    if request.param == "many blocks":
        monkeypatch.setattr(_overlap, "_BLOCK", 300)
        monkeypatch.setattr(_overlap, "_WAIT", 40)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("top", "minimum"), [(1, 0.0), (3, 0.1), (20, 0.3), (500, 0.0)])
@pytest.mark.usefixtures("blocks")
def test_best_by_jaccard_is_the_double_loop_to_the_last_bit(seed, top, minimum):
    membership = random_membership(seed)
    gene, other, value = Overlap.of(membership, "jaccard").best(top, minimum)
    expected = slow_best(slow_similarity(membership, "jaccard"), top, minimum)
    assert list(zip(gene.tolist(), other.tolist(), value.tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("top", "minimum"), [(1, 0.0), (3, 0.1), (20, 0.3), (500, 0.0)])
@pytest.mark.usefixtures("blocks")
def test_best_by_rarity_is_the_double_loop(seed, top, minimum):
    membership = random_membership(seed)
    gene, other, value = Overlap.of(membership, "rarity").best(top, minimum)
    expected = slow_best(slow_similarity(membership, "rarity"), top, minimum)
    assert list(zip(gene.tolist(), other.tolist(), strict=True)) == [pair[:2] for pair in expected]
    np.testing.assert_allclose(value, [pair[2] for pair in expected], rtol=1e-7)


@pytest.mark.parametrize("measure", ["jaccard", "rarity"])
@pytest.mark.parametrize("dense", [1, 10**6])
def test_sparse_and_dense_products_agree(measure, dense, monkeypatch):
    membership = random_membership(11)
    expected = Overlap.of(membership, measure).best(10, 0.1)
    monkeypatch.setattr(_overlap, "_DENSE", dense)
    for one, other in zip(Overlap.of(membership, measure).best(10, 0.1), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("measure", ["jaccard", "rarity"])
@pytest.mark.parametrize("seed", range(3))
def test_between_is_the_double_loop(seed, measure):
    membership = random_membership(seed)
    rows, columns = np.array([3, 7, 0, 7]), np.arange(60)[::-1]
    values = Overlap.of(membership, measure).between(rows, columns)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, slow_similarity(membership, measure)[np.ix_(rows, columns)], rtol=1e-7)


@pytest.mark.parametrize("measure", ["jaccard", "rarity"])
def test_genes_with_equal_sets_are_fully_similar_and_tie_by_number(measure):
    gene, other, value = Overlap.of(random_membership(2), measure).best(2, 0.0)
    assert other[gene == 7].tolist() == [1, 5]
    assert (value[gene == 7] == 1.0).all()


def test_minimum_is_strict():
    membership = sparse.csr_array(np.array([[1.0, 0.0], [1.0, 1.0]]))  # similarity one half
    overlap = Overlap.of(membership, "jaccard")
    assert len(overlap.best(5, 0.5)[0]) == 0
    assert len(overlap.best(5, 0.4999)[0]) == 2


def test_idf_of_empty_and_full_sets_is_zero():
    membership = sparse.csr_array(np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(idf(membership), [0.0, 0.0, math.log(2)])


def test_sets_of_all_genes_make_nobody_similar_by_rarity():
    overlap = Overlap.of(sparse.csr_array(np.ones((4, 2))), "rarity")
    assert len(overlap.best(3, 0.0)[0]) == 0
    assert (overlap.between(np.arange(4), np.arange(4)) == 0).all()


@pytest.mark.parametrize("seed", range(3))
def test_best_of_is_a_sort_of_each_gene(seed):
    rng = np.random.default_rng(seed)
    pairs = [(i, j, float(rng.integers(4))) for i in range(9) for j in range(9) if i != j and rng.random() < 0.6]
    rng.shuffle(pairs)
    gene, other, value = (np.array(column) for column in zip(*pairs, strict=True))
    got = best_of(gene.astype(int), other.astype(int), value, 3)
    expected = [
        pair for i in range(9) for pair in sorted((p for p in pairs if p[0] == i), key=lambda p: (-p[2], p[1]))[:3]
    ]
    assert list(zip(*(column.tolist() for column in got), strict=True)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top": 0, "minimum": 0.1}, "top=0"),
        ({"top": 5, "minimum": 1.0}, "minimum=1.0"),
        ({"top": 5, "minimum": -0.1}, "minimum=-0.1"),
    ],
)
def test_impossible_choices_are_errors(arguments, message):
    with pytest.raises(DataError, match=message):
        Overlap.of(random_membership(0), "jaccard").best(**arguments)


def test_unknown_measure_lists_the_known_ones():
    with pytest.raises(DataError, match="'jaccard', 'rarity'"):
        Overlap.of(random_membership(0), "cosine")
