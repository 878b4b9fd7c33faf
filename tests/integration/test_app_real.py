"""APP with its defaults on the K562 cells of Norman et al.: pairs of a combination split."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scperturb_modules as spm

EPOCHS = 15


@pytest.fixture(scope="module")
def norman(shared_data):
    adata = ad.read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "norman19"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


@pytest.fixture(scope="module")
def trained(norman):
    """On a combination split, without a prior: tests fetch none."""
    adata = norman.copy()
    with pytest.warns(UserWarning, match="regimes? ha"):
        spm.pp.split(adata, "combination", seed=0, overwrite=True)
    spm.APP.setup_anndata(adata)
    model = spm.APP(adata)
    model.train(EPOCHS, accelerator="cpu")
    return adata, model


def test_held_out_pairs_are_predicted_about_as_well_as_by_the_anchor(trained, norman):
    adata, model = trained
    pred = model.predict(store=False)
    assert pred.n_obs > 0 and all("+" in name for name in pred.obs_names)
    assert np.isfinite(pred.layers["delta"]).all()
    truth = spm.pp.pseudobulk(adata)[pred.obs_names].layers["delta"]
    anchor = np.array([model.anchor_of.of(tuple(name.split("+")), None).delta for name in pred.obs_names])
    error, of_anchor = (np.linalg.norm(one - truth, axis=1).mean() for one in (pred.layers["delta"], anchor))
    assert error <= 1.05 * of_anchor
    full = model.predict(store=False, gate=False)
    assert np.abs(full.layers["delta"] - anchor).max() > 0, "the network was trained"


def test_perturbed_genes_that_are_not_measured_are_told(trained):
    adata, model = trained
    perturbed = {gene for name in adata.obs["perturbation"].unique() for gene in name.split("+")} - {"control"}
    missing = sorted(perturbed - set(adata.var_names))
    assert missing, "the file leaves some out"
    assert f"{len(missing)} not measured ({missing[0]!r}" in model.summary()
