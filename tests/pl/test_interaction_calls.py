import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError
from scperturb_modules.pl._interaction_calls import interaction_calls
from scperturb_modules.pl._style import PALETTE

OBSERVED = [1.9, 1.8, 1.5, 1.2, 1.1, 1.0, 0.9, 0.7, 0.5, 0.3]
PREDICTED = [1.7, 1.0, 1.6, 1.4, 1.1, 1.2, 0.6, 1.05, 0.8, 0.7]


@pytest.fixture
def truth():
    return pd.DataFrame({"magnitude": OBSERVED}, index=[f"A+{letter}" for letter in "BCDEFGHIJK"])


@pytest.fixture
def said(truth):
    return truth.assign(magnitude=PREDICTED)


def texts(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def names(ax):
    ticks = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    return {int(tick): label.get_text() for tick, label in ticks}


def offsets(ax, color):
    """Lines and values of the points of one colour."""
    found = [
        one for one in ax.collections if len(one.get_offsets()) and to_hex(one.get_edgecolor()[0]) == color.lower()
    ]
    return {(float(y), round(float(x), 9)) for one in found for x, y in one.get_offsets()}


def test_draws_in_the_given_axes_and_nowhere_else(said, truth, two_axes):
    wanted, current = two_axes
    assert interaction_calls(said, truth, ax=wanted, n_top=3) is wanted
    assert not current.get_lines() and not current.collections


def test_surest_calls_first_and_whether_they_are_right(said, truth):
    ax = interaction_calls(said, truth, n_top=3)
    assert names(ax) == {1: "A+B", 2: "A+D", 3: "A+E", 5: "A+H", 6: "A+K", 7: "A+J"}
    # the truth has B, C and D on top, I, J and K at the bottom
    assert offsets(ax, PALETTE[0]) == {(1, 1.7), (2, 1.6), (6, 0.7), (7, 0.8)}
    assert offsets(ax, PALETTE[1]) == {(3, 1.4), (5, 0.6)}
    assert offsets(ax, "#000000") == {(1, 1.9), (2, 1.5), (3, 1.2), (5, 0.9), (6, 0.3), (7, 0.5)}
    assert texts(ax) == ["Synergy: 2 of 3 right (67 %, chance 30 %)", "Suppression: 2 of 3 right (67 %, chance 30 %)"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "predicted, right",
        "predicted, wrong",
        "observed",
    ]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the surest call on top"


def test_a_line_leads_from_predicted_to_observed(said, truth):
    ax = interaction_calls(said, truth, n_top=3)
    segments = [line.tolist() for one in ax.collections if hasattr(one, "get_segments") for line in one.get_segments()]
    assert [[1.7, 1], [1.9, 1]] in segments and [[0.6, 5], [0.9, 5]] in segments and len(segments) == 6


def test_a_perfect_predictor_is_right_and_says_nothing_is_wrong(truth):
    ax = interaction_calls(truth, truth, n_top=4)
    assert texts(ax) == ["Synergy: 4 of 4 right (100 %, chance 40 %)", "Suppression: 4 of 4 right (100 %, chance 40 %)"]
    assert "predicted, wrong" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_few_pairs_shrink_the_list_and_the_figure_says_so(said, truth):
    ax = interaction_calls(said.iloc[:7], truth.iloc[1:].assign(magnitude=[np.nan, *OBSERVED[2:]]), n_top=20)
    assert len(names(ax)) == 4
    above = " ".join(texts(ax)[2:])
    assert "Top 2 in place of 20: half of 5 pairs" in above
    assert "1 predicted, not observed; 3 observed, not predicted; 1 without a magnitude (see status)" in above
    assert not any("in place of" in text for text in texts(interaction_calls(said, truth, n_top=5)))


def test_equal_predictions_are_no_ranking(truth):
    ax = interaction_calls(truth.assign(magnitude=2**0.5).iloc[::-1], truth, n_top=2)
    assert "All predicted magnitudes are equal: the calls are in the order of names" in " ".join(texts(ax))
    assert list(names(ax).values()) == ["A+B", "A+C"] * 2


def test_bad_input_is_one_error(said, truth):
    with pytest.raises(ValueError, match="n_top=0 calls no pair"):
        interaction_calls(said, truth, n_top=0)
    with pytest.raises(ValueError, match="only one pair"):
        interaction_calls(said.iloc[:1], truth)
    with pytest.raises(DataError, match="share no pair"):
        interaction_calls(said.iloc[:3], truth.iloc[3:])


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_text_is_cut_or_overlaps(said, truth, assert_readable, width):
    long = {name: f"RUNX1T{i}+UBASH3{name[-1]}" for i, name in enumerate(truth.index)}
    for n_top in (4, 20):
        ax = plt.subplots(figsize=(width, 4.0), layout="constrained")[1]
        assert_readable(interaction_calls(said.rename(index=long), truth.rename(index=long), n_top=n_top, ax=ax))
