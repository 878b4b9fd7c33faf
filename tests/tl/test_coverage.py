"""Do intervals hold in a benchmark, and do its tables say so?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._keys import INTERVAL
from scperturb_modules.metrics._conformal import LEVEL, LEVELS
from scperturb_modules.tl._coverage import COVERAGE_COLUMNS, interval_rows
from scperturb_modules.tl._yardstick import yardstick

SIZES = {"n_genes": 200, "n_perturbable": 30, "n_pairs": 100, "n_cells": 30}
PREDICTORS = [spm.baselines.MeanShift, spm.baselines.AdditiveShrunk]


def split_screen(seed):
    adata = spm.datasets.simulate("default", seed=seed, **SIZES)
    spm.pp.split(adata, "unseen_gene", seed=seed)
    return adata


@pytest.fixture(scope="module")
def boards():
    return [spm.tl.benchmark(split_screen(seed), PREDICTORS, n_boot=200, seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def one():
    """A screen, its prediction with intervals, and what it is scored against."""
    adata = split_screen(0)
    spm.baselines.AdditiveShrunk.setup_anndata(adata)
    model = spm.baselines.AdditiveShrunk(adata)
    model.train()
    against = yardstick(spm.pp.pseudobulk(adata))
    return model.predict(list(against.names), intervals=True), against


def test_rows_against_a_loop(one):
    prediction, against = one
    rows = interval_rows(prediction, against, model="A", min_cells=10)
    assert list(rows["level"].unique()) == list(LEVELS)
    row = rows[(rows["level"] == LEVEL) & (rows["regime"] == "pair_1of2")].iloc[3]
    p = [name for name, _ in against.rows].index(row["condition"])
    at = prediction[against.names[p]]
    # at the number of cells that the condition has
    at = spm.tl.intervals(at, n_cells=float(against.n_cells[p]))
    inside, widths, scores = [], [], []
    for g, gene in enumerate(against.var_names):
        low, high = (float(at[:, gene].layers[name][0, 0]) for name in ("lower", "upper"))
        true = against.difference[p, g]
        inside.append(low <= true <= high)
        widths.append(high - low)
        scores.append(high - low + 20 * (max(low - true, 0) + max(true - high, 0)))
    assert row["coverage"] == pytest.approx(np.mean(inside), abs=1e-12)
    assert row["width"] == pytest.approx(np.mean(widths), rel=1e-9)
    assert row["score"] == pytest.approx(np.mean(scores), rel=1e-9)
    missed = against.difference[p] - prediction[against.names[p], list(against.var_names)].layers["delta"][0]
    assert row["error"] == pytest.approx(np.linalg.norm(missed[against.top[p]]), rel=1e-12)


def test_conditions_without_an_interval_have_no_row(one):
    prediction, against = one
    without = prediction.copy()
    regime = without.obs["seen"] == "pair_1of2"
    without.layers["lower"][regime] = without.layers["upper"][regime] = np.nan
    rows = interval_rows(without, against, model="A", min_cells=10)
    assert "pair_1of2" not in set(rows["regime"]) and "pair_2of2" in set(rows["regime"])
    assert interval_rows(without, against, model="A", min_cells=10**6).empty


def test_a_prediction_that_was_never_calibrated_has_no_row(one):
    prediction, against = one
    model = spm.baselines.NoChange(spm.pp.pseudobulk(split_screen(0), cells="training"))
    model.train()
    plain = model.predict(list(against.names))
    assert set(plain.obs[INTERVAL]) == {"none"}
    assert interval_rows(plain, against, model="A", min_cells=10).empty


def test_nine_of_ten_are_inside_on_held_out_conditions(boards):
    rows = pd.concat([board.calibration for board in boards])
    rows = rows[(rows["level"] == LEVEL) & (rows["model"] == "AdditiveShrunk")]
    assert len(rows) > 150
    assert 0.87 <= rows["coverage"].mean() <= 0.93
    assert rows["score"].mean() < rows["constant_score"].mean()
    assert 0.8 <= (rows["error"] <= rows["error_bound"]).mean() <= 0.97


def test_the_table_of_a_benchmark(boards):
    table = boards[0].coverage()
    assert list(table.columns) == COVERAGE_COLUMNS
    assert set(table["model"]) == {"MeanShift", "AdditiveShrunk"}
    raw = boards[0].calibration
    for row in table.to_dict(orient="records"):
        own = raw[(raw["level"] == LEVEL) & (raw["model"] == row["model"]) & (raw["regime"] == row["regime"])]
        assert row["n"] == own["condition"].nunique()
        assert row["coverage"] == pytest.approx(own.groupby("condition")["coverage"].mean().mean(), rel=1e-12)
        if not np.isnan(row["coverage_low"]):
            assert row["coverage_low"] < row["coverage"] < row["coverage_high"]
    narrower = table.set_index(["regime", "model"])["relative_width"]
    assert narrower["pair_2of2", "MeanShift"] == pytest.approx(1.0)
    assert narrower["pair_2of2", "AdditiveShrunk"] < 0.9
    half = boards[0].coverage(level=0.5)
    assert (half["width"] < table["width"]).all() and half["coverage"].between(0.3, 0.7).all()


def test_intervals_of_baselines_can_be_left_out():
    board = spm.tl.benchmark(split_screen(0), PREDICTORS, n_boot=100, intervals=False)
    assert board.calibration.empty and board.coverage().empty
    assert list(board.coverage().columns) == COVERAGE_COLUMNS


def test_intervals_change_no_score(boards):
    without = spm.tl.benchmark(split_screen(0), PREDICTORS, n_boot=200, seed=0, intervals=False)
    pd.testing.assert_frame_equal(without.frame, boards[0].frame)
