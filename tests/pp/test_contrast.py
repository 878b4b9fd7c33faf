"""Changes as sums over groups of cells are those of the pseudobulk, and resampling keeps the groups."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules._conditions import parse_row_name
from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp import pseudobulk, split
from scperturb_modules.pp._contrast import contrast

GENES = ["G03", "G29", "G00"]


def rows_of(truth):
    return tuple(parse_row_name(name) for name in truth.obs_names)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("cells", ["all", "training"])
@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_changes_are_those_of_the_pseudobulk(screen, strict, cells, form):
    rng = np.random.default_rng(0)
    screen.obs["line"] = rng.choice(["T1", "T2"], screen.n_obs)
    if strict:
        split(screen, "combination", seed=0, cell_type_key="line", batch_key="batch")
    screen.X = screen.X.toarray() if form == "dense" else screen.X.asformat(form)
    keys = {"batch_key": "batch", "cell_type_key": "line"}
    truth = pseudobulk(screen, cells=cells, **keys)[:, GENES]
    truth = truth[rng.permutation(truth.n_obs)[:9]]
    found = contrast(screen, ScreenKeys(**keys), rows_of(truth), GENES)
    np.testing.assert_allclose(found.changes(), truth.layers["delta"], atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(axis=1), 0, atol=1e-12)


def test_resampling_has_the_standard_errors_of_the_pseudobulk(screen):
    truth = pseudobulk(screen, batch_key="batch")
    found = contrast(screen, ScreenKeys(batch_key="batch"), rows_of(truth), list(truth.var_names))
    rng = np.random.default_rng(0)
    drawn = np.array([found.resample(rng) for _ in range(800)])
    np.testing.assert_allclose(drawn.mean(axis=0), truth.layers["delta"], atol=0.1)
    ratio = drawn.var(axis=0) / truth.layers["se2"]
    assert abs(np.median(ratio) - 1) < 0.1 and ratio.min() > 0.7 and ratio.max() < 1.3
    # rows share their controls, so their errors go together
    error = drawn - drawn.mean(axis=0)
    shared = np.mean(error[:, 0] * error[:, 1], axis=0) / truth.layers["se2_control"][0]
    assert abs(shared.mean() - 1) < 0.2


def test_rows_without_cells_are_named(screen):
    with pytest.raises(DataError, match="1 conditions have no cells in cells: 'G01\\+G09'"):
        contrast(screen, ScreenKeys(), (("G01", None), ("G01+G09", None)), GENES)
