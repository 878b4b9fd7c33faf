"""Cells made of predictions, and the scores of cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.decomposition import PCA

import scperturb_modules as spm
from scperturb_modules import metrics
from scperturb_modules._errors import DataError, ScreenWarning
from scperturb_modules.tl import evaluate_cells, to_cells


@pytest.fixture(scope="module")
def screen(planted):
    adata = planted(n_genes=60, effect=0.4)
    adata.obs["batch"] = np.where(np.arange(adata.n_obs) % 3 == 0, "x", "y")
    adata.X[adata.obs["batch"] == "y", 5] += 1
    rng = np.random.default_rng(0)
    control = (adata.obs["perturbation"] == "control").to_numpy()
    pair = adata.obs["perturbation"].str.contains("+", regex=False).to_numpy()
    adata.obs["split"] = np.where(pair | (control & (rng.random(adata.n_obs) < 0.3)), "test", "train")
    return adata


def fitted(adata, **keys):
    spm.baselines.Additive.setup_anndata(adata, **keys)
    model = spm.baselines.Additive(adata)
    model.train()
    return model.predict()


@pytest.fixture(scope="module")
def pred(screen):
    return fitted(screen, batch_key="batch")


@pytest.fixture(scope="module")
def frame(screen, pred):
    return evaluate_cells(to_cells(pred, screen, 40), screen, metrics="all")


def of(frame, metric, condition):
    rows = frame[(frame["metric"] == f"{metric}[shift]") & (frame["condition"] == condition)]
    assert len(rows) == 1
    return rows.iloc[0]


def cells_of(screen, label, part):
    return np.asarray(screen[(screen.obs["perturbation"] == label) & (screen.obs["split"] == part)].X, dtype=float)


def test_shifted_cells_are_controls_plus_the_predicted_change(screen, pred):
    cells = to_cells(pred, screen, 30, seed=1)
    assert cells.shape == (30 * pred.n_obs, pred.n_vars) and cells.X.dtype == np.float32 and cells.X.min() >= 0
    source = screen[cells.obs["source_cell"].to_numpy()]
    assert set(source.obs["perturbation"]) == {"control"} and set(source.obs["split"]) == {"train"}
    delta = np.repeat(pred.layers["delta"], 30, axis=0)
    np.testing.assert_allclose(cells.X, np.maximum(np.asarray(source.X) + delta, 0), atol=1e-6)
    assert cells.obs["perturbation"].value_counts().to_dict() == dict.fromkeys(pred.obs["perturbation"], 30)


def test_controls_are_drawn_by_the_shares_of_batches(screen, pred):
    name = pred.obs_names[0]
    lone = screen[(screen.obs["perturbation"] != name) | (screen.obs["batch"] == "x")].copy()
    cells = to_cells(pred[[name]].copy(), lone, 50)
    assert set(lone.obs.loc[cells.obs["source_cell"], "batch"]) == {"x"}
    unseen = screen[screen.obs["perturbation"] != name].copy()  # the mix of the training conditions
    drawn = to_cells(pred[[name]].copy(), unseen, 3000)
    share = (unseen.obs.loc[drawn.obs["source_cell"], "batch"] == "x").mean()
    assert share == pytest.approx(1 / 3, abs=0.03)


def test_residual_cells_have_the_spread_of_a_training_condition(screen, pred):
    name = pred.obs_names[0]
    cells = to_cells(pred[[name]].copy(), screen, 4000, how="residual")
    sources = screen[cells.obs["source_cell"].unique()]
    assert sources.obs["perturbation"].nunique() == 1 and set(sources.obs["split"]) == {"train"}
    nearest = sources.obs["perturbation"].iloc[0]
    singles = [label for label in screen.obs["perturbation"].unique() if "+" not in label and label != "control"]
    control = {batch: cells_of(screen[screen.obs["batch"] == batch], "control", "train").mean(0) for batch in "xy"}
    changes = {}
    for label in singles:
        batch = screen.obs.loc[screen.obs["perturbation"] == label, "batch"]
        changes[label] = cells_of(screen, label, "train").mean(0) - sum(control[b] for b in batch) / len(batch)
    delta = pred[name].layers["delta"][0]
    assert nearest == min(singles, key=lambda label: np.linalg.norm(changes[label] - delta))
    batch = screen.obs.loc[screen.obs["perturbation"] == name, "batch"]
    mean = sum(control[b] for b in batch) / len(batch) + delta
    np.testing.assert_allclose(cells.X.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(cells.X.std(axis=0), cells_of(screen, nearest, "train").std(0), atol=0.05)


def test_draws_depend_on_the_row_and_the_seed_only(screen, pred):
    every, one = to_cells(pred, screen, 20, seed=3), to_cells(pred[-2:-1].copy(), screen, 20, seed=3)
    name = pred.obs_names[-2]
    np.testing.assert_array_equal(every[every.obs["perturbation"] == name].X, one.X)
    assert not np.array_equal(to_cells(pred, screen, 20, seed=4).X, every.X)


def test_generator_is_part_of_the_name(screen, pred, frame):
    assert set(frame["metric"]) == {f"{name}[shift]" for name in metrics.CELL_METRICS}
    residual = evaluate_cells(to_cells(pred, screen, 40, how="residual"), screen, metrics="edist")
    assert set(residual["metric"]) == {"edist[residual]"}
    bare = to_cells(pred, screen, 40)
    del bare.uns["scperturb_modules"]["prediction"]["generator"]
    assert set(evaluate_cells(bare, screen, metrics="edist")["metric"]) == {"edist[cells]"}
    assert set(evaluate_cells(bare, screen, metrics="edist", generator="flow")["metric"]) == {"edist[flow]"}
    assert set(frame["model"]) == {"Additive"}


def test_against_plain_code_over_cells(screen, pred, frame):
    """Nothing is drawn here: no side has more than 500 cells, and the components are fitted to all training cells."""
    cells = to_cells(pred, screen, 40)
    space = PCA(50, svd_solver="full").fit(screen[screen.obs["split"] == "train"].X.astype(float))
    tests, trains = (cells_of(screen, "control", part) for part in ("test", "train"))
    for name in pred.obs_names[:4]:
        true = cells_of(screen, name, "test")
        said = np.asarray(cells[cells.obs["perturbation"] == name].X, dtype=float)
        row = of(frame, "edist", name)
        expected = metrics.edist(space.transform(true), space.transform(said))[0]
        assert row["value"] == pytest.approx(expected, rel=1e-3) and row["status"] == "ok"
        expected = metrics.edist(space.transform(true), space.transform(trains))[0]
        assert row["control_value"] == pytest.approx(expected, rel=1e-3)
        assert of(frame, "des", name)["value"] == metrics.des(true, said, tests, trains)[0]
        t = pd.Series(stats.ttest_ind(true, tests, equal_var=False).statistic, index=screen.var_names)
        # held-out controls of the row's batches
        keep = [gene not in name.split("+") for gene in screen.var_names]
        assert of(frame, "inrange_de20", name)["n_genes"] == 20 <= t[keep].size
        assert row[["n_cells_test", "n_cells_predicted", "n_cells_control"]].tolist() == [40, 40, len(tests)]


def test_range_is_read_over_the_most_changed_genes(planted):
    """Without batches the 20 genes follow from Welch's t over the cells."""
    adata = planted(n_genes=60, effect=0.4, n_pairs=4)
    parts = np.where(adata.obs["perturbation"].str.contains("+", regex=False), "test", "train")
    control = (adata.obs["perturbation"] == "control").to_numpy()
    adata.obs["split"] = np.where(control & (np.arange(len(parts)) % 3 == 0), "test", parts)
    cells = to_cells(fitted(adata), adata, 40)
    frame = evaluate_cells(cells, adata, metrics="inrange_de20")
    for name in cells.obs["perturbation"].unique():
        true, tests = cells_of(adata, name, "test"), cells_of(adata, "control", "test")
        t = pd.Series(np.abs(stats.ttest_ind(true, tests, equal_var=False).statistic), index=adata.var_names)
        genes = adata.var_names.get_indexer(t.drop(name.split("+")).sort_values(ascending=False).index[:20])
        mean = cells[cells.obs["perturbation"] == name].X.mean(axis=0)[genes]
        low, high = np.quantile(true[:, genes], [0.45, 0.55], axis=0)
        assert of(frame, "inrange_de20", name)["value"] == np.mean((mean >= low) & (mean <= high))


