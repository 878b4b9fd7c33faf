from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError, MissingKeyError, ScreenWarning
from scperturb_modules.pp import standardize_perturbations
from scperturb_modules.pp._label_grammar import control_suggestion, is_control_name, separators_found
from scperturb_modules.pp._labels import read_labels


def labelled(labels, *, genes=("KLF1", "BAK1"), key="guide"):
    obs = pd.DataFrame({key: labels}, index=[f"c{i}" for i in range(len(labels))])
    adata = anndata.AnnData(np.ones((len(labels), len(genes)), dtype=np.float32), obs=obs)
    adata.var_names = list(genes)
    return adata


def canonical(labels, **rules):
    report = read_labels(dict.fromkeys(labels, 1), **rules)
    return dict(zip(report["original"], report["canonical"], strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "ctrl",
        "control",
        "Controls",
        "NT",
        "nt",
        "NTC",
        "non-targeting",
        "nontargeting",
        "Non_Targeting",
        "safe-targeting",
    ]
    + ["safe_harbour", "AAVS1", "neg", "negctrl", "NegCtrl0", "negative", "unperturbed", "vehicle", "DMSO", "scramble"]
    + ["scrambled", "intergenic", "non-targeting_00017", "ctrl+ctrl", "NegCtrl0_NegCtrl11", "non_targeting_control"]
    + ["NT|AAVS1"]
    + ["negative control", "safe harbour", "Safe Harbor", "non targeting"],
)
def test_names_in_use_are_controls(name):
    assert is_control_name(name)
    assert canonical([name, "KLF1"]) == {name: "control", "KLF1": "KLF1"}


@pytest.mark.parametrize("name", ["NTC20", "KLF1", "NTS", "CTRLX", "wt", "NT5E", "NEGR1", "A_ctrl", "", "1"])
def test_other_names_are_not_controls(name):
    assert not is_control_name(name)


def test_gene_joins_in_the_style_of_gears():
    read = canonical(["ctrl", "A+ctrl", "ctrl+B", "B+A", "A+A", "C+control", "ctrl+ctrl", " B + C "])
    assert read == {
        "ctrl": "control",
        "ctrl+ctrl": "control",
        "A+ctrl": "A",
        "ctrl+B": "B",
        "B+A": "A+B",
        "A+A": "A",
        "C+control": "C",
        " B + C ": "B+C",
    }


def test_names_with_hyphens_and_underscores_stay_whole():
    names = ["control", "HLA-A", "NKX2-1", "MYC_enh", "GATA1_enh", "MYC", "HLA", "A", "MYC_enh+HLA-A"]
    assert canonical(names, genes=["MYC", "GATA1", "HLA-A"]) == {
        **{n: n for n in names},
        "MYC_enh+HLA-A": "HLA-A+MYC_enh",
    }


def test_sep_splits_and_takes_control_names_out():
    read = canonical(["NT", "B_A", "A_NT", "C_non_targeting", "neg_ctrl_A", "A", "D+C_B"], sep="_")
    assert read == {
        "NT": "control",
        "B_A": "A+B",
        "A_NT": "A",
        "C_non_targeting": "C",
        "neg_ctrl_A": "A",
        "A": "A",
        "D+C_B": "B+C+D",
    }
    assert canonical(["NT", "B__A_x"], sep="__") == {"NT": "control", "B__A_x": "A_x+B"}


@pytest.mark.parametrize("separator", ["_", ",", ";", "|", "&"])
def test_unseen_separator_between_targets_is_named(separator):
    labels = ["ctrl", "A", "B", f"A{separator}B", f"B{separator} C"]
    with pytest.raises(DataError) as caught:
        read_labels(dict.fromkeys(labels, 3), genes=["C"])
    assert f"Found {separator!r} between names that are targets themselves in 2 labels" in str(caught.value)
    assert f"pass sep={separator!r}" in str(caught.value)
    assert canonical(labels, genes=["C"], sep=separator)[f"A{separator}B"] == "A+B"


def test_separator_is_seen_through_measured_genes_controls_and_triples():
    assert separators_found(["CEBPB_NegCtrl0"], {"CEBPB"}) == {"_": ["CEBPB_NegCtrl0"]}
    assert separators_found(["A;B;C"], {"A", "B", "C"}) == {";": ["A;B;C"]}
    assert separators_found(["MYC_enh_GATA1_enh"], {"MYC_enh", "GATA1_enh"}) == {"_": ["MYC_enh_GATA1_enh"]}
    assert separators_found(["A_enh", "A-B", "NegCtrl0_NegCtrl1", "A_"], {"A", "B"}) == {}
    with pytest.raises(DataError, match=r"it splits 'MYC_enh' too: rename first"):
        read_labels(dict.fromkeys(["ctrl", "A", "B", "A_B", "MYC_enh"], 3))


