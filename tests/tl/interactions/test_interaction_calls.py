"""Genes that respond to a pair otherwise than the sum: calibrated, found where planted, none where additive."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules.tl.interactions._calls import interaction_genes


@pytest.fixture
def with_interactions(planted):
    """The function that makes a screen in which pair G00+G01 moves three genes otherwise than the sum."""

    def make(**settings):
        adata = planted(n_genes=120, n_cells=80, n_controls=200, effect=0.5, **settings)
        change = adata.uns["planted"]
        gain = np.zeros(adata.n_vars)
        total = change.loc["G00"] + change.loc["G01"]
        gain[[50, 60, 70]] = 1.2 * np.sign(total.iloc[[50, 60, 70]]) * [1, 1, -1]
        adata.X = adata.X + (adata.obs["perturbation"] == "G00+G01").to_numpy()[:, None] * gain.astype(np.float32)
        return adata

    return make


def test_planted_genes_are_called_in_their_direction(with_interactions):
    truth = spm.pp.pseudobulk(with_interactions())
    table = interaction_genes(truth)
    called = table[table["call"] != ""]
    planted = called[called["perturbation"] == "G00+G01"].set_index("gene")["call"]
    assert planted.to_dict() == {"G50": "synergy", "G60": "synergy", "G70": "suppression"}
    assert len(called) <= 5  # of 1,296
    assert table.columns.tolist() == ["perturbation", "gene", "a", "b", "y", "interaction", "z", "local_fdr", "call"]
    assert len(table) == 12 * 108 and table.attrs["null"]["statistic"] == "z"
    row = table[(table["perturbation"] == "G00+G01") & (table["gene"] == "G50")].iloc[0]
    delta = truth.to_df("delta")["G50"]
    assert row[["a", "b", "y"]].tolist() == delta[["G00", "G01", "G00+G01"]].tolist()
    assert row["interaction"] == pytest.approx(row["y"] - row["a"] - row["b"], abs=1e-12)


@pytest.mark.parametrize("strict", [False, True])
def test_z_counts_the_controls_once(planted, strict):
    """Additive truth: z has unit variance, with few controls and with held-out ones."""
    values = []
    for seed in range(6):
        adata = planted(n_genes=150, n_cells=60, n_controls=30, effect=0.5, seed=seed)
        if strict:
            spm.pp.split(adata, "combination", seed=0)
        values.append(interaction_genes(spm.pp.pseudobulk(adata))["z"])
    assert np.concatenate(values).std() == pytest.approx(1, abs=0.04)


def test_z_by_hand(planted):
    adata = planted()
    truth = spm.pp.pseudobulk(adata)
    table = interaction_genes(truth, pairs=["G00+G01"], genes=[f"G{i}" for i in range(20, 30)])
    X = pd.DataFrame(adata.X, index=adata.obs["perturbation"], columns=adata.var_names)[table["gene"]]
    names = ["G00", "G01", "G00+G01", "control"]
    variance = sum(X.loc[name].var() / len(X.loc[name]) for name in names)
    mean = {name: X.loc[name].mean() for name in names}
    interaction = mean["G00+G01"] - mean["G00"] - mean["G01"] + mean["control"]
    np.testing.assert_allclose(table["interaction"], interaction, atol=1e-5)
    np.testing.assert_allclose(table["z"], interaction / np.sqrt(variance), rtol=1e-4, atol=1e-4)


def test_an_additive_screen_has_next_to_no_call(planted):
    truth = spm.pp.pseudobulk(planted(n_genes=150, n_cells=80, effect=0.5))
    table = interaction_genes(truth)
    assert (table["call"] != "").mean() < 0.002
    assert table.attrs["null"]["sd"] == pytest.approx(1, abs=0.12) and table.attrs["null"]["share"] > 0.95


def test_predictions_have_calls_without_z():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400))
    y = a + b + rng.normal(0, 0.1, 400)
    y[:4] += 3 * np.sign(a + b)[:4]
    changes = AnnData(np.stack([a, b, y]), obs=pd.DataFrame(index=["A|T", "B|T", "A+B|T"]))
    changes.layers["delta"] = changes.X
    table = interaction_genes(changes)
    assert table["z"].isna().all() and table.attrs["null"]["statistic"] == "interaction"
    assert table["call"].tolist() == ["synergy"] * 4 + [""] * 396 and set(table["cell_type"]) == {"T"}
    changes.layers["delta"][2] = a + b
    additive = interaction_genes(changes)
    assert (additive["call"] == "").all() and (additive["local_fdr"] == 1).all()


def test_incomplete_pairs_are_named(planted):
    truth = spm.pp.pseudobulk(planted())
    table = interaction_genes(truth[truth.obs_names != "G01"].copy())
    assert table.attrs["missing"] == {"G00+G01": ["G01"], "G01+G02": ["G01"]}
    assert table["perturbation"].nunique() == 10
    single = truth[truth.obs_names == "G01"].copy()
    whole = interaction_genes(truth[truth.obs_names != "G01"].copy(), singles=single)
    pd.testing.assert_frame_equal(whole.sort_index(), interaction_genes(truth), check_exact=False)
