"""setup_anndata and setup_mudata: what scvi-tools trips over, and what is recorded."""

from __future__ import annotations

import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.baselines import MeanShift
from scperturb_modules.models._setup import require_genes, screen_of

ASKED = ["G07", "G01+G06", "G00"]
FORMATS = {
    "csr_array": sparse.csr_array,
    "csc_matrix": sparse.csc_matrix,
    "dense": lambda matrix: matrix.toarray(),
    "fortran": lambda matrix: np.asfortranarray(matrix.toarray()),
}


def delta_of(model):
    return model.predict(ASKED, store=False).layers["delta"]


def as_mudata(adata, *, columns_in_rna=()):
    """The screen as a MuData with a second modality, columns at the top or in the modality."""
    rna = AnnData(adata.X, obs=adata.obs[list(columns_in_rna)], var=adata.var)
    protein = AnnData(np.ones((adata.n_obs, 2), np.float32), obs=pd.DataFrame(index=adata.obs_names))
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": rna, "protein": protein})
    for column in adata.obs.columns.difference(list(columns_in_rna)):
        mdata.obs[column] = adata.obs[column]
    return mdata


def test_setup_is_recorded_for_scvi_and_in_uns(screen, toy_class):
    assert screen.uns[keys.ROOT]["setup"] == keys.ScreenKeys().to_uns()
    assert {"_scvi_perturbation", "_scvi_batch", "_scvi_labels"} <= set(screen.obs)
    stats = toy_class(screen).summary_stats
    assert (stats.n_vars, stats.n_cells, stats.n_perturbation) == (12, screen.n_obs, 13)


def test_columns_under_other_names(screen, toy_class, fit):
    expected = delta_of(fit(screen))
    other = screen.copy()
    del other.uns[keys.ROOT]
    other.obs = other.obs.rename(columns={"perturbation": "guide", "split": "part"})
    other.obs["guide"] = other.obs["guide"].replace("control", "NT")
    other.layers["log"], other.X = other.X, None
    toy_class.setup_anndata(other, perturbation_key="guide", control="NT", split_key="part", layer="log")
    np.testing.assert_array_equal(delta_of(fit(other)), expected)


def test_a_setup_by_a_baseline_will_do(make_screen, toy_class, screen, fit):
    other = make_screen()
    MeanShift.setup_anndata(other)
    np.testing.assert_array_equal(delta_of(fit(other)), delta_of(fit(screen)))


@pytest.mark.parametrize("form", FORMATS)
def test_every_matrix_format_works_and_stays(screen, make_screen, toy_class, fit, form):
    expected = delta_of(fit(screen))
    other = make_screen()
    other.X = FORMATS[form](other.X)
    toy_class.setup_anndata(other)
    model = fit(other)
    np.testing.assert_allclose(delta_of(model), expected, atol=1e-6)
    assert isinstance(other.X, type(FORMATS[form](screen.X)))
    assert model.predict_cells(["G07"], n_cells=3).n_obs == 3


def test_unused_categories_are_no_conditions(make_screen, toy_class):
    adata = make_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype("category").cat.add_categories(["G99"])
    toy_class.setup_anndata(adata)
    assert toy_class(adata).summary_stats.n_perturbation == 13


def test_what_cannot_be_set_up(make_screen, toy_class):
    adata = make_screen()
    with pytest.raises(DataError, match="view of another one"):
        toy_class.setup_anndata(adata[:50])
    with pytest.raises(MissingKeyError, match=r"obs\['condition'\] does not exist"):
        toy_class.setup_anndata(adata, perturbation_key="condition")
    with pytest.raises(MissingKeyError, match=r"layers\['log'\] does not exist"):
        toy_class.setup_anndata(adata, layer="log")
    with pytest.raises(TypeError, match=r"control=.* cannot be kept with a saved model"):
        toy_class.setup_anndata(adata, control=object())
    with pytest.raises(TypeError, match="setup_mudata was given AnnData; call setup_anndata"):
        toy_class.setup_mudata(adata)
    adata.obs["batch"] = [np.nan, np.nan, *["b1"] * (adata.n_obs - 2)]
    with pytest.raises(DataError, match=r"obs\['batch'\] is missing in 2 cells"):
        toy_class.setup_anndata(adata, batch_key="batch")
    assert keys.ROOT not in adata.uns, "nothing is recorded of what was refused"
    adata.X = None
    with pytest.raises(DataError, match="empty"):
        toy_class.setup_anndata(adata)


