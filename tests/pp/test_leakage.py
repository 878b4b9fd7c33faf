from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules import pp
from scperturb_modules._errors import DataError, LeakError, MissingKeyError
from scperturb_modules.pp._row_hash import hash_rows
from scperturb_modules.priors._coexpression import coexpression

CHECKS = ["cells", "counts", "conditions", "provenance", "gene_lists", "priors", "controls"]


@pytest.fixture
def clean():
    """Twelve singles in two contexts, split strictly; counts of 60 genes."""
    rng = np.random.default_rng(0)
    labels = ["control"] * 40 + [gene for gene in "ABCDEFGHIJKL" for _ in range(4)]
    obs = pd.DataFrame({"perturbation": labels * 2, "cell_type": np.repeat(["x", "y"], len(labels))})
    obs.index = [f"cell{i}" for i in range(len(obs))]
    counts = sparse.csr_matrix(rng.poisson(2, (len(obs), 60)).astype(np.int32))
    adata = ad.AnnData(counts.astype(np.float32), obs=obs)
    adata.layers["counts"] = counts
    pp.split(adata, "unseen_single", cell_type_key="cell_type")
    return adata


def check(adata, **kwargs):
    return pp.check_leakage(adata, cell_type_key="cell_type", **kwargs)


def results(adata, **kwargs):
    return check(adata, **kwargs).set_index("check")["result"].to_dict()


def position(adata, part, *, control):
    is_control = adata.obs["perturbation"] == "control"
    return np.flatnonzero((adata.obs["split"] == part) & (is_control == control))[0]


def append_copy(adata, source, **changes):
    """The screen with one more cell: the counts of ``source`` and its obs, with changes."""
    row = adata.obs.iloc[[source]].astype(str).assign(**changes)
    row.index = ["a new name"]
    obs = pd.concat([adata.obs.astype(str), row])
    keep = [*range(adata.n_obs), source]
    return ad.AnnData(adata.X[keep], obs=obs, layers={"counts": adata.layers["counts"][keep]})


def test_clean_data_pass(clean):
    report = check(clean)
    assert list(report.columns) == ["check", "result", "n", "message", "mend"]
    assert list(report["check"]) == CHECKS
    assert set(report["result"]) == {"pass"}
    pp.raise_on_leak(report)


def test_nothing_is_changed(clean, fingerprint):
    before = fingerprint(clean)
    check(clean)
    assert fingerprint(clean) == before


def test_a_cell_name_in_two_parts(clean):
    names = list(clean.obs_names)
    train, test = position(clean, "train", control=False), position(clean, "test", control=False)
    names[test] = names[train]
    clean.obs.index = names
    found = results(clean)
    assert {name for name, result in found.items() if result == "fail"} == {"cells"}
    clean.obs["split"] = "train"  # the same name twice in one part is no leak
    assert results(clean)["cells"] == "pass"


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_copied_cell_in_another_part(clean, part):
    target = position(clean, part, control=False)
    where = {key: str(clean.obs[key].iloc[target]) for key in ("perturbation", "cell_type", "split")}
    leaky = append_copy(clean, position(clean, "train", control=False), **where)
    report = check(leaky).set_index("check")
    assert report.loc["counts", "result"] == "fail"
    assert report.loc["counts", "n"] == 2
    assert "'a new name'" in report.loc["counts", "message"]
    same_part = append_copy(clean, target)
    assert results(same_part)["counts"] == "pass"


def test_equal_cells_with_few_genes_are_no_copies(clean):
    train, test = position(clean, "train", control=False), position(clean, "test", control=False)
    for n_detected, expected in ((19, "unverified"), (20, "fail")):
        counts = np.zeros((clean.n_obs, 60), np.int32)
        counts[:, :n_detected] = 1 + np.random.default_rng(0).poisson(9, (clean.n_obs, n_detected))
        counts[test] = counts[train]
        clean.layers["counts"] = sparse.csr_matrix(counts)
        assert results(clean)["counts"] == expected


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, np.asarray], ids=["csr", "csc", "dense"])
def test_copies_are_found_in_x_of_any_form(clean, form):
    leaky = append_copy(clean, position(clean, "train", control=False), perturbation="B", split="val")
    values = leaky.X.toarray()
    leaky = ad.AnnData(form(values), obs=leaky.obs)
    assert results(leaky)["counts"] == "fail"


def test_hashes_ignore_stored_zeros_and_order_and_see_every_value():
    dense = np.random.default_rng(0).poisson(1, (50, 40)).astype(float)
    expected, n_nonzero = hash_rows(dense)
    assert list(n_nonzero) == list((dense > 0).sum(1))
    stored = sparse.csr_array(dense)
    with_zeros = sparse.csr_array(
        (np.append(stored.data, 0.0), np.append(stored.indices, 39), np.append(stored.indptr[:-1], stored.nnz + 1)),
        shape=dense.shape,
    )
    backwards = sparse.csr_array(
        (stored.data[::-1], stored.indices[::-1], stored.nnz - stored.indptr[::-1]), shape=dense.shape
    )
    np.testing.assert_array_equal(hash_rows(with_zeros)[0], expected)
    np.testing.assert_array_equal(hash_rows(backwards)[0], expected[::-1])
    assert len(np.unique(expected)) == 50
    # permuted genes, swapped values and one more count are other cells
    row = np.arange(1.0, 41)
    others = np.stack([row, row[::-1], np.where(row == 40, 41, row), np.roll(row, 1), -row])
    assert len(np.unique(hash_rows(others)[0])) == 5


