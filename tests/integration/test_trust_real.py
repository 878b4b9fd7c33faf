"""Intervals on real screens, by cross-validation."""

from __future__ import annotations

import anndata as ad
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules.metrics._conformal import LEVEL
from scperturb_modules.tl._coverage import interval_rows
from scperturb_modules.tl._yardstick import yardstick

N_FOLDS = 5


def papalexi(folder):
    adata = ad.read_h5ad(folder / "papalexi2021" / "papalexi_299genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata, target_sum=1e3)
    return adata, "unseen_single", {"batch_key": "replicate"}


def datlinger(folder):
    adata = ad.read_h5ad(folder / "datlinger2021" / "datlinger_2000genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata, library_size_key="ncounts_full")
    return adata, "unseen_single", {"cell_type_key": "stimulation"}


def mcfaline(folder):
    adata = ad.read_h5ad(folder / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "mcfaline23"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata, "unseen_single", {"cell_type_key": "cell_type"}


def schraivogel(folder):
    adata = ad.read_h5ad(folder / "schraivogel2020_tapseq_k562" / "schraivogel2020_tapseq_k562.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata)
    return adata, "combination", {}


def measured(load, folder):
    """A row per held-out condition of five folds."""
    adata, scheme, columns = load(folder)
    found = []
    for fold in range(N_FOLDS):
        spm.pp.split(adata, scheme, seed=0, n_folds=N_FOLDS, fold=fold, overwrite=True, **columns)
        model = spm.baselines.AdditiveShrunk(spm.pp.pseudobulk(adata, cells="training", **columns))
        model.train()
        against = yardstick(spm.pp.pseudobulk(adata, **columns))
        prediction = model.predict(list(against.names), intervals=True)
        found.append(interval_rows(prediction, against, model="AdditiveShrunk", min_cells=10))
    rows = pd.concat([table for table in found if len(table)])
    return rows[rows["level"] == LEVEL]


@pytest.fixture(scope="module")
def coverage(shared_data):
    return {load.__name__: measured(load, shared_data) for load in (papalexi, datlinger, mcfaline, schraivogel)}


def test_pooled_over_screens_nine_of_ten_are_inside(coverage):
    means = {name: rows["coverage"].mean() for name, rows in coverage.items()}
    assert 0.87 <= sum(means.values()) / len(means) <= 0.93, means
    assert all(0.8 <= mean <= 0.96 for mean in means.values()), means


def test_sharper_than_one_width_for_all(coverage):
    for name, rows in coverage.items():
        assert rows["score"].mean() < 0.95 * rows["constant_score"].mean(), name