def test_conditions_of_two_cells_are_set_up_in_silence(make_screen, toy_class):
    adata = make_screen()
    kept = np.ones(adata.n_obs, bool)
    kept[np.flatnonzero(adata.obs["perturbation"] == "G00")[2:]] = False
    toy_class.setup_anndata(adata[kept].copy())


@pytest.mark.parametrize("in_rna", [(), ("perturbation",), ("perturbation", "split")])
def test_mudata(screen, make_screen, toy_class, fit, in_rna):
    mdata = as_mudata(make_screen(), columns_in_rna=in_rna)
    toy_class.setup_mudata(mdata)
    model = fit(mdata)
    assert model.registry["setup_method_name"] == "setup_mudata"
    np.testing.assert_array_equal(delta_of(model), delta_of(fit(screen)))
    model.predict()
    assert "prediction" in mdata.uns[keys.ROOT]["toy"]
    cells = model.predict_cells(["G07"], n_cells=4)
    assert set(cells.obs["control_cell"]) <= set(screen.obs_names)
    toy_class(mdata)  # a second model of one setup


def test_counts_of_a_modality_come_along(make_screen, toy_class):
    mdata = as_mudata(make_screen())
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata["rna"].layers["other"] = mdata["rna"].X.copy()
    toy_class.setup_mudata(mdata)
    assert set(screen_of(mdata).layers) == {"counts"}


def test_cells_of_a_modality_may_be_in_another_order(screen, make_screen, toy_class, fit):
    adata = make_screen()
    rna = AnnData(adata.X[::-1], obs=adata.obs[[]].iloc[::-1], var=adata.var)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"protein": AnnData(np.ones((adata.n_obs, 2)), obs=adata.obs[[]]), "rna": rna})
    assert mdata.obs_names.equals(adata.obs_names) and not mdata["rna"].obs_names.equals(adata.obs_names)
    mdata.obs[["perturbation", "split"]] = adata.obs[["perturbation", "split"]]
    toy_class.setup_mudata(mdata)
    np.testing.assert_allclose(delta_of(fit(mdata)), delta_of(fit(screen)), atol=1e-6)


def test_mudata_under_other_names(make_screen, toy_class):
    mdata = as_mudata(make_screen())
    with pytest.raises(MissingKeyError, match=r"mdata.mod\['gex'\] does not exist"):
        toy_class.setup_mudata(mdata, rna_modality="gex")
    with pytest.raises(MissingKeyError, match=r"obs\['guide'\] does not exist.*Name the right column in setup_mudata"):
        toy_class.setup_mudata(mdata, perturbation_key="guide")
    with pytest.raises(TypeError, match="setup_anndata was given MuData; call setup_mudata"):
        toy_class.setup_anndata(mdata)
    with pytest.raises(MissingKeyError, match="call setup_anndata"):
        toy_class(mdata)


def test_genes_are_compared_one_by_one(caplog):
    expected = pd.Index(["A", "B", "C"])
    assert require_genes(pd.Index(["A", "B", "C"]), expected, "Toy") is None
    with caplog.at_level(logging.INFO):
        assert require_genes(pd.Index(["C", "A", "B"]), expected, "Toy").tolist() == [1, 2, 0]
    assert "another order than in Toy (the first: 'C', there 'A')" in caplog.text
    for found, message in (
        (["A", "B", "D"], r"1 are missing \('C'\), 1 are foreign \('D'\)"),
        (["A", "B"], r"1 are missing \('C'\), 0 are foreign \(none\)"),
        (["A", "B", "C", "C"], "0 are missing"),
    ):
        with pytest.raises(DataError, match=message):
            require_genes(pd.Index(found), expected, "Toy")


def test_a_backed_screen(make_screen, screen, toy_class, fit, tmp_path):
    make_screen().write_h5ad(tmp_path / "screen.h5ad")
    backed = read_h5ad(tmp_path / "screen.h5ad", backed="r")
    toy_class.setup_anndata(backed)
    model = fit(backed)
    np.testing.assert_array_equal(delta_of(model), delta_of(fit(screen)))
    assert model.predict_cells(["G07"], n_cells=3).n_obs == 3
