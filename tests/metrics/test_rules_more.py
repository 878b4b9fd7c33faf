"""Edge statuses, chance levels and invariances of the metrics beyond the core (E3-E5)."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import metrics
from scperturb_modules.metrics import CELL_METRICS, INTERACTION_METRICS, METRICS, STATUSES

RNG = np.random.default_rng(1)
T, H = RNG.normal(size=(2, 30))
FLAT, FOUR = np.full(30, 0.7), np.arange(4.0)
MANY, FEW = RNG.normal(size=(12, 6)), RNG.normal(size=(9, 6))
CALLED = np.arange(30) < 6
NOTHING = np.zeros(30, dtype=bool)
TABLE, NINE = RNG.normal(size=(12, 30)), RNG.normal(size=(9, 30))
FOUR_POPULATIONS = [np.random.default_rng(i).normal(size=(20, 8)) for i in range(4)]

EDGES = [
    ("mae few genes", lambda: metrics.mae(FOUR, FOUR), np.nan, "few_genes"),
    ("rmse few genes", lambda: metrics.rmse(FOUR, FOUR), np.nan, "few_genes"),
    ("noise-free few genes", lambda: metrics.l2_noise_free(FOUR, FOUR, FOUR), np.nan, "few_genes"),
    ("noise-free below noise", lambda: metrics.l2_noise_free(T, T, T**2), 0.0, "ok"),
    ("spearman few genes", lambda: metrics.spearman(FOUR, FOUR), np.nan, "few_genes"),
    ("spearman of no genes", lambda: metrics.spearman([], []), np.nan, "few_genes"),
    ("spearman constant truth", lambda: metrics.spearman(FLAT + 1e-12 * T, H), np.nan, "constant_truth"),
    ("spearman constant prediction", lambda: metrics.spearman(T, FLAT + 1e-12 * H), 0.0, "constant_prediction"),
    ("cosine few genes", lambda: metrics.cosine(FOUR, FOUR), np.nan, "few_genes"),
    ("cosine of no effect", lambda: metrics.cosine(0 * T, H), np.nan, "constant_truth"),
    ("cosine of no change", lambda: metrics.cosine(T, 0 * H), 0.0, "constant_prediction"),
    ("cosine of constants", lambda: metrics.cosine(FLAT, FLAT), pytest.approx(1.0), "ok"),
    ("wmse few genes", lambda: metrics.weighted_mse(FOUR, FOUR, FOUR), np.nan, "few_genes"),
    ("wr2 few genes", lambda: metrics.weighted_r2(FOUR, FOUR, FOUR), np.nan, "few_genes"),
    ("wr2 without spread", lambda: metrics.weighted_r2(FLAT, H, FLAT / 21), np.nan, "constant_truth"),
    ("lift without a changed gene", lambda: metrics.lift(NOTHING, H), np.nan, "no_true_de"),
    ("lift of no ranking", lambda: metrics.lift(CALLED, FLAT), 1.0, "constant_prediction"),
    ("lift reached, all changed", lambda: metrics.lift_reached(~NOTHING, H), np.nan, "all_de"),
    ("lift reached, no ranking", lambda: metrics.lift_reached(CALLED, FLAT), 0.0, "constant_prediction"),
    ("signed few genes", lambda: metrics.signed_average_precision(FOUR, FOUR), np.nan, "few_genes"),
    ("signed nothing changes", lambda: metrics.signed_average_precision(0 * T, H), np.nan, "no_true_de"),
    ("signed all go up", lambda: metrics.signed_average_precision(FLAT, H), np.nan, "all_de"),
    ("signed no ranking", lambda: metrics.signed_average_precision(1.0 * CALLED, FLAT), 0.2, "constant_prediction"),
    ("top list of all genes", lambda: metrics.top_overlap(T, H, k=30), np.nan, "few_genes"),
    ("top list of no order", lambda: metrics.top_overlap(FLAT, H, k=5), np.nan, "constant_truth"),
    ("top list of no change", lambda: metrics.top_overlap(T, 0 * H, k=5), 0.0, "constant_prediction"),
    ("gene_r few conditions", lambda: metrics.gene_correlation(NINE, NINE), np.nan, "few_conditions"),
    ("gene_r few genes", lambda: metrics.gene_correlation(TABLE[:, :4], TABLE[:, :4]), np.nan, "few_genes"),
    ("gene_r of one truth", lambda: metrics.gene_correlation(0 * TABLE + T, TABLE), np.nan, "constant_truth"),
    ("gene_r of one prediction", lambda: metrics.gene_correlation(TABLE, 0 * TABLE + T), 0.0, "constant_prediction"),
    ("effect size few conditions", lambda: metrics.effect_size(NINE, NINE), np.nan, "few_conditions"),
    ("effect size few genes", lambda: metrics.effect_size(TABLE[:, :4], TABLE[:, :4]), np.nan, "few_genes"),
    ("effect size of one truth", lambda: metrics.effect_size(0 * TABLE + T, TABLE), np.nan, "constant_truth"),
    ("effect size of one size", lambda: metrics.effect_size(TABLE, 0 * TABLE + T), 0.0, "constant_prediction"),
    ("interaction few genes", lambda: metrics.gi_mse_gain(FOUR, FOUR), np.nan, "few_genes"),
    ("interaction none", lambda: metrics.gi_mse_gain(0 * T, H), np.nan, "constant_truth"),
    ("interaction additive", lambda: metrics.gi_mse_gain(T, 0 * H), 0.0, "ok"),
    ("rate few entries", lambda: metrics.true_positive_rate(CALLED[:4], FOUR), np.nan, "few_genes"),
    ("rate nothing called", lambda: metrics.true_positive_rate(NOTHING, H), np.nan, "no_true_de"),
    ("rate all called", lambda: metrics.true_positive_rate(~NOTHING, H), np.nan, "all_de"),
    ("rate of no ranking", lambda: metrics.true_positive_rate(CALLED, FLAT), 0.0, "constant_prediction"),
    ("rate first is false", lambda: metrics.true_positive_rate(CALLED[::-1], -np.arange(30.0)), 0.0, "ok"),
    ("edist few cells", lambda: metrics.edist(MANY, FEW), np.nan, "few_cells"),
    ("edist_v few cells", lambda: metrics.edist_v(FEW, MANY), np.nan, "few_cells"),
    ("mmd few cells", lambda: metrics.mmd(FEW, MANY), np.nan, "few_cells"),
    ("mmd of equal cells", lambda: metrics.mmd(0 * MANY, 0 * MANY), np.nan, "degenerate"),
    ("edist of equal cells", lambda: metrics.edist(0 * MANY, 0 * MANY), 0.0, "ok"),
    ("range few cells", lambda: metrics.in_range(FEW, MANY), np.nan, "few_cells"),
    ("range no prediction", lambda: metrics.in_range(MANY, MANY[:0]), np.nan, "few_cells"),
    ("range few genes", lambda: metrics.in_range(MANY[:, :4], MANY[:, :4]), np.nan, "few_genes"),
    ("des few cells", lambda: metrics.des(MANY, MANY, FEW, MANY), np.nan, "few_cells"),
    ("des nothing changes", lambda: metrics.des(MANY, MANY + 9, MANY, MANY), np.nan, "no_true_de"),
    ("des nothing called", lambda: metrics.des(MANY + 9, MANY, MANY, MANY), 0.0, "ok"),
    ("des few genes", lambda: metrics.des(*[MANY[:, :4]] * 4), np.nan, "few_genes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "value", "status"), [edge[1:] for edge in EDGES], ids=[edge[0] for edge in EDGES])
def test_edge_status(call, value, status):
    got, reason = call()
    assert reason == status and reason in STATUSES
    assert got == value or np.isnan(got) and np.isnan(value)


@pytest.mark.parametrize("function", [metrics.rank_t, metrics.top1, metrics.top10pct])
def test_retrieval_needs_conditions_and_genes(function):
    values, status = function(NINE, NINE)
    assert status == "few_conditions" and np.isnan(values).all()
    values, status = function(TABLE[:, :6], TABLE[:, :6], [[0, 1]] + [[]] * 11)
    assert status == "few_genes" and np.isnan(values).all()


def test_wrong_input_is_refused_with_what_is_wrong():
    with pytest.raises(ValueError, match="false_discovery=1.5 is no proportion"):
        metrics.true_positive_rate(CALLED, H, 1.5)
    with pytest.raises(ValueError, match=r"shape \(12, 6\) and prediction \(12, 30\); both are cells x dimensions"):
        metrics.edist(MANY, TABLE)
    with pytest.raises(ValueError, match="prediction holds NaN"):
        metrics.mmd(MANY, MANY * np.nan)
    with pytest.raises(ValueError, match="cells x genes with the same genes"):
        metrics.des(MANY, MANY, MANY, TABLE)


def test_no_spread_gives_equal_weights():
    assert metrics.effect_weights([2.0, -2.0]).tolist() == [0.5, 0.5]
    assert metrics.effect_weights([np.nan, np.inf]).tolist() == [0.5, 0.5]


def test_the_tables_of_cells_and_interactions_are_complete():
    for table in (CELL_METRICS, INTERACTION_METRICS):
        for name, metric in table.items():
            assert name == metric.id and name not in METRICS and metric.note
            assert metric.perfect == (0.0 if metric.better == "lower" else 1.0)


@pytest.mark.parametrize("name", INTERACTION_METRICS)
def test_perfect_interactions_reach_the_best_value(name):
    truth = 1.0 * CALLED if INTERACTION_METRICS[name].target == "calls" else T
    assert INTERACTION_METRICS[name].function(truth, truth) == (pytest.approx(1.0, abs=1e-12), "ok")


def test_perfect_cells_reach_the_best_value():
    """The same distribution: distances are 0 on average, and the same cells show the same genes."""
    rng = np.random.default_rng(3)
    pairs = rng.normal(size=(300, 2, 20, 5))
    for name in ("edist", "mmd"):
        values = [CELL_METRICS[name].function(*pair)[0] for pair in pairs]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    biased = [metrics.edist_v(*pair)[0] for pair in pairs]
    assert np.mean(biased) > 0.2 and min(biased) > 0
    cells, controls = MANY + np.array([3, -3, 3, 0, 0, 0]), np.random.default_rng(4).normal(size=(40, 6))
    assert metrics.des(cells, cells, controls, controls) == (1.0, "ok")


def test_random_lists_find_the_share_of_chance():
    rng = np.random.default_rng(5)
    overlap = [metrics.top_overlap(rng.normal(size=200), rng.normal(size=200), k=50)[0] for _ in range(100)]
    assert np.mean(overlap) == pytest.approx(0.25, abs=3 * np.std(overlap) / 10)
    lift = [metrics.lift(np.arange(500) < 100, rng.random(500))[0] for _ in range(100)]
    assert np.mean(lift) == pytest.approx(1.0, abs=3 * np.std(lift) / 10 + 0.02)
    reached = [metrics.lift_reached(np.arange(500) < 100, rng.random(500))[0] for _ in range(100)]
    assert np.mean(reached) == pytest.approx(0.0, abs=3 * np.std(reached) / 10 + 0.005)


@pytest.mark.parametrize(
    ("name", "chance"),
    [("rank_t", 0.5), ("top1", 1 / 25), ("top10pct", 3 / 25), ("gene_r", 0.0), ("effect_size", 0.0),
     ("spearman_delta", 0.0), ("cosine_delta", 0.0), ("sign_sig", 0.5)],
)  # fmt: skip
def test_shuffled_predictions_score_as_chance(name, chance):
    metric, rng, values = METRICS[name], np.random.default_rng(6), []
    for _ in range(30):
        truth = rng.normal(size=(25, 60)) * rng.lognormal(size=(25, 1))
        prediction = rng.permutation(truth)[:, rng.permutation(60)]
        if metric.kind == "condition":
            values.append(np.mean([metric.function(t, h)[0] for t, h in zip(truth, prediction, strict=True)]))
        else:
            values.append(np.mean(metric.function(truth, prediction)[0]))
    assert abs(np.mean(values) - chance) < 3 * np.std(values, ddof=1) / np.sqrt(len(values))
    assert metric.chance in (chance, None)


def test_the_same_prediction_for_all_is_retrieved_by_chance():
    same = np.tile(T, (12, 1))
    assert metrics.top1(TABLE, same)[0].mean() == pytest.approx(1 / 12)
    assert metrics.top10pct(TABLE, same)[0].mean() == pytest.approx(2 / 12)
    assert metrics.rank_t(TABLE, same)[0].tolist() == [0.5] * 12  # every truth is as far from each prediction


def test_a_wrong_direction_is_not_found():
    truth = np.repeat([1.0, -1.0, 0.0], 10)
    assert metrics.signed_average_precision(truth, -truth)[0] < 0.4
    assert metrics.average_precision(truth != 0, np.abs(-truth))[0] == 1.0


def test_distances_ignore_a_shift_and_order_of_cells():
    first, second = FOUR_POPULATIONS[:2]
    order = np.random.default_rng(0).permutation(20)
    for function in (metrics.edist, metrics.edist_v, metrics.mmd):
        value = function(first, second)[0]
        assert function(first + 5, second + 5)[0] == pytest.approx(value, abs=1e-12)
        assert function(first[order], second)[0] == pytest.approx(value, abs=1e-12)
