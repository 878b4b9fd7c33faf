"""Every metric against a loop over single numbers, written from its formula and sharing no code with it (E1)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from scperturb_modules import metrics
from scperturb_modules.metrics._centroid import within_5_percent

SEEDS = range(50)
N, G = 12, 30


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Multiples of 1/8, so that sums are exact and ties and zeros are frequent; some rows are all zero."""
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(-6, 7, (2, N, G)) / 8
    truth[rng.random((N, G)) < 0.3] = 0
    prediction[rng.random((N, G)) < 0.3] = 0
    prediction[1] = 0
    truth[2] = truth[3]
    return truth, prediction


def slow_l2(t, h):
    return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(t, h, strict=True)))


def slow_mse(t, h):
    return math.fsum((a - b) ** 2 for a, b in zip(t, h, strict=True)) / len(t)


def slow_pearson(t, h):
    mean_t, mean_h = math.fsum(t) / len(t), math.fsum(h) / len(h)
    tt = math.fsum((a - mean_t) ** 2 for a in t)
    hh = math.fsum((b - mean_h) ** 2 for b in h)
    if tt == 0:
        return math.nan
    if hh == 0:
        return 0.0
    return math.fsum((a - mean_t) * (b - mean_h) for a, b in zip(t, h, strict=True)) / math.sqrt(tt * hh)


def slow_sign(t, h):
    right = total = 0
    for a, b in zip(t, h, strict=True):
        if abs(a) > 1e-8:
            total += 1
            right += (a > 0 and b > 0) or (a < 0 and b < 0)
    return right / total


def slow_slope(t, h):
    hh = math.fsum(b * b for b in h)
    return math.nan if hh == 0 else math.fsum(a * b for a, b in zip(t, h, strict=True)) / hh


def slow_norm_ratio(t, h):
    return math.sqrt(math.fsum(b * b for b in h)) / math.sqrt(math.fsum(a * a for a in t))


CONDITION = {
    metrics.l2: slow_l2,
    metrics.mse: slow_mse,
    metrics.pearson: slow_pearson,
    metrics.sign_agreement: slow_sign,
    metrics.slope: slow_slope,
    metrics.norm_ratio: slow_norm_ratio,
}


@pytest.mark.parametrize("fast", CONDITION, ids=lambda function: function.__name__)
def test_condition_metric_equals_its_loop(fast):
    for seed in SEEDS:
        truth, prediction = sample(seed)
        for t, h in zip(truth, prediction, strict=True):
            assert fast(t, h)[0] == pytest.approx(CONDITION[fast](t.tolist(), h.tolist()), abs=1e-12, nan_ok=True)


def test_share_within_5_percent_equals_its_loop():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        truth = np.round(rng.gamma(1.0, 0.5, G), 2)
        prediction = np.round(truth * rng.choice([0.93, 0.95, 0.97, 1.0, 1.05, 1.06], G), 4)
        # in whole ten-thousandths, where nothing is rounded
        pairs = [(round(1e4 * t), round(1e4 * h)) for t, h in zip(truth, prediction, strict=True)]
        hits = [20 * abs(h - t) <= t for t, h in pairs if t >= 500]
        assert within_5_percent(truth, prediction) == (pytest.approx(sum(hits) / len(hits), abs=1e-12), "ok")


def distance_l1(a, b):
    return math.fsum(abs(x - y) for x, y in zip(a, b, strict=True))


def distance_l2(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def distance_cos(a, b):
    size = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(y * y for y in b))
    similarity = math.fsum(x * y for x, y in zip(a, b, strict=True)) / size if size else 0.0
    return round(1 - similarity, 11)


def slow_pds(truth, prediction, excluded, distance):
    scores = []
    for p in range(len(truth)):
        genes = [g for g in range(len(truth[0])) if g not in excluded[p]]
        h = [prediction[p][g] for g in genes]
        to = [distance(h, [truth[j][g] for g in genes]) for j in range(len(truth))]
        rank = 0.0
        for j in range(len(truth)):
            if j != p:
                rank += 1.0 if to[j] < to[p] else 0.5 if to[j] == to[p] else 0.0
        scores.append(1 - rank / (len(truth) - 1))
    return scores


