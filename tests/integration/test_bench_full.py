"""`make bench-full` on a small screen laid out as the published one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pandas as pd
import pytest
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules.priors._sources import sources

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def full():
    """benchmarks/full.py, imported as the script imports its neighbours."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("full")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def stand_in(tmp_path):
    """The tiny simulated screen as a file of scPerturb: counts in X, an underscore in pairs, batches as gemgroup."""
    simulated = spm.datasets.simulate("tiny", seed=0)
    obs = simulated.obs[["perturbation", "batch"]].rename(columns={"batch": "gemgroup"})
    obs["gemgroup"] = obs["gemgroup"].str.removeprefix("batch").astype(int)
    obs["perturbation"] = obs["perturbation"].astype(str).str.replace("+", "_")
    adata = AnnData(simulated.layers["counts"].astype("float32"), obs=obs, var=simulated.var[[]])
    adata.write_h5ad(tmp_path / "norman.h5ad")
    return tmp_path / "norman.h5ad"


def test_a_leaderboard_of_a_local_copy(full, stand_in, shared_priors, tmp_path, capsys):
    out = tmp_path / "full"
    where = ["--path", str(stand_in), "--out", str(out)]
    full.main(["--screen", "norman_2019", "--predictors", "baselines", "--folds", "2", *where])
    page = (out / "full.md").read_text()
    assert page.strip() == capsys.readouterr().out.strip()
    assert "## Norman, K562: pairs" in page and "Additive" in page and "Priors: none" in page
    frame = spm.tl.read_results(out / "norman_2019" / "results.csv")
    assert {"NoChange", "Additive"} <= set(frame["model"])
    assert (out / "norman_2019" / "errors.csv").read_text().count("\n") == 1  # the header


def test_a_path_needs_a_screen(full, stand_in, capsys):
    with pytest.raises(SystemExit):
        full.main(["--path", str(stand_in)])
    assert "--path needs --screen" in capsys.readouterr().err


def test_a_missing_file_is_one_line(full, tmp_path):
    nowhere = ["--path", str(tmp_path / "nowhere.h5ad"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"nowhere\.h5ad"):
        full.main(["--screen", "papalexi_2021", "--predictors", "baselines", *nowhere])


def test_priors_are_downloaded_where_there_are_no_local_ones(full, tmp_path, monkeypatch):
    known = set(sources().index)
    asked = []

    def download(name):
        assert name in known
        asked.append(name)
        return name

    def gene_ontology(genes, annotations, terms):
        return spm.priors.GeneGraph.from_table(
            pd.DataFrame({"source": genes[:2], "target": genes[1:3]}), name=annotations
        )

    for made in (download, gene_ontology):
        monkeypatch.setattr(spm.priors, made.__name__, made, raising=False)
    monkeypatch.setattr(spm.priors, "regulons", lambda edges, genes: gene_ontology(genes, edges, None), raising=False)
    monkeypatch.setattr(full, "FOLDER", tmp_path / "nowhere")
    simulated = spm.datasets.simulate("tiny", seed=0)
    spm.pp.standardize_perturbations(simulated, "perturbation")
    graphs, said = full.priors_for(simulated)
    assert asked == ["go_annotations", "go_terms", "collectri"]
    assert said == "Priors: GO (2 edges), CollecTRI (2 edges)."
    assert set(graphs) == {"GO", "CollecTRI"}


def test_every_published_screen_is_run(full):
    published = {"norman_2019", "adamson_2016", "papalexi_2021", "replogle_2022_k562", "replogle_2022_rpe1"}
    assert set(full.SCREENS) == published | {"nadig_2025_hepg2", "nadig_2025_jurkat"}
