import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._affected_genes import affected_genes

GENES = [f"G{i:02d}" for i in range(12)]
EFFECT = np.array([0, 3.0, -2.0, 1.0, -0.8, 0.6, 0, 0, 0, 0, 0, 4.0])


def screen(cell_types=()):
    """60 controls and 40 cells of G11+X, by cell type; the effect is known, G00 is silent."""
    rng = np.random.default_rng(0)
    parts = []
    for shift, cell_type in enumerate(cell_types or ("",)):
        values = 5.0 + shift + rng.normal(0, 0.3, (100, len(GENES)))
        values[60:] += EFFECT
        values[:, 0] = 0
        obs = pd.DataFrame({"perturbation": ["control"] * 60 + ["G11+X"] * 40, "line": cell_type})
        parts.append((values, obs))
    obs = pd.concat([obs for _, obs in parts], ignore_index=True)
    obs.index = obs.index.map("c{}".format)
    adata = AnnData(np.concatenate([values for values, _ in parts]), obs=obs, var=pd.DataFrame(index=GENES))
    setup = {"perturbation_key": "perturbation", "control": "control", "split_key": "split"}
    adata.uns["scperturb_modules"] = {"setup": setup | ({"cell_type_key": "line"} if cell_types else {})}
    return adata


def prediction(values, row="G11+X", genes=GENES):
    obs, var = pd.DataFrame(index=[row]), pd.DataFrame(index=list(genes))
    delta = np.asarray(values, dtype=float)[None]
    return AnnData(delta, obs=obs, var=var, layers={"delta": delta})


@pytest.fixture
def adata():
    return screen()


def genes(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def texts(ax):
    return [text.get_text().replace("\n", " ") for text in ax.texts]


def points(ax):
    return {one.get_label(): np.asarray(one.get_offsets()) for one in ax.collections if len(one.get_offsets())}


def test_draws_in_the_given_axes_and_nowhere_else(adata, two_axes):
    wanted, current = two_axes
    assert affected_genes(adata, prediction(EFFECT), "X+G11", ax=wanted) is wanted
    assert not current.get_lines() and not current.collections


def test_most_changed_genes_upward_on_top_without_the_perturbed_one(adata):
    ax = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=5)
    assert genes(ax) == ["G01", "G03", "G05", "G04", "G02"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert set(texts(ax)) == {"G11+X", "40 cells, 60 controls"}
    assert any(set(line.get_xdata()) == {0} for line in ax.get_lines()), "zero line"


def test_boxes_are_quartiles_of_cells_and_whiskers_end_at_a_cell(adata):
    ax = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=5)
    change = adata.X[60:, 1] - adata.X[:60, 1].mean()
    low, middle, high = np.percentile(change, [25, 50, 75])
    box = ax.patches[0]
    assert (box.get_x(), box.get_width()) == (pytest.approx(low), pytest.approx(high - low))
    inside = change[(change >= low - 1.5 * (high - low)) & (change <= high + 1.5 * (high - low))]
    down, up, median = (one.get_segments()[0] for one in ax.collections if hasattr(one, "get_segments"))
    np.testing.assert_allclose(down, [[inside.min(), 0], [low, 0]])
    np.testing.assert_allclose(up, [[high, 0], [inside.max(), 0]])
    np.testing.assert_allclose(median[:, 0], [middle, middle])
    np.testing.assert_allclose(points(ax)["observed mean"][0], [change.mean(), 0])


def test_no_box_lies_on_the_edge_of_the_axes(adata):
    adata.X[60:, 2] = 3.0  # no whiskers: the box itself is the lowest
    ax = affected_genes(adata, prediction(0 * EFFECT), "G11+X")
    lowest = min(patch.get_x() for patch in ax.patches)
    assert ax.get_xlim()[0] < lowest


def test_an_outlier_does_not_stretch_the_whisker(adata):
    adata.X[60, 1] += 50
    ax = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=11)
    up = [one.get_segments() for one in ax.collections if hasattr(one, "get_segments")][1]
    assert max(segment[1, 0] for segment in up) < 10


