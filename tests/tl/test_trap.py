"""The shared-control trap on a user's data: against the formula, planted effects, and the words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules.tl._trap import COLUMNS, expected_pearson, shared_control_trap, shared_control_verdict

CALL = {"n_folds": 3, "n_boot": 300}


def null_screen(seed, **settings):
    chosen = {"n_genes": 300, "n_perturbable": 15, "n_pairs": 0, "n_cells": 50, "n_controls": 60, "n_batches": 1,
              "programme_sd": 0.0, "batch_sd": 0.0} | settings  # fmt: skip
    return spm.datasets.simulate("null", seed=seed, **chosen)


def test_without_any_effect_it_is_as_the_formula_says():
    """Strict below .03 in absolute value, published within .03 of the formula."""
    call = CALL | {"n_folds": 2, "n_draws": 1}
    tables = pd.concat([shared_control_trap(null_screen(seed), **call) for seed in range(6)])
    means = tables.groupby("protocol")[["pearson", "expected", "halves"]].mean()
    assert abs(means.loc["strict", "pearson"]) < 0.03 and means.loc["strict", "expected"] == 0
    assert means.loc["published", "pearson"] == pytest.approx(means.loc["published", "expected"], abs=0.03)
    assert abs(means.loc["published", "halves"]) < 0.03
    first = tables.iloc[0]
    assert first["expected"] == pytest.approx(expected_pearson(50, 60, 1 / (50 * first["n_training"])), abs=5e-3)
    assert first[["n_conditions", "n_cells", "n_controls", "n_training"]].tolist() == [15, 50, 60, 7]


def test_effects_show_with_held_out_controls_too(planted):
    """A common shift is there whatever the controls are, and halves agree."""
    adata = planted(n_pairs=0, n_genes=40)
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    adata.X[perturbed] += np.random.default_rng(0).normal(0, 0.5, 40).astype(np.float32)
    table = shared_control_trap(adata, n_draws=3, **CALL)
    assert list(table.columns) == COLUMNS and table["predictor"].tolist() == ["MeanShift"] * 2
    rows = table.set_index("protocol")
    assert (rows["pearson"] > 0.6).all() and (rows["halves"] > 0.9).all()
    assert (rows["low"] < rows["pearson"]).all() and (rows["pearson"] < rows["high"]).all()
    assert np.isnan(rows.loc["published", "draw_sd"]) and 0 < rows.loc["strict", "draw_sd"] < 0.1
    assert rows.loc["strict", "n_controls"] == 48
    assert shared_control_verdict(table).endswith("shared controls make little difference here.")


def test_the_users_object_and_its_split_stay(planted):
    adata = planted(n_pairs=0, n_genes=20, contexts=("x", "y"))
    spm.pp.split(adata, "unseen_single", cell_type_key="line", n_folds=3)
    before = adata.obs.copy()
    table = shared_control_trap(adata, n_draws=1, cell_type_key="line", **CALL)
    pd.testing.assert_frame_equal(adata.obs, before)
    assert table["n_conditions"].tolist() == [24, 24] and table["n_training"].tolist() == [8, 8]
    again = shared_control_trap(adata, n_draws=1, cell_type_key="line", **CALL)
    pd.testing.assert_frame_equal(table, again)


def sentence(published, strict, halves, expected=0.76):
    row = {"protocol": ["published", "strict"], "pearson": [published, strict], "expected": [expected, 0.0]}
    return shared_control_verdict(pd.DataFrame(row).assign(halves=halves))


def test_the_sentence():
    assert sentence(0.784, 0.03, 0.111) == (
        "On these data the training mean scores 0.78 against shared controls (their noise alone, without any "
        "effect, would give 0.76) and 0.03 against held-out ones; two halves of the data agree by "
        "0.11: correlations say nothing here."
    )
    assert sentence(0.6, 0.3, 0.7).endswith("agree by 0.70: read correlations against held-out controls only.")
    assert sentence(0.6, 0.55, 0.7).endswith("shared controls make little difference here.")
    assert sentence(0.6, 0.3, np.nan).endswith("correlations cannot be judged here.")


def test_conditions_of_few_cells_are_not_halved(planted):
    table = shared_control_trap(planted(n_pairs=0, n_cells=15, n_genes=20), n_draws=1, **CALL)
    assert table["halves"].isna().all()
