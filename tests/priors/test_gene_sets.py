"""Gene sets from files as they are, and what genes share, against plain Python."""

from __future__ import annotations

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gene_sets import gene_sets
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._set_table import GeneSets

BLOOD = {"heme": ["ALAS2", "HMBS"], "globins": ["HBB", "HBA1"], "erythroid genes": ["HBB", "ALAS2", "KLF1"]}


@pytest.fixture
def blood():
    return gene_sets(BLOOD, name="blood")


def members(sets):
    return {name: set(sets.genes_of(name)) for name in sets.sets}


def random_sets(seed, n_genes=50, n_sets=30):
    rng = np.random.default_rng(seed)
    genes = [f"G{i:02d}" for i in range(n_genes)]
    draws = {f"S{k}": rng.choice(genes, size=rng.integers(1, 20), replace=False).tolist() for k in range(n_sets)}
    return {name: sorted(draw) for name, draw in draws.items()}


# ---- a part of it


def test_genes_of_the_user_under_their_names(blood):
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["EKLF"], "symbol": ["KLF1"]}))
    sets = gene_sets(BLOOD, ["ZNF", "EKLF", "HBB"], names=names)
    assert sets.genes == ("EKLF", "HBB")
    assert members(sets) == {"globins": {"HBB"}, "erythroid genes": {"EKLF", "HBB"}}
    assert sets.attrs["left_out"] == {"sets without one of the genes": 1}
    assert members(blood.subset(["EKLF", "HBB"], names=names)) == members(sets)


def test_size_limits_count_the_genes_asked_for():
    sets = gene_sets(BLOOD, ["HBB", "ALAS2", "HMBS"], min_size=2)
    assert sets.sets == ("heme", "erythroid genes")
    assert sets.attrs["left_out"] == {"sets too small or too large": 1}
    assert gene_sets(BLOOD, max_size=2).sets == ("heme", "globins")
    with pytest.raises(DataError, match="no set has 4 to 3 of the genes; the largest has 3"):
        gene_sets(BLOOD, min_size=4)


def test_none_of_the_genes_is_an_error(blood):
    with pytest.raises(DataError, match="0 of 2 genes found"):
        blood.subset(["ENSG1", "ENSG2"])


def test_look_up(blood):
    assert blood.genes_of("erythroid genes") == ("ALAS2", "HBB", "KLF1")
    assert blood.sets_of("HBB") == ("globins", "erythroid genes")
    assert blood.size.tolist() == [2, 2, 3]
    assert repr(blood) == "GeneSets('blood', 5 genes, 3 sets, 7 members)"
    with pytest.raises(DataError, match="set 'hem' is not among the 3: 'heme'"):
        blood.genes_of("hem")
    with pytest.raises(DataError, match="gene 'TP53' is not among the 5"):
        blood.sets_of("TP53")


@pytest.mark.parametrize(
    "change",
    [
        {"genes": ("B", "A")},
        {"genes": ("A", "A")},
        {"sets": ("s", "s")},
        {"sets": ("s",)},
        {"membership": sparse.csr_array(np.array([[2.0, 0], [1, 1]]))},
        {"membership": sparse.csr_array(np.ones((3, 2)))},
        {"membership": sparse.csr_array((np.ones(2), np.array([0, 0]), np.array([0, 2, 2])), shape=(2, 2))},
        {"descriptions": ("only one",)},
    ],
)
def test_tables_out_of_order_are_refused(change):
    whole = {"name": "x", "genes": ("A", "B"), "sets": ("s", "t"), "membership": sparse.csr_array(np.eye(2))}
    GeneSets(**whole)
    with pytest.raises(DataError, match="not in order"):
        GeneSets(**{**whole, **change})


# ---- what genes share


def slow_jaccard(sets, one, other):
    ours, theirs = set(sets.sets_of(one)), set(sets.sets_of(other))
    return len(ours & theirs) / len(ours | theirs)


@pytest.mark.parametrize("seed", range(3))
def test_similarity_of_two_lists(seed):
    sets = gene_sets(random_sets(seed))
    rows, columns = [sets.genes[3], "unknown", sets.genes[0]], [*sets.genes[:5], "other"]
    got = sets.similarity(rows, columns)
    assert got.shape == (3, 6)
    for i, one in enumerate(rows):
        for j, other in enumerate(columns):
            if one == "unknown" or other == "other":
                assert np.isnan(got[i, j])
            else:
                assert got[i, j] == slow_jaccard(sets, one, other)
    assert sets.similarity([sets.genes[0]], [sets.genes[0]], measure="rarity") == 1.0


