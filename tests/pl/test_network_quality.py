import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scperturb_modules.pl import network_quality

CHANGES = [("none", 0.0), ("remove", 0.25), ("remove", 0.5), ("add", 0.25), ("add", 0.5), ("permute", 1.0)]


@pytest.fixture
def frame():
    """Two predictors that read the network and two that do not; the gain of the intact network is known."""
    rows = []
    for model, intact in (("Graph", 4.0), ("Other", 4.2), ("MeanShift", 5.0), ("NoChange", 5.5)):
        for number, (change, amount) in enumerate(CHANGES):
            gain = 0.04 * number if model in ("Graph", "Other") else 0.0
            rows.append((model, change, amount, intact / (1 - gain), gain, gain - 0.02, gain + 0.03))
    names = ["model", "change", "amount", "mean", "intact_gain", "intact_low", "intact_high"]
    table = pd.DataFrame(rows, columns=names).assign(split_kind="unseen_single", metric="l2_top1000", n=40)
    few = table.assign(regime="pair_1of2", n=12, mean=9.0)
    return pd.concat([few, table.assign(regime="single_unseen")], ignore_index=True)


def line(ax, label):
    (found,) = [one for one in ax.get_lines() if one.get_label() == label]
    return found


def test_draws_in_the_given_axes_and_nowhere_else(frame, two_axes):
    wanted, current = two_axes
    assert network_quality(frame, ax=wanted) is wanted
    assert not current.get_lines() and not current.collections and len(plt.get_fignums()) == 1


def test_a_line_per_predictor_that_the_network_makes_a_difference_to(frame):
    ax = network_quality(frame)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["Graph", "Other", "MeanShift (no network)"], "the best of those without a network, no other"
    expected = [4 / (1 - gain) for gain in (0.08, 0.04, 0.0, 0.12, 0.16)]  # -50 %, -25 %, intact, +25 %, +50 %
    np.testing.assert_allclose(line(ax, "Graph").get_ydata(), expected)
    places = line(ax, "Graph").get_xdata()
    np.testing.assert_allclose(np.diff(places), 0.25)
    shift = line(ax, "Other").get_xdata() - places
    assert (shift > 0).all() and (shift < 0.05).all(), "side by side"
    assert set(line(ax, "MeanShift (no network)").get_ydata()) == {5.0}


def test_permuted_labels_are_a_diamond_at_the_right_end(frame):
    ax = network_quality(frame)
    diamonds = [one for one in ax.get_lines() if one.get_marker() == "D"]
    np.testing.assert_allclose([one.get_ydata()[0] for one in diamonds], [4 / 0.8, 4.2 / 0.8])
    assert min(one.get_xdata()[0] for one in diamonds) > line(ax, "Other").get_xdata().max()
    ticks = dict(zip([label.get_text() for label in ax.get_xticklabels()], ax.get_xticks(), strict=True))
    assert sorted(ticks, key=ticks.get) == ["-50 %", "-25 %", "intact", "+25 %", "+50 %", "labels\npermuted"]
    assert ticks["intact"] == 0 and ticks["+50 %"] == 0.5


def test_bars_are_the_paired_intervals(frame):
    ax = network_quality(frame)
    bars = ax.collections[0].get_segments()
    middle = line(ax, "Graph").get_ydata()
    for bar, value in zip(bars, middle, strict=False):
        gain = 1 - 4 / value
        np.testing.assert_allclose(sorted(bar[:, 1]), [4 / (1 - gain + 0.02), 4 / (1 - gain - 0.03)])


def test_bars_of_a_metric_whose_best_is_high(frame):
    table = frame.assign(metric="pearson_delta")
    table["mean"] = 1 - 0.1 * table["mean"]
    ax = network_quality(table, metric="pearson_delta")
    bar = ax.collections[0].get_segments()[-1][:, 1]
    np.testing.assert_allclose(sorted(bar), [1 - 0.4 / (1 - 0.23), 1 - 0.4 / (1 - 0.18)])
    assert ax.get_ylabel().endswith("higher is better")


def test_without_an_interval_there_is_no_bar(frame):
    ax = network_quality(frame.assign(intact_low=np.nan, intact_high=np.nan))
    assert not any(np.isfinite(bar).all() and len(bar) for lines in ax.collections for bar in lines.get_segments())
    assert len(line(ax, "Graph").get_ydata()) == 5


def test_the_regime_with_most_conditions_unless_one_is_named(frame):
    assert network_quality(frame).texts[0].get_text() == "single gene, not measured"
    ax = network_quality(frame, regime="pair_1of2")
    assert ax.texts[0].get_text() == "pair, one gene measured alone"
    assert set(line(ax, "Graph").get_ydata()) == {9.0}
    twice = pd.concat([frame, frame.assign(split_kind="combination", n=50)], ignore_index=True)
    title = network_quality(twice, regime="pair_1of2").texts[0].get_text()
    assert title == "pair, one gene measured alone (split: combination)"


def test_errors_name_what_is_there(frame):
    with pytest.raises(ValueError, match="no metric 'mse'"):
        network_quality(frame, metric="mse")
    with pytest.raises(ValueError, match="no regime 'measured'"):
        network_quality(frame, regime="measured")
    with pytest.raises(ValueError, match="'slope' is best at 1"):
        network_quality(frame.assign(metric="slope"), metric="slope")


def test_only_permuted_labels_can_be_drawn(frame):
    ax = network_quality(frame[frame["change"].isin(["none", "permute"])])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["intact", "labels\npermuted"]


def test_no_text_is_cut_or_overlaps(frame, assert_readable):
    assert_readable(network_quality(frame))
    tenth = frame[frame["amount"] == 0.25].assign(amount=0.1)
    assert_readable(network_quality(pd.concat([frame, tenth], ignore_index=True), regime="single_unseen"))
