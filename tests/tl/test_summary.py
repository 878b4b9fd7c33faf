from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules.metrics import compare, holm, mean_interval
from scperturb_modules.tl._ceilings import quality, room
from scperturb_modules.tl._frame import as_results
from scperturb_modules.tl._summary import SUMMARY_COLUMNS, by_effect, gains, hardest, losses, summarise

DRAWS = {"n_boot": 200, "seed": 0}


def frame_of(values, *, metric="l2_top1000", regime="pair_2of2", **constants):
    """Long table from {model: {(condition, fold, seed): value}}."""
    rows = [
        {"model": model, "condition": condition, "fold": fold, "model_seed": seed, "value": value}
        for model, cells in values.items()
        for (condition, fold, seed), value in cells.items()
    ]
    table = pd.DataFrame(rows)
    table["is_baseline"] = table["model"].isin(["Additive", "AdditiveShrunk", "NoChange"])
    facts = {"metric": metric, "regime": regime, "split_kind": "combination", "split_seed": 0, "floor": 1.0, "snr": 1.0}
    return as_results(table, **{**facts, **constants})


def paired(n=24, models=("Additive", "AdditiveShrunk", "M"), metric="l2_top1000", seed=0):
    rng = np.random.default_rng(seed)
    level = rng.lognormal(0, 0.4, n) + 1
    scale = {"Additive": 1.0, "AdditiveShrunk": 0.9, "M": 0.8, "NoChange": 1.5}
    return frame_of(
        {
            model: {(f"C{i:02d}", 0, 0): scale[model] * level[i] * rng.lognormal(0, 0.05) for i in range(n)}
            for model in models
        },
        metric=metric,
    )


def test_seeds_are_averaged_before_splits():
    """Fold 0 has three seeds, fold 1 one: each fold counts the same."""
    values = {("A+B", 0, 0): 1.0, ("A+B", 0, 1): 2.0, ("A+B", 0, 2): 6.0, ("A+B", 1, 0): 5.0}
    table = losses(frame_of({"M": values}))
    assert table["value"].tolist() == [4.0]
    per_seed = losses(frame_of({"M": values}), ("model_seed",))
    assert per_seed["value"].tolist() == [3.0, 2.0, 6.0]


def test_loss_is_the_distance_to_perfect():
    table = losses(frame_of({"M": {("A", 0, 0): 0.2, ("B", 0, 0): 1.7}}, metric="slope"))
    np.testing.assert_allclose(table["loss"], [0.8, 0.7])
    table = losses(frame_of({"M": {("A", 0, 0): 0.2}}, metric="pearson_delta"))
    np.testing.assert_allclose(table["loss"], [0.8])


def test_gains_are_the_paired_comparison():
    frame = paired()
    wide = frame.pivot(index="condition", columns="model", values="value")
    table = gains(frame, **DRAWS).set_index(["model", "gain_vs"])
    assert set(table.index) == {("M", "Additive"), ("M", "AdditiveShrunk"), ("Additive", "AdditiveShrunk"),
                                ("AdditiveShrunk", "Additive")}  # fmt: skip
    for model, baseline in table.index:
        expected = compare(wide[model], wide[baseline], n_boot=200, seed=0)
        row = table.loc[(model, baseline)]
        assert (row["gain"], row["gain_low"], row["p"]) == (expected.gain, expected.low, expected.p)


def test_summary_shows_the_baseline_that_is_hardest_to_beat():
    frame = paired()
    table = summarise(frame, gains(frame, **DRAWS), {("combination", "pair_2of2", "M"): "beats"}, **DRAWS)
    assert list(table.columns) == SUMMARY_COLUMNS
    assert table["model"].tolist() == ["M", "AdditiveShrunk", "Additive"]
    row = table.iloc[0]
    assert row["gain_vs"] == "AdditiveShrunk" and row["verdict"] == "beats" and not row["is_baseline"]
    values = frame.loc[frame["model"] == "M", "value"]
    interval = mean_interval(values, n_boot=200, seed=0)
    assert (row["mean"], row["ci_low"], row["n"]) == (interval.value, interval.low, 24)


def test_conditions_of_the_same_genes_are_one_cluster():
    one, two = paired(12, seed=1).assign(stratum="x"), paired(12, seed=2).assign(stratum="y")
    both = as_results(pd.concat([one, two]))
    table = gains(both, **DRAWS)
    assert set(table["n"]) == {12}
    wide = both.pivot(index=["stratum", "condition"], columns="model", values="value")
    labels = wide.index.get_level_values("condition")
    expected = compare(wide["M"], wide["Additive"], labels, n_boot=200, seed=0)
    row = table.set_index(["model", "gain_vs"]).loc[("M", "Additive")]
    assert (row["gain"], row["gain_high"]) == (expected.gain, expected.high)


