"""Intervals of a Prediction at another level and for another number of cells."""

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.baselines._intervals import interval_half_widths
from scperturb_modules.metrics._conformal import LEVELS
from scperturb_modules.tl._intervals import intervals

ASKED = ["G01", "G02", "G08"]


@pytest.fixture(scope="module")
def model():
    adata = spm.datasets.simulate("tiny", seed=0, n_perturbable=12)
    spm.baselines.MeanShift.setup_anndata(adata)
    made = spm.baselines.MeanShift(adata)
    made.train()
    return made


@pytest.fixture(scope="module")
def pred(model):
    """Two new singles with intervals, and one measured, without."""
    return model.predict(ASKED, intervals=True)


def widths(prediction):
    np.testing.assert_allclose(
        prediction.layers["upper"] - prediction.layers["delta"], prediction.layers["delta"] - prediction.layers["lower"]
    )
    assert np.isnan(prediction.layers["lower"][2]).all()
    return (prediction.layers["upper"] - prediction.layers["lower"])[:2]


def test_nothing_asked_for_is_the_same_in_a_copy(pred):
    before = pred.copy()
    same = intervals(pred)
    assert same is not pred
    np.testing.assert_allclose(widths(same), widths(pred))
    intervals(pred, level=0.5, n_cells=7).layers["lower"][:] = 0
    for layer in ("lower", "upper", "delta"):
        np.testing.assert_array_equal(pred.layers[layer], before.layers[layer])
    assert pred.uns[keys.ROOT]["prediction"]["level"] == 0.9
    assert pred.obs.equals(before.obs)


def test_higher_levels_are_wider(pred):
    found = [intervals(pred, level=level) for level in LEVELS]
    assert [one.uns[keys.ROOT]["prediction"]["level"] for one in found] == list(LEVELS)
    for narrow, wide in zip(found, found[1:], strict=False):
        assert (widths(narrow) < widths(wide)).all()
    np.testing.assert_array_equal(found[0].layers["delta"], pred.layers["delta"])


def test_more_cells_are_narrower_down_to_the_underlying_effect(pred):
    found = [intervals(pred, n_cells=n) for n in (5, 60, 1000, np.inf)]
    for wide, narrow in zip(found, found[1:], strict=False):
        assert (widths(wide) > widths(narrow)).all()
    assert found[0].obs["interval_cells"].tolist() == [5.0] * 3
    assert (widths(found[-1]) > 0).all()


@pytest.mark.parametrize("form", [dict, pd.Series])
def test_each_row_may_have_its_own_number(pred, form):
    cells = {"G08": 3, "G02": 1000, "other": 2, "G01": 5}
    found = intervals(pred, n_cells=form(cells))
    assert found.obs["interval_cells"].tolist() == [5.0, 1000.0, 3.0]
    few, many = intervals(pred, n_cells=5), intervals(pred, n_cells=1000)
    np.testing.assert_array_equal(found.layers["upper"][0], few.layers["upper"][0])
    np.testing.assert_array_equal(found.layers["upper"][1], many.layers["upper"][1])


def test_there_and_back(pred):
    """What is asked for says all that the next question needs, also of some of the rows."""
    other = intervals(pred, level=0.5, n_cells={"G01": 5, "G02": 1000, "G08": 3})
    back = intervals(other[::-1].copy(), level=0.9, n_cells=60)[::-1]
    np.testing.assert_allclose(widths(back), widths(pred))
    np.testing.assert_allclose(
        interval_half_widths(other, level=0.8, n_cells=np.full(3, 20.0)),
        interval_half_widths(pred, level=0.8, n_cells=np.full(3, 20.0)),
    )


def test_it_equals_the_scale(model, pred):
    fitted = model._intervals
    one = fitted.regimes["single_unseen"]
    thirds = np.zeros(pred.n_vars, dtype=int)
    half = one.half_width(pred.layers["delta"][:2], fitted.cell_variance / 17, thirds, 0.7)
    np.testing.assert_allclose(widths(intervals(pred, level=0.7, n_cells=17)), 2 * half)


def test_what_is_wrong_is_said(model, pred):
    with pytest.raises(MissingKeyError, match=r"no intervals.*predict\(\.\.\., intervals=True\)"):
        intervals(model.predict(ASKED))
    with pytest.raises(MissingKeyError, match="no intervals"):
        intervals(spm.pp.pseudobulk(spm.datasets.simulate("tiny", seed=0)))
    with pytest.raises(ValueError, match=r"level=0\.99; choose one of 0\.5, .*0\.95"):
        intervals(pred, level=0.99)
    with pytest.raises(DataError, match="no number for 2 rows: 'G02', 'G08'"):
        intervals(pred, n_cells={"G01": 20})
    with pytest.raises(DataError, match="not above 0 for 1 rows: 'G02'"):
        intervals(pred, n_cells={"G01": 20, "G02": np.nan, "G08": 1})
    with pytest.raises(DataError, match="not above 0 for 3 rows"):
        intervals(pred, n_cells=0)
