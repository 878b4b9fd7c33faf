import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules.pl._conditions import COLORS, conditions


@pytest.fixture
def table():
    rows = [("A", 1.0, 3.0, "beats"), ("B", 2.0, 2.1, "ties"), ("C", 4.0, 2.0, "loses"), ("D", 1.5, 3.5, "beats")]
    frame = pd.DataFrame(rows, columns=["condition", "error", "baseline_error", "word"])
    mine = frame.assign(model="Mine", regime="single_unseen")
    other = frame.assign(model="Other", error=5.0, word="loses", regime="pair_2of2")
    return pd.concat([mine, other]).assign(split_kind="s", stratum="", baseline="MeanShift")


class Board:
    def __init__(self, table):
        self.table = table

    def conditions(self):
        return self.table

    def ceilings(self):
        unit = self.table[["split_kind", "regime", "stratum", "condition"]].drop_duplicates()
        return unit.assign(floor=np.where(unit["condition"] == "D", np.nan, 0.5))


def clouds(ax):
    return {
        cloud.get_label(): (to_hex(cloud.get_facecolor()[0]), np.asarray(cloud.get_offsets()).tolist())
        for cloud in ax.collections
        if len(cloud.get_offsets())
    }


def test_points_colours_and_the_noise_floor(table, assert_readable):
    ax = conditions(Board(table), model="Mine")
    found = clouds(ax)
    assert found["beats (2)"] == (COLORS["beats"].lower(), [[3.0, 1.0], [3.5, 1.5]])
    assert found["ties (1)"] == (COLORS["ties"].lower(), [[2.1, 2.0]])
    assert found["loses (1)"] == (COLORS["loses"].lower(), [[2.0, 4.0]])
    floor = np.ma.masked_invalid(found["noise floor"][1])
    assert floor[~floor.mask.any(axis=1)].tolist() == [[3.0, 0.5], [2.1, 0.5], [2.0, 0.5]]
    (diagonal,) = ax.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [1.0, 4.0]
    title = ax.texts[0].get_text().replace("\n", " ")
    assert title == "Mine: beats the baselines in 2, ties in 1, loses in 1 of 4 conditions"
    assert ax.get_xlabel().startswith("Error of MeanShift") and ax.get_ylabel().startswith("Error of Mine")
    assert_readable(ax)


def test_a_table_has_no_floor_and_one_predictor_needs_no_name(table, two_axes):
    wanted, current = two_axes
    mine = table[table["model"] == "Mine"]
    assert conditions(mine, ax=wanted) is wanted
    assert set(clouds(wanted)) == {"beats (2)", "ties (1)", "loses (1)"}
    assert not current.collections and len(plt.get_fignums()) == 1
    two = mine.assign(baseline=["MeanShift", "Linear", "Linear", "Linear"])
    assert conditions(two).get_xlabel().startswith("Error of the best baseline of each regime")


def test_wrong_calls(table):
    with pytest.raises(ValueError, match="name one of its predictors as model=; it holds Mine, Other"):
        conditions(table)
    with pytest.raises(ValueError, match="no predictor 'APP'; it holds Mine, Other"):
        conditions(table, model="APP")
    with pytest.raises(ValueError, match="no regime 'pair_0of2'"):
        conditions(table, model="Mine", regime="pair_0of2")
