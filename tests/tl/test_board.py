from __future__ import annotations

import json

import matplotlib
import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules.metrics import CORE, PRIMARY
from scperturb_modules.metrics._verdict import ENOUGH_ROOM

matplotlib.use("Agg")

CALL = {"scheme": "combination", "n_folds": 2, "n_boot": 300}


@pytest.fixture(scope="module")
def screen(planted):
    return planted(n_genes=40, interaction=0.15)


@pytest.fixture(scope="module")
def board(screen):
    return spm.tl.benchmark(screen, **CALL)


def tables(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.suffix in (".csv", ".txt")}


def test_tables_of_two_runs_are_equal_to_the_last_byte(board, screen, tmp_path):
    board.save(tmp_path / "a")
    spm.tl.benchmark(screen, **CALL).save(tmp_path / "b")
    first, second = tables(tmp_path / "a"), tables(tmp_path / "b")
    names = "by_effect calibration coverage errors gains leaderboard margins quality replicates results room skipped"
    assert set(first) == {*(f"{name}.csv" for name in names.split()), "verdict.txt"}
    assert first == second
    # times are in one file only
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["timings"] and run["written"] and run["settings"]["n_boot"] == 300 and run["versions"]["numpy"]


def test_what_is_saved_can_be_read(board, tmp_path):
    board.save(tmp_path)
    back = spm.tl.Benchmark.read(tmp_path)
    pd.testing.assert_frame_equal(back.frame, board.frame, check_exact=True)
    pd.testing.assert_frame_equal(back.summary(), board.summary(), check_exact=True)
    pd.testing.assert_frame_equal(back.quality(), board.quality(), check_exact=True)
    for table in ("verdicts", "conditions", "ceilings", "coverage"):
        pd.testing.assert_frame_equal(getattr(back, table)(), getattr(board, table)(), rtol=1e-12)
    assert back.verdict() == board.verdict() == (tmp_path / "verdict.txt").read_text().rstrip("\n")
    assert set(back.predictions) == set(board.predictions) and set(back.truths) == set(board.truths)
    for key, prediction in back.predictions.items():
        np.testing.assert_array_equal(prediction.layers["delta"], board.predictions[key].layers["delta"])
    (tmp_path / "margins.csv").unlink()
    with pytest.raises(FileNotFoundError, match="holds no margins.csv: an older version"):
        spm.tl.Benchmark.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no results.csv"):
        spm.tl.Benchmark.read(tmp_path / "truth")


