from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scperturb_modules import baselines, pp
from scperturb_modules._errors import DataError


def gaussian_screen(rng, *, n_cells=400, n_genes=60, spread=0.5, held_out=True):
    """Two conditions and controls, normal noise of one known standard deviation per cell."""
    labels = ["A"] * n_cells + ["B"] * n_cells + ["control"] * 800 + ["C"] * 12
    values = 5 + spread * rng.normal(size=(len(labels), n_genes))
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    if held_out:
        obs["split"] = np.where(obs["perturbation"] == "control", np.resize(["train", "test"], len(obs)), "test")
        obs.loc[obs["perturbation"] == "B", "split"] = "train"
    return AnnData(values, obs=obs)


def test_replicate_distance_is_the_analytic_noise():
    """Halves of n/2 cells differ by 4 sigma^2 G / n; of delta, control halves add theirs."""
    adata = gaussian_screen(np.random.default_rng(0))
    squares = {"X": [], "delta": []}
    for first, second in baselines.replicate_halves(adata, ["A"], n_repeats=40, seed=1):
        squares["X"].append(np.sum((first.X - second.X) ** 2))
        squares["delta"].append(np.sum((first.layers["delta"] - second.layers["delta"]) ** 2))
    perturbed = 60 * 0.25 * 4 / 400
    controls = 60 * 0.25 * 4 / 400  # 400 evaluation controls, 200 in each half
    assert np.mean(squares["X"]) == pytest.approx(perturbed, rel=0.05)
    assert np.mean(squares["delta"]) == pytest.approx(perturbed + controls, rel=0.05)


def test_halves_are_disjoint_and_complete():
    adata = gaussian_screen(np.random.default_rng(0))
    truth = pp.pseudobulk(adata)
    for first, second in baselines.replicate_halves(adata, ["B", "A"], n_repeats=2, seed=1):
        assert first.obs_names.tolist() == ["B", "A"]
        assert (first.obs["n_cells"] == 200).all() and (second.obs["n_cells"] == 200).all()
        np.testing.assert_allclose((first.X + second.X) / 2, truth[["B", "A"]].X, rtol=1e-12)
        # a test row is measured against halves of the evaluation controls, a training row against all others
        assert first.obs["n_controls"].tolist() == [400, 200]
        np.testing.assert_allclose(first.layers["control_train"], truth[["B", "A"]].layers["control_train"])


def test_halves_share_no_control_noise_in_the_published_protocol():
    adata = gaussian_screen(np.random.default_rng(0), held_out=False)
    first, second = next(baselines.replicate_halves(adata, ["A"], seed=1))
    assert first.obs["n_controls"].tolist() == [400]
    control = pp.pseudobulk(adata)[["A"]].layers["control"]
    np.testing.assert_allclose((first.layers["control"] + second.layers["control"]) / 2, control)


def test_batches_and_contexts_are_halved_within():
    adata = gaussian_screen(np.random.default_rng(0))
    adata.obs["batch"] = np.resize(["b1", "b1", "b1", "b2"], adata.n_obs)
    adata.obs["cell_type"] = "k562"
    halves = next(baselines.replicate_halves(adata, ["A|k562"], batch_key="batch", cell_type_key="cell_type"))
    truth = pp.pseudobulk(adata, batch_key="batch", cell_type_key="cell_type")[["A|k562"]]
    np.testing.assert_allclose((halves[0].X + halves[1].X) / 2, truth.X)
    # equal batch shares in both halves make equal weights of the control's batches
    np.testing.assert_allclose((halves[0].layers["control"] + halves[1].layers["control"]) / 2, truth.layers["control"])


def test_fewer_than_twenty_cells_are_not_halved():
    adata = gaussian_screen(np.random.default_rng(0))
    for half in next(baselines.replicate_halves(adata, ["A", "C"], seed=1)):
        assert np.isfinite(half.X[0]).all()
        assert np.isnan(half.X[1]).all() and np.isnan(half.layers["delta"][1]).all()


def test_halvings_depend_on_the_seed_only():
    adata = gaussian_screen(np.random.default_rng(0))
    draw = [next(baselines.replicate_halves(adata, ["A"], seed=seed))[0].X for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


def test_the_floor_is_the_error_of_a_perfect_prediction():
    """Over 200 draws: half the distance of halves against the distance of the mean to the truth."""
    rng = np.random.default_rng(0)
    truth, mask = np.linspace(0, 1, 50), np.arange(50) < 30
    floors, errors = [], []
    for _ in range(200):
        cells = truth + rng.normal(size=(40, 50))
        errors.append(np.sum((cells.mean(axis=0) - truth)[mask] ** 2))
        halves = [(part[:20].mean(axis=0)[None], part[20:].mean(axis=0)[None]) for part in (cells, cells[::-1])]
        floors.append(baselines.l2_floor(halves, mask)[0] ** 2)
    assert np.mean(floors) == pytest.approx(np.mean(errors), rel=0.05)


def test_floor_takes_a_mask_per_row_and_the_root_mean_square_over_repeats():
    zero = np.zeros((2, 3))
    halves = [(np.array([[2.0, 4, 0], [2, 4, 6]]), zero), (np.array([[0.0, 0, 0], [0, 0, 2]]), zero)]
    mask = np.array([[True, False, True], [False, False, True]])
    np.testing.assert_allclose(baselines.l2_floor(halves, mask), 0.5 * np.sqrt([(4 + 0) / 2, (36 + 4) / 2]))
    with pytest.raises(ValueError, match="at least one pair of halves"):
        baselines.l2_floor([], mask)


def test_the_oracle_is_the_best_of_its_rank(make_training):
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(3, 40))
    training = make_training({f"G{i:02d}": rng.normal(size=3) @ basis for i in range(12)})
    inside, outside = rng.normal(size=3) @ basis, rng.normal(size=40)
    truth = make_training({"G20": inside, "G21": outside})
    truth.layers["control_train"] = truth.X - truth.layers["delta"]
    full = baselines.oracle_prediction(training, truth, 3)
    np.testing.assert_allclose(full.layers["delta"][0], inside, atol=1e-10)
    assert full.obs["anchor"].tolist() == ["oracle"] * 2
    errors = [
        np.linalg.norm(baselines.oracle_prediction(training, truth, k).layers["delta"][1] - outside) for k in (1, 2, 3)
    ]
    assert errors == sorted(errors, reverse=True)
    # against least squares on the same three directions and the mean
    mean = training.layers["delta"].mean(axis=0)
    fitted, *_ = np.linalg.lstsq(basis.T, outside - mean, rcond=None)
    assert errors[2] == pytest.approx(np.linalg.norm(outside - mean - fitted @ basis))
    with pytest.raises(ValueError, match="allows 1 to 12"):
        baselines.oracle_prediction(training, truth, 13)


def test_rows_without_a_cell_are_named():
    adata = gaussian_screen(np.random.default_rng(0))
    with pytest.raises(DataError, match="1 rows have no cell in the screen: 'D'"):
        next(baselines.replicate_halves(adata, ["A", "D"]))
