"""Labels and guards on published screens: each file has a trap of its own."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp import check_screen, standardize_perturbations

FILES = {
    "norman": "norman_mcfaline_devel/devel_with_counts.h5ad",
    "papalexi": "papalexi2021/papalexi_299genes.h5ad",
    "schraivogel": "schraivogel2020_tapseq_k562/schraivogel2020_tapseq_k562.h5ad",
    "kang": "kang2018/kang_celltypes_1267genes.h5ad",
    "datlinger": "datlinger2021/datlinger_2000genes.h5ad",
    "kemmeren": "kemmeren2014_1484del_194genes/kemmeren2014_1484del_194genes.h5ad",
}


@pytest.fixture
def read(shared_data):
    return lambda name: anndata.read_h5ad(shared_data / FILES[name])


def logged(adata):
    """log1p CP10k of the genes that are there; cells without a count are left out."""
    adata = adata[np.asarray(adata.X.sum(1)).ravel() > 0].copy()
    adata.X = adata.X.multiply(1e4 / adata.X.sum(1)).log1p().tocsr().astype(np.float32)
    return adata


def levels(adata, **keys):
    return check_screen(adata, ScreenKeys(**keys)).set_index("check")["level"]


def message(adata, check, **keys):
    return check_screen(adata, ScreenKeys(**keys)).set_index("check").loc[check, "message"]


def test_norman_pairs_out_of_order(read):
    adata = read("norman")
    assert "'SET+KLF1'" in message(adata, "canonical_labels")
    report = standardize_perturbations(adata, "perturbation").set_index("original")
    assert report.index[report["action"] == "sorted"].tolist() == ["SAMD1+PTPN12", "SET+KLF1", "ZBTB10+PTPN12"]
    assert (adata.obs["perturbation"] == "KLF1+SET").sum() == 100
    assert (adata.obs["perturbation"] == "control").equals(adata.obs["is_control"])
    assert "error" not in levels(adata, cell_type_key="cell_type").to_numpy()


def test_norman_joined_by_underscores(read):
    """The form of the study's own tables; only singles that are there show that "_" joins."""
    adata = read("norman")
    adata.obs["joined"] = adata.obs["perturbation"].astype(str).str.replace("+", "_")
    with pytest.raises(DataError, match=r"in 5 labels \('KLF1_MAP2K6', .*pass sep='_'"):
        standardize_perturbations(adata, "joined", overwrite=True)
    standardize_perturbations(adata, "joined", sep="_", overwrite=True)
    assert (adata.obs["perturbation"] == "PTPN12+ZBTB10").sum() == 100


def test_papalexi_guides_and_non_targeting(read):
    adata = read("papalexi")
    errors = levels(adata)
    assert errors[errors == "error"].index.tolist() == ["control_label", "raw_counts"]
    assert "Did you mean 'non-targeting' (2386 cells)?" in message(adata, "control_label")
    guides = dict(zip(adata.uns["grna_names"], adata.uns["grna_target"], strict=True))
    with pytest.raises(DataError, match="most frequent labels are 'IFNGR2g1'"):
        standardize_perturbations(adata, "gRNA", overwrite=True)
    standardize_perturbations(adata, "perturbation")
    by_target = adata.obs["perturbation"].astype(str)
    standardize_perturbations(adata, "gRNA", guide_to_target=guides, overwrite=True)
    assert (adata.obs["perturbation"].astype(str) == by_target).all()
    adata = logged(adata)
    assert message(adata, "target_change") == "Of 9 conditions whose target is measured, 9 lower it and 0 raise it."
    assert levels(adata)["replicates"] == "note"
    assert levels(adata, batch_key="replicate")["batch_controls"] == "ok"


def test_schraivogel_underscores_and_strands(read):
    adata = read("schraivogel")
    report = standardize_perturbations(adata, "perturbation")
    assert set(report["action"]) == {"kept"}
    by_target = adata.obs["perturbation"].astype(str)
    with pytest.raises(DataError, match="hold '\\+' beside '_' or '-', as guide names with a strand do"):
        standardize_perturbations(adata, "guides", overwrite=True)
    standardize_perturbations(adata, "guides", guide_to_target=dict(adata.uns["guide_target"]), overwrite=True)
    assert (adata.obs["perturbation"].astype(str) == by_target).all()
    assert "error" not in levels(logged(adata)).to_numpy()


def test_kang_control_is_ctrl(read):
    adata = read("kang")
    with pytest.raises(DataError, match=r"Did you mean 'ctrl' \(750 cells\)\?"):
        standardize_perturbations(adata, "condition", control="control")
    standardize_perturbations(adata, "condition")
    assert adata.obs["perturbation"].value_counts().to_dict() == {"stim": 806, "control": 750}
    assert "donor" in message(logged(adata), "replicates", cell_type_key="cell_type")


def test_datlinger_wells_are_no_batches(read):
    adata = logged(read("datlinger"))
    assert set(standardize_perturbations(adata, "perturbation")["action"]) == {"kept"}
    assert levels(adata)["replicates"] == "ok"
    assert levels(adata, batch_key="well")["batch_controls"] == "warning"
    assert "60 in unstimulated" in message(adata, "few_controls", cell_type_key="stimulation")


def test_kemmeren_is_bulk_without_controls(read):
    errors = levels(read("kemmeren"))
    assert errors[errors == "error"].index.tolist() == ["missing_labels", "control_label", "negative"]
