"""Predicted cells: which control is moved, by how much, and that nobody else decides it."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import pp
from scperturb_modules._errors import DataError


def test_cells_are_training_controls_moved_by_the_change(trained, trained_screen):
    cells = trained.predict_cells(["G07", "G01+G06"], n_cells=7)
    assert cells.shape == (14, 12) and cells.X.dtype == np.float32
    assert cells.obs["perturbation"].tolist() == ["G07"] * 7 + ["G01+G06"] * 7
    sources = trained_screen[cells.obs["control_cell"].tolist()]
    assert (sources.obs["perturbation"] == "control").all() and (sources.obs["split"] == "train").all()
    delta = np.repeat(trained.predict(["G07", "G01+G06"], store=False).layers["delta"], 7, axis=0)
    np.testing.assert_allclose(cells.X, np.maximum(sources.X.toarray() + delta, 0), atol=1e-6)
    assert len(set(cells.obs["control_cell"][:7])) == 7, "without replacement where there are enough"


def test_no_value_falls_below_zero(make_screen, toy_class, fit):
    adata = make_screen()
    adata.X = np.maximum(adata.X.toarray() - 2, 0)
    toy_class.setup_anndata(adata)
    model = fit(adata)
    cells = model.predict_cells(["G00"], n_cells=5)
    moved = adata[cells.obs["control_cell"].tolist()].X + model.predict(["G00"]).layers["delta"]
    assert (moved < 0).any()
    np.testing.assert_array_equal(cells.X, np.maximum(moved, 0).astype(np.float32))


def test_a_draw_depends_on_seed_and_name_alone(trained):
    alone = trained.predict_cells(["G07"], n_cells=30)
    beside = trained.predict_cells(["G00", "G07"], n_cells=30)[30:]
    assert alone.obs["control_cell"].tolist() == beside.obs["control_cell"].tolist()
    np.testing.assert_array_equal(alone.X, beside.X)
    assert alone.obs["control_cell"].nunique() <= 20 < 30, "20 training controls: with replacement"
    other = trained.predict_cells(["G07"], n_cells=30, seed=1)
    assert other.obs["control_cell"].tolist() != alone.obs["control_cell"].tolist()
    assert (
        beside.obs["control_cell"].tolist() != trained.predict_cells(["G00"], n_cells=30).obs["control_cell"].tolist()
    )


def test_order_of_cells_in_the_file_does_not_matter(trained, trained_screen, toy_class, tmp_path):
    trained.save(tmp_path / "model")
    shuffled = trained_screen[np.random.default_rng(0).permutation(trained_screen.n_obs)].copy()
    models = (toy_class.load(tmp_path / "model", shuffled), trained)
    cells, expected = (model.predict_cells(["G07"], n_cells=9) for model in models)
    np.testing.assert_array_equal(cells.X, expected.X)
    assert cells.obs["control_cell"].tolist() == expected.obs["control_cell"].tolist()


def test_controls_never_cross_contexts(make_screen, toy_class, fit, tmp_path):
    adata = make_screen(contexts=("k562", "rpe1"))
    toy_class.setup_anndata(adata, cell_type_key="cell_type")
    model = fit(adata)
    cells = model.predict_cells(["G07"], n_cells=5)
    assert cells.obs["cell_type"].tolist() == ["k562"] * 5 + ["rpe1"] * 5
    assert adata.obs.loc[cells.obs["control_cell"], "cell_type"].tolist() == cells.obs["cell_type"].tolist()
    model.save(tmp_path / "model")
    without = adata[(adata.obs["cell_type"] == "k562") | (adata.obs["perturbation"] != "control")].copy()
    with pytest.raises(DataError, match=r"1 contexts have no training control cell: 'rpe1'\. .*spm\.load"):
        toy_class.load(tmp_path / "model", without).predict_cells(["G07"])


def test_without_cells_it_says_where_to_get_them(screen, fit, toy_class, tmp_path):
    model = fit(pp.pseudobulk(screen, cells="training"))
    with pytest.raises(DataError, match=r"build it from the screen, or load it with spm\.load\(path, adata\)"):
        model.predict_cells(["G07"])
    with pytest.raises(ValueError, match="n_cells=0"):
        fit(screen).predict_cells(["G07"], n_cells=0)


def test_the_result_survives_a_file(trained, tmp_path):
    trained.predict_cells(["G07"], n_cells=2).write_h5ad(tmp_path / "cells.h5ad")
