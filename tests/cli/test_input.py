import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.cli._input import read_guide_table, read_priors, read_screen
from scperturb_modules.cli._output import InputError


def write(path, text):
    path.write_text(text)
    return path


def test_guide_table_with_commas_or_tabs(tmp_path):
    for name, sep in (("a.csv", ","), ("b.tsv", "\t")):
        table = write(tmp_path / name, f"guide{sep}target\ng1{sep}KLF1\ng2{sep}NT\n")
        assert read_guide_table(table) == {"g1": "KLF1", "g2": "NT"}


def test_a_guide_table_of_one_column_is_refused(tmp_path):
    with pytest.raises(InputError, match="two columns"):
        read_guide_table(write(tmp_path / "a.csv", "guide\ng1\n"))


def test_priors_are_named_after_their_files(tmp_path):
    first = write(tmp_path / "go.csv", "gene,f1,f2\nKLF1,1,0\nNA,,3\n")
    priors = read_priors([first, write(tmp_path / "esm.csv", "gene,a\nKLF1,0.5\n")])
    assert list(priors) == ["go", "esm"]
    assert list(priors["go"].index) == ["KLF1", "NA"]  # a gene may be called NA
    assert priors["go"].loc["NA"].isna().tolist() == [True, False]
    assert read_priors([]) == {}


def test_a_header_that_is_one_name_short_is_understood(tmp_path):
    table = read_priors([write(tmp_path / "r.tsv", "f1\tf2\nKLF1\t1\t0\nGATA1\t2\t3\n")])["r"]
    assert table.to_dict() == {"f1": {"KLF1": 1, "GATA1": 2}, "f2": {"KLF1": 0, "GATA1": 3}}


def test_columns_source_and_target_make_a_network(tmp_path, capsys):
    from scperturb_modules import priors

    text = "weight,target,source,score\n0.5,NA,KLF1,3\n1,GATA1,NA,4\n"
    tables = read_priors([write(tmp_path / "ppi.csv", text), write(tmp_path / "go.csv", "gene,f1\nA,1\n")])
    assert list(tables) == ["ppi", "go"] and priors.is_edge_table(tables["ppi"])
    network = priors.as_graphs(tables)["ppi"]
    assert network.genes == ("GATA1", "KLF1", "NA") and sorted(network.weight) == [0.5, 1.0]
    said = capsys.readouterr()
    assert "ppi.csv: a network of 3 genes and 2 edges" in said.out
    assert "not read: 'score'" in said.err


def test_a_gmt_file_holds_gene_sets(tmp_path, capsys):
    sets = read_priors([write(tmp_path / "hallmark.v7.gmt", "HEME\tna\tALAS2\tHMBS\r\nGLOBIN\tna\tHBB\tHBA1\r\n")])[
        "hallmark"
    ]
    assert sets.sets_of("HBA1") == ("GLOBIN",) and sets.genes == ("ALAS2", "HBA1", "HBB", "HMBS")
    assert "2 sets of 4 genes" in capsys.readouterr().out
    with pytest.raises(InputError, match="does not exist"):
        read_priors([tmp_path / "nowhere.gmt"])


def test_bad_edges_are_refused_before_anything_else(tmp_path):
    with pytest.raises(DataError, match="network 'ppi' has 1 weights that are no finite number, in rows '1'"):
        read_priors([write(tmp_path / "ppi.csv", "source,target,weight\nA,B,1\nB,C,\n")])
    with pytest.raises(DataError, match="network 'tf' has 1 edges without a gene name"):
        read_priors([write(tmp_path / "tf.csv", "source,target\nA,\n")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,f1\nA,x\n", "edges in the columns source, target.*not numbers: 'f1'"),
        ("gene\nA\n", "no number"),
        ("", "cannot be read"),
    ],
)
def test_a_prior_without_numbers_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_priors([write(tmp_path / "p.csv", text)])


def test_two_priors_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    text = "gene,f1\nA,1\n"
    with pytest.raises(InputError, match="two priors are named 'p'"):
        read_priors([write(tmp_path / "p.csv", text), write(tmp_path / "other" / "p.csv", text)])


def test_unreadable_screens_are_refused_by_name(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["x"] = [1, 2]
    truncated = tmp_path / "cut.h5ad"
    truncated.write_bytes((tmp_path / "other.h5ad").read_bytes()[:500])
    text = write(tmp_path / "text.h5ad", "guide,count\n")
    for path in (truncated, text, tmp_path / "other.h5ad"):
        with pytest.raises(InputError, match=path.name):
            read_screen(path)
    with pytest.raises(InputError, match="is a folder"):
        read_screen(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_screen(tmp_path / "absent.h5ad")