def test_other_files_of_a_folder_stay(board, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="is not empty"):
        board.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    board.save(tmp_path, overwrite=True)
    board.save(tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert not list(tmp_path.rglob(".*"))


def test_summary_has_every_metric_regime_and_predictor(board):
    summary = board.summary()
    assert set(summary["metric"]) == set(CORE) and not summary.duplicated(["regime", "metric", "model"]).any()
    primary = summary[summary["metric"] == PRIMARY]
    assert primary["mean"].is_monotonic_increasing
    for model, mean in primary.set_index("model")["mean"].items():
        rows = board.frame[(board.frame["model"] == model) & (board.frame["metric"] == PRIMARY)]
        assert mean == pytest.approx(rows.groupby("condition", observed=True)["value"].mean().mean())
    summary.loc[:, "mean"] = 0  # the caller's copy
    assert board.summary()["mean"].any()


def test_verdict_names_the_bar_with_its_interval(screen):
    board = spm.tl.benchmark(screen, [*spm.baselines.ALL[:6]], **{**CALL, "n_folds": 5})
    summary = board.summary()
    mandatory = ["NoChange", "MeanShift", "Additive", "AdditiveFitted", "AdditiveShrunk"]
    primary = summary[(summary["metric"] == PRIMARY) & summary["model"].isin(mandatory)].set_index("model")
    bar = primary.iloc[0]
    below = 100 * (1 - bar["mean"] / primary.loc["NoChange", "mean"])
    expected = (
        f"The bar on pair_2of2 is {bar.name}: L2 {bar['mean']:.2f} (95 % CI {bar['ci_low']:.2f} to "
        f"{bar['ci_high']:.2f}, n = {bar['n']} conditions), {below:.1f} % below NoChange."
    )
    assert board.verdict().splitlines()[0] == expected
    assert board.verdict() in repr(board)


def test_too_few_conditions_have_no_interval(board):
    assert "(n = 9 conditions, too few for an interval)" in board.verdict()
    assert "Cannot tell on pair_2of2: 9 test conditions" in board.verdict()


def test_no_room_no_ranking(planted, model_class):
    """Without any effect the data cannot rank, and nobody is told to win or lose."""
    null = planted(effect=0.0, n_cells=40)
    board = spm.tl.benchmark(null, [model_class, *spm.baselines.ALL], **CALL)
    room = board.room().iloc[0]
    assert room["room"] < ENOUGH_ROOM
    sentences = board.verdict().splitlines()
    noise = f"{100 * room['noise_share']:.1f}"
    assert sentences[1:] == [
        f"Cannot tell on pair_2of2: {room['n']} test conditions, replicate noise explains {noise} % of the error. "
        "These data cannot rank models: one half of the cells is closer to the other than the training mean is in only "
        "0 % of conditions."
    ]
    only_mandatory = spm.tl.benchmark(null, [spm.baselines.NoChange, spm.baselines.MeanShift], **CALL)
    assert "Cannot tell on pair_2of2" in only_mandatory.verdict()


def test_floor_is_the_noise_of_the_mean(planted):
    """L2 floor against the planted sd .4 of each gene: sqrt(genes * sd^2 / cells)."""
    board = spm.tl.benchmark(planted(n_genes=60, n_cells=50), [spm.baselines.NoChange], **CALL)
    assert board.room()["floor"].iloc[0] == pytest.approx(np.sqrt(60 * 0.16 / 50), rel=0.05)
    floors = board.frame.loc[board.frame["metric"] != PRIMARY, "floor"]
    assert floors.isna().all()


def test_quality_knows_a_replicate_from_the_mean(board):
    quality = board.quality().set_index("metric")
    assert set(quality.index) == set(CORE)
    assert quality.loc[PRIMARY, "replicate_wins"] > 0.8 and quality.loc["pearson_delta", "dynamic_range"] > 0.3
    assert quality.loc["pearson_pert", "mean_shift"] == pytest.approx(0, abs=0.25)
    conditions = board.frame.loc[board.frame["metric"] == PRIMARY, "condition"].nunique()
    assert quality.loc[PRIMARY, "n"] == conditions


def test_inflated_predictions_are_called_out(screen, model_class):
    """Ten times the right answer: discrimination is perfect, the size is wrong."""
    planted = screen.uns["planted"]

    class TenTimes(model_class):
        def delta(self, name):
            return 10 * planted.loc[name].to_numpy()

    board = spm.tl.benchmark(screen, [TenTimes, *spm.baselines.ALL], **{**CALL, "n_folds": 5})
    text = board.verdict()
    assert "TenTimes is worse than" in text
    assert "but its slope is 0.10 (trusted from 0.5 to 2)" in text


def test_a_board_without_the_bar_says_what_to_add(screen):
    board = spm.tl.benchmark(screen, [spm.baselines.MatchingMean], **CALL)
    assert board.verdict().startswith("No bar on pair_2of2: none of NoChange, MeanShift, MeanFitted, Additive")
    assert board.room()["room"].isna().all()


def test_a_regime_without_a_scored_condition_says_so(screen):
    board = spm.tl.benchmark(screen, [spm.baselines.NoChange, spm.baselines.MeanShift], min_cells=1000, **CALL)
    assert board.verdict() == "Not scored: pair_2of2, none of its 9 conditions has enough cells."
    assert set(board.frame["status"]) <= {"few_cells", "few_conditions"}


def test_pictures_and_notebook(board):
    ax = board.plot()
    assert ax.get_xlabel().startswith("L2 distance")
    matplotlib.pyplot.close(ax.figure)
    html = board._repr_html_()
    assert "<table" in html and "The bar on pair_2of2" in html


def test_a_model_that_leaves_conditions_out_is_named(screen, model_class):
    class Half(model_class):
        def predict(self, conditions=None):
            return super().predict(conditions[: len(conditions) // 2])

    board = spm.tl.benchmark(screen, [Half, spm.baselines.NoChange], metrics=PRIMARY, **CALL)
    rows = board.frame.query("model == 'Half'").astype({"condition": str})
    n, n_missing = rows["condition"].nunique(), rows.query("status == 'missing'")["condition"].nunique()
    assert 0 < n_missing < n
    last = board.verdict().splitlines()[-1]
    assert last == f"No prediction, scored as no change: Half ({n_missing} of {n} conditions)."
