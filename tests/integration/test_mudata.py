"""Models on the RNA and the guide counts of Papalexi et al. as a MuData: the same to the bit as on the RNA alone."""

from __future__ import annotations

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError, ScreenWarning

FEW = {"control": 120} | dict.fromkeys(("IFNGR1", "IFNGR2", "JAK2", "STAT1", "STAT2", "STAT3", "CUL3", "BRD4"), 25)
N_GENES = 60
SMALL = {"n_members": 1, "n_folds": 2}
MODELS = {
    "APP": (spm.APP, SMALL | {"d": 4}),
    "BioDSNN": (spm.BioDSNN, SMALL | {"d": 4, "vae_hidden": (8,), "n_latent": 2, "n_cells": 4}),
    "SCBIG": (
        spm.SCBIG,
        SMALL
        | {"d": 4, "n_programs": 4, "n_latent": 2, "width": 4, "flow_width": 8, "n_cells": 8}
        | {"autoencoder_steps": 2, "flow_steps": 2},
    ),
}
ASKED = ["STAT3", "IFNGR1+STAT3"]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    """Stages of training that no argument of train() makes short."""
    monkeypatch.setattr("scperturb_modules.models.biodsnn._streaming.STREAM_STEPS", 2)


@pytest.fixture(scope="module")
def rna(shared_data):
    """A few cells of nine conditions, normalised and split; ``obsm`` has the guide counts."""
    adata = read_h5ad(shared_data / "papalexi2021" / "papalexi_299genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation", overwrite=True)
    label = adata.obs["perturbation"].to_numpy()
    kept = np.concatenate([np.flatnonzero(label == name)[:n_cells] for name, n_cells in FEW.items()])
    spm.pp.normalize(adata)
    targets = adata.var_names.isin(list(FEW))
    genes = np.union1d(np.flatnonzero(targets), np.argsort(-np.asarray(adata.X.mean(axis=0)).ravel())[:N_GENES])
    adata = adata[np.sort(kept), genes].copy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*regime", category=ScreenWarning)
        spm.pp.split(adata, "unseen_single", seed=0)
    return adata


@pytest.fixture
def make_mudata(rna):
    """RNA and guide counts; columns at the top, in the RNA modality, or in both; cells of both in any order."""

    def made(columns="top", *, reverse_rna=False, without_guides=0, without_rna=0):
        bare = rna.obs[[]]
        expression = AnnData(rna.X.copy(), obs=bare if columns == "top" else rna.obs.copy(), var=rna.var.copy())
        expression.layers["counts"] = rna.layers["counts"].copy()
        counts = rna.obsm["grna_counts"].astype(np.float32)
        guides = AnnData(counts, obs=bare, var=pd.DataFrame(index=rna.uns["grna_names"]))
        expression = expression[:: -1 if reverse_rna else 1][without_rna:].copy()
        with mudata.set_options(pull_on_update=False):
            mdata = mudata.MuData({"guides": guides[without_guides:].copy(), "rna": expression})
        if columns != "rna":
            mdata.obs[["perturbation", "split"]] = rna.obs[["perturbation", "split"]]
        return mdata

    return made


def trained(name, data):
    model_class, settings = MODELS[name]
    (model_class.setup_mudata if isinstance(data, mudata.MuData) else model_class.setup_anndata)(data)
    model = model_class(data, **settings)
    model.train(2, accelerator="cpu")
    return model


@pytest.fixture(scope="module")
def on_rna(rna):
    """Prediction and predicted cells of each model on the RNA alone, by the order of the cells."""
    found = {}

    def made(name, reverse):
        if (name, reverse) not in found:
            model = trained(name, rna[:: -1 if reverse else 1].copy())
            found[name, reverse] = model.predict(ASKED), model.predict_cells(ASKED, n_cells=4)
        return found[name, reverse]

    return made


def assert_same(model, expected):
    prediction, cells = expected
    pd.testing.assert_frame_equal(model.predict(ASKED).obs, prediction.obs)
    np.testing.assert_array_equal(model.predict(ASKED).layers["delta"], prediction.layers["delta"])
    moved = model.predict_cells(ASKED, n_cells=4)
    pd.testing.assert_frame_equal(moved.obs, cells.obs)
    np.testing.assert_array_equal(moved.X, cells.X)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("columns", "reverse_rna"), [("top", False), ("rna", False), ("top", True), ("rna", True)])
def test_same_as_on_the_rna(make_mudata, on_rna, tmp_path, name, columns, reverse_rna):
    mdata = make_mudata(columns, reverse_rna=reverse_rna)
    model = trained(name, mdata)
    assert_same(model, on_rna(name, reverse_rna))
    assert "prediction" in mdata.uns[keys.ROOT][model.key]
    model.save(tmp_path / "model")
    if reverse_rna:
        return
    fresh = make_mudata(columns)
    loaded = spm.load(tmp_path / "model", fresh)
    assert type(loaded) is type(model)
    assert_same(loaded, on_rna(name, reverse_rna))
    assert "prediction" in fresh.uns[keys.ROOT][model.key]


