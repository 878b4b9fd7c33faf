"""What every metric must do: reach its best value, ignore what does not matter, name what is undefined (E2-E5)."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from scperturb_modules import metrics
from scperturb_modules.metrics import CORE, METRICS, STATUSES
from scperturb_modules.metrics._centroid import within_5_percent

RNG = np.random.default_rng(1)
T, H = RNG.normal(size=(2, 30))


def test_the_table_is_complete():
    assert set(CORE) <= set(METRICS) and len(CORE) == 9 and CORE[0] == metrics.PRIMARY == "l2_top1000"
    for name, metric in METRICS.items():
        assert name == metric.id
        assert metric.perfect == (0.0 if metric.better == "lower" else 1.0)
        assert metric.note and "\n" not in metric.note
        assert metric.loss([metric.perfect])[0] == 0


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_prediction_reaches_the_best_value(world, name):
    ideal = copy.copy(world)
    ideal.noise = np.zeros_like(world.truth)  # then the noise-free spread is the observed one
    ideal.se2 = np.full_like(world.se2, 0.01)  # then genes are ranked by their change, as p-values rank them
    np.testing.assert_allclose(ideal.score(name, ideal.truth), METRICS[name].perfect, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_no_prediction_is_better_than_a_perfect_one(world, name):
    loss = METRICS[name].loss
    noisy = world.truth + np.random.default_rng(5).normal(0, 1.5, world.truth.shape)
    assert loss(world.score(name, noisy)).mean() > loss(world.score(name, world.truth)).mean()


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_genes_does_not_matter(world, name):
    prediction = world.truth + np.random.default_rng(2).normal(0, 0.3, world.truth.shape)
    order = np.random.default_rng(3).permutation(world.truth.shape[1])
    shuffled = copy.copy(world)
    shuffled.truth, shuffled.noise = world.truth[:, order], world.noise[:, order]
    shuffled.se2, shuffled.control_mean = world.se2[order], world.control_mean[order]
    shuffled.training_mean, shuffled.names = world.training_mean[order], [world.names[i] for i in order]
    np.testing.assert_allclose(shuffled.score(name, prediction[:, order]), world.score(name, prediction), atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_conditions_does_not_matter(world, name):
    prediction = world.truth + np.random.default_rng(2).normal(0, 0.3, world.truth.shape)
    order = np.random.default_rng(3).permutation(len(world.truth))
    shuffled = copy.copy(world)
    shuffled.truth = world.truth[order]
    values, expected = shuffled.score(name, prediction[order]), world.score(name, prediction)
    np.testing.assert_allclose(values, expected if len(expected) == 1 else expected[order], atol=1e-12)


@pytest.mark.parametrize("function", [metrics.l2, metrics.mse, metrics.pearson])
def test_a_constant_added_to_both_changes_nothing(function):
    assert function(T + 3.0, H + 3.0)[0] == pytest.approx(function(T, H)[0], abs=1e-12)


def test_a_profile_added_to_both_does_not_change_discrimination_by_differences():
    truth, prediction = RNG.normal(size=(2, 15, 40))
    shift = RNG.normal(size=40)
    for function in (metrics.pds_l1, metrics.pds_l2):
        assert function(truth + shift, prediction + shift)[0].tolist() == function(truth, prediction)[0].tolist()
    assert metrics.pds_cos(truth + 5, prediction + 5)[0].tolist() != metrics.pds_cos(truth, prediction)[0].tolist()


def test_correlation_ignores_scale_and_distance_does_not():
    assert metrics.pearson(T, 7 * H)[0] == pytest.approx(metrics.pearson(T, H)[0], abs=1e-12)
    assert metrics.l2(T, 7 * H)[0] > 2 * metrics.l2(T, H)[0]


FLAT, FOUR = np.full(30, 0.7), np.arange(4.0)
SAME_TEN, ONES = np.tile(T, (10, 1)), np.ones((10, 30))
EDGES = [
    ("l2 few genes", lambda: metrics.l2(FOUR, FOUR), np.nan, "few_genes"),
    ("mse few genes", lambda: metrics.mse(FOUR, FOUR), np.nan, "few_genes"),
    ("pearson few genes", lambda: metrics.pearson(FOUR, FOUR), np.nan, "few_genes"),
    ("sign few genes", lambda: metrics.sign_agreement(FOUR, FOUR), np.nan, "few_genes"),
    ("slope few genes", lambda: metrics.slope(FOUR, FOUR), np.nan, "few_genes"),
    ("norm few genes", lambda: metrics.norm_ratio(FOUR, FOUR), np.nan, "few_genes"),
    ("auprc few genes", lambda: metrics.average_precision(FOUR > 1, FOUR), np.nan, "few_genes"),
    ("pearson constant truth", lambda: metrics.pearson(FLAT, H), np.nan, "constant_truth"),
    ("pearson nearly constant truth", lambda: metrics.pearson(FLAT + 1e-9 * T, H), np.nan, "constant_truth"),
    ("pearson constant prediction", lambda: metrics.pearson(T, FLAT), 0.0, "constant_prediction"),
    ("pearson large constant", lambda: metrics.pearson(T, 1e6 + 1e-3 * H), 0.0, "constant_prediction"),
    ("pearson both constant", lambda: metrics.pearson(FLAT, FLAT), np.nan, "constant_truth"),
    ("l2 of no effect is defined", lambda: metrics.l2(0 * T, 0 * T), 0.0, "ok"),
    ("sign without a direction", lambda: metrics.sign_agreement(1e-9 * T, H), np.nan, "constant_truth"),
    ("sign with four directions", lambda: metrics.sign_agreement(np.eye(30)[:4].sum(0), H), np.nan, "few_genes"),
    ("sign of no change", lambda: metrics.sign_agreement(T, 0 * T), 0.0, "ok"),
    ("slope of no change", lambda: metrics.slope(T, 0 * T), np.nan, "constant_prediction"),
    ("slope constant truth", lambda: metrics.slope(FLAT, H), np.nan, "constant_truth"),
    ("norm of no effect", lambda: metrics.norm_ratio(0 * T, H), np.nan, "constant_truth"),
    ("norm of no change", lambda: metrics.norm_ratio(T, 0 * T), 0.0, "ok"),
    ("within 5 % few genes", lambda: within_5_percent(1 + FOUR, 1 + FOUR), np.nan, "few_genes"),
    ("within 5 %, few expressed", lambda: within_5_percent(np.eye(30)[:4].sum(0), H), np.nan, "few_genes"),
    ("within 5 % of no effect", lambda: within_5_percent(FLAT, FLAT), 1.0, "ok"),
    ("auprc without a changed gene", lambda: metrics.average_precision(T > 9, np.abs(H)), np.nan, "no_true_de"),
    ("auprc with all genes changed", lambda: metrics.average_precision(T < 9, np.abs(H)), np.nan, "all_de"),
    ("auprc of no ranking", lambda: metrics.average_precision(np.arange(30) < 6, 0 * H), 0.2, "constant_prediction"),
    ("collapse few conditions", lambda: metrics.collapse(*np.ones((3, 9, 8))), np.nan, "few_conditions"),
    ("collapse few genes", lambda: metrics.collapse(*np.ones((3, 12, 4))), np.nan, "few_genes"),
    ("collapse of all noise", lambda: metrics.collapse(SAME_TEN, ONES, ONES), np.nan, "constant_truth"),
    ("settle few cells", lambda: metrics.settle((0.3, "ok"), n_cells=29), np.nan, "few_cells"),
    ("settle enough cells", lambda: metrics.settle((0.3, "ok"), n_cells=30), 0.3, "ok"),
    ("settle missing", lambda: metrics.settle((0.3, "ok"), n_cells=30, missing=True), 0.3, "missing"),
    ("settle missing and few", lambda: metrics.settle((0.3, "ok"), n_cells=5, missing=True), np.nan, "few_cells"),
    (
        "settle missing, undefined truth",
        lambda: metrics.settle((np.nan, "constant_truth"), n_cells=50, missing=True),
        np.nan,
        "constant_truth",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "value", "status"), [edge[1:] for edge in EDGES], ids=[edge[0] for edge in EDGES])
def test_edge_status(call, value, status):
    got, reason = call()
    assert reason == status and reason in STATUSES
    np.testing.assert_equal(got, value)


@pytest.mark.parametrize("function", [metrics.pds_l1, metrics.pds_l2, metrics.pds_cos])
def test_discrimination_needs_conditions_and_genes(function):
    values, status = function(*RNG.normal(size=(2, 9, 20)))
    assert status == "few_conditions" and np.isnan(values).all() and values.shape == (9,)
    values, status = function(*RNG.normal(size=(2, 10, 6)), [[0, 1]] + [[]] * 9)
    assert status == "few_genes" and np.isnan(values).all()


@pytest.mark.parametrize("function", [metrics.pds_l1, metrics.pds_l2, metrics.pds_cos])
def test_rounding_does_not_decide_a_rank(function):
    """All truths are equally far from the prediction, but their distances are sums in different orders."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=101)
    truth = np.array([rng.permutation(values) for _ in range(20)])
    assert function(truth, np.full_like(truth, 3.0))[0].tolist() == [0.5] * 20


