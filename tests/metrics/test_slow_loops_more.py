"""The metrics beyond the core against loops over single numbers that share no code with them (E1)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scperturb_modules import metrics

from .test_slow_loops import SEEDS, G, N, distance_l2, sample, slow_average_precision, slow_pearson


def total(values):
    return math.fsum(values)


def both(t, h):
    return list(zip(t, h, strict=True))


def slow_mae(t, h):
    return total(abs(a - b) for a, b in both(t, h)) / len(t)


def slow_rmse(t, h):
    return math.sqrt(total((a - b) ** 2 for a, b in both(t, h)) / len(t))


def slow_ranks(values):
    """Half of the equal ones, and all smaller ones, come first."""
    return [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]


def slow_spearman(t, h):
    return slow_pearson(slow_ranks(t), slow_ranks(h))


def slow_cosine(t, h):
    tt, hh = total(a * a for a in t), total(b * b for b in h)
    if tt == 0:
        return math.nan
    return total(a * b for a, b in both(t, h)) / math.sqrt(tt * hh) if hh else 0.0


def slow_top_overlap(t, h, k=7):
    if len({abs(b) for b in h}) == 1:
        return 0.0
    lists = [sorted(range(len(side)), key=lambda g: (-abs(side[g]), g))[:k] for side in (t, h)]
    return sum(gene in lists[1] for gene in lists[0]) / k


def slow_gi_gain(t, h):
    return 1 - total((a - b) ** 2 for a, b in both(t, h)) / total(a * a for a in t)


CONDITION = {
    metrics.mae: slow_mae,
    metrics.rmse: slow_rmse,
    metrics.spearman: slow_spearman,
    metrics.cosine: slow_cosine,
    metrics.gi_mse_gain: slow_gi_gain,
    metrics.top_overlap: slow_top_overlap,
}


@pytest.mark.parametrize("fast", CONDITION, ids=lambda function: function.__name__)
def test_condition_metric_equals_its_loop(fast):
    options = {"k": 7} if fast is metrics.top_overlap else {}
    for seed in SEEDS:
        for t, h in zip(*sample(seed), strict=True):
            expected = CONDITION[fast](t.tolist(), h.tolist())
            assert fast(t, h, **options)[0] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_noise_is_taken_off_the_distance():
    cut = 0
    for seed in SEEDS:
        noise = np.random.default_rng(seed).uniform(0, 0.6, (N, G))
        for t, h, v in zip(*sample(seed), noise, strict=True):
            left = total((a - b) ** 2 for a, b in both(t, h)) - total(v.tolist())
            cut += left < 0
            assert metrics.l2_noise_free(t, h, v)[0] == pytest.approx(math.sqrt(max(left, 0.0)), abs=1e-12)
    assert cut > 0


def slow_weights(t):
    known = [abs(a) for a in t if math.isfinite(a)]
    low, high = min(known), max(known)
    if low == high:
        return [1 / len(t)] * len(t)
    raw = [((abs(a) - low) / (high - low)) ** 2 if math.isfinite(a) else 0.0 for a in t]
    return [w / total(raw) for w in raw]


def test_weighted_errors_equal_their_loops():
    for seed in SEEDS:
        statistic = np.random.default_rng(seed).normal(size=(N, G))
        statistic[0], statistic[1, 3], statistic[2, 4] = -2.0, np.nan, np.inf
        for t, h, s in zip(*sample(seed), statistic, strict=True):
            weights = slow_weights(s.tolist())
            np.testing.assert_allclose(metrics.effect_weights(s), weights, atol=1e-15)
            error = total(w * (a - b) ** 2 for w, a, b in zip(weights, t, h, strict=True))
            mean = total(w * a for w, a in zip(weights, t, strict=True))
            spread = total(w * (a - mean) ** 2 for w, a in zip(weights, t, strict=True))
            assert metrics.weighted_mse(t, h, weights)[0] == pytest.approx(error, abs=1e-12)
            assert metrics.weighted_r2(t, h, weights)[0] == pytest.approx(1 - error / spread, abs=1e-12)


def test_lift_is_the_ratio_to_chance():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        labels, scores = (rng.random(G) < 0.3).tolist(), np.abs(rng.integers(-6, 7, G) / 8).tolist()
        area, share = slow_average_precision(labels, scores), sum(labels) / G
        assert metrics.lift(labels, scores)[0] == pytest.approx(area / share, abs=1e-12)
        assert metrics.lift_reached(labels, scores)[0] == pytest.approx((area - share) / (1 - share), abs=1e-12)


def test_signed_average_precision_equals_its_loop():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        direction, score = rng.choice([-1, 0, 0, 0, 1], G), rng.integers(-6, 7, G) / 8
        if seed == 0:
            direction = np.abs(direction)  # nothing goes down
        sides = [(direction == sign, sign * score) for sign in (1, -1) if (direction == sign).any()]
        areas = [slow_average_precision(labels.tolist(), scores.tolist()) for labels, scores in sides]
        assert metrics.signed_average_precision(direction, score) == (pytest.approx(np.mean(areas), abs=1e-12), "ok")


def slow_places(truth, prediction, excluded, p):
    genes = [g for g in range(len(truth[0])) if g not in excluded[p]]
    h = [prediction[p][g] for g in genes]
    to = [distance_l2(h, [row[g] for g in genes]) for row in truth]
    return sum(d < to[p] for d in to), sum(d == to[p] for d in to) - 1


def test_retrieval_equals_its_loop():
    """Of the orders that ties allow, the share in which the own truth is among the first."""
    for seed in SEEDS:
        truth, prediction = sample(seed)
        rng = np.random.default_rng(seed)
        excluded = [set(rng.choice(G, rng.integers(0, 3), replace=False).tolist()) for _ in range(N)]
        lists = [list(genes) for genes in excluded]
        for fast, first in ((metrics.top1, 1), (metrics.top10pct, math.ceil(N / 10))):
            expected = []
            for p in range(N):
                nearer, tied = slow_places(truth.tolist(), prediction.tolist(), excluded, p)
                expected.append(sum(place < first for place in range(nearer, nearer + tied + 1)) / (tied + 1))
            np.testing.assert_allclose(fast(truth, prediction, lists)[0], expected, atol=1e-12)


def test_transposed_rank_equals_its_loop():
    for seed in SEEDS:
        truth, prediction = sample(seed)
        rng = np.random.default_rng(seed)
        excluded = [set(rng.choice(G, rng.integers(0, 3), replace=False).tolist()) for _ in range(N)]
        expected = []
        for p in range(N):
            nearer, tied = slow_places(prediction.tolist(), truth.tolist(), excluded, p)  # sides exchanged
            expected.append(1 - (nearer + tied / 2) / (N - 1))
        scores, status = metrics.rank_t(truth, prediction, [list(genes) for genes in excluded])
        np.testing.assert_allclose(scores, expected, atol=1e-12)
        assert status == "ok"


def test_correlation_over_conditions_equals_its_loop(monkeypatch):
    monkeypatch.setattr("scperturb_modules.metrics._spread.N_VARIABLE", 21)
    for seed in SEEDS:
        truth, prediction = sample(seed)
        prediction[:, 3] = 0.5

        def variance(g, truth=truth):
            return distance_l2(truth[:, g], [total(truth[:, g]) / N] * N)

        chosen = sorted(range(G), key=lambda g: (-variance(g), g))[:21]
        each = sorted(slow_pearson(truth[:, g].tolist(), prediction[:, g].tolist()) for g in chosen)
        assert metrics.gene_correlation(truth, prediction) == (pytest.approx(each[10], abs=1e-12), "ok")


def test_effect_size_equals_its_loop():
    for seed in SEEDS:
        truth, prediction = sample(seed)
        sizes = [[total(v * v for v in row) for row in side.tolist()] for side in (truth, prediction)]
        assert metrics.effect_size(truth, prediction)[0] == pytest.approx(slow_spearman(*sizes), abs=1e-12)


def test_true_positive_rate_equals_its_loop():
    reached = set()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        labels = rng.random(60) < 0.3
        score = np.round(labels + rng.normal(0, 0.6, 60), 1)
        for limit in (0.1, 0.3):
            best = 0.0
            for threshold in set(score.tolist()):
                called = labels[score >= threshold].tolist()
                if called.count(False) * 10 <= round(10 * limit) * len(called):
                    best = max(best, sum(called) / labels.sum())
            assert metrics.true_positive_rate(labels, score, limit) == (pytest.approx(best, abs=1e-12), "ok")
            reached.add(best)
    assert len(reached) > 10


def slow_energy(first, second, *, unbiased):
    def mean_distance(left, right, n_pairs):
        return total(math.dist(a, b) for a in left for b in right) / n_pairs

    within = [mean_distance(side, side, len(side) * (len(side) - unbiased)) for side in (first, second)]
    return 2 * mean_distance(first, second, len(first) * len(second)) - sum(within)


def slow_mmd(first, second):
    pooled = first + second
    each = sorted(math.dist(a, b) for i, a in enumerate(pooled) for b in pooled[:i])
    middle = len(each) // 2
    width = each[middle] if len(each) % 2 else (each[middle - 1] + each[middle]) / 2

    def kernel(left, right):
        return [math.exp(-(math.dist(a, b) ** 2) / (2 * width**2)) for a in left for b in right]

    within = [(total(kernel(side, side)) - len(side)) / (len(side) * (len(side) - 1)) for side in (first, second)]
    return sum(within) - 2 * total(kernel(first, second)) / (len(first) * len(second))


def populations(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rng.integers(10, 16), 3)), rng.normal(0.4, 1.2, (rng.integers(10, 16), 3))


def test_distances_of_populations_equal_their_loops():
    negative = 0
    for seed in SEEDS:
        first, second = populations(seed)
        lists = first.tolist(), second.tolist()
        unbiased = slow_energy(*lists, unbiased=True)
        negative += unbiased < 0
        assert metrics.edist(first, second) == (pytest.approx(unbiased, abs=1e-12), "ok")
        assert metrics.edist_v(first, second)[0] == pytest.approx(slow_energy(*lists, unbiased=False), abs=1e-12)
        assert metrics.mmd(first, second) == (pytest.approx(slow_mmd(*lists), abs=1e-12), "ok")
    assert negative > 0  # reported as it is


def test_share_in_range_equals_its_loop():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        cells, predicted = rng.gamma(2.0, 0.5, (21, G)), rng.gamma(2.0, 0.5, (9, G))
        hits = 0
        for g in range(G):
            ascending = sorted(cells[:, g].tolist())  # of 21 values the quantile q is at position 20 q
            hits += ascending[9] <= total(predicted[:, g].tolist()) / 9 <= ascending[11]
        assert metrics.in_range(cells, predicted) == (pytest.approx(hits / G, abs=1e-12), "ok")


def slow_wilcoxon(x, y):
    """Rank-sum test with corrections for ties and continuity."""
    pooled = x + y
    n, m = len(x), len(y)
    u = sum((a > b) + 0.5 * (a == b) for a in x for b in y)
    ties = sum(pooled.count(v) ** 3 - pooled.count(v) for v in set(pooled))
    sd = math.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
    z = (max(u, n * m - u) - n * m / 2 - 0.5) / sd
    return min(1.0, math.erfc(z / math.sqrt(2)))


def slow_changed(cells, controls):
    p = []
    for g in range(cells.shape[1]):
        x, y = cells[:, g].tolist(), controls[:, g].tolist()
        p.append(slow_wilcoxon(x, y) if len(set(x + y)) > 1 else 1.0)
    ascending = sorted(range(len(p)), key=lambda g: p[g])
    last = max((i for i, g in enumerate(ascending, 1) if p[g] <= 0.05 * i / len(p)), default=0)
    return set(ascending[:last])


def test_differential_expression_score_equals_its_loop():
    seen = set()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        effect = np.where(rng.random(10) < 0.4, 1.5, 0.0)
        shift = [
            effect,
            effect * rng.choice([0, 1], 10) + rng.choice([0, -2], 10, p=[0.7, 0.3]),
            0 * effect,
            0 * effect,
        ]
        cells, predicted, tests, trains = (
            np.round(rng.normal(size=(12 + i, 10)) * 4) / 4 + s for i, s in enumerate(shift)
        )
        predicted[:, 0] = trains[:, 0] = 1.0
        true, called = slow_changed(cells, tests), slow_changed(predicted, trains)
        change = predicted.mean(axis=0) - trains.mean(axis=0)
        kept = sorted(called, key=lambda g: (-abs(change[g]), g))[: len(true)]
        expected = len(true & set(kept)) / len(true) if true else math.nan
        value, status = metrics.des(cells, predicted, tests, trains)
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert status == ("ok" if true else "no_true_de")
        seen.add((len(called) > len(true), status))
    assert len(seen) > 2  # lists are cut in some, and nothing is changed in others
