"""Normalisation and pseudobulk on real screens, against numbers computed without this package."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import read_h5ad

from scperturb_modules.pp import affected_genes, normalize, pseudobulk


@pytest.fixture(scope="module")
def papalexi_truth(shared_data):
    """Knock-outs in THP-1 cells, counts scaled to 1,000 over 299 genes, controls matched within replicates."""
    adata = read_h5ad(shared_data / "papalexi2021" / "papalexi_299genes.h5ad")
    normalize(adata, target_sum=1e3)
    return pseudobulk(adata, control="non-targeting", batch_key="replicate")


def test_papalexi_effect_sizes(papalexi_truth):
    delta = papalexi_truth.layers["delta"]
    assert delta.shape == (25, 299)
    assert np.linalg.norm(delta, axis=1).mean() == pytest.approx(1.359, abs=0.01)
    mean_of_others = (delta.sum(0) - delta) / (len(delta) - 1)
    assert np.linalg.norm(delta - mean_of_others, axis=1).mean() == pytest.approx(1.441, abs=0.01)
    assert papalexi_truth.obs["n_controls"].eq(2386).all()
    assert papalexi_truth.obs["status"].eq("ok").all()


def test_papalexi_knows_its_biology(papalexi_truth):
    """Losing the interferon-gamma receptor or its kinase lowers the genes that the pathway induces."""
    table = affected_genes(papalexi_truth, condition=["IFNGR1", "IFNGR2", "JAK2", "STAT1"], n_top=0)
    for gene in ("STAT1", "UBE2L6"):
        rows = table[(table["gene"] == gene) & (table["perturbation"] != gene)]
        assert len(rows) == 4 - (gene == "STAT1")
        assert (rows["delta"] < 0).all()


def test_the_recovered_library_size_gives_the_published_values(shared_data):
    adata = read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    published = adata.X.toarray()
    normalize(adata, library_size_key="recovered_library_size")
    np.testing.assert_allclose(adata.X.toarray(), published, atol=2e-6)


def test_the_full_library_differs_from_the_sum_over_a_subset(shared_data):
    adata = read_h5ad(shared_data / "datlinger2021" / "datlinger_2000genes.h5ad")
    full = adata.obs["ncounts_full"].to_numpy(float)
    cell = int(np.argmax(adata.layers["counts"].sum(1)))
    normalize(adata, library_size_key="ncounts_full")
    expected = np.log1p(adata.layers["counts"][cell].toarray() / full[cell] * 1e4)
    np.testing.assert_allclose(adata.X[cell].toarray(), expected, rtol=1e-6)
    totals = np.expm1(adata.X.toarray()).sum(1)
    assert np.median(totals) < 1000  # 59 of 1736 counts are in the subset; the sum over it would give 10,000
