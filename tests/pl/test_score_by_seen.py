import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules.metrics import mean_interval
from scperturb_modules.pl._score_by_seen import score_by_seen
from scperturb_modules.pl._style import PALETTE

SIZES = {"single_unseen": 8, "pair_0of2": 5, "pair_2of2": 12, "pair_1of2": 15}


@pytest.fixture
def frame():
    """Two predictors, two seeds of one of them; the value of a condition is known."""
    rows = []
    for regime, n in SIZES.items():
        for number in range(n):
            value = 1.0 + 0.1 * number
            rows.append((regime, f"{regime}{number:02d}", "Additive", 0, value))
            rows += [
                (regime, f"{regime}{number:02d}", "Mine", seed, value / 2 + shift)
                for seed, shift in ((0, -0.1), (1, 0.1))
            ]
    table = pd.DataFrame(rows, columns=["regime", "condition", "model", "model_seed", "value"])
    table = table.assign(metric="mse_de20", stratum="", split_kind="combination", status="ok", split_seed=0, fold=0)
    other = table.assign(metric="pearson_delta", value=0.5)
    return pd.concat([table, other], ignore_index=True).astype({"model": "category", "regime": "category"})


def groups(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def texts(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def points(ax):
    return {one.get_label(): one for one in ax.get_lines() if one.get_linestyle() == "None"}


def test_draws_in_the_given_axes_and_nowhere_else(frame, two_axes):
    wanted, current = two_axes
    assert score_by_seen(frame, ax=wanted) is wanted
    assert not current.get_lines() and not current.collections


def test_groups_from_most_to_least_seen_with_their_numbers(frame):
    assert groups(score_by_seen(frame)) == [
        "pairs,\n2/2 seen\nn = 12",
        "pairs,\n1/2 seen\nn = 15",
        "pairs,\n0/2 seen\nn = 5",
        "single,\nunseen\nn = 8",
    ]


def test_points_are_means_and_bars_their_bootstrap_intervals(frame):
    ax = score_by_seen(frame)
    drawn = points(ax)
    assert list(drawn) == ["Additive", "Mine"]
    values = [np.mean(1 + 0.1 * np.arange(n)) for n in (12, 15, 5, 8)]
    np.testing.assert_allclose(drawn["Additive"].get_ydata(), values)
    np.testing.assert_allclose(drawn["Mine"].get_ydata(), np.array(values) / 2)
    assert [to_hex(one.get_color()).upper() for one in drawn.values()] == list(PALETTE[:2])
    assert (drawn["Mine"].get_xdata() > drawn["Additive"].get_xdata()).all()
    assert (np.abs(drawn["Mine"].get_xdata() - np.arange(4)) < 0.5).all()
    bars = ax.collections[0].get_segments()
    expected = mean_interval(1 + 0.1 * np.arange(12))
    np.testing.assert_allclose(bars[0][:, 1], [expected.low, expected.high])
    finite = [len(bar) > 0 and np.isfinite(bar).all() for bar in bars]
    assert sum(finite) == 2 and "No bar: fewer than 10 conditions" in texts(ax)


def test_every_level_with_enough_conditions_needs_no_word(frame):
    assert not texts(score_by_seen(frame[frame["regime"].isin(["pair_2of2", "pair_1of2"])]))


def test_predictors_in_the_order_asked_for(frame):
    assert list(points(score_by_seen(frame, models=["Mine", "Additive"]))) == ["Mine", "Additive"]
    assert list(points(score_by_seen(frame, models=["Mine"]))) == ["Mine"]
    with pytest.raises(ValueError, match="no predictor 'Nobody'; it holds Additive, Mine"):
        score_by_seen(frame, models=["Nobody"])


def test_chance_is_drawn_where_there_is_one(frame):
    ax = score_by_seen(frame, metric="pearson_delta")
    (chance,) = [one for one in ax.get_lines() if one.get_label() == "chance"]
    assert set(chance.get_ydata()) == {0.0}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Additive", "Mine", "chance"]
    assert "Pearson correlation" in ax.get_ylabel().replace("\n", " ") and "higher is better" in ax.get_ylabel()
    assert not any(one.get_label() == "chance" for one in score_by_seen(frame).get_lines())
    with pytest.raises(ValueError, match="no metric 'mse'"):
        score_by_seen(frame, metric="mse")


def test_undefined_and_absent_scores_are_counted(frame):
    mse = (frame["metric"] == "mse_de20") & (frame["model"] == "Additive") & (frame["regime"] == "pair_0of2")
    first, second, *_ = frame.index[mse]
    frame.loc[first, ["value", "status"]] = np.nan, "few_cells"
    frame.loc[second, "status"] = "missing"
    ax = score_by_seen(frame)
    assert "1 of 120 scores are undefined (few_cells) and left out" in texts(ax)
    assert "1 of 120 were not predicted and count as no change" in texts(ax)
    assert "n = 4 to 5" in groups(ax)[2]
    assert points(ax)["Additive"].get_ydata()[2] == pytest.approx(np.mean([1.1, 1.2, 1.3, 1.4]))
    frame.loc[mse, "value"] = np.nan
    assert np.isnan(points(score_by_seen(frame, models=["Additive"]))["Additive"].get_ydata()[2])


def test_a_level_of_two_kinds_of_split_is_two_groups(frame):
    twice = pd.concat([frame, frame.assign(split_kind="unseen_single")], ignore_index=True)
    labels = groups(score_by_seen(twice))
    assert len(labels) == 8 and labels[0] == "pairs,\n2/2 seen\n(combination)\nn = 12"


def test_a_condition_in_two_cell_types_is_one_unit(frame):
    both = pd.concat([frame.assign(stratum="x"), frame.assign(stratum="y")], ignore_index=True)
    ax, alone = score_by_seen(both), score_by_seen(frame)
    for here, there in zip(ax.collections[0].get_segments()[:2], alone.collections[0].get_segments()[:2], strict=True):
        np.testing.assert_allclose(here, there)


def test_splits_of_a_condition_are_averaged_whatever_their_numbers_of_seeds(frame):
    one = frame[(frame["model"] == "Mine") & (frame["regime"] == "pair_2of2")]
    other = one[one["model_seed"] == 0].assign(split_seed=1, value=one["value"] + 3.0)
    ax = score_by_seen(pd.concat([one, other], ignore_index=True))
    first, second = np.mean(1 + 0.1 * np.arange(12)) / 2, np.mean(1 + 0.1 * np.arange(12)) / 2 - 0.1 + 3.0
    assert points(ax)["Mine"].get_ydata()[0] == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_text_is_cut_or_overlaps(frame, assert_readable, width):
    for metric in ("mse_de20", "pearson_delta"):
        ax = plt.subplots(figsize=(width, 3.8), layout="constrained")[1]
        assert_readable(score_by_seen(frame, metric=metric, ax=ax))