def test_wrong_input_is_refused_with_what_is_wrong():
    with pytest.raises(ValueError, match=r"shape \(30,\) and prediction \(29,\)"):
        metrics.l2(T, H[:-1])
    with pytest.raises(ValueError, match="prediction holds 2 NaN or infinite values of 30"):
        metrics.pearson(T, np.r_[H[:-2], np.nan, np.inf])
    with pytest.raises(ValueError, match="9 conditions, but there are 12"):
        metrics.pds_l1(*np.ones((2, 12, 8)), [[]] * 9)
    with pytest.raises(ValueError, match="1 dimensions"):
        metrics.pds_l2(T, H)


def test_the_targets_own_change_does_not_give_the_answer_away():
    """The prediction knows nothing but that the target goes down; the score must be that of chance."""
    truth = np.random.default_rng(4).normal(size=(30, 100))
    truth[np.arange(30), np.arange(30)] -= 50
    prediction = np.zeros_like(truth)
    prediction[np.arange(30), np.arange(30)] = -50
    own = [[i] for i in range(30)]
    for function in (metrics.pds_l1, metrics.pds_l2):
        assert function(truth, prediction)[0].mean() == 1.0
        # every truth keeps its noise only; rows differ by which other targets fell, never by p's own
        assert 0.4 < function(truth[:, 30:], prediction[:, 30:])[0].mean() < 0.6
    masked = metrics.pds_cos(truth, prediction, own)[0]
    assert masked.tolist() == [0.5] * 30  # without its target the prediction is zero: all ties


