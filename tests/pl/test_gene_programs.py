import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl import _style
from scperturb_modules.pl._gene_programs import gene_programs
from scperturb_modules.pl._programs import limit_of, order_of, readable


def stored(adata):
    return adata.uns[keys.ROOT][keys.SCBIG]


def row_names(axes):
    return [label.get_text() for label in axes["relations"].get_yticklabels()]


def column_of_texts(axes, number):
    """Texts by row, right of the bars: 0 names, 1 genes, by the style of their letters."""
    style = ("normal", "italic")[number]
    right = [text for text in axes["sizes"].texts if text.xycoords != "data" and text.get_fontstyle() == style]
    return {int(text.xy[1]): text.get_text() for text in right}


def test_cells_are_the_relations_in_the_order_of_the_rows(scbig):
    axes = gene_programs(scbig)
    table, relations = stored(scbig)[keys.PROGRAMS], stored(scbig)[keys.PROGRAM_RELATIONS]
    order = [list(table.index).index(name) for name in row_names(axes)]
    assert sorted(order) == list(range(8)) and order != list(range(8))
    (mesh,) = axes["relations"].collections
    drawn = mesh.get_array().reshape(8, 8)
    assert drawn.mask[np.eye(8, dtype=bool)].all() and drawn.mask.sum() == 8
    others = ~np.eye(8, dtype=bool)
    np.testing.assert_array_equal(drawn[others], relations[np.ix_(order, order)][others])
    assert [label.get_text() for label in axes["relations"].get_xticklabels()] == row_names(axes)
    assert axes["relations"].get_ylim() == axes["sizes"].get_ylim() == (8, 0)
    highest = np.abs(relations[others]).max()
    assert mesh.norm.vmin == -mesh.norm.vmax and highest <= mesh.norm.vmax <= 1.3 * highest


def test_bars_names_and_genes_stand_in_the_row_of_their_program(scbig):
    axes = gene_programs(scbig, top=3)
    table = stored(scbig)[keys.PROGRAMS].loc[row_names(axes)]
    bars = axes["sizes"].patches
    assert [bar.get_width() for bar in bars] == table["n_genes"].tolist()
    assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == pytest.approx([i + 0.5 for i in range(8)])
    pale = [to_hex(bar.get_facecolor()).upper() == _style.FAINT_COLOR for bar in bars]
    assert pale == (table["z"] < 2).tolist() and sum(pale) == 1
    genes = column_of_texts(axes, 1)
    assert [genes[i] for i in range(8)] == [", ".join(text.split(";")[:3]) for text in table["top_genes"]]
    names = column_of_texts(axes, 0)
    assert set(names) == {i for i, name in enumerate(table["name"]) if name}
    assert names[row_names(axes).index("P2")] == "OXIDATIVE PHOSPHORYLATION"
    assert (
        names[row_names(axes).index("P4")].startswith("regulation of cyclin")
        and "…" in names[row_names(axes).index("P4")]
    )
    counts = [text.get_text() for text in axes["sizes"].texts if text.xycoords == "data"]
    assert counts == [f"{n:,}" for n in table["n_genes"]]


def above(axes):
    return " ".join(text.get_text().replace("\n", " ") for text in axes["relations"].texts)


def test_the_figure_says_what_it_shows(scbig, make_stored):
    total = int(stored(scbig)[keys.PROGRAMS]["n_genes"].sum())
    text = above(gene_programs(scbig))
    assert "8 gene programs" in text and f"{total:,} genes" in text
    assert "Pale bars: hardly more coherent than random genes (z < 2)" in text and "program_enrichment" not in text
    unnamed = make_stored(named=False)
    stored(unnamed)[keys.PROGRAMS]["z"] = 9.0
    text = above(gene_programs(unnamed))
    assert "No program has a name (spm.tl.program_enrichment gives them)" in text and "Pale" not in text


def test_draws_in_the_place_given_and_nowhere_else(scbig, two_axes):
    wanted, current = two_axes
    axes = gene_programs(scbig, ax=wanted)
    assert all(one.figure is wanted.figure for one in axes.values()) and len(plt.get_fignums()) == 1
    assert not wanted.axison and not current.collections and not current.patches
    lines = wanted.get_subplotspec()
    assert all(one.get_subplotspec().get_topmost_subplotspec() == lines for one in axes.values())
    free = plt.figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match="make it by plt.subplots"):
        gene_programs(scbig, ax=free)


def test_shown_only_where_asked(scbig, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    gene_programs(scbig)
    assert not calls
    gene_programs(scbig, show=True)
    assert calls == [1]


def test_bad_input_is_one_error(scbig):
    with pytest.raises(ValueError, match="top=-1"):
        gene_programs(scbig, top=-1)
    stored(scbig)[keys.PROGRAM_RELATIONS] = np.eye(3)
    with pytest.raises(DataError, match=r"8 programs are stored, but relations of the shape \(3, 3\)"):
        gene_programs(scbig)
    del stored(scbig)[keys.PROGRAMS]
    with pytest.raises(MissingKeyError, match=r"\['programs'\] does not exist.*Call model.gene_programs\(\)"):
        gene_programs(scbig)
    scbig.uns.clear()
    with pytest.raises(MissingKeyError, match="has nothing"):
        gene_programs(scbig)
    assert not plt.get_fignums()


@pytest.mark.parametrize(("n", "named"), [(1, True), (2, True), (3, False), (8, True), (8, False), (40, True)])
def test_no_text_is_cut_or_overlaps(make_stored, assert_readable, n, named):
    axes = gene_programs(make_stored(n, named=named))
    for one in axes.values():
        assert_readable(one)


def test_names_and_genes_do_not_touch(scbig):
    axes = gene_programs(scbig)
    axes["sizes"].figure.canvas.draw()
    right = [text for text in axes["sizes"].texts if text.xycoords != "data"]
    names = max(text.get_window_extent().x1 for text in right if text.get_fontstyle() == "normal")
    assert names < min(text.get_window_extent().x0 for text in right if text.get_fontstyle() == "italic")


def test_the_same_picture_after_a_file(scbig, same_after_file):
    same_after_file(scbig, gene_programs)


def test_similar_rows_stand_together():
    blocks = np.kron(np.eye(3), np.ones((2, 2)))[[0, 2, 4, 1, 3, 5]][:, [0, 2, 4, 1, 3, 5]]
    order = order_of(blocks) % 3
    assert all(order[i] == order[i + 1] for i in (0, 2, 4))
    assert order_of(np.full((2, 2), np.nan)).tolist() == [0, 1]
    assert sorted(order_of(np.full((4, 4), np.nan))) == [0, 1, 2, 3]


def test_the_end_of_a_scale_is_round_and_beyond_the_values():
    assert [limit_of(np.array([value])) for value in (0.31, 0.5, 0.72, 1.2, 4.9)] == pytest.approx(
        [0.35, 0.5, 0.75, 1.5, 5.0]
    )
    assert limit_of(np.array([np.nan, -2.0, 0.1])) == 2.0
    assert limit_of(np.array([0.0, np.nan]), least=0.1) == pytest.approx(0.1)
    assert limit_of(np.r_[np.ones(99), 50.0], share=0.9) == 1.0


def test_names_of_msigdb_are_readable_and_others_are_left():
    assert readable("HALLMARK_E2F_TARGETS") == "E2F TARGETS"
    assert readable("heme biosynthesis (GO:0006783)") == "heme biosynthesis (GO:0006783)"
    assert readable("CD4_Tcells") == "CD4_Tcells" and readable("") == ""
