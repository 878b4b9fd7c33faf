import pytest


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A saved benchmark of two baselines."""
    from scperturb_modules import baselines, datasets, tl

    adata = datasets.simulate("tiny", seed=0)
    chosen = [baselines.NoChange, baselines.MeanShift]
    path = tmp_path_factory.mktemp("run") / "results"
    tl.benchmark(adata, chosen, scheme="combination", n_folds=1, n_boot=100).save(path)
    return path


def test_it_writes_one_page_and_says_where(spm, results, one_line, tmp_path):
    page = tmp_path / "new" / "report.html"
    done = spm("report", results, "--out", page)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"Page: {page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "exists" in one_line(spm("report", results, "--out", page))
    first = page.read_bytes()
    assert spm("report", results, "--out", page, "--overwrite").exit_code == 0
    assert page.read_bytes() == first


def test_the_planners_table_can_be_given(spm, results, tmp_path):
    (tmp_path / "mine.csv").write_text("rank,condition,reason\n1,GATA1+KLF1,never tested\n")
    page = tmp_path / "report.html"
    assert spm("report", results, "--out", page, "--next", tmp_path / "mine.csv").exit_code == 0
    assert "never tested" in page.read_text(encoding="utf-8")


def test_what_is_no_result_is_refused_in_one_line(spm, one_line, results, tmp_path):
    page = tmp_path / "report.html"
    assert "no folder of results" in one_line(spm("report", tmp_path / "absent", "--out", page))
    (tmp_path / "empty").mkdir()
    assert "holds no results" in one_line(spm("report", tmp_path / "empty", "--out", page))
    assert "is a folder" in one_line(spm("report", results, "--out", tmp_path))
    assert "does not exist" in one_line(spm("report", results, "--out", page, "--next", tmp_path / "absent.csv"))
    assert not page.exists()