def test_scale_has_a_replicate_better_than_controls(frame):
    for metric in ("edist", "mmd", "des"):
        rows = frame[frame["metric"] == f"{metric}[shift]"]
        assert len(rows) == 12
        sign = -1 if rows["better"].iloc[0] == "lower" else 1
        assert (sign * rows["replicate_value"] > sign * rows["control_value"]).all()
        assert (sign * rows["value"] > sign * rows["control_value"]).mean() > 0.9
    halves = frame.loc[frame["metric"] == "edist[shift]", "replicate_value"]
    assert abs(halves.mean()) < 3 * halves.std() / np.sqrt(len(halves)) and (halves < 0).any()


def test_a_prediction_is_made_cells_first(screen, pred):
    direct = evaluate_cells(pred, screen, metrics="edist", n_cells=40, seed=2)
    cells = to_cells(pred, screen, 40, seed=2)
    pd.testing.assert_frame_equal(direct, evaluate_cells(cells, screen, metrics="edist", n_cells=40, seed=2))


def test_missing_conditions_are_scored_as_controls(screen, pred):
    cells = to_cells(pred[3:].copy(), screen, 40)
    frame = evaluate_cells(cells, screen, metrics="edist")
    absent = frame[frame["condition"].isin(pred.obs_names[:3])]
    assert len(absent) == 3 and set(absent["status"]) == {"missing"} and set(absent["n_cells_predicted"]) == {0}
    np.testing.assert_array_equal(absent["value"], absent["control_value"])


