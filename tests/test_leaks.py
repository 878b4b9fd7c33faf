"""No test cell and no evaluation control reaches a predictor: baselines and models, any form of the matrix (E9)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY

HELD_OUT = ("G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49")
CALL = {"scheme": None, "n_boot": 100, "min_cells": 10, "metrics": [PRIMARY, "pearson_delta"]}
SMALL = {
    "APP": {"d": 8, "rank": 6, "n_members": 2, "n_folds": 2},
    "BioDSNN": {"d": 8, "hidden": 8, "heads": 2, "rank": 4, "n_folds": 2, "n_members": 1, "vae_hidden": (8,),
                "n_latent": 2, "n_cells": 8},
    "SCBIG": {"n_programs": 4, "n_folds": 2, "n_members": 2, "d": 8, "hidden": 8, "rank": 4, "n_latent": 4, "width": 8,
              "n_inducing": 2, "flow_width": 8, "flow_blocks": 1, "autoencoder_steps": 4, "flow_steps": 4, "n_cells": 8,
              "align_every": 2, "n_steps": 3},
}  # fmt: skip


def tiny(name: str, seen: list, *, epochs: int = 1, permute: bool = False):
    """A model of small settings that keeps what it was given; a class of its own, for other processes too."""

    class Tiny(getattr(spm, name)):
        @classmethod
        def setup_anndata(cls, adata, **keys):
            seen.append((adata.obs_names.copy(), set(adata.obs["split"])))
            if permute:
                labels = adata.obs["perturbation"].astype(str).to_numpy(dtype=object)
                rng = np.random.default_rng(0)
                for part in ("train", "val"):  # a condition stays in its part
                    chosen = np.flatnonzero((adata.obs["split"] == part) & (labels != "control"))
                    labels[chosen] = rng.permutation(labels[chosen])
                adata.obs["perturbation"] = pd.Categorical(labels)
            super().setup_anndata(adata, **keys)

        def __init__(self, adata, **kwargs):
            seen.append((adata.obs_names.copy(), set(adata.obs["split"])))
            super().__init__(adata, **kwargs, **SMALL[name])

        def train(self):
            from scperturb_modules.models.biodsnn import _streaming

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_streaming, "STREAM_STEPS", 4)
                super().train(epochs, accelerator="cpu")

    return Tiny


def make_screen(*, cell_types: bool = False):
    """12 singles and 18 pairs, test conditions of every regime, a third of the controls held out."""
    settings = {"n_cell_types": 2} if cell_types else {}
    adata = spm.datasets.simulate("tiny", seed=1, n_perturbable=12, n_pairs=18, n_cells=25, n_controls=80, **settings)
    labels = adata.obs["perturbation"].astype(str)
    is_truth = (labels == "control") & (np.arange(adata.n_obs) % 3 == 0)
    adata.obs["split"] = np.where(is_truth | labels.isin(HELD_OUT), "test", "train")
    return adata


def poisoned(adata):
    """Noise in place of every test cell and every evaluation control."""
    other = adata.copy()
    is_test = (other.obs["split"] == "test").to_numpy()
    rng = np.random.default_rng(7)
    for key, high in ((None, 9.0), ("counts", 50.0)):
        values = (other.X if key is None else other.layers[key]).toarray()
        noise = rng.uniform(0, high, (is_test.sum(), adata.n_vars))
        values[is_test] = noise if key is None else noise.round()
        if key is None:
            other.X = values
        else:
            other.layers[key] = values
    return other


def network_of(adata):
    edges = adata.uns["scperturb_modules"]["simulation"]["graph_partial"].copy()
    edges.attrs["name"] = "graph"
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(adata.n_vars, 3)), index=adata.var_names)
    table.columns = ["a", "b", "c"]
    table.attrs["name"] = "table"
    return [edges, table]


def assert_same_predictions(first, second):
    assert first.errors.empty and second.errors.empty, "a failed run would predict nothing"
    assert list(first.predictions) == list(second.predictions)
    for key, prediction in first.predictions.items():
        other = second.predictions[key]
        for layer in prediction.layers:
            np.testing.assert_array_equal(prediction.layers[layer], other.layers[layer], err_msg=f"{key} {layer}")
        pd.testing.assert_frame_equal(prediction.obs, other.obs, check_exact=True)


@pytest.fixture(scope="module")
def screen():
    return make_screen()


def assert_clean(seen, adata):
    test = set(adata.obs_names[adata.obs["split"] == "test"])
    controls = test & set(adata.obs_names[adata.obs["perturbation"] == "control"])
    assert len(test) > 200 and len(controls) > 20 and seen
    for names, parts in seen:
        assert parts == {"train"} and not test & set(names)
        assert len(names) == adata.n_obs - len(test)


@pytest.fixture(scope="module")
def clean(screen):
    """The benchmark of the screen as it is: every baseline and every model."""
    seen: list = []
    predictors = {name: tiny(name, seen) for name in SMALL} | {one.__name__: one for one in spm.baselines.ALL}
    board = spm.tl.benchmark(screen, predictors, priors=network_of(screen), **CALL)
    assert_clean(seen, screen)
    return board


@pytest.mark.parametrize("form", ["sparse", "dask", "dask sparse"])
def test_poison_reaches_no_baseline_and_no_model(screen, clean, form):
    predictors = {name for name, _ in clean.predictions}
    assert predictors == set(SMALL) | {one.__name__ for one in spm.baselines.ALL} - {"Transfer"}
    bad = poisoned(screen)
    if form != "sparse":
        dask = pytest.importorskip("dask.array")
        from scipy import sparse

        values = sparse.csr_matrix(bad.X) if form == "dask sparse" else bad.X
        bad.X = dask.from_array(values, chunks=(100, bad.n_vars))
    seen: list = []
    chosen = {name: tiny(name, seen) for name in (SMALL if form == "sparse" else ("APP",))}
    chosen |= {one.__name__: one for one in spm.baselines.ALL}
    board = spm.tl.benchmark(bad, chosen, priors=network_of(screen), **CALL)
    assert_clean(seen, screen)
    kept = {key: value for key, value in clean.predictions.items() if key in board.predictions}
    assert_same_predictions(spm.tl.Benchmark(clean.frame, predictions=kept, errors=clean.errors), board)
    # the poison is there: scores are others
    one, other = (b.frame.query("model == 'NoChange'")["value"].to_numpy() for b in (clean, board))
    assert np.isfinite(one).all() and not np.allclose(one, other)


def test_poison_in_two_processes_and_cell_types(screen):
    two = make_screen(cell_types=True)
    bad = poisoned(two)
    call = {**CALL, "cell_type_key": "cell_type"}
    boards = []
    for adata, n_jobs in ((two, 1), (bad, 2)):
        predictors = {"APP": tiny("APP", []), **{one.__name__: one for one in spm.baselines.ALL}}
        boards.append(spm.tl.benchmark(adata, predictors, priors=network_of(two), n_jobs=n_jobs, **call))
    assert_same_predictions(*boards)


def test_poison_reaches_no_transfer():
    """A cell type held out, in two processes."""
    two = make_screen(cell_types=True)
    del two.obs["split"]
    spm.pp.split(two, "unseen_context", n_folds=2, cell_type_key="cell_type")
    boards = [
        spm.tl.benchmark(
            one, [spm.baselines.Transfer, spm.baselines.MeanShift], n_jobs=2, cell_type_key="cell_type", **CALL
        )
        for one in (two, poisoned(two))
    ]
    assert "Transfer" in {name for name, _ in boards[0].predictions}
    assert_same_predictions(*boards)


@pytest.mark.parametrize("name", SMALL)
def test_permuted_labels_teach_nothing(name):
    """Labels of perturbed training cells drawn anew: no condition is known any more, only the mean of all."""
    adata = spm.datasets.simulate("tiny", seed=0, n_perturbable=24, n_pairs=0, n_cells=40, n_controls=120)
    seen: list = []
    means = [spm.baselines.NoChange, spm.baselines.MeanShift, spm.baselines.MeanFitted]
    models = {name: tiny(name, seen, epochs=8, permute=True)} | {one.__name__: one for one in means}
    board = spm.tl.benchmark(
        adata, models, scheme="unseen_single", n_folds=2, metrics=[PRIMARY], n_boot=1000, priors=network_of(adata)
    )
    assert board.errors.empty and seen
    # a mean times a factor is a mean still, and the gate of a model may find that factor
    row = board.verdicts().set_index("model").loc[name]
    assert row["n"] == 24 and row["gain_low"] <= 0 and row["word"] != "beats"
    over_mean = board.gains().query("model == @name and gain_vs == 'MeanShift'")["gain"].iloc[0]
    assert abs(over_mean) < 0.05
