"""What the harness says of real screens."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY

CONTROL_SPLITS = 30


@pytest.fixture(scope="module")
def norman(shared_data):
    """CRISPRa in K562, X as published (log1p of counts per 10,000); three pair labels are out of order."""
    adata = ad.read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "norman19"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


def additive_pearson(adata, *, seed, holdout_controls):
    """Pearson of change of Additive over the pairs with both singles measured; all singles train."""
    labels = sorted(set(adata.obs["perturbation"]) - {"control"})
    parts = {label: "test" if "+" in label else "train" for label in labels}
    spm.pp.split(adata, "custom", assignment=parts, seed=seed, holdout_controls=holdout_controls, overwrite=True)
    model = spm.baselines.Additive(spm.pp.pseudobulk(adata, cells="training"))
    model.train()
    pairs = [label for label in labels if parts[label] == "test"]
    frame = spm.tl.evaluate(model.predict(pairs), spm.pp.pseudobulk(adata), metrics=["pearson_delta"])
    rows = frame[frame["regime"] == "pair_2of2"]
    assert len(rows) == 5
    return float(rows["value"].mean())


def test_additive_reaches_the_published_value_with_shared_controls(norman):
    assert additive_pearson(norman, seed=0, holdout_controls=0.0) == pytest.approx(0.870, abs=0.005)


def test_held_out_controls_take_the_shared_noise_away(norman):
    """100 control cells: the value depends on which of them are held out, and is lower for all draws."""
    values = [additive_pearson(norman, seed=seed, holdout_controls=0.3) for seed in range(CONTROL_SPLITS)]
    assert 0.55 < np.mean(values) < 0.75
    assert np.min(values) > 0.30 and np.max(values) < 0.84


def test_five_pairs_are_too_few_for_a_verdict(norman):
    additive_pearson(norman, seed=0, holdout_controls=0.0)
    board = spm.tl.benchmark(norman, scheme=None, metrics=[PRIMARY], n_boot=300)
    text = board.verdict()
    assert "Cannot tell on pair_2of2: 5 test conditions" in text
    assert "Scores use shared controls and are comparable to the literature only." in text
    assert set(board.frame["regime"]) == {"pair_2of2", "pair_1of2", "pair_0of2"}


def test_a_screen_that_cannot_rank_says_so(shared_data):
    """59 counts a cell, 200 controls, a guide per well: a replicate predicts worse than the plain mean."""
    adata = ad.read_h5ad(shared_data / "datlinger2021" / "datlinger_2000genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata, library_size_key="ncounts_full")
    board = spm.tl.benchmark(adata, scheme="unseen_single", cell_type_key="stimulation", n_boot=1000)
    assert "Cannot tell on single_unseen: 20 test conditions" in board.verdict()
    assert "These data cannot rank models" in board.verdict()
    assert board.quality().set_index("metric").loc[PRIMARY, "replicate_wins"] < 0.5
    # nothing is learned about a gene: no predictor beats the mean, times a factor or not
    primary = board.summary().query("metric == @PRIMARY").set_index("model")
    assert primary.index[0] in ("MeanShift", "MeanFitted") and set(primary["verdict"]) == {"cannot tell"}
    # 20 targets in two states are 20 clusters, not 40
    assert set(primary["n"]) == {20}