def test_sep_plus_turns_the_search_off():
    assert canonical(["ctrl", "A", "B", "A_B"], sep="+")["A_B"] == "A_B"


def test_bar_is_refused_unless_it_joins():
    with pytest.raises(DataError, match=r"1 labels of labels hold '\|', which separates condition and context: 'A\|x'"):
        read_labels({"ctrl": 3, "A|x": 3})


def test_strand_in_guide_names_is_not_a_join():
    guides = {"KLF1_+_12.3": "KLF1", "BAK1_+_7.1": "BAK1", "NT_1": "non-targeting"}
    labels = ["KLF1_+_12.3", "KLF1_+_12.3+BAK1_+_7.1", "BAK1_+_7.1+NT_1", "NT_1"]
    assert list(canonical(labels, guide_to_target=guides).values()) == ["BAK1", "KLF1", "BAK1+KLF1", "control"]
    with pytest.raises(DataError, match=r"3 labels of labels hold '\+' beside '_' or '-'.*guide_to_target="):
        canonical(labels, control="NT_1")


def test_guides_map_by_table_only():
    guides = {"A_sg1": "A", "A_sg2": "A", "B_sg1": "B", "dual": "B+A", "nt_3": "NT", "gap": None}
    labels = ["A_sg1", "A_sg2", "A_sg2+B_sg1", "A_sg1+A_sg2", "A_sg1+nt_3", "dual", "nt_3"]
    read = canonical(labels, guide_to_target=guides)
    assert [read[label] for label in labels] == ["A", "A", "A+B", "A", "A", "A+B", "control"]
    with pytest.raises(
        DataError, match=r"2 guides of labels have no target in guide_to_target \(4 cells\): 'C_sg1', 'gap'"
    ):
        read_labels({"nt_3": 9, "A_sg1": 5, "C_sg1+A_sg1": 3, "gap": 1}, guide_to_target=guides)
    assert canonical(["ctrl", "A_sg1", "A_sg2"])["A_sg1"] == "A_sg1"


def test_control_must_be_found():
    with pytest.raises(
        DataError, match=r"Control label 'ctrl' is not in labels. Did you mean 'non-targeting' \(40 cells\)\?"
    ):
        read_labels({"non-targeting": 40, "A": 60}, control="ctrl")
    with pytest.raises(DataError, match=r"Did you mean 'Kontrolle' \(2 cells\)\?"):
        read_labels({"Kontrolle": 2, "A": 60}, control="kontrole")
    with pytest.raises(
        DataError, match=r"No label .* most frequent labels are 'B' \(60 cells\) or 'A' \(9 cells\).*control="
    ):
        read_labels({"A": 9, "B": 60})
    with pytest.raises(DataError, match=r"Did you mean 'NT-1' \(9 cells\)\?"):
        read_labels({"NT-1": 9, "B": 60})


def test_control_argument_is_exact_and_may_be_several():
    assert canonical(["wt", "NT", "A", "wt+A"], control="wt") == {"wt": "control", "NT": "NT", "A": "A", "wt+A": "A"}
    assert canonical(["wt", "NT", "A"], control=["wt", "NT"]) == {"wt": "control", "NT": "control", "A": "A"}
    assert canonical(["wt", "control", "A"], control="wt")["control"] == "control"
    assert canonical(["wt", "A+control", "A"], control="wt")["A+control"] == "A"
    assert canonical(["", "A"], control="") == {"": "control", "A": "A"}


def test_doubtful_names_are_warned_of_and_kept():
    with pytest.warns(ScreenWarning, match=r"1 genes are written in more than one way and not merged: 'KLF1/klf1'"):
        assert canonical(["ctrl", "klf1", "KLF1"])["klf1"] == "klf1"
    with pytest.warns(ScreenWarning, match=r"1 names look like controls and are kept as perturbations.*'NT-1'"):
        assert canonical(["NT", "NT-1", "A"])["NT-1"] == "NT-1"
    with pytest.warns(ScreenWarning, match=r"sep=';' occurs in no label"):
        canonical(["ctrl", "A"], sep=";")


