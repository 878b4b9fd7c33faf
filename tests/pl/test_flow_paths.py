import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color
from matplotlib.patches import FancyArrowPatch

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._flow_paths import CONTROL_COLOR, OBSERVED_COLOR, PATH_COLOR, flow_paths


def stored(adata):
    return adata.uns[keys.ROOT][keys.SCBIG][keys.FLOW_PATHS]


def points(ax):
    return [one for one in ax.collections if isinstance(one, PathCollection)]


def paths(ax):
    (lines,) = [one for one in ax.collections if isinstance(one, LineCollection)]
    return np.array(lines.get_segments())


def above(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_lines_points_and_arrow_equal_what_is_stored(scbig, two_axes):
    wanted, current = two_axes
    ax = flow_paths(scbig, ax=wanted)
    assert ax is wanted and not current.collections
    np.testing.assert_array_equal(paths(ax), stored(scbig)["position"])
    control, observed, ends = points(ax)
    np.testing.assert_array_equal(control.get_offsets(), stored(scbig)["control"])
    np.testing.assert_array_equal(observed.get_offsets(), stored(scbig)["observed"])
    np.testing.assert_array_equal(ends.get_offsets(), stored(scbig)["position"][:, -1])
    for drawn, color in ((control, CONTROL_COLOR), (observed, OBSERVED_COLOR), (ends, PATH_COLOR)):
        assert same_color(drawn.get_facecolor()[0, :3], color)
    mean = stored(scbig)["position"].astype(float).mean(axis=0)
    (line,) = [one for one in ax.get_lines() if len(one.get_xdata())]
    np.testing.assert_allclose(line.get_xydata(), mean)
    (arrow,) = [one for one in ax.patches if isinstance(one, FancyArrowPatch)]
    np.testing.assert_allclose(arrow._posA_posB, mean[-2:])
    assert control.get_zorder() < line.get_zorder() and control.get_rasterized()


def test_all_of_it_is_in_sight(scbig):
    ax = flow_paths(scbig)
    every = np.concatenate([stored(scbig)["position"].reshape(-1, 2), stored(scbig)["control"]])
    for values, (low, high) in ((every[:, 0], ax.get_xlim()), (every[:, 1], ax.get_ylim())):
        assert low < values.min() and values.max() < high


def test_legend_and_title(scbig):
    ax = flow_paths(scbig)
    assert above(ax) == ["G00+G01"]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["control", "observed", "generated", "mean path"]


def test_a_condition_without_real_cells_says_so(scbig):
    stored(scbig)["observed"] = np.zeros((0, 2), dtype=np.float32)
    ax = flow_paths(scbig)
    assert "No real cells of this condition" in above(ax) and len(points(ax)) == 2
    assert "observed" not in [text.get_text() for text in ax.get_legend().get_texts()]


def test_of_many_paths_some_are_drawn_and_all_are_in_the_mean(scbig):
    position = np.random.default_rng(0).normal(size=(250, 11, 2))
    stored(scbig)["position"] = position
    ax = flow_paths(scbig)
    assert len(paths(ax)) == 100 and "100 of 250 paths" in above(ax)
    (line,) = [one for one in ax.get_lines() if len(one.get_xdata())]
    np.testing.assert_allclose(line.get_xydata(), position.mean(axis=0))


def test_shown_only_where_asked(scbig, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    flow_paths(scbig)
    flow_paths(scbig, show=True)
    assert calls == [1]


def test_bad_input_is_one_error(scbig):
    stored(scbig)["position"] = np.zeros((3, 5, 2))
    with pytest.raises(DataError, match=r"Paths are n x 11 times x 2, these have the shape \(3, 5, 2\)"):
        flow_paths(scbig)
    stored(scbig)["position"] = np.zeros((0, 11, 2))
    with pytest.raises(DataError, match=r"the shape \(0, 11, 2\)"):
        flow_paths(scbig)
    del scbig.uns[keys.ROOT][keys.SCBIG][keys.FLOW_PATHS]
    with pytest.raises(MissingKeyError, match=r"\['flow_paths'\] does not exist.*model.flow_paths\(condition\)"):
        flow_paths(scbig)
    assert not plt.get_fignums()


@pytest.mark.parametrize("width", [3.2, 4.8])
def test_no_text_is_cut_or_overlaps(scbig, assert_readable, width):
    ax = plt.subplots(figsize=(width, width), layout="constrained")[1]
    assert_readable(flow_paths(scbig, ax=ax))


@pytest.mark.parametrize("measured", [True, False])
def test_the_same_picture_after_a_file(scbig, same_after_file, measured):
    if not measured:
        stored(scbig)["observed"] = np.zeros((0, 2), dtype=np.float32)
    same_after_file(scbig, flow_paths)
