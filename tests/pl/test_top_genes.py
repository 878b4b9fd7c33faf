import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import MissingKeyError
from scperturb_modules.pl import top_genes
from scperturb_modules.pl._style import OTHER_COLOR, OWN_COLOR

GENES = ["A", "B", "C", "D", "E", "F"]
DELTA = np.array([[-3.0, 0.1, 2.0, -1.0, 0.5, 0.0], [0.2, -2.0, 0.1, 0.3, 1.0, 0.4]])


def table(delta=DELTA, *, rows=("A", "A+B"), genes=GENES, **obs):
    from anndata import AnnData

    made = AnnData(np.zeros(delta.shape), obs=pd.DataFrame(obs, index=list(rows)), var=pd.DataFrame(index=list(genes)))
    made.layers["delta"] = delta
    return made


@pytest.fixture
def prediction():
    made = table(seen=["single_unseen", "pair_1of2"], gate=[0.25, np.nan], status=["ok", "unknown_gene"])
    made.layers["lower"] = DELTA - 0.5
    made.layers["upper"] = DELTA + 0.25
    made.layers["upper"][0, 2] = np.nan
    return made


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def labelled(ax):
    return {artist.get_label(): artist for artist in ax.collections}


def test_the_most_changed_genes_up_on_top_in_the_given_axes(prediction, two_axes):
    wanted, current = two_axes
    assert top_genes(prediction, "A", n_top=4, ax=wanted) is wanted
    assert not current.patches
    assert names(wanted) == ["C", "E", "D", "A"]
    assert [bar.get_width() for bar in wanted.patches] == [2.0, 0.5, -1.0, -3.0]
    assert wanted.yaxis_inverted()
    colors = [to_hex(bar.get_facecolor()).upper() for bar in wanted.patches]
    assert colors == [OTHER_COLOR] * 3 + [OWN_COLOR]


def test_intervals_are_named_by_their_level(prediction):
    prediction.uns["scperturb_modules"] = {"prediction": {"level": 0.95}}
    assert "95 % interval" in labelled(top_genes(prediction, "A"))


def test_why_not_to_believe_a_prediction_is_said_above(prediction, assert_readable):
    reason = "neither a measured single of its genes nor neighbours of them enter: any other condition gets the same"
    prediction.obs["abstain_reason"] = [reason, ""]
    ax = top_genes(prediction, "A")
    assert any(text.get_text().replace("\n", " ") == f"Do not believe it: {reason}" for text in ax.texts)
    assert_readable(ax)
    assert not any("believe" in text.get_text() for text in top_genes(prediction, "A+B").texts)


def test_intervals_stand_where_both_ends_are_known(prediction):
    intervals = labelled(top_genes(prediction, "A", n_top=4))["90 % interval"]
    drawn = {int(segment[0, 1]): segment[:, 0].tolist() for segment in intervals.get_segments()}
    assert drawn == {1: [0.0, 0.75], 2: [-1.5, -0.75], 3: [-3.5, -2.75]}  # C has no upper end
    for layer in ("lower", "upper"):
        prediction.layers[layer][:] = np.nan
    assert not labelled(top_genes(prediction, "A"))
    del prediction.layers["upper"]
    assert not labelled(top_genes(prediction, "A"))


def test_the_measured_change_stands_beside_the_predicted_one(prediction):
    from scipy import sparse

    truth = table(DELTA[:, ::-1] * 0.5, genes=GENES[::-1])[
        :, ["F", "D", "C", "A"]
    ].copy()  # another order, E not measured
    points = labelled(top_genes(prediction, "A", n_top=4, truth=truth))["measured change"].get_offsets()
    known = points[~np.ma.getmaskarray(points).any(axis=1)]
    np.testing.assert_allclose(known, [[1.0, 0], [-0.5, 2], [-1.5, 3]])
    truth.layers["delta"] = sparse.csr_matrix(truth.layers["delta"])
    again = labelled(top_genes(prediction, "A", n_top=4, truth=truth))["measured change"].get_offsets()
    np.testing.assert_allclose(again, points)


def test_the_figure_says_what_the_prediction_rests_on(prediction):
    def above(*args, **kwargs):
        return {text.get_text() for text in top_genes(prediction, *args, **kwargs).texts}

    assert above("A") == {"A", "single gene, not measured; gate 0.25; status ok"}
    # a predictor without a network has no gate
    assert above("B+A") == {"A+B", "pair, one gene measured alone; status unknown_gene"}
    elsewhere = table(DELTA[1:], rows=["A+B"])
    assert any(text.endswith("not in the truth") for text in above("A", truth=elsewhere))
    assert not any("truth" in text for text in above("A+B", truth=elsewhere))


def test_a_bare_table_of_changes_is_enough():
    ax = top_genes(table(), "A+B", n_top=2)
    assert names(ax) == ["E", "B"] and [text.get_text() for text in ax.texts] == ["A+B"]


def test_errors_name_what_is_there(prediction):
    with pytest.raises(ValueError, match="the prediction holds no condition 'a\\+c'; near matches: 'A\\+B'"):
        top_genes(prediction, "a+c")
    with pytest.raises(ValueError, match="n_top=0"):
        top_genes(prediction, "A", n_top=0)
    bare = table()
    del bare.layers["delta"]
    with pytest.raises(MissingKeyError, match=r"layers of the truth\['delta'\].*spm.pp.pseudobulk"):
        top_genes(prediction, "A", truth=bare)
    with pytest.raises(MissingKeyError, match="layers of the prediction"):
        top_genes(bare, "A")


@pytest.mark.parametrize("long", [False, True])
def test_no_text_is_cut_or_overlaps(assert_readable, long):
    rng = np.random.default_rng(0)
    genes = [f"ENSG{i:011d}-AS1-antisense" if long else f"TGFBR{i}" for i in range(60)]
    delta = rng.normal(size=(1, 60))
    delta[0, :2] = -4
    made = table(
        delta, rows=[f"{genes[0]}+{genes[1]}|K562"], genes=genes, seen=["pair_0of2"], gate=[0.5], status=["ok"]
    )
    made.layers["lower"], made.layers["upper"] = delta - 0.3, delta + 0.3
    assert_readable(top_genes(made, made.obs_names[0], truth=made, n_top=60))
    assert_readable(top_genes(made, made.obs_names[0], n_top=1))
