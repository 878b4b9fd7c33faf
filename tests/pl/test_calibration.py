"""Coverage of intervals, and errors of what a predictor is sure of."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import MissingKeyError
from scperturb_modules.metrics import mean_interval
from scperturb_modules.pl._calibration import calibration, risk_coverage
from scperturb_modules.pl._style import PALETTE

LEVELS = (0.5, 0.8, 0.9, 0.95)
SHIFT = {"Additive": 0.02, "Mine": -0.05}
BOTH = pytest.mark.parametrize("draw", [calibration, risk_coverage])


@pytest.fixture
def table():
    """Two predictors on twelve conditions, two of them in two splits; Mine knows its errors, Additive does not."""
    rng = np.random.default_rng(0)
    rows = []
    for model, shift in SHIFT.items():
        for i in range(12):
            error = 1.0 + i
            expected = error if model == "Mine" else rng.random()
            for level in LEVELS:
                rows.append((model, f"C{i:02d}", level, level + shift + 0.002 * i - 0.011, error, expected))
    columns = ["model", "condition", "level", "coverage", "error", "expected_error"]
    return pd.DataFrame(rows, columns=columns).assign(split_kind="combination", regime="pair_2of2", stratum="")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def said(ax):
    return " ".join(text.get_text().replace("\n", " ") for text in ax.texts)


@BOTH
def test_draws_in_the_given_axes_a_board_or_its_table(draw, table, two_axes):
    wanted, current = two_axes
    assert draw(SimpleNamespace(calibration=table), ax=wanted) is wanted
    assert not current.get_lines() and not current.collections
    assert lines(draw(table)).keys() == lines(wanted).keys()


def test_lines_are_means_over_conditions_and_bars_their_intervals(table):
    ax = calibration(table)
    drawn = lines(ax)
    assert list(drawn) == legend(ax) == ["as promised", "Additive, 92 %", "Mine, 85 %"]
    for (name, shift), label in zip(SHIFT.items(), ["Additive, 92 %", "Mine, 85 %"], strict=True):
        np.testing.assert_allclose(drawn[label].get_xdata(), LEVELS)
        np.testing.assert_allclose(drawn[label].get_ydata(), np.array(LEVELS) + shift)
        own = table[(table["model"] == name) & (table["level"] == 0.9)]
        expected = mean_interval(own["coverage"], own["condition"])
        bar = ax.collections[list(SHIFT).index(name)].get_segments()[0]
        np.testing.assert_allclose(bar[:, 1], [expected.low, expected.high])
        assert abs(bar[0, 0] - 0.9) < 0.01
    np.testing.assert_array_equal(drawn["as promised"].get_xdata(), drawn["as promised"].get_ydata())
    assert "12 conditions; legend: coverage at 90 %, bars are 95 % intervals" in said(ax)


def test_models_are_chosen_and_ordered(table):
    for draw in (calibration, risk_coverage):
        ax = draw(table, models=["Mine", "Additive"])
        names = [label.partition(",")[0] for label in legend(ax)]
        assert [name for name in names if name in SHIFT] == ["Mine", "Additive"]
        colors = {label.partition(",")[0]: to_hex(line.get_color()).upper() for label, line in lines(ax).items()}
        assert (colors["Mine"], colors["Additive"]) == PALETTE[:2]
        assert "Mine" not in " ".join(legend(draw(table, models=["Additive"])))
        with pytest.raises(ValueError, match="no predictor 'Ours'; it holds Additive, Mine"):
            draw(table, models=["Ours"])


def test_few_conditions_have_no_bar(table):
    ax = calibration(table[table["condition"] < "C09"])
    assert "9 conditions; legend: coverage at 90 %, no bars: fewer than 10 conditions" in said(ax)
    assert not any(
        np.isfinite(segment).all() for one in ax.collections for segment in one.get_segments() if len(segment)
    )


def test_a_condition_is_one_point_however_often_it_was_predicted(table):
    again = table[table["condition"] == "C00"].assign(coverage=lambda rows: rows["coverage"] + 0.02)
    ax = calibration(pd.concat([table, again]))
    drawn = lines(ax)["Mine, 85 %"].get_ydata()
    np.testing.assert_allclose(drawn, np.array(LEVELS) + SHIFT["Mine"] + 0.01 / 12)
    other = calibration(pd.concat([table, again.assign(stratum="rpe1")]))
    np.testing.assert_allclose(
        lines(other)["Mine, 85 %"].get_ydata(), np.array(LEVELS) + SHIFT["Mine"] + (0.02 - 0.011) / 13, atol=1e-12
    )


def test_the_axes_reach_down_to_bad_coverage(table):
    bad = table.assign(coverage=table["coverage"] - 0.4)
    assert calibration(bad).get_ylim()[0] < (bad["coverage"].min())


def test_the_least_certain_are_left_out_first(table):
    ax = risk_coverage(table)
    drawn = lines(ax)
    assert legend(ax)[1:] == ["Mine, 1.00", "by true error", "at random"]
    share, mean = drawn["Mine, 1.00"].get_data()
    sizes = np.arange(5, 13)
    np.testing.assert_allclose(share, 100 * sizes / 12)
    np.testing.assert_allclose(mean, [np.mean(np.arange(1, n + 1)) for n in sizes])
    own = table[(table["model"] == "Additive") & (table["level"] == 0.9)].sort_values("expected_error")
    found = drawn[legend(ax)[0]].get_ydata()
    np.testing.assert_allclose(found, [own["error"].iloc[:n].mean() for n in sizes])


def test_the_best_order_and_the_mean_of_all_stand_beside(table):
    ax = risk_coverage(table, models=["Additive"])
    own, ideal = [line for line in ax.get_lines() if len(line.get_xdata())]
    np.testing.assert_allclose(ideal.get_ydata(), [np.mean(np.arange(1, n + 1)) for n in range(5, 13)])
    assert (ideal.get_ydata() <= own.get_ydata() + 1e-12).all()
    assert ideal.get_ydata()[-1] == own.get_ydata()[-1] == 6.5
    (random,) = ax.collections
    np.testing.assert_allclose(random.get_segments()[0][:, 1], 6.5)


def test_few_conditions_are_one_point(table):
    ax = risk_coverage(table[table["condition"] < "C03"])
    share, mean = lines(ax)["Mine"].get_data()  # two or three tell no rank correlation
    assert share.tolist() == [100.0] and mean.tolist() == [2.0]


@BOTH
def test_what_is_wrong_is_said(draw, table):
    with pytest.raises(ValueError, match="no predictor has intervals"):
        draw(table[:0])
    with pytest.raises(MissingKeyError, match="Pass a Benchmark or its calibration"):
        draw(table.drop(columns="split_kind"))


@BOTH
def test_categories_and_the_order_of_rows_do_not_matter(draw, table):
    plain = lines(draw(table))
    text = dict.fromkeys(["model", "condition", "regime", "stratum", "split_kind"], "category")
    for other in (table.astype(text), table.sample(frac=1, random_state=1), table.assign(stratum=np.nan)):
        drawn = lines(draw(other))
        assert drawn.keys() == plain.keys()
        for label, line in drawn.items():
            np.testing.assert_allclose(line.get_ydata(), plain[label].get_ydata())


@BOTH
@pytest.mark.parametrize("width", [3.6, 6.0])
def test_no_text_is_cut_or_overlaps(draw, table, assert_readable, width):
    names = ["AdditiveShrunk", "NearestPrior", "MeanShift", "BioDSNN", "SCBIG", "APP", "KernelRidge"]
    many = pd.concat([table[table["model"] == "Mine"].assign(model=name) for name in names])
    ax = plt.subplots(figsize=(width, 4.8), layout="constrained")[1]
    assert_readable(draw(many, ax=ax))
