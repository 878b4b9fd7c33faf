"""GeneEmbedding and gene_embedding, against plain dictionaries."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.baselines import fuse_tables
from scperturb_modules.priors import as_graphs, as_tables, named_priors
from scperturb_modules.priors._embedding import GeneEmbedding, gene_embedding
from scperturb_modules.priors._identifiers import GeneNames


def draw_frame(seed=0, n_genes=30, n_features=4):
    """Rows out of order, some of which lack a number; one gene is called NA."""
    rng = np.random.default_rng(seed)
    genes = rng.permutation(["NA", *(f"G{i:02d}" for i in range(1, n_genes))])
    frame = pd.DataFrame(rng.normal(size=(n_genes, n_features)), index=genes, columns=list("abcd")[:n_features])
    return frame.mask(rng.random(frame.shape) < 0.03)


@pytest.fixture
def frame():
    return draw_frame()


def slowly(frame, wanted):
    """Gene -> vector or None."""
    rows = {gene: list(row) for gene, row in zip(frame.index, frame.to_numpy(), strict=True)}
    return {gene: None if any(x != x for x in rows.get(gene, [np.nan])) else rows[gene] for gene in wanted}


def same(embedding, expected):
    assert embedding.genes == tuple(sorted(expected))
    assert embedding.known.tolist() == [expected[gene] is not None for gene in embedding.genes]
    for gene, row in zip(embedding.genes, embedding.values, strict=True):
        # readers of text may be off in the last digits
        np.testing.assert_allclose(row, np.nan if expected[gene] is None else expected[gene], rtol=1e-12)
    table = embedding.to_frame()
    assert list(table.index) == [gene for gene in embedding.genes if expected[gene] is not None]
    assert table.notna().all(axis=None) and (table.dtypes == np.float64).all()


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_those_of_the_table(seed):
    frame = draw_frame(seed)
    rng = np.random.default_rng(seed)
    wanted = [*rng.choice(frame.index, 12, replace=False), "absent", "unheard of"]
    assert frame.isna().any(axis=1).sum() > 0, "the table has what is tested"
    same(gene_embedding(frame), slowly(frame, frame.index))
    same(GeneEmbedding.from_frame(frame), slowly(frame, frame.index))
    same(gene_embedding(frame, [*wanted, wanted[0]]), slowly(frame, wanted))


def test_numbers_of_all_kinds_and_an_untouched_table():
    frame = pd.DataFrame(
        {
            "float32": np.array([0.5, 1.5, 2.5], dtype=np.float32), "bool": [True, False, True],
            "nullable": pd.array([1, 2, None], dtype="Int64"), "text": ["1e-3", "-2", "3"],
        },
        index=["B", "A", "C"],
    )  # fmt: skip
    frame.columns = ["x", "y", "x", "x"]
    before = frame.copy()
    for embedding in (gene_embedding(frame), gene_embedding(frame, ["C", "D", "A", "B"])):
        table = embedding.to_frame()
        assert list(table.columns) == ["x", "y", "x", "x"]
        np.testing.assert_array_equal(table.loc[["A", "B"]], [[1.5, 0, 2, -2], [0.5, 1, 1, 1e-3]])
        assert dict(zip(embedding.genes, embedding.known, strict=True))["C"] == np.False_
    pd.testing.assert_frame_equal(frame, before)
    floats = draw_frame()
    before = floats.copy()
    GeneEmbedding.from_frame(floats)
    pd.testing.assert_frame_equal(floats, before)


def test_missing_vectors_are_counted(frame, caplog):
    frame.loc["G03", "b"] = np.nan
    frame.loc["G04"] = 1.0
    with caplog.at_level(logging.INFO, logger="scperturb_modules"):
        embedding = gene_embedding(frame, ["G03", "G04", "X"], name="ESM2")
    assert "of 3 genes, 1 are not in the table and 1 lack a number" in caplog.text
    assert repr(embedding) == "GeneEmbedding('ESM2', 3 genes, 2 without a vector, 4 features)"


def test_genes_are_found_by_other_names_and_keep_theirs(frame):
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["old"], "symbol": ["G04"]}))
    frame.loc[["G04", "G05"]] = [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    embedding = gene_embedding(frame, ["old", "G05"], names=names)
    assert embedding.genes == ("G05", "old")
    np.testing.assert_array_equal(embedding.values, [[5, 6, 7, 8], [1, 2, 3, 4]])


@pytest.mark.parametrize(("name", "separator"), [("esm.csv", ","), ("esm.tsv", "\t"), ("esm.csv.gz", ",")])
@pytest.mark.parametrize("missing", ["", "NA", "nan"])
def test_files_read_as_the_table(tmp_path, frame, name, separator, missing):
    frame.to_csv(tmp_path / name, sep=separator, na_rep=missing)
    embedding = gene_embedding(str(tmp_path / name))
    same(embedding, slowly(frame, frame.index))
    assert embedding.name == "esm" and embedding.features == tuple("abcd")


def test_a_first_line_without_a_name_for_genes_as_r_writes_it(tmp_path):
    (tmp_path / "r.tsv").write_text("x\ty\nTP53\t1\t2\nNA\t3\t4\n")
    embedding = gene_embedding(tmp_path / "r.tsv")
    assert embedding.genes == ("NA", "TP53") and embedding.features == ("x", "y")
    np.testing.assert_array_equal(embedding.values, [[3, 4], [1, 2]])


def test_files_that_cannot_be_read(tmp_path, frame):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        gene_embedding(tmp_path / "none.csv")
    frame.to_csv(tmp_path / "whole.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "whole.csv.gz").read_bytes()[:-40])
    with pytest.raises(DataError, match="cut short or damaged"):
        gene_embedding(tmp_path / "cut.csv.gz")
    (tmp_path / "text.tsv.gz").write_bytes(gzip.compress(b"gene\tx\tkind\nA\t1\tkinase\n"))
    with pytest.raises(DataError, match=r"embedding 'text' has 1 columns that are not numbers: 'kind'"):
        gene_embedding(tmp_path / "text.tsv.gz")


def test_a_mapping_of_vectors():
    torch = pytest.importorskip("torch")
    vectors = {"B": [1, 2], "A": np.array([3.0, np.nan]), "C": torch.tensor([5.0, 6.0])}
    embedding = gene_embedding(vectors)
    same(embedding, {"A": None, "B": [1, 2], "C": [5, 6]})
    assert embedding.features == ("feature1", "feature2")
    with pytest.raises(DataError, match=r"3 have the shape \(2,\), 2 another: 'D', 'E'"):
        gene_embedding(vectors | {"D": [1.0], "E": None})
    with pytest.raises(DataError, match=r"2 have the shape \(1, 2\), 0 another: none"):
        gene_embedding({"A": [[1, 2]], "B": [[3, 4]]})
    with pytest.raises(DataError, match="has no columns"):
        gene_embedding({})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: pd.concat([t, t.iloc[:1]]), r"1 genes in more than one row: .*groupby"),
        (lambda t: t.assign(e="x", f=1.0), r"1 columns that are not numbers: 'e'.*set_index"),
        (lambda t: t.rename(index={"G04": None}), r"1 rows without a gene name.*keep_default_na"),
        (lambda t: t.rename(index={"G04": " "}), r"1 rows without a gene name"),
        (lambda t: t[[]], "has no columns"),
        (lambda t: t.assign(e=[np.inf, -np.inf, *np.ones(28)]), r"infinite values for 2 genes: .*replace"),
    ],
)
def test_what_cannot_be_used_is_named(frame, spoil, message):
    with pytest.raises(DataError, match=message):
        gene_embedding(spoil(frame))


def test_no_gene_in_common(frame):
    with pytest.raises(DataError, match=r"embedding 'embedding': 0 of 2 genes found; first names: 'ENSG1', 'ENSG2'"):
        gene_embedding(frame, ["ENSG1", "ENSG2"])
    with pytest.raises(DataError, match=r"0 of 1 genes found; first names: 'G04' / '0', '1'"):
        gene_embedding(frame.reset_index(drop=True), ["G04"])


def test_attrs_and_name_travel(frame):
    frame.attrs = {"name": "GenePT", "version": "2", "derived_from": "text about genes"}
    embedding = gene_embedding(frame, ["G05", "G06"])
    assert embedding.name == "GenePT" and embedding.attrs == {"version": "2", "derived_from": "text about genes"}
    assert embedding.to_frame().attrs == frame.attrs
    other = GeneEmbedding("other", ("A",), np.ones((1, 1)), ("x",), frame.attrs)
    other.attrs["version"] = "3"
    assert frame.attrs["version"] == "2", "nothing is shared"
    assert gene_embedding(frame, name="mine").name == "mine" and frame.attrs["name"] == "GenePT"
    again = GeneEmbedding.from_frame(embedding.to_frame())
    assert (again.name, again.genes, again.features, again.attrs) == (
        embedding.name, embedding.genes, embedding.features, embedding.attrs,
    )  # fmt: skip
    np.testing.assert_array_equal(again.values, embedding.values)


def test_it_cannot_be_changed_or_made_out_of_order(frame):
    embedding = gene_embedding(frame)
    with pytest.raises(ValueError, match="read-only"):
        embedding.values[0] = 1.0
    good = np.ones((2, 1))
    wrong = [(("B", "A"), good), (("A", "A"), good), (("A",), good), (("A", "B"), good * np.inf)]
    for genes, values in wrong:
        with pytest.raises(DataError, match=r"GeneEmbedding\.from_frame"):
            GeneEmbedding("wrong", genes, values, ("x",))
    with pytest.raises(DataError, match="not in order"):
        GeneEmbedding("no features", (), np.ones((0, 0)), ())
    with pytest.raises(DataError, match="not in order"):
        GeneEmbedding("half a row", ("A",), np.array([[1.0, np.nan]]), ("x", "y"))


def test_it_is_a_prior_of_baselines_and_no_network(frame):
    embedding = gene_embedding(frame, name="ESM2")
    assert as_graphs(embedding) == {} and list(named_priors(embedding)) == ["ESM2"]
    tables = as_tables([embedding, frame])
    assert list(tables) == ["ESM2", "prior_1"]
    both = fuse_tables({"ESM2": tables["ESM2"]}), fuse_tables({"ESM2": frame})
    assert both[0].genes == both[1].genes
    np.testing.assert_array_equal(both[0].values, both[1].values)