def test_few_cells_are_said(screen, pred):
    name = pred.obs_names[0]
    mine = np.flatnonzero(screen.obs["perturbation"] == name)
    thin = screen[np.setdiff1d(np.arange(screen.n_obs), mine[9:])].copy()
    frame = evaluate_cells(to_cells(pred, thin, 40), thin, metrics=["edist", "des"]).set_index("condition")
    assert set(frame.loc[name, "status"]) == {"few_cells"} and frame.loc[name, "value"].isna().all()
    assert set(frame.drop(name)["status"]) == {"ok"}
    # 15 cells are enough, their halves are not
    thin = screen[np.setdiff1d(np.arange(screen.n_obs), mine[15:])].copy()
    row = of(evaluate_cells(to_cells(pred, thin, 40), thin, metrics=["edist"]), "edist", name)
    assert np.isfinite(row["value"]) and np.isnan(row["replicate_value"])


def test_the_evaluation_controls_touch_the_truth_only(screen, pred):
    """Noise in the held-out controls changes the genes called in true cells, and no distance."""
    noisy = screen.copy()
    held = ((noisy.obs["perturbation"] == "control") & (noisy.obs["split"] == "test")).to_numpy()
    noisy.X[held] = np.random.default_rng(1).uniform(0, 3, (held.sum(), noisy.n_vars))
    cells = to_cells(pred, noisy, 40)
    np.testing.assert_array_equal(cells.X, to_cells(pred, screen, 40).X)
    before, after = (evaluate_cells(cells, adata, metrics=["edist", "des"]) for adata in (screen, noisy))
    is_distance = before["metric"] == "edist[shift]"
    np.testing.assert_array_equal(before.loc[is_distance, "value"], after.loc[is_distance, "value"])
    assert (before.loc[~is_distance, "value"] != after.loc[~is_distance, "value"]).any()