def slow_edges(sets, top, minimum):
    """{(gene, other): similarity} of each gene's list."""
    edges = {}
    for gene in sets.genes:
        value = {other: slow_jaccard(sets, gene, other) for other in sets.genes if other != gene}
        best = sorted((other for other in value if value[other] > minimum), key=lambda other: (-value[other], other))
        edges.update({(gene, other): value[other] for other in best[:top]})
    return edges


@pytest.mark.parametrize("seed", range(3))
def test_network_is_the_double_loop(seed):
    sets = gene_sets(random_sets(seed))
    expected = slow_edges(sets, 4, 0.1)
    directed = sets.to_graph(top=4, symmetric=False).to_table()
    got = {(row.target, row.source): row.weight for row in directed.itertuples()}  # from the listed gene
    assert got == expected
    undirected = sets.to_graph(top=4)
    got = {(row.source, row.target): row.weight for row in undirected.to_table().itertuples()}
    assert got == {tuple(sorted(pair)): value for pair, value in expected.items()}
    assert undirected.genes == sets.genes
    assert not undirected.directed


def test_network_keeps_genes_without_neighbours_and_provenance():
    graph = gene_sets({"a": ["A", "B"], "c": ["C"]}, name="mine").to_graph(measure="rarity")
    assert graph.isolated == ("C",)
    assert graph.name == "mine"
    assert graph.attrs == {"derived_from": "gene sets mine", "measure": "rarity", "top": 20, "minimum": 0.1}


@pytest.mark.parametrize("n_sets", [30, 500])  # solved densely and sparsely
def test_features_are_the_singular_vectors(n_sets):
    sets = gene_sets(random_sets(1, n_sets=n_sets))
    table = sets.membership.toarray() * np.log(len(sets.genes) / sets.size)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    left, value, _ = np.linalg.svd(table)
    expected = left[:, :5] * value[:5]
    expected *= np.sign(expected[np.abs(expected).argmax(axis=0), np.arange(5)])
    frame = sets.to_frame(5)
    np.testing.assert_allclose(frame, expected, atol=1e-8)
    assert tuple(frame.index) == sets.genes
    assert frame.attrs["name"] == "gene_sets"
    pd.testing.assert_frame_equal(frame, sets.to_frame(5))


def test_features_leave_out_genes_whose_sets_say_nothing(caplog):
    sets = gene_sets({"all": ["A", "B", "C", "D"], "ab": ["A", "B"], "c": ["C"]}, name="mine")
    with caplog.at_level(logging.INFO):
        frame = sets.to_frame(2)
    assert list(frame.index) == ["A", "B", "C"]
    assert "1 of 4 genes get no features" in caplog.text


@pytest.mark.parametrize(("n_features", "message"), [(0, "at least 1"), (3, "1 to 2"), (64, "1 to 2")])
def test_more_features_than_there_are_is_an_error(n_features, message):
    sets = gene_sets({"all": ["A", "B", "C", "D"], "ab": ["A", "B"], "c": ["C"]})
    with pytest.raises(DataError, match=message):
        sets.to_frame(n_features)
    if n_features:
        pd.testing.assert_frame_equal(sets.to_frame(n_features, clip=True), sets.to_frame(2))


def test_one_gene_has_no_features():
    sets = gene_sets({f"S{i}": ["A"] for i in range(500)})
    assert sets.to_frame(clip=True).shape == (0, 0)
    with pytest.raises(DataError, match="1 to 0"):
        sets.to_frame()


def test_plain_form_survives_a_file(tmp_path, blood):
    adata = anndata.AnnData(np.zeros((1, 1)), uns={"sets": blood.to_uns()})
    adata.write_h5ad(tmp_path / "sets.h5ad")
    back = GeneSets.from_uns(anndata.read_h5ad(tmp_path / "sets.h5ad").uns["sets"])
    for one, other in ((back, blood), (GeneSets.from_uns(blood.to_uns()), blood)):
        assert (one.name, one.genes, one.sets, one.descriptions, one.attrs) == (
            *(other.name, other.genes, other.sets, other.descriptions),
            other.attrs,
        )
        assert (one.membership != other.membership).nnz == 0


def test_real_families(shared_priors):
    sets = gene_sets(shared_priors / "gene_pfam.tsv.gz", ["TP53", "TP63", "TP73", "KLF1", "HBB", "HBA1"])
    assert sets.similarity(["TP53"], ["TP63"])[0, 0] > 0
    assert sets.similarity(["HBB"], ["HBA1"])[0, 0] == 1.0
    assert sets.similarity(["HBB"], ["KLF1"])[0, 0] == 0.0