def test_secondary_metrics_are_adjusted_within_a_predictor_and_marked():
    frames = [paired(), paired(metric="mse", seed=3), paired(metric="mse_de20", seed=4)]
    frame = as_results(pd.concat(frames))
    found = gains(frame, **DRAWS)
    table = found[found["metric"] != "l2_top1000"].set_index(["model", "metric"]).sort_index()
    raw = []
    for one, seed_frame in zip(("mse", "mse_de20"), frames[1:], strict=True):
        wide = seed_frame.pivot(index="condition", columns="model", values="value")
        assert table.loc[("M", one), "gain_vs"] == "AdditiveShrunk"
        raw.append(compare(wide["M"], wide["AdditiveShrunk"], n_boot=200, seed=0).p)
    np.testing.assert_allclose(table.loc[[("M", "mse"), ("M", "mse_de20")], "p"], holm(raw))
    assert min(raw) < holm(raw).min()
    summary = summarise(frame, gains(frame, **DRAWS), {}, **DRAWS)
    assert set(summary.loc[summary["metric"] != "l2_top1000", "verdict"]) == {"secondary"}


def test_spread_over_seeds_and_splits():
    values = {(f"C{i}", fold, seed): 1.0 + 0.1 * seed for i in range(3) for fold in (0, 1) for seed in (0, 1)}
    base = {(f"C{i}", fold, 0): 2.0 + 2 * fold for i in range(3) for fold in (0, 1)}
    row = gains(frame_of({"M": values, "NoChange": base}), **DRAWS).iloc[0]
    assert row["seed_sd"] == pytest.approx(np.std([1 - 1 / 3, 1 - 1.1 / 3], ddof=1))
    assert row["split_sd"] == pytest.approx(np.std([1 - 1.05 / 2, 1 - 1.05 / 4], ddof=1))


def test_undefined_values_are_counted_and_left_out():
    frame = paired(12)
    frame.loc[(frame["model"] == "M") & (frame["condition"] == "C03"), "value"] = np.nan
    table = gains(frame, **DRAWS)
    assert table.set_index(["model", "gain_vs"]).loc[("M", "Additive"), ["n", "n_undefined"]].tolist() == [11, 1]
    summary = summarise(frame, table, {}, **DRAWS)
    assert summary.set_index("model").loc["M", ["n", "n_undefined"]].tolist() == [11, 1]


def test_thirds_by_effect():
    values = {"M": {(f"C{i}", 0, 0): float(i) for i in range(9)}}
    frame = frame_of(values)
    frame["snr"] = frame["value"].to_numpy()[::-1]
    table = by_effect(frame)
    assert table[["effect", "mean", "n"]].to_numpy().tolist() == [
        ["weak", 7.0, 3],
        ["middle", 4.0, 3],
        ["strong", 1.0, 3],
    ]


def test_room_is_measured_from_the_best_mandatory_baseline():
    frame = paired(models=("Additive", "AdditiveShrunk", "M"))
    row = room(frame).iloc[0]
    errors = frame.loc[frame["model"] == "AdditiveShrunk", "value"]
    assert row["best_baseline"] == "AdditiveShrunk"  # M is better but no baseline of the regime
    assert row["noise_share"] == pytest.approx(len(errors) / (errors**2).sum())
    assert row["room"] == pytest.approx(1 - row["noise_share"]) and row["n"] == 24
    unknown = frame.assign(floor=np.nan)
    assert np.isnan(room(unknown)["room"].iloc[0])
    assert room(frame[frame["model"] == "M"])["best_baseline"].iloc[0] == ""


def test_quality_compares_on_the_same_half():
    replicates = pd.DataFrame(
        {
            "split_kind": "c", "stratum": "", "condition": list("ABAB"), "regime": "single_unseen",
            "metric": ["l2_top1000"] * 2 + ["pearson_delta"] * 2, "replicate": [1.0, 1.0, 0.9, 0.1],
            "mean_shift": [4.0, 2.0, 0.5, 0.5], "no_change": [4.0, 2.0, 0.0, 0.0],
        }
    )  # fmt: skip
    table = quality(replicates).set_index("metric")
    assert table.loc["l2_top1000", ["replicate", "mean_shift", "replicate_wins", "n"]].tolist() == [1.0, 3.0, 1.0, 2]
    assert table.loc["l2_top1000", "dynamic_range"] == pytest.approx(2 / 3)
    assert table.loc["pearson_delta", ["replicate_wins", "dynamic_range"]].tolist() == pytest.approx([0.5, 0.0])


def test_of_equal_baselines_the_simplest_is_named_everywhere():
    """MeanShift and the sum of two replaced singles are the same numbers where no pair was trained on."""
    level = {(f"C{i:02d}", 0, 0): 1.0 + i for i in range(12)}
    better = {key: 0.9 * value for key, value in level.items()}
    for metric in ("l2_top1000", "mse"):
        frame = frame_of({"Additive": level, "MeanShift": level, "M": better}, metric=metric)
        decides = hardest(gains(frame, **DRAWS)).set_index("model")["gain_vs"]
        assert decides["M"] == "MeanShift"
    frame = frame_of({"Additive": level, "MeanShift": level})
    assert room(frame)["best_baseline"].tolist() == ["MeanShift"]