def test_each_predictor_has_its_marks_side_by_side(adata):
    said = {
        "Mine": prediction(EFFECT),
        "Shuffled": prediction(EFFECT[::-1], genes=GENES[::-1]),
        "None": prediction(0 * EFFECT),
    }
    ax = affected_genes(adata, said, "X+G11", n_top=5)
    drawn = points(ax)
    for name in ("Mine", "Shuffled"):
        np.testing.assert_allclose(drawn[name][:, 0], [3.0, 1.0, 0.6, -0.8, -2.0], err_msg="matched by name")
    assert set(drawn["None"][:, 0]) == {0.0}
    lines = [drawn[name][0, 1] for name in said]
    assert lines == sorted(lines) and len(set(lines)) == 3 and max(np.abs(lines)) < 0.5
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["observed cells", "observed mean", "Mine", "Shuffled", "None"]


def test_what_a_prediction_lacks_is_said(adata):
    said = {"Part": prediction(EFFECT[2:], genes=GENES[2:]), "Other": prediction(EFFECT, row="G01")}
    ax = affected_genes(adata, said, "X+G11", n_top=5)
    assert "Not predicted by 'Other'" in texts(ax) and "Part lacks 1 of 5 genes" in texts(ax)
    assert "Other" not in points(ax) and np.isnan(points(ax)["Part"][0, 0])


def test_sparse_and_layers_give_the_same(adata):
    expected = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=5)
    adata.layers["logged"] = sparse.csr_matrix(adata.X)
    adata.X = sparse.csr_matrix(np.zeros_like(adata.X))
    adata.uns["scperturb_modules"]["setup"]["layer"] = "logged"
    ax = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=5)
    assert genes(ax) == genes(expected)
    np.testing.assert_allclose(points(ax)["observed mean"], points(expected)["observed mean"])


def test_controls_of_the_test_part_where_some_were_held_out(adata):
    adata.obs["split"] = ["train"] * 40 + ["test"] * 60
    ax = affected_genes(adata, prediction(EFFECT), "X+G11", n_top=5)
    assert "40 cells, 20 controls" in texts(ax)
    expected = adata.X[60:, 1].mean() - adata.X[40:60, 1].mean()
    assert points(ax)["observed mean"][0, 0] == pytest.approx(expected)
    adata.obs["split"] = ["train"] * 40 + ["test"] * 20 + ["train"] * 40
    assert "40 cells, 40 controls" in texts(affected_genes(adata, prediction(EFFECT), "X+G11"))
    adata.obs["split"] = ["train"] * 60 + ["test"] * 40
    assert "40 cells, 60 controls" in texts(affected_genes(adata, prediction(EFFECT), "X+G11"))


def test_controls_are_of_the_same_cell_type():
    adata = screen(("x", "y"))
    ax = affected_genes(adata, prediction(EFFECT, row="G11+X|y"), "X+G11|y", n_top=5)
    assert set(texts(ax)) == {"G11+X|y", "40 cells, 60 controls"}
    assert np.abs(points(ax)["observed mean"][:, 0] - [3.0, 1.0, 0.6, -0.8, -2.0]).max() < 0.3
    with pytest.raises(ValueError, match="in 2 contexts"):
        affected_genes(adata, prediction(EFFECT), "X+G11")


def test_bad_input_is_one_error(adata):
    with pytest.raises(ValueError, match="n_top=0 shows no gene"):
        affected_genes(adata, prediction(EFFECT), "X+G11", n_top=0)
    with pytest.raises(ValueError, match="adata holds no condition 'G1\\+X'"):
        affected_genes(adata, prediction(EFFECT), "G1+X")
    with pytest.raises(DataError, match="'G11\\+X' has 1 cells"):
        affected_genes(adata[:61].copy(), prediction(EFFECT), "G11+X")
    with pytest.raises(DataError, match="has 0 controls"):
        affected_genes(adata[60:].copy(), prediction(EFFECT), "G11+X")
    silent = adata.copy()
    silent.X = np.zeros_like(adata.X)
    with pytest.raises(DataError, match="No gene is seen in 5 %"):
        affected_genes(silent, prediction(EFFECT), "G11+X")
    bare = adata.copy()
    del bare.uns["scperturb_modules"]
    with pytest.raises(MissingKeyError, match="setup_anndata"):
        affected_genes(bare, prediction(EFFECT), "G11+X")


@pytest.mark.parametrize("width", [3.5, 7.0])
def test_no_text_is_cut_or_overlaps(adata, assert_readable, width):
    said = {"BioDSNN": prediction(EFFECT), "Additive": prediction(0 * EFFECT), "GEARS": prediction(EFFECT, row="G01")}
    ax = plt.subplots(figsize=(width, 4.6), layout="constrained")[1]
    assert_readable(affected_genes(adata, said, "X+G11", ax=ax))
