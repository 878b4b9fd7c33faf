"""SCBIG saved and loaded is the same SCBIG, to the last bit; what it stores is drawn from a file without it."""

from __future__ import annotations

import warnings

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.models.scbig import ABLATIONS

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "X01", "G02", "TP53"]


def same_weights(first, second):
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def same_answers(loaded, model):
    for gate in (True, False):
        found, wanted = (one.predict(ASKED, store=False, gate=gate) for one in (loaded, model))
        np.testing.assert_array_equal(found.layers["delta"], wanted.layers["delta"])
        pd.testing.assert_frame_equal(found.obs, wanted.obs)
    pd.testing.assert_frame_equal(*(one.gene_programs(store=False) for one in (loaded, model)), check_exact=True)
    pd.testing.assert_frame_equal(loaded.programs.table(), model.programs.table(), check_exact=True)


def same_explanations(loaded, model, *, observed):
    """Numbers that are predicted are the same bits; observed ones are where there are cells."""
    found, wanted = (one.program_changes(ASKED, store=False) for one in (loaded, model))
    columns = list(found.columns) if observed else ["condition", "program", "change", "lower", "upper"]
    pd.testing.assert_frame_equal(found[columns], wanted[columns], check_exact=True)
    found, wanted = (one.module_correlation(ASKED, store=False) for one in (loaded, model))
    for name in found if observed else ("conditions", "programs", "predicted", "control"):
        np.testing.assert_array_equal(found[name], wanted[name])
    found, wanted = (one.flow_paths("G12", n_cells=5, store=False) for one in (loaded, model))
    for name in ("time", "position", "control"):
        np.testing.assert_array_equal(found[name], wanted[name])