@pytest.mark.parametrize("name", ["pds_l1", "pds_l2", "pds_cos", "sign_de20", "pearson_delta"])
def test_shuffled_predictions_score_as_chance(name):
    rng = np.random.default_rng(6)
    values = []
    for _ in range(20):
        truth = rng.normal(size=(25, 60))
        prediction = rng.permutation(truth)[:, rng.permutation(60)]
        if METRICS[name].kind == "across":
            values.append(METRICS[name].function(truth, prediction)[0].mean())
        else:
            values.extend(METRICS[name].function(t, h)[0] for t, h in zip(truth, prediction, strict=True))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - METRICS[name].chance) < 3 * error


def test_a_random_ranking_finds_the_prevalence():
    rng = np.random.default_rng(7)
    label = np.arange(2000) < 300
    values = [metrics.average_precision(label, rng.random(2000))[0] for _ in range(50)]
    assert np.mean(values) == pytest.approx(0.15, abs=3 * np.std(values) / np.sqrt(50) + 0.002)


@pytest.mark.parametrize("name", ["pds_l1", "pds_l2", "pds_cos"])
def test_the_same_prediction_for_all_scores_as_chance(world, name):
    same = np.tile(world.training_mean, (len(world.truth), 1))
    assert 0.4 <= METRICS[name].function(world.truth, same)[0].mean() <= 0.6


def test_the_training_mean_scores_nothing_beyond_itself(world):
    same = np.tile(world.training_mean, (len(world.truth), 1))
    assert world.score("pearson_pert", same).tolist() == [0.0] * len(same)
    assert world.score("pearson_delta", same).mean() > 0.1  # though the plain correlation looks like skill
    assert world.score("collapse", same).item() == pytest.approx(0, abs=1e-20)