@pytest.mark.parametrize(("train", "test"), [("A+B", "B+A"), ("A", "A+ctrl"), ("A", "a"), ("A", "A"), ("A", " A")])
def test_one_condition_under_two_names(clean, train, test):
    """Both names in one context and two parts are a leak; in two contexts they are not."""
    labels = clean.obs["perturbation"].astype(str).to_numpy(dtype=object)
    parts = clean.obs["split"].astype(str).to_numpy(dtype=object)
    in_x = np.flatnonzero((labels == "A") & (clean.obs["cell_type"] == "x"))
    in_y = np.flatnonzero((labels == "A") & (clean.obs["cell_type"] == "y"))
    labels[in_x] = train
    labels[in_y], parts[in_x], parts[in_y] = test, "train", "test"
    clean.obs["perturbation"], clean.obs["split"] = labels, parts
    assert results(clean)["conditions"] == "pass"
    labels[in_x[2:]], parts[in_x[2:]] = test, "test"
    clean.obs["perturbation"], clean.obs["split"] = labels, parts
    report = check(clean).set_index("check")
    assert report.loc["conditions", "result"] == "fail"
    assert report.loc["conditions", "n"] == 1
    assert repr(" = ".join(sorted({train, test}))) in report.loc["conditions", "message"]


def test_variable_genes_chosen_before_the_split(clean):
    settings = {"cell_type_key": "cell_type"}
    pp.normalize(clean, n_top_genes=10, **settings)
    assert results(clean)["provenance"] == "pass"
    pp.split(clean, "unseen_single", fold=1, overwrite=True, **settings)
    report = check(clean).set_index("check")
    assert report.loc["provenance", "result"] == "fail"
    assert "derived from test conditions" in report.loc["provenance", "message"]
    pp.normalize(clean, n_top_genes=10, **settings)
    assert results(clean)["provenance"] == "pass"


@pytest.mark.parametrize("key", [None, "cell_type"])
def test_a_record_and_a_check_with_different_contexts(clean, key):
    pp.normalize(clean, n_top_genes=10, cell_type_key=key)
    pp.split(clean, "unseen_single", fold=1, overwrite=True, cell_type_key="cell_type")
    other = "cell_type" if key is None else None
    report = pp.check_leakage(clean, cell_type_key=other).set_index("check")
    assert report.loc["provenance", "result"] == "fail"


def test_a_record_with_evaluation_controls_or_other_cells(clean):
    training = clean.obs[clean.obs["split"] != "test"]
    rows = sorted(
        {f"{row.perturbation}|{row.cell_type}" for row in training.itertuples() if row.perturbation != "control"}
    )
    record = {"conditions": np.array(rows), "n_evaluation_controls": 3, "n_cells": 9, "cells_sha256": "0"}
    clean.uns["scperturb_modules"]["provenance"] = {"pca": record}
    assert results(clean)["provenance"] == "fail"
    record["n_evaluation_controls"] = 0
    assert results(clean)["provenance"] == "unverified"


@pytest.mark.parametrize("place", ["var", "obsm", "uns", "obs"])
def test_derived_things_without_a_record_are_unverified(clean, place):
    if place == "var":
        clean.var["highly_variable"] = True
    elif place == "obsm":
        clean.obsm["X_pca"] = np.zeros((clean.n_obs, 2))
    elif place == "uns":
        clean.uns["neighbors"] = {}
    else:
        clean.obs["leiden"] = "0"
    found = results(clean)
    assert found.pop("provenance") == "unverified"
    assert set(found.values()) == {"pass"}
    pp.raise_on_leak(check(clean))


def test_stored_gene_lists_are_noted(clean):
    clean.uns["rank_genes_groups_cov_all"] = {}
    clean.uns["top_non_zero_de_20"] = {}
    report = check(clean).set_index("check")
    assert tuple(report.loc["gene_lists", ["result", "n"]]) == ("note", 2)
    assert "'top_non_zero_de_20'" in report.loc["gene_lists", "message"]


class Embedding:
    derived_from = "same_screen"
    name = "co-expression"


def test_priors_say_what_they_were_made_from(clean):
    def table(origin=None):
        frame = pd.DataFrame({"derived_from": [1.0], "name": [2.0]}, index=["A"])
        if origin:
            frame.attrs["derived_from"] = origin
        return frame

    priors = {"a": table("same_screen"), "b": table("same_line_other_screen"), "c": table("annotation"), "d": table()}
    report = check(clean, priors=priors)
    report = report[report["check"] == "priors"]
    assert list(report["result"]) == ["fail", "note", "pass", "note"]
    assert [message[0] for message in report["message"]] == list("abcd")
    assert results(clean, priors=table("annotation"))["priors"] == "pass"
    report = check(clean, priors=[Embedding(), table("annotation")])
    assert list(report.loc[report["check"] == "priors", "message"].str.split(" was").str[0]) == [
        "co-expression",
        "prior 2",
    ]
    with pytest.raises(LeakError, match=r"1 leaks.*\npriors: co-expression was made from this screen. Leave it out"):
        pp.raise_on_leak(report)


