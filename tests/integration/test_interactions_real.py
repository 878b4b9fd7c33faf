"""Genetic interactions of the pairs of Norman et al. (2019) in the small shared copy."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scperturb_modules as spm
from scperturb_modules.tl.interactions._agreement import interaction_agreement
from scperturb_modules.tl.interactions._calls import interaction_genes
from scperturb_modules.tl.interactions._interactions import genetic_interactions
from scperturb_modules.tl.interactions._scores import SCORES


@pytest.fixture(scope="module")
def norman(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "norman19"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


def test_pairs_with_both_singles_have_scores_and_intervals(norman):
    """15 pairs, of which 5 have both singles; 500 genes."""
    truth = spm.pp.pseudobulk(norman)
    table = genetic_interactions(truth, cells=norman, n_boot=20)
    complete = ~table["status"].str.startswith("missing")
    assert len(table) == 15 and complete.sum() == 5
    assert np.isfinite(table.loc[complete, list(SCORES)].to_numpy()).all()
    assert table.loc[~complete, list(SCORES)].isna().all(axis=None)
    assert table.loc[complete, "magnitude"].between(0.3, 2).all()  # Norman's own: .37 to 1.88
    width = table["magnitude_upper"] - table["magnitude_lower"]
    assert width[complete].between(0.02, 1.5).all()
    called = interaction_genes(truth)
    assert set(called["perturbation"]) == set(table.index[complete])
    shown = called[["a", "b", "y"]].ne(0).any(axis=1)  # most genes of this copy are in no cell of a pair
    assert (np.isfinite(called["z"]) == shown).mean() > 0.95 and (called.loc[~shown, "call"] == "").all()


def test_noise_brings_the_additive_prediction_to_the_measured_magnitudes(norman):
    truth = spm.pp.pseudobulk(norman)
    model = spm.baselines.Additive(spm.pp.pseudobulk(norman, cells="training"))
    model.train()
    table = genetic_interactions(truth)
    pairs = table.index[~table["status"].str.startswith("missing")].tolist()
    genes = table.attrs["genes"]
    singles = sorted({gene for pair in pairs for gene in pair.split("+")})
    prediction = model.predict([*pairs, *singles])
    bare, matched = (genetic_interactions(prediction, genes=genes, noise=noise) for noise in (None, truth))
    np.testing.assert_allclose(bare["magnitude"], np.sqrt(2), atol=1e-9)
    assert (matched["magnitude"] < 1.38).all() and np.isfinite(matched[list(SCORES)].to_numpy()).all()
    agreement = interaction_agreement(bare, table)
    assert np.isnan(agreement.scores.loc["magnitude", "pearson"]) and agreement.n_pairs == 5