def test_a_control_that_the_argument_leaves_out_of_pairs_is_warned_of():
    with pytest.warns(ScreenWarning, match=r"1 names look like controls and are kept as perturbations.*'ctrl'\."):
        read = canonical(["ctrl_ctrl", "A_ctrl", "AAVS1"], sep="_", control="ctrl_ctrl")
    assert read == {"ctrl_ctrl": "control", "A_ctrl": "A+ctrl", "AAVS1": "AAVS1"}
    assert canonical(["ctrl_ctrl", "A_ctrl"], sep="_", control=["ctrl_ctrl", "ctrl"])["A_ctrl"] == "A"


def test_a_number_cut_off_a_name_is_warned_of():
    with pytest.warns(ScreenWarning, match=r"2 labels join a name and a number.*guide_to_target=.*'A_2', 'A_NT_7'\."):
        read = canonical(["NT", "A_2", "A_NT_7"], sep="_")
    assert read == {"NT": "control", "A_2": "2+A", "A_NT_7": "7+A"}
    assert canonical(["NT", "1_2", "1_NT", "A_B"], sep="_")["1_2"] == "1+2"  # all of them numbers


def test_a_measured_gene_that_reads_as_a_control_is_warned_of():
    with pytest.warns(ScreenWarning, match=r"1 labels are measured genes and read as controls.*control=.*'CTRL'\."):
        assert canonical(["NT", "CTRL"], genes=["CTRL", "A"]) == {"NT": "control", "CTRL": "control"}
    assert canonical(["NT", "CTRL"], genes=["CTRL", "A"], control="NT")["CTRL"] == "CTRL"


def test_report_and_columns():
    adata = labelled(["ctrl", "KLF1+BAK1", "BAK1+KLF1", "KLF1", "NegCtrl0", "ctrl"])
    report = standardize_perturbations(adata, "guide")
    assert report.to_dict("list") == {
        "original": ["BAK1+KLF1", "KLF1", "KLF1+BAK1", "NegCtrl0", "ctrl"],
        "canonical": ["BAK1+KLF1", "KLF1", "BAK1+KLF1", "control", "control"],
        "n_cells": [1, 1, 1, 1, 2],
        "action": ["kept", "kept", "sorted", "control", "control"],
    }
    assert list(adata.obs["perturbation"]) == ["control", "BAK1+KLF1", "BAK1+KLF1", "KLF1", "control", "control"]
    assert list(adata.obs["perturbation"].cat.categories) == ["BAK1+KLF1", "KLF1", "control"]
    assert list(adata.obs["perturbation_original"]) == list(adata.obs["guide"])
    assert adata.uns["scperturb_modules"]["labels"] is report


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_kinds_of_columns_and_unused_categories(kind):
    adata = labelled(["ctrl", "KLF1", "BAK1", "KLF1"])
    adata.obs["guide"] = adata.obs["guide"].astype(kind)
    adata = adata[:2].copy()
    if kind == "category":
        adata.obs["guide"] = adata.obs["guide"].cat.add_categories("gone")
    standardize_perturbations(adata, "guide")
    assert list(adata.obs["perturbation"].cat.categories) == ["KLF1", "control"]


def test_a_number_is_a_control_too():
    adata = labelled([0, 1, 2])
    for control in (0, np.int64(0), [0]):
        standardize_perturbations(adata, "guide", control=control, overwrite=True)
        assert list(adata.obs["perturbation"]) == ["control", "1", "2"]
    assert control_suggestion(0, {"0": 3, "A": 9}) == "Did you mean '0' (3 cells)?"


def test_numbers_are_labels_too():
    adata = labelled([0, 1, 2, 0])
    standardize_perturbations(adata, "guide", control="0")
    assert list(adata.obs["perturbation"]) == ["control", "1", "2", "control"]


@pytest.mark.parametrize("key", ["guide", "perturbation"])
def test_twice_is_once(key, fingerprint):
    adata = labelled(["none", "KLF1_BAK1", "BAK1", "KLF1"], key=key)
    standardize_perturbations(adata, key, sep="_", control="none")
    before = fingerprint(adata)
    standardize_perturbations(adata, key, sep="_", control="none")
    assert fingerprint(adata) == before
    standardize_perturbations(adata, "perturbation")
    assert fingerprint(adata) == before
    assert list(adata.obs["perturbation_original"]) == ["none", "KLF1_BAK1", "BAK1", "KLF1"]


