"""Which metrics mean something, and what each does when it is gamed (E6)."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.metrics import METRICS, gaming_warnings, metric_quality


def test_quality_by_hand():
    quality = metric_quality("pearson_delta", [0.9, 0.7, 0.2, np.nan], [0.5, 0.3, 0.4, 0.1])
    assert quality.dynamic_range == pytest.approx((0.6 - 0.4) / (1 - 0.4))
    assert (quality.replicate_wins, quality.n) == (pytest.approx(2 / 3), 3)


def test_quality_is_read_in_the_better_direction():
    near, far = np.array([1.0, 2.0]), np.array([3.0, 2.5])
    assert metric_quality("l2_top1000", near, far).replicate_wins == 1
    assert metric_quality("pearson_delta", near / 4, far / 4).replicate_wins == 0
    assert metric_quality("slope", [0.9, 1.2], [2.0, 0.1]).replicate_wins == 1
    assert metric_quality("l2_top1000", far, near).dynamic_range == pytest.approx(-2.5 / 3)
    assert metric_quality("l2_top1000", 9 * far, near).dynamic_range == -1  # clipped


def test_quality_of_ties_and_of_nothing():
    assert metric_quality("sign_de20", [0.5, 0.9], [0.5, 0.5]).replicate_wins == 0.75
    nothing = metric_quality("l2_top1000", [np.nan], [1.0])
    assert nothing.n == 0 and np.isnan(nothing.dynamic_range) and np.isnan(nothing.replicate_wins)
    assert np.isnan(metric_quality("l2_top1000", [1.0], [0.0]).dynamic_range)


@pytest.fixture(scope="module")
def timid(world):
    """A predictor that is noisy and predicts effects less than half as large as they are."""
    rng = np.random.default_rng(9)
    return 0.4 * (world.truth + rng.normal(0, 0.4, world.truth.shape))


# what each trick does to each metric: "+" looks better, "-" looks worse, "=" does not change
TRICKS = {
    "times 10": lambda world, h: 10 * h,
    "times 0.1": lambda world, h: 0.1 * h,
    "noise": lambda world, h: h + np.random.default_rng(8).normal(0, 1.0, h.shape),
    "training mean": lambda world, h: np.tile(world.training_mean, (len(h), 1)),
    "control": lambda world, h: np.zeros_like(h),
    "all up": lambda world, h: np.ones_like(h),
}
TABLE = {
    #                     x10  x0.1 noise mean control up
    "l2_top1000":         "-    -    -    -    -    -",
    "mse":                "-    -    -    -    -    -",
    "mse_de20":           "-    -    -    -    -    -",
    "pearson_delta":      "=    =    -    -    -    -",
    "pearson_delta_de20": "=    =    -    -    -    -",
    "pds_l1":             "+    -    -    -    -    -",
    "pds_l2":             "+    -    -    -    -    -",
    "pds_cos":            "=    =    -    -    -    -",
    "auprc_de":           "=    =    -    -    -    -",
    "sign_de20":          "=    =    -    -    -    -",
    "slope":              "-    -    -    +    .    -",
    "norm_ratio":         "-    -    -    -    -    -",
    "collapse":           "-    -    -    -    -    -",
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("name", TABLE)
def test_what_a_trick_does_to_a_metric(world, timid, name, trick):
    expected = TABLE[name].split()[list(TRICKS).index(trick)]
    values = world.score(name, TRICKS[trick](world, timid))
    if expected == ".":
        assert np.isnan(values).all()
        return
    honest, gamed = METRICS[name].loss(world.score(name, timid)).mean(), METRICS[name].loss(values).mean()
    change = 0 if gamed == pytest.approx(honest, abs=1e-9) else np.sign(honest - gamed)
    assert "-=+"[int(change) + 1] == expected, (honest, gamed)


def test_inflating_a_timid_prediction_is_reported(world, timid):
    """Discrimination rises and distance worsens: the warning says that the size is wrong."""
    inflated = 10 * timid
    better = [
        name
        for name in ("l2_top1000", "pds_l1", "pds_cos")
        if METRICS[name].loss(world.score(name, inflated)).mean() < METRICS[name].loss(world.score(name, timid)).mean()
    ]
    assert better == ["pds_l1"]
    slope, collapse = world.score("slope", inflated).mean(), world.score("collapse", inflated).item()
    assert slope < 0.5 and collapse > 3
    assert gaming_warnings("Inflated", better, slope=slope, collapse=collapse) == [
        f"Inflated improves pds_l1, but its slope is {slope:.2f} (trusted from 0.5 to 2): "
        "the size of its changes is wrong.",
        f"Inflated improves pds_l1, but its collapse is {collapse:.2f} (trusted from 0.3 to 3): "
        "the spread of its predictions is wrong.",
    ]


def test_no_warning_without_a_trick(world, timid):
    slope, collapse = world.score("slope", timid).mean(), world.score("collapse", timid).item()
    assert gaming_warnings("Honest", ["pds_l1"], slope=slope, collapse=collapse) == []
    assert gaming_warnings("Honest", ["pds_l1"], slope=float("nan"), collapse=float("nan")) == []
    assert gaming_warnings("Primary", ["l2_top1000"], slope=9.0, collapse=9.0) == []
