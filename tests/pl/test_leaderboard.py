import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules.pl import leaderboard


class Board:
    """What a Benchmark offers to the picture."""

    def __init__(self, summary: pd.DataFrame):
        self._summary = summary

    def summary(self) -> pd.DataFrame:
        return self._summary

    def room(self) -> pd.DataFrame:
        rows = [("combination", "pair_2of2", "l2_top1000", 1.7), ("unseen_single", "single_unseen", "l2_top1000", 1.9)]
        return pd.DataFrame(rows, columns=["split_kind", "regime", "metric", "floor"])


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def means(ax):
    """Value and line of each point, in the order drawn."""
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines() if line.get_marker() == "o"]


def test_draws_in_the_given_axes_and_nowhere_else(summary, two_axes):
    wanted, current = two_axes
    returned = leaderboard(summary, regime="pair_2of2", ax=wanted)
    assert returned is wanted
    assert not current.get_lines() and not current.patches and not current.texts
    assert [value for value, _ in means(wanted)] == [3.6, 4.2, 7.7]
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("metric", "order"),
    [
        ("l2_top1000", ["Mine", "Additive", "NoChange"]),  # lower is better
        ("pearson_delta", ["Additive", "Mine", "NoChange"]),  # higher is better
        ("slope", ["Additive", "Mine", "NoChange"]),  # nearest to one is best
    ],
)
def test_best_first_by_the_direction_of_the_metric(summary, metric, order):
    ax = leaderboard(summary, metric=metric, regime="pair_2of2")
    assert names(ax) == order
    assert ax.yaxis_inverted()  # the first name stands on top


def test_intervals_equal_the_table(summary):
    ax = leaderboard(summary, regime="pair_2of2")
    intervals = [tuple(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "None"]
    assert intervals == [(3.3, 4.0), (3.9, 4.5), (7.1, 8.3)]


def test_all_regimes_are_blocks_with_a_title_and_their_own_floor(summary):
    ax = leaderboard(Board(summary))
    assert names(ax) == ["Mine", "Additive", "NoChange", "Additive", "Mine", "NoChange"]
    assert [line for _, line in means(ax)] == [1, 2, 3, 5, 6, 7]
    titles = [text.get_text() for text in ax.texts]
    assert titles == [
        "pair, both genes measured alone (split: combination)",
        "single gene, not measured (split: unseen_single)",
    ]
    floors = [(line.get_xdata()[0], tuple(line.get_ydata())) for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert floors == [(1.7, (0.5, 3.5)), (1.9, (4.5, 7.5))]


def test_a_table_alone_has_no_floor_line(summary):
    ax = leaderboard(summary)
    assert all(line.get_linestyle() != "--" for line in ax.get_lines())


def test_baselines_are_grey_and_models_are_not(summary):
    ax = leaderboard(summary, regime="pair_2of2")
    points = [line for line in ax.get_lines() if line.get_marker() == "o"]
    color = {name: to_hex(point.get_color()) for name, point in zip(names(ax), points, strict=True)}
    for name in ("Additive", "NoChange"):
        red, green, blue = (color[name][i : i + 2] for i in (1, 3, 5))
        assert red == green == blue
    assert color["Mine"] == "#0072b2"


def test_axis_has_the_unit_and_the_direction(summary):
    assert leaderboard(summary).get_xlabel() == "L2 distance (log1p CP10k, top 1000 genes)\nlower is better"


def test_a_categorical_summary_draws_no_empty_block(summary):
    categorical = summary.astype(dict.fromkeys(("split_kind", "regime", "metric", "model"), "category"))
    ax = leaderboard(categorical, metric="slope")
    assert [text.get_text() for text in ax.texts] == ["pair, both genes measured alone"]


def test_undefined_means_stand_last_and_do_not_break_the_picture(summary):
    summary.loc[summary["model"] == "Additive", ["mean", "ci_low", "ci_high"]] = np.nan
    assert names(leaderboard(summary, regime="pair_2of2")) == ["Mine", "NoChange", "Additive"]


def test_no_text_is_cut_or_overlaps(summary, assert_readable):
    for metric in ("l2_top1000", "pearson_delta", "slope"):
        assert_readable(leaderboard(Board(summary), metric=metric))


def test_unknown_metric_and_regime_name_what_is_there(summary):
    with pytest.raises(ValueError, match="no metric 'mse'; it holds l2_top1000, pearson_delta, slope"):
        leaderboard(summary, metric="mse")
    with pytest.raises(ValueError, match="no regime 'pair_0of2'; it holds pair_2of2, single_unseen"):
        leaderboard(summary, regime="pair_0of2")


def test_where_one_is_best_a_line_marks_it(summary):
    def marks(metric):
        return [line for line in leaderboard(summary, metric=metric).get_lines() if line.get_linestyle() == ":"]

    (mark,) = marks("slope")
    assert set(mark.get_xdata()) == {1.0}
    assert not marks("l2_top1000")
