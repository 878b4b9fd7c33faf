from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.train._history import EpochMeans, History


def alone(numbers):
    return numbers


def test_means_are_weighted_and_close_starts_anew():
    means = EpochMeans()
    for value, weight in [(1.0, 2.0), (4.0, 1.0), (float("nan"), 0.0)]:
        means.add({"loss": value}, weight)
    means.add({"other": 5.0}, 3.0)
    assert means.close(alone) == {"loss": 2.0, "other": 5.0}
    assert not means and means.close(alone) == {}


def test_no_weight_at_all_is_nan():
    means = EpochMeans()
    means.add({"loss": 1.0}, 0.0)
    assert np.isnan(means.close(alone)["loss"])


def test_a_resume_continues_with_the_sums_of_all_ranks():
    ranks = [EpochMeans(), EpochMeans()]
    for mean, value in zip(ranks, (1.0, 3.0), strict=True):
        mean.add({"a": value, "b": 0.0}, 2.0)
    total = [sum(pair) for pair in zip(*(list_of(mean) for mean in ranks), strict=True)]
    state = ranks[0].state(lambda numbers: total)
    resumed = [EpochMeans(), EpochMeans()]
    resumed[0].load(state)
    resumed[1].load({})
    for mean in resumed:
        mean.add({"a": 5.0, "b": 0.0}, 1.0)
    total = [sum(pair) for pair in zip(*(list_of(mean) for mean in resumed), strict=True)]
    assert resumed[0].close(lambda numbers: total)["a"] == pytest.approx((1 * 2 + 3 * 2 + 5 + 5) / 6)


def list_of(mean: EpochMeans) -> list[float]:
    return [number for pair in mean.state(alone).values() for number in pair]


def test_history_has_a_table_per_metric_and_survives_as_plain_data():
    history = History()
    history.add(0, {"train_loss": 2.0})
    history.add(1, {"train_loss": 1.0})
    history.add(1, {"validation_loss": 3.0})
    again = History()
    again.load(history.state())
    frames = again.frames()
    assert frames["train_loss"]["train_loss"].to_dict() == {0: 2.0, 1: 1.0}
    assert frames["validation_loss"]["validation_loss"].to_dict() == {1: 3.0}
    assert all(type(value) in (int, float) for row in history.state() for value in row.values())