def test_after_a_subset_counts_and_categories_are_those_of_the_cells_left():
    adata = labelled(["ctrl", "KLF1", "KLF1", "BAK1"], key="perturbation")
    standardize_perturbations(adata, "perturbation")
    adata = adata[:2].copy()
    report = standardize_perturbations(adata, "perturbation")
    assert report[["original", "n_cells"]].to_numpy().tolist() == [["KLF1", 1], ["ctrl", 1]]
    assert list(adata.obs["perturbation"].cat.categories) == ["KLF1", "control"]


def test_original_survives_when_uns_is_lost():
    adata = labelled(["ctrl", "KLF1+BAK1"], key="perturbation")
    standardize_perturbations(adata, "perturbation")
    adata.uns.clear()
    standardize_perturbations(adata, "perturbation")
    assert list(adata.obs["perturbation_original"]) == ["ctrl", "KLF1+BAK1"]


def test_existing_columns_are_not_overwritten_silently(fingerprint):
    adata = labelled(["ctrl", "KLF1"])
    adata.obs["perturbation"] = ["x", "y"]
    before = fingerprint(adata)
    with pytest.raises(DataError, match="obs\\['perturbation'\\] exists and holds other labels.*overwrite=True"):
        standardize_perturbations(adata, "guide")
    assert fingerprint(adata) == before
    standardize_perturbations(adata, "guide", overwrite=True)
    assert list(adata.obs["perturbation"]) == ["control", "KLF1"]
    adata.obs["perturbation"] = ["NT", "BAK1"]
    before = fingerprint(adata)
    with pytest.raises(DataError, match="was changed after an earlier call"):
        standardize_perturbations(adata, "perturbation")
    assert fingerprint(adata) == before


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["ctrl", None, "KLF1", None],
            r"2 of 4 cells have no label in obs\['guide'\]. Drop them: .*\.notna\(\)\]\.copy\(\)",
        ),
        (["ctrl", "nan", "KLF1", None], r"2 of 4 cells have no label in obs\['guide'\], 1 of them written as 'nan'"),
        (["ctrl", "+", "KLF1", "KLF1"], r"1 of 4 cells have no label"),
        (["ctrl", "KLF1", "BAK1", "KLF1_BAK1"], r"pass sep='_'"),
        (["x", "KLF1", "BAK1", "KLF1"], r"Pass the label of the control cells as control="),
    ],
)
def test_errors_leave_the_object_unchanged(labels, message, fingerprint):
    adata = labelled(labels)
    before = fingerprint(adata)
    with pytest.raises(DataError, match=message):
        standardize_perturbations(adata, "guide")
    assert fingerprint(adata) == before


def test_the_mend_of_missing_labels_works():
    adata = labelled(["ctrl", "nan", "KLF1", None])
    with pytest.raises(DataError) as caught:
        standardize_perturbations(adata, "guide")
    mend = str(caught.value).split("Drop them: ")[1].split(";")[0]
    names = {"adata": adata}
    exec(mend, names)
    standardize_perturbations(names["adata"], "guide")
    assert list(names["adata"].obs["perturbation"]) == ["control", "KLF1"]


def test_warnings_as_errors_leave_the_object_unchanged(fingerprint):
    adata = labelled(["ctrl", "klf1", "KLF1"])
    before = fingerprint(adata)
    with pytest.raises(ScreenWarning):  # the configuration turns warnings into errors
        standardize_perturbations(adata, "guide")
    assert fingerprint(adata) == before


def test_views_and_wrong_keys_are_refused(fingerprint):
    adata = labelled(["ctrl", "KLF1", "BAK1"])
    before = fingerprint(adata)
    with pytest.raises(DataError, match=r"Call adata = adata.copy\(\) before standardize_perturbations"):
        standardize_perturbations(adata[:2], "guide")
    with pytest.raises(MissingKeyError, match=r"obs\['gene'\] does not exist; obs has 'guide'"):
        standardize_perturbations(adata, "gene")
    assert fingerprint(adata) == before


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_written_and_read(form, tmp_path):
    adata = labelled(["ctrl", "KLF1/x+BAK1", "BAK1"])
    report = standardize_perturbations(adata, "guide")
    path = tmp_path / f"screen.{form}"
    getattr(adata, f"write_{form}")(path)
    read = getattr(anndata, f"read_{form}")(path)
    pd.testing.assert_frame_equal(
        read.uns["scperturb_modules"]["labels"],
        report,
        check_dtype=False,
        check_index_type=False,
        check_categorical=False,
    )
    again = standardize_perturbations(read, "perturbation")
    assert again["action"].tolist() == report["action"].tolist()
    assert list(read.obs["perturbation_original"]) == ["ctrl", "KLF1/x+BAK1", "BAK1"]
