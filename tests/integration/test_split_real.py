"""Splits of the Norman and McFaline-Figueroa screens."""

from __future__ import annotations

import anndata as ad
import pytest

from scperturb_modules import pp
from scperturb_modules._conditions import genes_of


@pytest.fixture(scope="module")
def devel(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


@pytest.fixture
def norman(devel):
    return devel[devel.obs["dataset"] == "norman19"].copy()


@pytest.fixture
def mcfaline(devel):
    return devel[devel.obs["dataset"] == "mcfaline23"].copy()


def conditions(adata):
    return adata.uns["scperturb_modules"]["split"]["conditions"]


def test_regimes_of_norman_pairs(norman):
    labels = [label for label in norman.obs["perturbation"].unique() if label != "control"]
    assignment = {label: "test" if "+" in label else "train" for label in labels}
    pp.split(norman, "custom", assignment=assignment)
    table = conditions(norman)
    regimes = table.loc[table["split"] == "test", "regime"]
    assert regimes.value_counts().to_dict() == {"pair_0of2": 7, "pair_2of2": 5, "pair_1of2": 3}
    assert sorted(regimes[regimes == "pair_2of2"].index) == [
        "KLF1+MAP2K6",
        "KLF1+TGFBR2",
        "MAP2K3+MAP2K6",
        "MAP2K3+SLC38A2",
        "MAPK1+TGFBR2",
    ]
    assert (table["regime"] == "measured").sum() == 18


def test_combination_in_norman(norman):
    assert pp.suggest_schemes(norman) == ["combination", "unseen_single"]
    with pytest.warns(match="fewer than 3 test conditions"):
        pp.split(norman, "combination")
    table = conditions(norman)
    counts = table.loc[table["split"] == "test", "regime"].value_counts().to_dict()
    assert counts == {"pair_2of2": 3, "pair_0of2": 4, "pair_1of2": 1}
    controls = norman.obs.loc[norman.obs["perturbation"] == "control", "split"].value_counts()
    assert controls["test"] == round(0.3 * controls.sum())


def test_unseen_single_in_norman(norman):
    held_out = []
    for fold in range(5):
        pp.split(norman, "unseen_single", fold=fold, overwrite=True)
        table = conditions(norman)
        training = {gene for name in table.index[table["split"] != "test"] for gene in genes_of(name)}
        singles = table.index[(table["regime"] == "single_unseen")]
        assert training.isdisjoint(singles)
        held_out += list(singles)
    assert sorted(held_out) == sorted(name for name in table.index if "+" not in name)


def test_unseen_context_in_mcfaline(mcfaline):
    keys = {"cell_type_key": "cell_type"}
    assert pp.suggest_schemes(mcfaline, **keys) == ["unseen_single", "unseen_context"]
    for fold, context in enumerate(["A172", "T98G", "U87MG"]):
        pp.split(mcfaline, "unseen_context", fold=fold, overwrite=True, **keys)
        table = conditions(mcfaline)
        test = table[table["split"] == "test"]
        assert set(test["cell_type"].str.upper()) == {context}
        assert len(test) == 9
        assert set(test["regime"]) == {"context_unseen"}
        report = pp.check_leakage(mcfaline, **keys)
        assert set(report["result"]) == {"pass", "unverified"}
        assert set(report.loc[report["result"] == "unverified", "check"]) == {"provenance"}  # genes of the publisher
