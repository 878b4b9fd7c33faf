"""The drawn tree of a gene's pathways: rows, lines, what is cut, and that all of it can be read."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError
from scperturb_modules.pl._pathway_tree import MOST_LETTERS, pathway_tree
from scperturb_modules.pl._style import BASELINE_COLOR, PALETTE
from scperturb_modules.priors._pathways import reactome


@pytest.fixture
def hierarchy():
    """Gene g: leaf L below both parts of A, leaf M four below B; gene x: a pathway of its own."""
    relations = [("A", "A1"), ("A", "A2"), ("A1", "L"), ("A2", "L"), ("L", "other")]
    relations += [("B", "B1"), ("B1", "B2"), ("B2", "B3"), ("B3", "M")]
    sets = {one: ["g", "h"] for one in ("A", "A1", "A2", "B", "B1", "B2", "B3", "M")}
    sets |= {"L": ["g"], "other": ["q"], "own": ["x"]}
    return reactome(None, sets, pd.DataFrame(relations, columns=["parent", "child"]))


@pytest.fixture(scope="module")
def real(shared_priors):
    return reactome(
        None, shared_priors / "reactome_pathways.gmt.gz", shared_priors / "reactome_pathway_relation.tsv.gz"
    )


def rows(ax):
    """Names of the rows from above, with the indent of each."""
    texts = sorted(
        (text for text in ax.texts if text.get_text().endswith(")")), key=lambda text: text.get_position()[1]
    )
    return [(text.get_text(), round(text.get_position()[0] - 0.45)) for text in texts]


def look(ax):
    return {text.get_text(): (text.get_weight(), text.get_style()) for text in ax.texts}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_general_pathways_stand_above_and_left_of_their_parts(hierarchy, two_axes):
    wanted, current = two_axes
    assert pathway_tree(hierarchy, "g", ax=wanted) is wanted and not current.texts
    assert rows(wanted) == [
        ("A (3)", 0),
        ("A1 (3)", 1),
        ("L (2)", 2),
        ("A2 (3)", 1),
        ("L (2)", 2),
        ("B (2)", 0),
        ("B1 (2)", 1),
        ("B2 (2)", 2),
        ("B3 (2)", 3),
        ("M (2)", 4),
    ]
    assert rows(pathway_tree(hierarchy, "x")) == [("own (1)", 0)]


def test_a_line_leads_from_each_row_to_its_parent(hierarchy):
    ax = pathway_tree(hierarchy, "g")
    ends = {(line.get_xydata()[0].tolist()[1], line.get_xydata()[-1].tolist()[1]) for line in ax.lines}
    assert ends == {(0, 1), (1, 2), (0, 3), (3, 4), (5, 6), (6, 7), (7, 8), (8, 9)}
    for line in ax.lines:
        (x0, y0), (x1, y1), (x2, y2) = line.get_xydata()
        assert x0 == x1 == x2 - 1 and y1 == y2 > y0


def test_dots_tell_the_level_and_italics_what_stands_above(hierarchy):
    ax = pathway_tree(hierarchy, "g")
    (dots,) = ax.collections
    orange, blue, light, grey = (PALETTE[1], PALETTE[0], PALETTE[5], BASELINE_COLOR)
    expected = [light, blue, orange, blue, orange, grey, grey, light, blue, orange]
    assert [to_hex(color).upper() for color in dots.get_facecolors()] == expected
    assert dots.get_offsets().tolist() == [[indent, row] for row, (_, indent) in enumerate(rows(ax))]
    assert look(ax)["M (2)"] == ("bold", "normal") and look(ax)["B3 (2)"] == ("normal", "normal")
    styles = [text.get_style() for text in ax.texts if text.get_text() == "L (2)"]
    assert sorted(styles) == ["italic", "normal"]
    assert "In grey italics: parts are shown above" in look(ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "most specific (level 1)",
        "level 2",
        "level 3",
    ]
    alone = pathway_tree(hierarchy, "x")
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["most specific (level 1)"]
    assert "In grey italics: parts are shown above" not in look(alone)


def test_small_pathways_go_first_where_not_all_fit(hierarchy):
    sets = {one: [f"g{i}" for i in range(n)] for one, n in (("T", 9), ("a", 5), ("b", 3), ("c", 4), ("C", 6), ("D", 9))}
    relations = [("T", "a"), ("T", "b"), ("D", "C"), ("C", "c")]
    wide = reactome(None, sets, pd.DataFrame(relations, columns=["parent", "child"]))
    shown = {most: [name[0] for name, _ in rows(pathway_tree(wide, "g0", max_pathways=most))] for most in range(1, 7)}
    # c does not fit with what is above it, a does
    assert shown[1] == shown[2] == ["T", "b"] and shown[3] == shown[4] == ["T", "a", "b"]
    assert shown[5] == ["D", "C", "c", "T", "b"] and shown[6] == ["D", "C", "c", "T", "a", "b"]
    assert "2 of 3 most specific pathways, small ones first" in look(pathway_tree(wide, "g0", max_pathways=4))
    assert not any("small ones first" in text for text in look(pathway_tree(wide, "g0")))


def test_wrong_arguments_are_one_error(hierarchy):
    with pytest.raises(DataError, match="1 of 1 genes are not among its 4: 'nobody'"):
        pathway_tree(hierarchy, "nobody")
    with pytest.raises(ValueError, match="max_pathways=0 shows no pathway"):
        pathway_tree(hierarchy, "g", max_pathways=0)


def test_long_names_are_cut():
    name = "Loss of function of something in something due to the loss of something else in a cell of mine"
    short = reactome(None, {name: ["g"], "B": ["g"]}, pd.DataFrame({"parent": ["B"], "child": [name]}))
    label = rows(pathway_tree(short, "g"))[1][0]
    assert label.endswith("… (1)") and len(label) <= MOST_LETTERS + len(" (1)") and label[:60] == name[:60]


@pytest.mark.parametrize("gene", ["KLF5", "IRF1", "HBB", "TP53", "MAPK1", "UBB", "STAT1", "BRAF"])
def test_real_trees_are_readable(real, gene, assert_readable):
    ax = pathway_tree(real, gene)
    assert_readable(ax)
    leaves = set(real.pathways(gene)["name"])
    assert sum(look(ax)[text][0] == "bold" for text, _ in rows(ax)) >= min(len(leaves), 2)


def test_the_whole_of_the_widest_gene_can_be_drawn(real):
    ax = pathway_tree(real, "RPS27A", max_pathways=1000)
    names = {name.rpartition(" (")[0] for name, _ in rows(ax)}
    wanted = set(real.pathways("RPS27A", "all")["name"])
    assert len(wanted) == 373 and len(names) >= 370
    assert names <= wanted | {name for name in names if name.endswith("…")}
