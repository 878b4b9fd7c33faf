import matplotlib.pyplot as plt
import numpy as np
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._program_correlation import program_correlation

PANELS = ["control", "predicted", "predicted_change", "observed_change"]


def found(adata):
    return adata.uns[keys.ROOT][keys.SCBIG][keys.PROGRAM_CORRELATION]


def drawn(ax):
    values = ax.collections[0].get_array()
    side = int(np.sqrt(values.size))
    return np.ma.filled(values.astype(float), np.nan).reshape(side, side)


def names(labels):
    return [label.get_text() for label in labels]


def above(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def test_panels_are_the_matrices_in_one_order(scbig):
    axes = program_correlation(scbig, "G01+G00")
    assert list(axes) == PANELS
    stored = found(scbig)
    order = [int(name.split()[0][1:]) - 1 for name in names(axes["control"].get_yticklabels())]
    assert sorted(order) == list(range(8))
    control, predicted, observed = (stored[name][0] for name in ("control", "predicted", "observed"))
    matrices = dict(zip(PANELS, (control, predicted, predicted - control, observed - control), strict=True))
    others = ~np.eye(8, dtype=bool)
    for name, matrix in matrices.items():
        np.testing.assert_array_equal(drawn(axes[name])[others], matrix[np.ix_(order, order)][others])
        assert np.isnan(np.diag(drawn(axes[name]))).all()
    assert names(axes["observed_change"].get_xticklabels()) == names(axes["control"].get_yticklabels())
    assert names(axes["predicted_change"].get_yticklabels()) == names(axes["control"].get_yticklabels())


def test_correlations_share_a_scale_and_differences_another(scbig):
    axes = program_correlation(scbig, "G00+G01")
    limits = {name: one.collections[0].norm.vmax for name, one in axes.items()}
    assert limits["control"] == limits["predicted"] > limits["predicted_change"] == limits["observed_change"]
    changes = np.array([drawn(axes[name]) for name in PANELS[2:]])
    assert np.nanmax(np.abs(changes)) <= limits["predicted_change"]
    assert all(one.collections[0].norm.vmin == -limits[name] for name, one in axes.items())


def test_the_title_has_the_correlation_over_pairs(scbig):
    stored, pairs = found(scbig), np.triu_indices(8, 1)
    said, seen = ((stored[name][1] - stored["control"][1])[pairs] for name in ("predicted", "observed"))
    axes = program_correlation(scbig, "G01")
    r = np.corrcoef(said, seen)[0, 1]
    assert set(above(axes["control"])) == {"G01", f"Pearson {r:.2f} over 28 changes", "control cells"}
    assert [above(axes[name]) for name in PANELS[1:]] == [
        ["predicted"],
        ["predicted minus control"],
        ["observed minus control"],
    ]


def test_without_a_measurement_there_are_three_panels(scbig):
    last = str(found(scbig)["conditions"][-1])
    axes = program_correlation(scbig, last)
    assert list(axes) == PANELS[:3] and set(above(axes["control"])) == {last, "control cells"}
    assert all(names(one.get_xticklabels()) for one in axes.values())


def test_draws_in_the_place_given_and_nowhere_else(scbig, two_axes):
    wanted, current = two_axes
    axes = program_correlation(scbig, "G01", ax=wanted)
    assert len(plt.get_fignums()) == 1 and not current.collections and not wanted.axison
    assert all(one.get_subplotspec().get_topmost_subplotspec() == wanted.get_subplotspec() for one in axes.values())


def test_shown_only_where_asked(scbig, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    program_correlation(scbig, "G01")
    program_correlation(scbig, "G01", show=True)
    assert calls == [1]


def test_bad_input_is_one_error(scbig):
    with pytest.raises(ValueError, match="the stored correlations holds no condition 'G99'"):
        program_correlation(scbig, "G99")
    found(scbig)["predicted"][1] = np.nan
    with pytest.raises(DataError, match="The predicted correlation of 'G01' holds no number: all 64 values"):
        program_correlation(scbig, "G01")
    del scbig.uns[keys.ROOT][keys.SCBIG][keys.PROGRAM_CORRELATION]
    with pytest.raises(MissingKeyError, match=r"\['program_correlation'\] does not exist"):
        program_correlation(scbig, "G01")
    assert not plt.get_fignums()


@pytest.mark.parametrize(("n", "condition"), [(2, "G01"), (8, "G04+G05"), (40, "G01")])
def test_no_text_is_cut_or_overlaps(make_stored, assert_readable, n, condition):
    adata = make_stored(n, n_conditions=5)  # the last one, G04+G05, is not measured
    for one in program_correlation(adata, condition).values():
        assert_readable(one)


def test_the_same_picture_after_a_file(scbig, same_after_file):
    same_after_file(scbig, lambda adata: program_correlation(adata, "G01"))
