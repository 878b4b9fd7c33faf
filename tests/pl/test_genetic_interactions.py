import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Circle

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._genetic_interactions import LOOKS, NO_CLASS, genetic_interactions

NAMES = ["A+B", "A+C", "A+D", "B+C", "B+D", "C+D"]


@pytest.fixture
def truth():
    table = pd.DataFrame({"c1": [1.0, 1.2, 0.4, 0.9, 0.2, 0.6], "c2": [1.1, 0.3, 0.5, 0.6, 0.9, -0.1]}, index=NAMES)
    table["magnitude"] = np.hypot(table["c1"], table["c2"])
    table["equality"] = [0.9, 0.2, 0.8, 0.7, 0.1, 0.5]
    table["label"] = ["synergy", "epistasis", "suppression", "additive", "epistasis", ""]
    table.attrs["thresholds"] = {"synergy": 1.15, "suppression": 0.9, "epistasis": 0.34, "redundancy": np.inf}
    return table


@pytest.fixture
def said(truth):
    table = truth.assign(magnitude=[1.3, 1.1, 1.0, 0.9, 1.05, 0.8], label="additive")
    table.attrs["thresholds"] = {"synergy": 1.2, "suppression": 0.95}
    return table


def texts(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def points(ax):
    """Offsets by class, from the labels of the points."""
    labelled = {one.get_label(): one for one in ax.collections}
    return {label.rpartition(" (")[0]: one for label, one in labelled.items() if label.endswith(")")}


def test_draws_in_the_given_axes_and_nowhere_else(said, truth, two_axes):
    wanted, current = two_axes
    assert genetic_interactions(said, observed=truth, ax=wanted) is wanted
    assert not current.get_lines() and not current.collections


def test_predicted_above_observed_in_the_colour_of_the_observed_class(said, truth):
    ax = genetic_interactions(said, observed=truth)
    drawn = points(ax)
    assert list(drawn) == ["synergy", "additive", "suppression", "epistasis", NO_CLASS]
    np.testing.assert_allclose(drawn["synergy"].get_offsets(), [[truth["magnitude"].iloc[0], 1.3]])
    rows = [1, 4]
    expected = np.column_stack([truth["magnitude"].iloc[rows], [1.1, 1.05]])
    np.testing.assert_allclose(drawn["epistasis"].get_offsets(), expected)
    for name, one in drawn.items():
        color = one.get_edgecolor() if name == NO_CLASS else one.get_facecolor()
        assert to_hex(color[0]) == to_hex(LOOKS[name][0])
    assert legend(ax)[:2] == ["synergy (1)", "additive (1)"] and "epistasis (2)" in legend(ax)
    assert ax.get_xlabel() == "observed magnitude" and ax.get_ylabel() == "predicted magnitude"


def test_title_has_the_correlation_and_the_number_of_pairs(said, truth):
    expected = np.corrcoef(said["magnitude"], truth["magnitude"])[0, 1]
    assert texts(genetic_interactions(said, observed=truth)) == [f"magnitude: Pearson {expected:.2f}, n = 6"]


def test_pairs_are_matched_by_name(said, truth):
    ax = genetic_interactions(said.iloc[::-1], observed=truth)
    np.testing.assert_allclose(points(ax)["synergy"].get_offsets(), [[truth["magnitude"].iloc[0], 1.3]])


def test_an_additive_predictor_has_no_correlation(said, truth):
    ax = genetic_interactions(said.assign(magnitude=2**0.5), observed=truth)
    assert texts(ax) == ["magnitude: constant prediction, no correlation, n = 6"]
    flat = genetic_interactions(said.assign(magnitude=1.0), observed=truth.assign(magnitude=1.0))
    assert "constant prediction and truth" in texts(flat)[0].replace("\n", " ")


def test_what_is_left_out_is_counted(said, truth):
    said.loc["A+B", "magnitude"] = np.nan
    truth.loc["B+D", "magnitude"] = np.inf
    extra = pd.concat([said, said.iloc[[0]].rename(index={"A+B": "X+Y"})])
    ax = genetic_interactions(extra, observed=truth.drop(index="A+D"))
    above = " ".join(texts(ax)).replace("\n", " ")
    assert "n = 3" in above
    assert "Pairs left out: 2 predicted, not observed; 2 without a magnitude (see status)" in above
    ax = genetic_interactions(said.drop(index="C+D"), observed=truth)
    assert "1 observed, not predicted; 2 without" in " ".join(texts(ax)).replace("\n", " ")


def test_lines_are_the_thresholds_of_each_table_and_equality(said, truth):
    ax = genetic_interactions(said, observed=truth)
    lines = {one.get_label(): one for one in ax.get_lines()}
    x, y = lines["equal"].get_data()
    assert list(x) == list(y) and x[0] == min(truth["magnitude"]) and x[1] == max(truth["magnitude"])
    dotted = [one for one in ax.get_lines() if one.get_linestyle() == ":"]
    assert [one.get_xdata()[0] for one in dotted[:2]] == [0.9, 1.15]
    assert [one.get_ydata()[0] for one in dotted[2:]] == [0.95, 1.2]
    assert legend(ax)[-2:] == ["equal", "threshold"]
    ax = genetic_interactions(said, observed=truth, score="equality")
    assert [one.get_xdata()[0] for one in ax.get_lines() if one.get_linestyle() == ":"] == [0.34]
    truth.attrs, said.attrs = {}, {}
    assert legend(genetic_interactions(said, observed=truth))[-1] == "equal"


def test_bars_are_the_intervals_of_both_tables(said, truth):
    ax = genetic_interactions(said, observed=truth)
    assert not any(hasattr(one, "get_segments") for one in ax.collections)
    said = said.assign(magnitude_lower=said["magnitude"] - 0.1, magnitude_upper=said["magnitude"] + 0.2)
    truth = truth.assign(magnitude_lower=truth["magnitude"] - 0.3, magnitude_upper=truth["magnitude"] + 0.4)
    ax = genetic_interactions(said, observed=truth)
    across, up = (one.get_segments() for one in ax.collections if hasattr(one, "get_segments"))
    x = truth["magnitude"].iloc[0]
    np.testing.assert_allclose(across[0], [[x - 0.3, 1.3], [x + 0.4, 1.3]])
    np.testing.assert_allclose(up[0], [[x, 1.2], [x, 1.5]])


def test_without_the_truth_the_plane_of_both_slopes(truth):
    ax = genetic_interactions(truth)
    np.testing.assert_allclose(points(ax)["epistasis"].get_offsets(), [[1.2, 0.3], [0.2, 0.9]])
    circles = [one for one in ax.get_children() if isinstance(one, Circle)]
    assert [(one.center, one.radius) for one in circles] == [((0, 0), 0.9), ((0, 0), 1.15)]
    (cross,) = [one for one in ax.get_lines() if one.get_label() == "c1 = c2 = 1"]
    assert cross.get_xydata().tolist() == [[1, 1]]
    assert ax.get_xlim() == ax.get_ylim() and ax.get_xlim()[0] < -0.1 and ax.get_xlim()[1] > 1.2
    assert texts(ax) == ["Genetic interactions, n = 6"]
    truth.loc[["A+B", "A+C"], "c2"] = np.nan
    assert texts(genetic_interactions(truth))[::-1] == [
        "Genetic interactions, n = 4",
        "Pairs left out: 2 without c1 and c2 (see status)",
    ]


def test_bad_input_is_one_error(said, truth):
    with pytest.raises(ValueError, match="score='size' is unknown; use one of magnitude"):
        genetic_interactions(said, observed=truth, score="size")
    with pytest.raises(MissingKeyError, match=r"observed\['magnitude'\] does not exist"):
        genetic_interactions(said, observed=truth[["label"]])
    with pytest.raises(MissingKeyError, match=r"gi\['c1'\] does not exist"):
        genetic_interactions(said[["label"]])
    with pytest.raises(DataError, match=r"share no pair \('A\+B'.* / 'A\+B\|x'"):
        genetic_interactions(said, observed=truth.rename(index=lambda name: f"{name}|x"))
    with pytest.raises(DataError, match="gi holds 1 pairs twice: 'A\\+B'"):
        genetic_interactions(pd.concat([said, said.iloc[:1]]), observed=truth)
    with pytest.raises(DataError, match="None of 6 pairs has a magnitude"):
        genetic_interactions(said.assign(magnitude=np.nan), observed=truth)
    with pytest.raises(DataError, match="None of 6 pairs has c1 and c2"):
        genetic_interactions(said.assign(c1=np.nan))


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_text_is_cut_or_overlaps(said, truth, assert_readable, width):
    import matplotlib.pyplot as plt

    for observed in (truth, truth.iloc[:4], None):
        ax = plt.subplots(figsize=(width, 4.6), layout="constrained")[1]
        assert_readable(genetic_interactions(said, observed=observed, ax=ax))
