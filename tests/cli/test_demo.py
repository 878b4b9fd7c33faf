import functools

import pandas as pd
import pytest

from scperturb_modules.cli import _demo
from scperturb_modules.cli._output import InputError


@pytest.fixture
def small_demo(monkeypatch, short_app):
    """The demo on the smallest simulated screen."""
    monkeypatch.setattr(_demo, "find_model", {"APP": short_app}.__getitem__)
    small = functools.partial(_demo.demo_benchmark, preset="tiny", n_folds=2, n_boot=100)
    monkeypatch.setattr(_demo, "demo_benchmark", small)


def test_two_runs_give_the_same_tables_to_the_byte(spm, small_demo, tmp_path):
    out = tmp_path / "results"
    first = spm("demo", "--out", out)
    assert first.exit_code == 0, first.output
    assert str(out) in first.stdout and "spm benchmark SCREEN.h5ad" in first.stdout
    tables = {path.name: path.read_bytes() for path in [*out.glob("*.csv"), out / "verdict.txt"]}
    assert {"leaderboard.csv", "results.csv", "quality.csv"} <= set(tables)
    models = set(pd.read_csv(out / "results.csv")["model"])
    assert {"APP", "APP (gate off)", "AdditiveShrunk", "NoChange"} <= models
    assert pd.read_csv(out / "errors.csv").empty
    again = spm("demo", "--out", out, "--overwrite")
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    for name, content in tables.items():
        assert (out / name).read_bytes() == content, name


def test_the_seed_reaches_the_benchmark(spm, monkeypatch, tmp_path):
    def stop(*, seed: int):
        raise InputError(f"the seed is {seed}")

    monkeypatch.setattr(_demo, "demo_benchmark", stop)
    assert spm("demo", "--out", tmp_path / "a", "--seed", "7").stderr == "spm: the seed is 7\n"
    assert not (tmp_path / "a").exists()


def test_it_does_not_write_into_a_folder_with_content(spm, one_line, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    assert "not empty" in one_line(spm("demo", "--out", tmp_path))