@pytest.mark.parametrize(
    ("fast", "distance"),
    [(metrics.pds_l1, distance_l1), (metrics.pds_l2, distance_l2), (metrics.pds_cos, distance_cos)],
    ids=["l1", "l2", "cos"],
)
def test_discrimination_equals_its_loop(fast, distance, monkeypatch):
    monkeypatch.setattr("scperturb_modules.metrics._ranking.BLOCK", 5)  # 12 conditions in three blocks
    for seed in SEEDS:
        truth, prediction = sample(seed)
        rng = np.random.default_rng(seed)
        excluded = [rng.choice(G, rng.integers(0, 3), replace=False) for _ in range(N)]
        fast_scores, status = fast(truth, prediction, excluded)
        assert status == "ok"
        expected = slow_pds(truth.tolist(), prediction.tolist(), [set(e.tolist()) for e in excluded], distance)
        np.testing.assert_allclose(fast_scores, expected, atol=1e-12)


def slow_collapse(truth, prediction, noise):
    def variance(values):
        mean = math.fsum(values) / len(values)
        return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)

    spread = signal = 0.0
    for g in range(len(truth[0])):
        spread += variance([row[g] for row in prediction])
        excess = variance([row[g] for row in truth]) - sum(row[g] for row in noise) / len(noise)
        signal += excess if excess > 0 else 0.0
    return spread / signal


def test_collapse_equals_its_loop():
    for seed in SEEDS:
        truth, prediction = sample(seed)
        noise = np.random.default_rng(seed).uniform(0, 0.4, truth.shape)  # larger than the spread of some genes
        value, status = metrics.collapse(truth, prediction, noise)
        expected = slow_collapse(truth.tolist(), prediction.tolist(), noise.tolist())
        assert (value, status) == (pytest.approx(expected, abs=1e-12), "ok")


def slow_average_precision(labels, scores):
    """Sum over distinct thresholds of precision times the recall gained there."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        called = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        new_recall = sum(called) / sum(labels)
        area += sum(called) / len(called) * (new_recall - recall)
        recall = new_recall
    return area


def test_average_precision_equals_its_loop_and_scikit_learn():
    from sklearn.metrics import average_precision_score

    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        labels, scores = rng.random(G) < 0.3, np.abs(rng.integers(-6, 7, G) / 8)
        value, _ = metrics.average_precision(labels, scores)
        assert value == pytest.approx(slow_average_precision(labels.tolist(), scores.tolist()), abs=1e-12)
        assert value == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def slow_top(values, names, n):
    return sorted(range(len(values)), key=lambda g: (-values[g], names[g]))[:n]


def test_gene_sets_equal_their_loops():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        mean, names = rng.integers(0, 6, G) / 8, [f"G{i}" for i in rng.permutation(G)]
        assert metrics.top_genes(mean, names, n=11).tolist() == slow_top(mean.tolist(), names, 11)

        t, detection = rng.integers(-8, 9, G) / 4, rng.choice([0.0, 0.049, 0.05, 0.9], G)
        t[rng.random(G) < 0.1] = np.nan
        exclude = rng.choice(G, 2, replace=False).tolist()
        allowed = [g for g in range(G) if detection[g] >= 0.05 and g not in exclude and not math.isnan(t[g])]
        expected = sorted(allowed, key=lambda g: (-abs(t[g]), g))[:10]
        assert metrics.de_genes(t, detection, exclude, n=10).tolist() == expected


def test_significant_genes_equal_their_loop():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        p, detection = rng.beta(0.3, 1.5, G), rng.choice([0.01, 0.5], G, p=[0.2, 0.8])
        p[3] = np.nan
        tested = [g for g in range(G) if detection[g] >= 0.05 and g not in (3, 7)]
        ascending = sorted(tested, key=lambda g: p[g])
        last = max((i for i, g in enumerate(ascending, 1) if p[g] < 0.05 * i / len(tested)), default=0)
        significant, mask = metrics.significant_genes(p, detection, [7])
        assert np.flatnonzero(mask).tolist() == tested
        assert set(np.flatnonzero(significant).tolist()) == set(ascending[:last])


def test_de_score_is_the_change_in_units_of_its_noise():
    noise = np.array([0.0, 0.01, 0.04, 0.09])
    s0 = 0.04  # median of the positive ones
    expected = [abs(h) / math.sqrt(v + s0) for h, v in zip([1.0, -2.0, 0.0, 3.0], noise, strict=True)]
    np.testing.assert_allclose(metrics.de_score([1.0, -2.0, 0.0, 3.0], noise), expected, rtol=1e-14)
    assert metrics.de_score([1.0, -2.0], [0.0, 0.0]).tolist() == [1.0, 2.0]
    # the same change calls a quiet gene more strongly than a noisy one
    assert all(a > b for a, b in pairwise(metrics.de_score(np.ones(3), noise[1:])))
