"""The drawn way from genes to general pathways: columns, lines, what is left out, and that all of it can be read."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError
from scperturb_modules.pl._pathway_walk import pathway_walk
from scperturb_modules.pl._style import PALETTE
from scperturb_modules.priors._pathways import reactome

ERYTHROID = ["HBG1", "HBG2", "HBZ", "HBA1", "ALAS2", "GYPA", "SLC25A37", "BLVRB", "KLF1", "CD44", "TMSB10", "UBB"]


@pytest.fixture
def hierarchy():
    """Leaf L of g and h below A1 and A2, both below A; leaf M of g four below B; leaf N of k below B1."""
    relations = [("A", "A1"), ("A", "A2"), ("A1", "L"), ("A2", "L")]
    relations += [("B", "B1"), ("B1", "B2"), ("B2", "B3"), ("B3", "M"), ("B1", "N")]
    sets = {"L": ["g", "h"], "M": ["g"], "N": ["k", "q", "r"], "own": ["x"]}
    return reactome(None, sets, pd.DataFrame(relations, columns=["parent", "child"]))


@pytest.fixture(scope="module")
def real(shared_priors):
    return reactome(
        None, shared_priors / "reactome_pathways.gmt.gz", shared_priors / "reactome_pathway_relation.tsv.gz"
    )


def columns(ax):
    """The names in each column from above, without line breaks; the head is the key."""
    inside = [text for text in ax.texts if text.get_transform() == ax.transData]
    found = {}
    for text in sorted(inside, key=lambda text: (text.get_position()[0], text.get_position()[1])):
        found.setdefault(text.get_position()[0], []).append(text.get_text().replace("\n", " "))
    return {head: names for head, *names in found.values()}


def words(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts if text.get_transform() != ax.transData]


def colors(ax):
    return {text.get_text(): to_hex(text.get_color()).upper() for text in ax.texts}


def edges(ax):
    """Names at both ends of every line."""
    texts = [text for text in ax.texts if text.get_transform() == ax.transData]

    def nearest(x, y, side):
        same = [text for text in texts if abs(text.get_position()[1] - y) < 1e-9]
        left = [
            text for text in same if (text.get_position()[0] < x if side == "start" else text.get_position()[0] > x)
        ]
        pick = max if side == "start" else min
        return pick(left, key=lambda text: text.get_position()[0]).get_text()

    return {(nearest(*line.get_xydata()[0], "start"), nearest(*line.get_xydata()[1], "end")) for line in ax.lines}


def test_columns_lead_from_genes_to_general_pathways(hierarchy, two_axes):
    wanted, current = two_axes
    assert pathway_walk(hierarchy, ["g"], ax=wanted) is wanted and not current.texts
    ax = pathway_walk(hierarchy, ["g", "h", "k"])
    drawn = columns(ax)
    assert list(drawn) == ["genes", "level 1", "level 2", "level 3"]
    assert {head: set(names) for head, names in drawn.items()} == {
        "genes": {"g", "h", "k"},
        "level 1": {"L (2)", "M (1)", "N (1)"},
        "level 2": {"A1 (2)", "A2 (2)", "B3 (1)", "B1 (2)"},
        "level 3": {"A (2)", "B2 (1)", "B (2)"},
    }
    assert words(ax) == ["Level 1: most specific pathways; in brackets: how many of 3 genes"]


def test_a_line_per_relation(hierarchy):
    assert edges(pathway_walk(hierarchy, ["g", "h", "k"])) == {
        ("g", "L (2)"),
        ("h", "L (2)"),
        ("g", "M (1)"),
        ("k", "N (1)"),
        ("L (2)", "A1 (2)"),
        ("L (2)", "A2 (2)"),
        ("M (1)", "B3 (1)"),
        ("N (1)", "B1 (2)"),
        ("A1 (2)", "A (2)"),
        ("A2 (2)", "A (2)"),
        ("B3 (1)", "B2 (1)"),
        ("B1 (2)", "B (2)"),
    }


def test_neighbours_stand_side_by_side(hierarchy):
    """No two lines between the same columns cross, though in the order given they do."""
    for genes in (["g", "h", "k"], ["k", "h", "g"], ["k", "g", "h"]):
        lines = [line.get_xydata() for line in pathway_walk(hierarchy, genes).lines]
        for i, one in enumerate(lines):
            for other in lines[:i]:
                if one[1, 0] == other[1, 0]:
                    assert (one[0, 1] - other[0, 1]) * (one[1, 1] - other[1, 1]) >= 0


def test_a_top_pathway_has_nothing_to_its_right(hierarchy):
    assert columns(pathway_walk(hierarchy, ["x"])) == {"genes": ["x"], "level 1": ["own (1)"]}


def test_shared_pathways_first_then_every_gene_then_small_ones():
    sets = {"both": ["a", "b", "c", "d", "e"], "large": ["a", "p", "q"], "small": ["a"], "late": ["z", "p", "q", "r"]}
    flat = reactome(None, sets, pd.DataFrame({"parent": ["top"] * 4, "child": list(sets)}))
    shown = [set(columns(pathway_walk(flat, ["a", "b", "z"], max_pathways=n))["level 1"]) for n in range(1, 5)]
    order = ["both (2)", "late (1)", "small (1)", "large (1)"]
    assert shown == [set(order[: n + 1]) for n in range(4)], "z has no other pathway; small holds less than large"
    ax = pathway_walk(flat, ["a", "b", "z"], max_pathways=1)
    assert "Shown: 1 of 4 pathways of level 1; those of most genes first" in words(ax)
    assert "Only in pathways not shown: z" in words(ax) and columns(ax)["genes"] == ["a", "b"]


def test_higher_levels_are_cut_and_counted_too(hierarchy):
    ax = pathway_walk(hierarchy, ["g", "h", "k"], max_pathways=2)
    drawn = columns(ax)
    # B1 holds g and k, A1 and A2 hold g and h; level 1 is L, then N for k
    assert drawn["level 1"] == ["L (2)", "N (1)"] or drawn["level 1"] == ["N (1)", "L (2)"]
    assert len(drawn["level 2"]) == 2
    (shown,) = [text for text in words(ax) if text.startswith("Shown")]
    assert shown == "Shown: 2 of 3 pathways of level 1, 2 of 3 pathways of level 2; those of most genes first"


def test_genes_without_pathway_are_named(hierarchy):
    ax = pathway_walk(hierarchy, ["g", "no1", "h", "g", *(f"no{i}" for i in range(2, 11))])
    assert "No pathway: no1, no2, no3, no4, no5, no6, no7, no8 and 2 more" in words(ax)
    assert sorted(columns(ax)["genes"]) == ["g", "h"]
    with pytest.raises(DataError, match="None of 1 genes has a pathway in reactome: 'nobody'"):
        pathway_walk(hierarchy, ["nobody"])
    with pytest.raises(ValueError, match="max_pathways=0 shows no pathway"):
        pathway_walk(hierarchy, ["g"], max_pathways=0)


def test_genes_that_rise_and_fall_are_coloured(hierarchy):
    changes = pd.Series({"g": 2.0, "h": -0.5, "other": 3.0})
    ax = pathway_walk(hierarchy, ["g", "h", "k"], changes=changes)
    assert [colors(ax)[gene] for gene in "ghk"] == [PALETTE[1], PALETTE[0], "#000000"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["up", "down", "change unknown or 0"]
    assert pathway_walk(hierarchy, ["g", "h"]).get_legend() is None


@pytest.mark.parametrize("size", [None, (3.5, 6.0), (7.0, 6.0)])
def test_real_walks_are_readable(real, size, assert_readable):
    ax = None if size is None else plt.subplots(figsize=size, layout="constrained")[1]
    ax = pathway_walk(real, ERYTHROID, changes=pd.Series(1.0, ERYTHROID[:5]), ax=ax)
    assert_readable(ax)
    drawn = columns(ax)
    assert set(drawn["genes"]) == set(ERYTHROID) - {"HBZ", "KLF1", "TMSB10"}
    assert len(drawn["level 1"]) == 12 and "No pathway: HBZ, KLF1, TMSB10" in words(ax)
