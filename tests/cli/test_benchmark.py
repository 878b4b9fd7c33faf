import json

import numpy as np
import pandas as pd
import pytest

QUICK = ["--n-folds", "2", "--n-boot", "100", "--min-cells", "20"]


@pytest.fixture(scope="module")
def simulated():
    """Without a split."""
    from scperturb_modules import datasets

    return datasets.simulate("tiny", seed=0)


@pytest.fixture
def simulated_file(simulated, tmp_path):
    path = tmp_path / "simulated.h5ad"
    simulated.write_h5ad(path)
    return path


def test_writes_tables_and_figures_and_says_who_is_best(spm, simulated_file, tmp_path):
    """Into a folder with older results and a file of the user's own, which stays."""
    out = tmp_path / "results"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    (out / "leaderboard.csv").write_text("old")
    before = simulated_file.read_bytes()
    args = ["--perturbation-key", "perturbation", "--out", out, "--overwrite", *QUICK]
    result = spm("benchmark", simulated_file, *args)
    assert result.exit_code == 0, result.output
    assert result.stderr == "" or result.stderr.startswith("spm: note")
    assert "raw counts" not in result.stdout
    table = pd.read_csv(out / "leaderboard.csv")
    assert {"Additive", "NoChange"} <= set(table["model"])
    for name in ("leaderboard", "error_by_effect", "metric_quality"):
        assert (out / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "verdict.txt").read_text().strip() in result.stdout
    assert str(out) in result.stdout
    assert "Left out in " in result.stdout and "Transfer (one context only)" in result.stdout
    assert (out / "mine.txt").read_text() == "keep me"
    assert simulated_file.read_bytes() == before


def test_options_reach_the_benchmark(spm, simulated, simulated_file, tmp_path):
    prior = tmp_path / "network.csv"
    values = np.random.default_rng(0).normal(size=(simulated.n_vars, 4))
    pd.DataFrame(values, index=pd.Index(simulated.var_names, name="gene")).add_prefix("f").to_csv(prior)
    out = tmp_path / "results"
    more = ["--scheme", "unseen_single", "--protocol", "published", "--seed", 3]
    more += ["--batch-key", "batch", "--n-top-genes", 40]
    args = ["--perturbation-key", "perturbation", "--out", out, "--prior", prior, *QUICK, *more]
    result = spm("benchmark", simulated_file, *args)
    assert result.exit_code == 0, result.output
    found = json.loads((out / "run.json").read_text())["settings"]
    wanted = {"n_folds": 2, "n_boot": 100, "min_cells": 20, "protocol": "published", "seed": 3, "priors": ["network"]}
    wanted |= {"batch_key": "batch", "layer": None, "perturbation_key": "perturbation", "control": "control"}
    wanted |= {"n_top_genes": 40, "scheme": ["unseen_single"]}
    assert {name: found[name] for name in wanted} == wanted
    assert "comparable to the literature only" in result.stdout


def test_models_run_beside_the_baselines_with_a_network(
    spm, one_line, monkeypatch, simulated_path, network_path, short_app, tmp_path
):
    from scperturb_modules.cli import _benchmark

    args = ["--perturbation-key", "perturbation", "--prior", network_path, "--out", tmp_path / "results", *QUICK]
    assert "no model 'magic'" in one_line(spm("benchmark", simulated_path, *args, "--model", "magic"))
    monkeypatch.setattr(_benchmark, "find_model", {"app": short_app}.__getitem__)
    result = spm("benchmark", simulated_path, *args, "--model", "app")
    assert result.exit_code == 0, result.output
    assert "APP: trained anew in every split" in result.stdout
    table = pd.read_csv(tmp_path / "results" / "leaderboard.csv")
    assert {"APP", "Additive", "NoChange"} <= set(table["model"])
    assert pd.read_csv(tmp_path / "results" / "errors.csv").empty
    assert list((tmp_path / "results" / "predictions").rglob("*APP*"))


def test_raw_counts_and_a_split_of_the_screen_are_used(spm, simulated, tmp_path):
    """The same numbers as from the normalised screen in Python."""
    from scperturb_modules import pp, tl

    adata = simulated.copy()
    pp.split(adata, "unseen_single", seed=1, n_folds=2)
    expected = tl.benchmark(adata, min_cells=20, n_boot=100).frame
    adata.layers["raw"] = adata.layers.pop("counts")
    adata.X = -adata.X  # not what is asked for
    path, out = tmp_path / "split.h5ad", tmp_path / "results"
    adata.write_h5ad(path)
    result = spm("benchmark", path, "--perturbation-key", "perturbation", "--layer", "raw", "--out", out, *QUICK)
    assert result.exit_code == 0, result.output
    assert "Layer 'raw' holds raw counts: normalised to log1p of counts per 10,000." in result.stdout
    found = tl.read_results(out / "results.csv")
    assert list(found["condition"]) == list(expected["condition"])
    np.testing.assert_allclose(found["value"], expected["value"], rtol=1e-5, atol=1e-7)


def test_a_folder_with_content_is_refused_before_anything_is_read(spm, one_line, tmp_path):
    out = tmp_path / "results"
    out.mkdir()
    (out / "mine.txt").write_text("keep me")
    line = one_line(spm("benchmark", tmp_path / "absent.h5ad", "--perturbation-key", "x", "--out", out))
    assert "not empty" in line and "--overwrite" in line
    line = one_line(spm("benchmark", tmp_path / "absent.h5ad", "--perturbation-key", "x", "--out", out / "mine.txt"))
    assert "is a file" in line


def test_a_leak_is_refused(spm, simulated, tmp_path):
    """The same cells in two parts of the user's split."""
    import anndata

    from scperturb_modules import pp

    adata = simulated.copy()
    pp.split(adata, "unseen_single", seed=1, n_folds=2)
    again = adata[adata.obs["split"] == "test"].copy()
    again.obs_names = [f"again{i}" for i in range(again.n_obs)]
    again.obs["split"] = "train"
    again.obs["perturbation"] = "control"
    both = anndata.concat([adata, again])
    path = tmp_path / "leak.h5ad"
    both.write_h5ad(path)
    result = spm("benchmark", path, "--perturbation-key", "perturbation", "--out", tmp_path / "results", *QUICK)
    assert result.exit_code == 2, result.output
    assert "leak" in result.stderr.lower() and "Traceback" not in result.output
    assert not (tmp_path / "results").exists()


def test_an_option_without_effect_is_refused(spm, one_line, simulated_file, tmp_path):
    args = ["--perturbation-key", "perturbation", "--out", tmp_path / "results", "--target-sum", "1e6"]
    assert "--target-sum would have no effect" in one_line(spm("benchmark", simulated_file, *args))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(spm, one_line, tmp_path, monkeypatch):
    import os

    # the superuser may write everywhere, so the answer of the system is replaced
    monkeypatch.setattr(os, "access", lambda path, mode: os.fspath(path) != os.fspath(tmp_path))
    line = one_line(
        spm("benchmark", tmp_path / "absent.h5ad", "--perturbation-key", "x", "--out", tmp_path / "a" / "b")
    )
    assert "cannot write into" in line and str(tmp_path) in line
    assert not (tmp_path / "a").exists()


def test_a_folder_below_a_file_is_refused_before_anything_is_read(spm, one_line, tmp_path):
    (tmp_path / "notes.txt").write_text("")
    out = tmp_path / "notes.txt" / "results"
    assert "is a file" in one_line(spm("benchmark", tmp_path / "absent.h5ad", "--perturbation-key", "x", "--out", out))
