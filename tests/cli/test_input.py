import pytest

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


@pytest.mark.parametrize(
    ("text", "message"), [("gene,f1\nA,x\n", "not numbers: 'f1'"), ("gene\nA\n", "no number"), ("", "cannot be read")]
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
