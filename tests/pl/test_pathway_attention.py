import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._pathway_attention import DOWN_COLOR, UP_COLOR, pathway_attention

CHANGE = [0.02, -0.05, 0.04, 0.0, -0.01, np.nan]


@pytest.fixture
def table():
    pathways = pd.DataFrame({"pathway": list("uvwxyz"), "name": [f"Pathway {letter}" for letter in "uvwxyz"]})
    pathways = pathways.assign(n_genes=[10, 20, 30, 40, 50, 1500], attention=0.1)
    one, other = pathways.assign(condition="A+B", change=CHANGE), pathways.assign(condition="C", change=0.0)
    return pd.concat([other, one], ignore_index=True)[
        ["condition", "pathway", "name", "n_genes", "attention", "change"]
    ]


def names(ax):
    """Names over the bars, from above."""
    inside = [text for text in ax.texts if text.get_text().endswith(")")]
    return [text.get_text() for text in sorted(inside, key=lambda text: text.get_position()[1])]


def above(ax):
    return [text.get_text() for text in ax.texts if not text.get_text().endswith(")")]


def test_largest_changes_with_the_rise_on_top(table, two_axes):
    wanted, current = two_axes
    assert pathway_attention(table, "B+A", n_top=3, ax=wanted) is wanted and not current.patches
    ax = pathway_attention(table, "B+A", n_top=3)
    assert names(ax) == ["Pathway w (30)", "Pathway u (10)", "Pathway v (20)"]
    assert [bar.get_width() for bar in ax.patches] == [0.04, 0.02, -0.05]
    assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches] == [UP_COLOR, UP_COLOR, DOWN_COLOR]
    lines = [text.get_position()[1] for text in ax.texts if text.get_text().endswith(")")]
    assert all(line < bar.get_y() < line + 0.5 for line, bar in zip(lines, ax.patches, strict=True)), "name over bar"
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert "no proof of regulation" in ax.get_xlabel()


def test_what_is_not_shown_is_counted(table):
    assert set(above(pathway_attention(table, "A+B", n_top=3))) == {
        "A+B",
        "3 of 5 pathways, the largest changes",
        "1 pathways without a value are left out",
    }
    assert above(pathway_attention(table.dropna(), "A+B")) == ["A+B"]


def test_attention_that_does_not_change_is_said(table):
    assert "The attention does not depend on the perturbation" in above(pathway_attention(table, "C"))


def test_bad_input_is_one_error(table):
    with pytest.raises(ValueError, match="n_top=0 shows no pathway"):
        pathway_attention(table, "C", n_top=0)
    with pytest.raises(ValueError, match="the table holds no condition 'A\\+X'; near matches: 'A\\+B'"):
        pathway_attention(table, "A+X")
    with pytest.raises(MissingKeyError, match=r"table\['change'\] does not exist"):
        pathway_attention(table.drop(columns="change"), "C")
    with pytest.raises(DataError, match="'C' has no change of attention: all 6 values are missing"):
        pathway_attention(table.assign(change=np.nan), "C")


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_text_is_cut_or_overlaps(table, assert_readable, width):
    name = "Loss of function of something in something due to the loss of something else in a cell of mine"
    ax = plt.subplots(figsize=(width, 4.0), layout="constrained")[1]
    assert_readable(pathway_attention(table.assign(name=name), "A+B", ax=ax))
    assert all("…" in text for text in names(ax)) and names(ax)[0].startswith("Loss of function of something")
