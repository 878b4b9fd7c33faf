import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm, to_hex

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl import attention
from scperturb_modules.pl._style import OTHER_COLOR, OWN_COLOR

GENES = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]


def predicted(table, *, sd=None, tv=0.3):
    from anndata import AnnData

    prediction = AnnData(np.zeros((len(table), 2)), obs=pd.DataFrame(index=table.index))
    prediction.obsm[keys.ATTENTION] = table.to_numpy(np.float32, copy=True)
    if sd is not None:
        prediction.obsm[keys.ATTENTION_SD] = sd.to_numpy(np.float32)
    prediction.uns[keys.ROOT] = {keys.ATTENTION_NODES: table.columns.to_numpy(str), keys.ATTENTION_TV: tv}
    return prediction


def weights(rows, genes=GENES, *, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    values = np.exp(rng.normal(0, spread, (len(rows), len(genes))))
    for line, row in zip(values, rows, strict=True):
        line[[gene in row.split("|")[0].split("+") for gene in genes]] *= 50
    return pd.DataFrame(values / values.sum(1, keepdims=True), index=rows, columns=genes)


@pytest.fixture
def small():
    table = weights(["A", "B", "A+B"])
    return table, predicted(table, sd=table * 0.2)


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def heat(ax):
    """Values drawn, by perturbation and gene."""
    values = ax.collections[0].get_array().reshape(len(ax.get_yticks()), -1)
    return pd.DataFrame(values, index=tick_names(ax.yaxis), columns=tick_names(ax.xaxis))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_heat_map_draws_multiples_of_an_even_share_in_the_given_axes(small, two_axes):
    table, prediction = small
    wanted, current = two_axes
    assert attention(prediction, ax=wanted) is wanted
    assert not current.collections and len(plt.get_fignums()) == 1
    drawn = heat(wanted)
    assert sorted(drawn.columns) == GENES and sorted(drawn.index) == sorted(table.index)
    np.testing.assert_allclose(drawn, table.loc[drawn.index, drawn.columns] * 10, rtol=1e-6)
    assert wanted.yaxis_inverted()


def test_genes_are_the_union_of_the_top_of_each(small):
    table, prediction = small
    union = set().union(*(table.loc[row].nlargest(2).index for row in table.index))
    ax = attention(prediction, n_top=2)
    assert set(heat(ax).columns) == union
    assert ax.get_xlabel().splitlines()[0] == "Top 2 of 10 genes for each perturbation"


def test_own_genes_are_marked_where_they_stand(small):
    ax = attention(small[1])
    drawn = heat(ax)
    (marks,) = [line for line in ax.get_lines() if line.get_marker() == "o"]
    cells = {(drawn.index[int(y)], drawn.columns[int(x)]) for x, y in marks.get_xydata()}
    assert cells == {("A", "A"), ("B", "B"), ("A+B", "A"), ("A+B", "B")}


def test_similar_perturbations_stand_side_by_side():
    rows = ["A", "F", "A+B", "F+G", "A+C", "F+H"]
    drawn = list(heat(attention(predicted(weights(rows, spread=0.3)))).index)
    places = sorted(drawn.index(row) for row in ("A", "A+B", "A+C"))
    assert places in ([0, 1, 2], [3, 4, 5])


def test_at_most_forty_genes_are_drawn_and_each_first_place_is_among_them():
    genes = [f"GENE{i}" for i in range(300)]
    rows = genes[:30]
    table = weights(rows, genes)
    ax = attention(predicted(table))
    drawn = heat(ax)
    assert drawn.shape == (30, 40)
    assert set(table.idxmax(axis=1)) <= set(drawn.columns)
    union = set().union(*(table.loc[row].nlargest(20).index for row in rows))
    assert ax.get_xlabel().startswith(f"40 of the {len(union)} genes among the top 20 for each perturbation")
    crowded = predicted(weights(genes[:70], genes))
    ax = attention(crowded)
    assert heat(ax).shape == (60, 40) and texts(ax) == ["First 60 of 70 conditions"]
    assert heat(attention(crowded, genes[:70])).shape == (70, 40)


def test_colors_are_logarithmic_only_where_weights_spread():
    peaked = predicted(weights(["G1", "G2"], [f"G{i}" for i in range(200)]))
    assert isinstance(attention(peaked).collections[0].norm, LogNorm)
    flat = predicted(pd.DataFrame(np.full((2, 10), 0.1), index=["A", "B"], columns=GENES))
    norm = attention(flat).collections[0].norm
    assert not isinstance(norm, LogNorm) and (norm.vmin, norm.vmax) == (1, 2)


def test_bars_are_one_condition_with_whiskers_and_its_genes_in_their_own_color(small):
    table, prediction = small
    ax = attention(prediction, "B+A", kind="bar", n_top=4)
    top = table.loc["A+B"].nlargest(4) * 10
    assert tick_names(ax.yaxis) == list(top.index)
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    np.testing.assert_allclose(ends, top, rtol=1e-6)
    colors = [to_hex(bar.get_facecolor()).upper() for bar in ax.patches]
    assert colors == [OWN_COLOR if gene in "AB" else OTHER_COLOR for gene in top.index]
    (whiskers,) = ax.collections
    drawn = np.array([segment[:, 0] for segment in whiskers.get_segments()])
    np.testing.assert_allclose(drawn, np.column_stack([top * 0.8, top * 1.2]), rtol=1e-6)
    assert not attention(predicted(table), "A", kind="bar").collections  # one member has no spread


def test_bars_start_at_the_even_share_on_a_logarithmic_axis(small):
    table, prediction = small
    ax = attention(prediction, "A", kind="bar")
    assert ax.get_xscale() == "log" and {bar.get_x() for bar in ax.patches} == {1.0}
    even = predicted(table.loc[["A"]] * 0 + 0.1)
    ax = attention(even, kind="bar")
    assert ax.get_xscale() == "linear" and {bar.get_x() for bar in ax.patches} == {0.0}


def test_nodes_that_were_cut_away_are_no_bars(small):
    table, _ = small
    short = table.where(table.rank(axis=1) > 7, 0.0)
    assert len(attention(predicted(short), "A", kind="bar").patches) == 3


@pytest.mark.parametrize("kind", ["heatmap", "bar"])
def test_the_figure_says_when_attention_does_not_depend_on_the_perturbation(small, kind):
    table, _ = small
    warning = "Attention hardly depends on the perturbation\n(mean total variation 0.019)"
    assert warning in texts(attention(predicted(table, tv=0.019), "A", kind=kind))
    for tv in (0.02, np.nan):
        assert not any("hardly" in text for text in texts(attention(predicted(table, tv=tv), "A", kind=kind)))


@pytest.mark.parametrize("kind", ["heatmap", "bar"])
def test_the_figure_says_that_attention_is_no_proof(small, kind):
    assert attention(small[1], "A", kind=kind).get_xlabel().endswith("Attention weights are no proof of regulation.")


def test_a_subset_of_a_prediction_draws_its_own_rows(small):
    table, prediction = small
    drawn = heat(attention(prediction[["B"]]))
    assert list(drawn.index) == ["B"]
    np.testing.assert_allclose(drawn, table.loc[["B"], drawn.columns] * 10, rtol=1e-6)
    with pytest.raises(DataError, match="no condition with attention"):
        attention(prediction[[]])


def test_conditions_that_the_network_was_not_asked_are_left_out(small):
    _, prediction = small
    prediction.obsm[keys.ATTENTION][1] = np.nan
    prediction.obsm[keys.ATTENTION_SD][1] = np.nan
    assert sorted(heat(attention(prediction)).index) == ["A", "A+B"]
    with pytest.raises(ValueError, match="'B'"):
        attention(prediction, "B", kind="bar")


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_what_is_stored_survives_a_file(small, tmp_path, form):
    import anndata

    _, prediction = small
    getattr(prediction, f"write_{form}")(tmp_path / "prediction")
    again = getattr(anndata, f"read_{form}")(tmp_path / "prediction")
    pd.testing.assert_frame_equal(heat(attention(again)), heat(attention(prediction)))
    drawn = [attention(one, "A", kind="bar").collections[0].get_segments() for one in (again, prediction)]
    np.testing.assert_array_equal(*drawn)


def test_errors_say_what_to_call(small):
    _, prediction = small
    with pytest.raises(ValueError, match="near matches: 'A\\+B'"):
        attention(prediction, "A+C")
    with pytest.raises(ValueError, match="kind='network' is unknown"):
        attention(prediction, kind="network")
    with pytest.raises(ValueError, match="draws one condition, not 3"):
        attention(prediction, kind="bar")
    with pytest.raises(ValueError, match="n_top=0"):
        attention(prediction, n_top=0)
    del prediction.obsm[keys.ATTENTION]
    with pytest.raises(MissingKeyError, match="'attention'.* does not exist.*Predict with a model that has attention"):
        attention(prediction)


def named(n_rows, n_genes, *, long=False):
    genes = [f"ENSG{i:011d}-AS1-antisense" if long else f"TGFBR{i}" for i in range(n_genes)]
    pairs = [f"{genes[i]}+{genes[(7 * i + 1) % n_genes]}" for i in range(n_rows)]
    return weights(["+".join(sorted(pair.split("+"))) + "|K562" for pair in pairs], genes)


@pytest.mark.parametrize(
    ("n_rows", "long", "tv"), [(1, False, 0.3), (5, False, 0.01), (12, True, 0.01), (60, False, 0.3)]
)
def test_no_text_is_cut_or_overlaps(assert_readable, n_rows, long, tv):
    table = named(n_rows, 120, long=long)
    prediction = predicted(table, sd=table * 0.3, tv=tv)
    assert_readable(attention(prediction))
    assert_readable(attention(prediction, table.index[0], kind="bar"))