@pytest.fixture(scope="module")
def folder(big, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    big.save(path)
    return path


@pytest.fixture(scope="module")
def without_cells(folder):
    return spm.load(folder)


def test_without_the_cells_it_answers_the_same_bits(big, big_screen, without_cells):
    assert isinstance(without_cells, spm.SCBIG) and same_weights(without_cells, big)
    same_answers(without_cells, big)
    same_explanations(without_cells, big, observed=False)
    assert without_cells.program_changes(["G12"])["observed"].isna().all()
    assert len(without_cells.flow_paths("G12")["observed"]) == 0
    latents = [one.get_latent_representation(big_screen, store=False) for one in (without_cells, big)]
    np.testing.assert_array_equal(*latents)
    with pytest.raises(DataError, match="needs the cells, and this SCBIG has none.*spm.load"):
        without_cells.predict_cells(["G12"])
    with pytest.raises(DataError, match=r"SCBIG learns from cells, and there are none: .*spm\.load\(path, adata\)"):
        without_cells.train(1, accelerator="cpu")
    same_answers(without_cells, big)


def test_with_the_cells_it_predicts_cells_too(big, big_screen, folder):
    loaded = spm.load(folder, big_screen.copy())
    assert same_weights(loaded, big)
    same_answers(loaded, big)
    same_explanations(loaded, big, observed=True)
    found, wanted = (one.predict_cells(["G12", "G02", "TP53"], n_cells=6, seed=2) for one in (loaded, big))
    np.testing.assert_array_equal(found.X, wanted.X)
    assert found.obs["control_cell"].tolist() == wanted.obs["control_cell"].tolist()


def test_what_was_learned_is_saved(big, without_cells):
    assert without_cells.settings == big.settings and without_cells.option_values == big.option_values
    assert repr(without_cells.gates) == repr(big.gates) and without_cells.summary() == big.summary()
    assert without_cells.history.keys() == big.history.keys()
    assert repr(without_cells.program_intervals) == repr(big.program_intervals)
    assert without_cells.program_intervals.regimes
    for name in ("genes", "labels", "margin", "loading", "mean", "sd", "within", "z", "relations"):
        np.testing.assert_array_equal(getattr(without_cells.programs, name), getattr(big.programs, name))


def test_a_second_round_trip(without_cells, tmp_path):
    without_cells.save(tmp_path / "again")
    same_answers(spm.load(tmp_path / "again"), without_cells)


def test_training_goes_on_with_the_cells(big_screen, fit, tmp_path):
    model = fit(big_screen, max_epochs=1)
    model.save(tmp_path / "model")
    order = np.random.default_rng(3).permutation(big_screen.n_vars)
    loaded = spm.load(tmp_path / "model", big_screen[:, order].copy())
    for one in (model, loaded):
        one.train(1, batch_size=8, accelerator="cpu")
    assert same_weights(loaded, model)
    same_answers(loaded, model)
    cells = [one.predict_cells(["G12"], n_cells=3).X for one in (loaded, model)]
    np.testing.assert_array_equal(*cells)


@pytest.mark.parametrize(
    "settings",
    [
        ABLATIONS["cellsOnly"],
        {"use_tokens": False, "use_flow": False, "decode": "shifted"},
        {"preset": "paper", "n_programs": 4, "n_latent": 4},
        {"n_programs": "auto", "generate": False},
    ],
    ids=["cellsOnly", "noTokens", "paper", "auto"],
)
def test_other_forms_round_trip(big_screen, fit, tmp_path, settings):
    if "preset" in settings:
        settings = settings | {"n_folds": 0}
    model = fit(big_screen, max_epochs=1, **settings)
    model.save(tmp_path / "model")
    loaded = spm.load(tmp_path / "model", big_screen.copy())
    assert same_weights(loaded, model)
    same_answers(loaded, model)
    np.testing.assert_array_equal(loaded.predict_cells(["G12"], n_cells=5).X, model.predict_cells(["G12"], n_cells=5).X)


# -- what is stored, drawn from a file -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(make_screen, folder):
    """A screen in which everything that SCBIG stores is stored, and predicted cells."""
    adata = make_screen()
    model = spm.load(folder, adata)
    model.gene_programs()
    model.get_program_activity()
    model.get_latent_representation()
    model.program_changes(["G12", "G02+G10", "X01"])
    model.module_correlation(["G12", "X01"])
    model.flow_paths("G12")
    model.predict(["G12"])
    return adata, model.predict_cells(["G12", "G02+G10"], n_cells=12)


def data_of(drawn):
    """Everything that is drawn, as arrays and text."""
    figure = (next(iter(drawn.values())) if isinstance(drawn, dict) else drawn).figure
    figure.canvas.draw()
    found, said = [], []
    for ax in figure.axes:
        found += [line.get_xydata() for line in ax.lines] + [patch.get_path().vertices for patch in ax.patches]
        for one in (*ax.collections, *ax.images):
            found += [one.get_array()] + ([one.get_offsets()] if hasattr(one, "get_offsets") else [])
            found += [path.vertices for path in one.get_paths()] if hasattr(one, "get_paths") else []
        said += [text.get_text() for text in (*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels())]
    plt.close(figure)
    return [np.ma.filled(np.ma.asarray(one, dtype=np.float64), np.nan) for one in found if one is not None], said


DRAW = {
    "gene_programs": lambda adata, cells: spm.pl.gene_programs(adata),
    "program_activity": lambda adata, cells: spm.pl.program_activity(adata),
    "program_correlation": lambda adata, cells: spm.pl.program_correlation(adata, "G12"),
    "flow_paths": lambda adata, cells: spm.pl.flow_paths(adata),
    "generated_cells": lambda adata, cells: spm.pl.generated_cells(cells, adata),
}


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def read_back(request, stored, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    found = []
    for i, one in enumerate(stored):
        path = folder / f"{i}.{request.param}"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Writing zarr v2", UserWarning)
            (one.write_h5ad if request.param == "h5ad" else one.write_zarr)(path)
        found.append((anndata.read_h5ad if request.param == "h5ad" else anndata.read_zarr)(path))
    return found


def test_everything_is_stored(stored):
    adata = stored[0]
    wanted = {keys.PROGRAMS, keys.PROGRAM_RELATIONS, keys.PROGRAM_CHANGES, keys.PROGRAM_CORRELATION, keys.FLOW_PATHS}
    assert set(adata.uns[keys.ROOT][keys.SCBIG]) == wanted | {keys.PRIORS, keys.PREDICTION}
    assert {keys.PROGRAM, keys.PROGRAM_MARGIN} <= set(adata.var)
    assert {keys.PROGRAM_ACTIVITY, keys.X_SCBIG} == set(adata.obsm)


def test_a_file_keeps_all_of_it(stored, read_back):
    ours, theirs = stored[0], read_back[0]
    assert theirs.var[keys.PROGRAM].tolist() == ours.var[keys.PROGRAM].tolist()
    np.testing.assert_array_equal(theirs.var[keys.PROGRAM_MARGIN], ours.var[keys.PROGRAM_MARGIN])
    np.testing.assert_array_equal(theirs.obsm[keys.X_SCBIG], ours.obsm[keys.X_SCBIG])
    activity = theirs.obsm[keys.PROGRAM_ACTIVITY]
    assert activity.columns.tolist() == ["P1", "P2", "P3", "P4"] and (activity.dtypes == np.float32).all()
    np.testing.assert_array_equal(activity, ours.obsm[keys.PROGRAM_ACTIVITY])
    written, read = (one.uns[keys.ROOT][keys.SCBIG] for one in (ours, theirs))
    for name in (keys.PROGRAMS, keys.PROGRAM_CHANGES):
        pd.testing.assert_frame_equal(read[name], written[name], check_exact=True, check_dtype=False)
    np.testing.assert_array_equal(read[keys.PROGRAM_RELATIONS], written[keys.PROGRAM_RELATIONS])
    for name in (keys.PROGRAM_CORRELATION, keys.FLOW_PATHS):
        assert read[name].keys() == written[name].keys()
        for part, values in written[name].items():
            np.testing.assert_array_equal(read[name][part], values)


@pytest.mark.parametrize("name", sorted(DRAW))
def test_the_picture_of_a_file_is_the_picture(stored, read_back, name):
    (before, said), (after, said_after) = (data_of(DRAW[name](*one)) for one in (stored, read_back))
    assert said == said_after and len(before) == len(after) > 3
    for ours, theirs in zip(before, after, strict=True):
        np.testing.assert_array_equal(theirs, ours)
