import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules.pl import _style
from scperturb_modules.pl._verdict import verdict

ROWS = [
    # split_kind, regime, model, is_baseline, word, gain_vs, gain, gain_low, gain_high
    ("combination", "pair_2of2", "Mine", False, "beats", "AdditiveShrunk", 0.10, 0.05, 0.15),
    ("combination", "pair_2of2", "Additive", True, "worse", "AdditiveShrunk", -0.10, -0.20, -0.05),
    ("combination", "pair_2of2", "NoChange", True, "worse", "AdditiveShrunk", -1.20, -1.50, -0.90),
    ("unseen_single", "single_unseen", "Mine", False, "no better", "MeanShift", 0.02, -0.01, 0.06),
    ("unseen_single", "single_unseen", "Other", False, "cannot tell", "MeanShift", 0.01, float("nan"), float("nan")),
]


@pytest.fixture
def table():
    names = ["split_kind", "regime", "model", "is_baseline", "word", "gain_vs", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(ROWS, columns=names)


def points(ax, marker):
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.get_lines() if line.get_marker() == marker]


def test_gains_intervals_and_words(table, assert_readable):
    ax = verdict(table)
    assert points(ax, "o") == [(10, 1), (-10, 2), (2, 5), (1, 6)]
    assert points(ax, "<") == [(-50, 3)]  # beyond half: an arrow at the edge
    assert ax.get_xlim()[0] == -50
    intervals = [tuple(line.get_xdata()) for line in ax.get_lines() if line.get_marker() == "None"]
    assert intervals[:2] == [(5, 15), (-20, -5)] and (0, 0) in intervals
    texts = [text.get_text() for text in ax.texts]
    assert texts == [
        "pair, both genes measured alone (split: combination)", "beats (AdditiveShrunk)", "worse (AdditiveShrunk)",
        "worse (AdditiveShrunk)", "single gene, not measured (split: unseen_single)", "no better (MeanShift)",
        "cannot tell (MeanShift)",
    ]  # fmt: skip
    for text, line in zip(ax.texts, (0, 1, 2, 3, 4, 5, 6), strict=True):
        assert text.get_position()[1] == line
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Mine", "Additive", "NoChange", "Mine", "Other"]
    assert_readable(ax)


def test_colours_are_those_of_the_leaderboard(table):
    from scperturb_modules.pl import leaderboard

    def colors(ax, marker="o"):
        return {to_hex(line.get_color()) for line in ax.get_lines() if line.get_marker() in (marker, "<")}

    ours = colors(verdict(table))
    summary = table.assign(mean=1.0, ci_low=0.9, ci_high=1.1, metric="l2_top1000")
    assert (
        ours
        == colors(leaderboard(summary))
        == {color.lower() for color in (*_style.PALETTE[:2], _style.BASELINE_COLOR)}
    )


def test_a_board_one_regime_and_given_axes(table, two_axes):
    class Board:
        def verdicts(self):
            return table

    wanted, current = two_axes
    assert verdict(Board(), regime="pair_2of2", ax=wanted) is wanted
    assert not current.get_lines() and not current.texts and len(plt.get_fignums()) == 1
    assert wanted.texts[0].get_text() == "pair, both genes measured alone"
    assert [entry.get_text() for entry in wanted.get_legend().get_texts()] == [
        "model",
        "baseline",
        "more than 50 % worse",
    ]


def test_wrong_calls(table):
    with pytest.raises(ValueError, match="no regime 'pair_0of2'"):
        verdict(table, regime="pair_0of2")
    with pytest.raises(ValueError, match=r"no mandatory baseline was run; add spm.baselines.ALL"):
        verdict(table.iloc[:0])