def judged(adata, prior, **kwargs):
    report = check(adata, priors=prior, **kwargs).set_index("check")
    return tuple(report.loc["priors", ["result", "message"]])


@pytest.mark.parametrize("key", [None, "cell_type"])
def test_a_prior_from_training_cells_belongs_to_its_split(clean, key):
    graph = coexpression(clean, threshold=0.1, cell_type_key=key)
    assert judged(clean, graph)[0] == "pass"
    assert judged(clean, graph.to_table())[0] == "pass"
    assert judged(clean, coexpression(clean, max_cells=20))[0] == "pass"
    pp.split(clean, "unseen_single", fold=1, overwrite=True, cell_type_key="cell_type")
    result, message = judged(clean, graph)
    assert (result, "coexpression was derived from test conditions" in message) == ("fail", True)
    assert judged(clean, graph.to_table())[0] == "fail"
    assert judged(clean, coexpression(clean, threshold=0.1, cell_type_key=key))[0] == "pass"


def test_a_prior_from_other_cells_than_those_of_the_training_side(clean):
    graph = coexpression(clean, threshold=0.1)
    train = position(clean, "train", control=False)
    fewer = clean[np.arange(clean.n_obs) != train].copy()
    assert judged(fewer, graph)[0] == "unverified"
    graph.attrs["derived_from"] = "same_line_other_screen"
    assert judged(clean, graph)[0] == "note"


def test_a_prior_from_all_cells_is_a_leak(clean):
    graph = coexpression(clean, threshold=0.1, cells="all")
    assert judged(clean, graph)[0] == "fail"
    del clean.obs["split"]
    graph = coexpression(clean, threshold=0.1, cells="all")
    pp.split(clean, "unseen_single", cell_type_key="cell_type")
    assert judged(clean, graph)[0] == "fail"


def test_a_prior_from_evaluation_controls_is_a_leak(clean):
    training = (clean.obs["split"] != "test").to_numpy()
    graph = coexpression(clean[training | (clean.obs["perturbation"] == "control")], threshold=0.1, cells="all")
    assert graph.attrs["cells"]["n_evaluation_controls"] > 0
    graph.attrs["derived_from"] = "cells of this screen"
    result, message = judged(clean, graph)
    assert (result, "evaluation controls" in message) == ("fail", True)


def test_an_evaluation_control_among_the_training_controls(clean):
    source = position(clean, "train", control=True)
    leaky = append_copy(clean, source, split="test")
    found = results(leaky)
    assert (found["controls"], found["counts"], found["cells"]) == ("fail", "fail", "pass")
    leaky.obs.index = [*leaky.obs_names[:-1], leaky.obs_names[source]]
    leaky.layers["counts"] = leaky.layers["counts"].toarray()
    leaky.layers["counts"][-1] = 1
    found = results(leaky)
    assert (found["controls"], found["counts"], found["cells"]) == ("fail", "pass", "fail")


def test_the_published_protocol_is_noted(clean):
    pp.split(clean, "unseen_single", cell_type_key="cell_type", holdout_controls=0, overwrite=True)
    report = check(clean).set_index("check")
    assert report.loc["controls", "result"] == "note"
    assert "published protocol" in report.loc["controls", "message"]


def test_a_tested_context_without_evaluation_controls_is_noted(clean):
    is_control = clean.obs["perturbation"] == "control"
    clean.obs.loc[is_control & (clean.obs["cell_type"] == "y"), "split"] = "train"
    report = check(clean).set_index("check")
    assert report.loc["controls", "result"] == "note"
    assert "'y'" in report.loc["controls", "message"]


def test_all_failures_are_raised_at_once(clean):
    leaky = append_copy(clean, position(clean, "train", control=True), split="test")
    leaky.obs.loc[leaky.obs_names[-2], "split"] = "test" if leaky.obs["split"].iloc[-2] == "train" else "train"
    report = check(leaky)
    with pytest.raises(LeakError, match=r"(?s)3 leaks.*counts: .*conditions: .*standardize.*controls: "):
        pp.raise_on_leak(report)


def test_values_are_needed(clean):
    clean.layers["mine"] = clean.layers.pop("counts")
    clean.X = None
    with pytest.raises(DataError, match=r"adata.X is empty .*layer="):
        check(clean)
    assert results(clean, layer="mine")["counts"] == "pass"


def test_a_split_is_needed(clean):
    del clean.obs["split"]
    with pytest.raises(MissingKeyError, match=r"spm\.pp\.split"):
        check(clean)
    clean.obs["split"] = "a"
    with pytest.raises(DataError, match="a split has train, val, test"):
        check(clean)