def test_a_written_mudata_needs_no_second_setup(make_mudata, on_rna, tmp_path):
    mdata = make_mudata()
    spm.APP.setup_mudata(mdata)
    mdata.write(tmp_path / "screen.h5mu")
    with mudata.set_options(pull_on_update=False):
        read = mudata.read_h5mu(tmp_path / "screen.h5mu")
    model = spm.APP(read, **MODELS["APP"][1])
    model.train(2, accelerator="cpu")
    assert_same(model, on_rna("APP", False))


def test_columns_that_mudata_pulls_up_are_found_in_the_modality(make_mudata, on_rna):
    mdata = make_mudata("rna")
    mdata.pull_obs()
    assert "rna:perturbation" in mdata.obs and "perturbation" not in mdata.obs
    assert_same(trained("APP", mdata), on_rna("APP", False))


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            {"without_guides": 7},
            r"7 in 'guides' \('cell_\d+'.*mdata = mdata\[\(mdata\.obsmap\['guides'\] > 0\)\]\.copy",
        ),
        ({"without_rna": 3}, r"3 in 'rna' \('cell_\d+'.*mdata = mdata\[\(mdata\.obsmap\['rna'\] > 0\)\]\.copy"),
        (
            {"without_guides": 2, "without_rna": 3, "reverse_rna": True},
            r"2 in 'guides'.*; 3 in 'rna'.*\(mdata\.obsmap\['guides'\] > 0\) & \(mdata\.obsmap\['rna'\] > 0\)",
        ),
    ],
)
def test_cells_missing_in_a_modality(make_mudata, rna, missing, message):
    mdata = make_mudata(**missing)
    with pytest.raises(DataError, match=message):
        spm.APP.setup_mudata(mdata)
    assert keys.ROOT not in mdata.uns
    # what the message says
    with mudata.set_options(pull_on_update=False):
        mdata = mdata[(mdata.obsmap["guides"] > 0) & (mdata.obsmap["rna"] > 0)].copy()
    assert mdata.n_obs == rna.n_obs - missing.get("without_guides", 0) - missing.get("without_rna", 0)
    spm.APP.setup_mudata(mdata)


def test_columns_that_contradict_each_other(make_mudata):
    mdata = make_mudata("both")
    spm.APP.setup_mudata(mdata)  # the same twice is no contradiction
    mdata["rna"].obs["split"] = mdata["rna"].obs["split"].astype(str).replace("val", "train")
    n_changed = (mdata.obs["split"] == "val").sum()
    message = rf"mdata\.obs\['split'\].*differ in {n_changed} cells \('cell_.*del mdata\.obs\['split'\]"
    for act in (spm.APP.setup_mudata, spm.APP):
        with pytest.raises(DataError, match=message):
            act(mdata)
    del mdata.obs["split"]
    spm.APP.setup_mudata(mdata)


def test_names_that_do_not_exist(make_mudata):
    mdata = make_mudata("rna")
    with pytest.raises(MissingKeyError, match=r"mdata\.mod\['gex'\] does not exist; mdata\.mod has 'guides', 'rna'"):
        spm.APP.setup_mudata(mdata, rna_modality="gex")
    with pytest.raises(MissingKeyError, match=r"obs\['guide'\] does not exist; obs has 'perturbation', 'gRNA'"):
        spm.APP.setup_mudata(mdata, perturbation_key="guide")
    mdata["rna"].layers["logged"] = mdata["rna"].X
    with pytest.raises(MissingKeyError, match=r"layers\['log'\] does not exist; layers has 'counts', 'logged'"):
        spm.APP.setup_mudata(mdata, layer="log")


def test_a_saved_model_tells_which_kind_of_object_it_needs(make_mudata, rna, tmp_path):
    mdata = make_mudata()
    trained("APP", mdata).save(tmp_path / "of_mudata")
    trained("APP", rna.copy()).save(tmp_path / "of_adata")
    with pytest.raises(TypeError, match="was given AnnData.*set up on a MuData with the modality 'rna'"):
        spm.load(tmp_path / "of_mudata", rna.copy())
    with pytest.raises(TypeError, match=r"was given MuData.*set up on an AnnData, such as mdata\['rna'\]"):
        spm.load(tmp_path / "of_adata", mdata)
    with mudata.set_options(pull_on_update=False):
        renamed = mudata.MuData({"gex": mdata["rna"], "guides": mdata["guides"]})
    with pytest.raises(MissingKeyError, match=r"mdata\.mod\['rna'\] does not exist; mdata\.mod has 'gex'"):
        spm.load(tmp_path / "of_mudata", renamed)