def test_order_of_genes_and_sparse_cells_do_not_matter(screen, pred):
    from scipy import sparse

    cells = to_cells(pred, screen, 40)
    other = cells[:, cells.var_names[::-1]].copy()
    other.X = sparse.csr_matrix(other.X)
    thin, some = screen.copy(), ["edist", "inrange_de20"]
    thin.X = sparse.csr_matrix(thin.X)
    pd.testing.assert_frame_equal(
        evaluate_cells(other, thin, metrics=some), evaluate_cells(cells, screen, metrics=some)
    )


def test_at_most_so_many_cells_a_side(screen, pred):
    frame = evaluate_cells(to_cells(pred, screen, 40), screen, metrics="edist", n_cells=15)
    assert set(frame["n_cells_test"]) == set(frame["n_cells_predicted"]) == set(frame["n_cells_control"]) == {15}
    again = evaluate_cells(to_cells(pred, screen, 40), screen, metrics="edist", n_cells=15)
    pd.testing.assert_frame_equal(frame, again)


def test_contexts_have_cells_of_their_own(planted):
    two = planted(contexts=("x", "y"), n_pairs=6, effect=0.4)
    pair = two.obs["perturbation"].str.contains("+", regex=False).to_numpy()
    held = (two.obs["perturbation"] == "control").to_numpy() & (np.arange(two.n_obs) % 3 == 0)
    two.obs["split"] = np.where(pair | held, "test", "train")
    two.X[(two.obs["line"] == "y").to_numpy()] += 1.0
    pred = fitted(two, cell_type_key="line")
    cells = to_cells(pred, two, 30)
    source = two.obs.loc[cells.obs["source_cell"], "line"].to_numpy()
    assert (source == cells.obs["cell_type"].to_numpy()).all()
    frame = evaluate_cells(cells, two, metrics="edist")
    assert frame.groupby("stratum").size().to_dict() == {"x": 6, "y": 6}
    assert (frame["value"] < frame["control_value"]).all()


def test_input_that_cannot_be_scored_is_named(screen, pred):
    cells = to_cells(pred, screen, 12)
    with pytest.raises(ValueError, match="'l3' is unknown; use 'core', 'all' or some of edist"):
        evaluate_cells(cells, screen, metrics="l3")
    with pytest.raises(DataError, match="pred_cells lacks 1 of 60 genes: 'G00'"):
        evaluate_cells(cells[:, 1:].copy(), screen)
    broken = cells.copy()
    broken.X[0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values in cells of"):
        evaluate_cells(broken, screen)
    strange = cells.copy()
    strange.obs["perturbation"] = ["Z9"] * 12 + strange.obs["perturbation"].tolist()[12:]
    with pytest.warns(ScreenWarning, match="1 conditions of pred_cells are not among .* 'Z9'"):
        evaluate_cells(strange, screen, metrics="edist")
    with pytest.raises(ValueError, match="how='gauss'"):
        to_cells(pred, screen, how="gauss")
    with pytest.raises(DataError, match="The screen lacks 1 of 60 genes"):
        to_cells(pred, screen[:, 1:].copy())
    perturbed = screen[screen.obs["perturbation"] != "control"].copy()
    with pytest.raises(DataError, match="No training control"):
        to_cells(pred, perturbed)


def test_cells_of_a_model_are_scored(screen):
    """What ``predict_cells`` returns has the same form: moved controls with ``obs['perturbation']``."""
    from anndata import AnnData

    rows = (screen.obs["perturbation"] != "control") & (screen.obs["split"] == "test")
    cells = AnnData(screen[rows].X, obs=screen.obs.loc[rows, ["perturbation"]], var=screen.var)
    frame = evaluate_cells(cells, screen, metrics=["edist_v", "des"])
    assert set(frame["metric"]) == {"edist_v[cells]", "des[cells]"}
    exact = frame[frame["metric"] == "edist_v[cells]"]
    np.testing.assert_allclose(exact["value"], 0, atol=1e-9)  # the true cells themselves
