from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import scperturb_modules as spm
from scperturb_modules._errors import DataError, ScreenWarning
from scperturb_modules.tl._yardstick import yardstick

DIFFERENCE = ["l2_top1000", "pearson_pert", "pds_l1", "collapse"]
CHANGE = ["pearson_delta", "sign_de20", "slope", "auprc_de"]


def split_screen(adata, *, n_test=12, share=0.3, seed=0):
    """The last labels are tested, a share of the controls is held out."""
    rng = np.random.default_rng(seed)
    labels = adata.obs["perturbation"].astype(str)
    tested = sorted(set(labels) - {"control"})[-n_test:]
    held = (labels == "control").to_numpy() & (rng.random(adata.n_obs) < share)
    adata.obs["split"] = np.where(labels.isin(tested) | held, "test", "train")
    return adata


@pytest.fixture(scope="module")
def screen(planted):
    return split_screen(planted(n_genes=1100, n_singles=14, n_pairs=12, effect=0.1, n_controls=200))


@pytest.fixture(scope="module")
def truth(screen):
    return spm.pp.pseudobulk(screen)


@pytest.fixture(scope="module")
def pred(screen):
    spm.baselines.Additive.setup_anndata(screen)
    model = spm.baselines.Additive(screen)
    model.train()
    return model.predict()


def value(frame, metric, condition):
    rows = frame[(frame["metric"] == metric) & (frame["condition"] == condition)]
    assert len(rows) == 1
    return rows["value"].iloc[0]


def test_against_plain_loops_over_cells(screen, truth, pred):
    """l2_top1000, pearson_delta, pearson_pert, de20 and sign from the cells, without any code of the package."""
    frame = spm.tl.evaluate(pred, truth, metrics="all")
    x = pd.DataFrame(np.asarray(screen.X, dtype=float), columns=screen.var_names)
    labels, parts = screen.obs["perturbation"].to_numpy(), screen.obs["split"].to_numpy()
    ctrl_train = x[(labels == "control") & (parts == "train")]
    ctrl_eval = x[(labels == "control") & (parts == "test")]
    trained = sorted(set(labels[parts == "train"]) - {"control"})
    center = np.mean([x[labels == name].mean() - ctrl_train.mean() for name in trained], axis=0)
    top = sorted(x.columns, key=lambda gene: (-ctrl_train[gene].mean(), gene))[:1000]
    for name in pred.obs_names:
        cells = x[labels == name]
        hat = pd.Series(pred[name].layers["delta"][0], index=pred.var_names)
        difference = cells.mean() - ctrl_train.mean()
        change = cells.mean() - ctrl_eval.mean()
        assert value(frame, "l2_top1000", name) == pytest.approx(np.linalg.norm((difference - hat)[top]), rel=1e-9)
        assert value(frame, "pearson_delta", name) == pytest.approx(stats.pearsonr(change, hat)[0], rel=1e-9)
        expected = stats.pearsonr(difference - center, hat - center)[0]
        assert value(frame, "pearson_pert", name) == pytest.approx(expected, rel=1e-9)
        t = pd.Series(stats.ttest_ind(cells, ctrl_eval, equal_var=False).statistic, index=x.columns)
        de = t.abs().drop(name.split("+")).sort_values(ascending=False).index[:20]
        assert value(frame, "mse_de20", name) == pytest.approx(np.mean((difference - hat)[de] ** 2), rel=1e-9)
        assert value(frame, "sign_de20", name) == np.mean(np.sign(change[de]) == np.sign(hat[de]))
        mean, predicted = cells.mean()[de], (ctrl_train.mean() + hat)[de]
        hits = (np.abs(predicted - mean) <= 0.05 * mean)[mean >= 0.05]
        assert value(frame, "within5_de20", name) == pytest.approx(hits.mean())


def test_significance_is_welchs(screen, truth):
    ruler = yardstick(truth)
    labels, parts = screen.obs["perturbation"], screen.obs["split"]
    controls = screen[(labels == "control") & (parts == "test")].X
    cells = screen[labels == ruler.names[0]].X
    test = stats.ttest_ind(cells.astype(float), controls.astype(float), equal_var=False)
    t, p = ruler.welch
    np.testing.assert_allclose(t[0], test.statistic, rtol=1e-9)
    np.testing.assert_allclose(p[0], test.pvalue, rtol=1e-6)


def test_perfect_prediction_reaches_perfect(truth, pred):
    """In the form that each metric compares: no prediction can hit the noise of both controls."""
    exact = pred.copy()
    known = truth[exact.obs_names]
    exact.layers["delta"] = np.asarray(known.X - known.layers["control_train"])
    frame = spm.tl.evaluate(exact, truth, metrics=["l2_top1000", "mse_de20", "pearson_pert", "pds_l1"])
    np.testing.assert_allclose(frame["value"], frame["perfect"], atol=1e-9)
    exact.layers["delta"] = np.asarray(known.layers["delta"])
    frame = spm.tl.evaluate(exact, truth, metrics=["pearson_delta", "sign_de20", "slope"])
    np.testing.assert_allclose(frame["value"], frame["perfect"], atol=1e-9)


def test_genes_are_matched_by_name(truth, pred):
    extra = pred[:, list(pred.var_names[::-1])].copy()
    frame = spm.tl.evaluate(pred, truth)
    pd.testing.assert_frame_equal(spm.tl.evaluate(extra, truth), frame)
    with pytest.raises(DataError, match=r"lacks 2 of 1100 genes: 'G00', 'G01'"):
        spm.tl.evaluate(pred[:, 2:].copy(), truth)


def test_order_of_rows_does_not_matter(truth, pred):
    shuffled = truth[::-1].copy()
    pd.testing.assert_frame_equal(
        spm.tl.evaluate(pred[::-1].copy(), shuffled), spm.tl.evaluate(pred, truth), check_exact=False, rtol=1e-12
    )


def test_missing_rows_are_scored_as_no_change(truth, pred):
    silent = pred.copy()
    silent.layers["delta"][:3] = 0
    part = spm.tl.evaluate(pred[3:].copy(), truth)
    absent = list(pred.obs_names[:3])
    rows = part[part["condition"].isin(absent)]
    assert set(rows.loc[rows["value"].notna(), "status"]) == {"missing"}
    expected = spm.tl.evaluate(silent, truth)
    np.testing.assert_array_equal(part["value"], expected["value"])
    assert set(expected.loc[expected["condition"].isin(absent), "status"]) == {"ok", "constant_prediction"}
    # a row that says it failed may hold anything
    failed = pred.copy()
    failed.obs["status"] = ["error"] * 3 + ["ok"] * (failed.n_obs - 3)
    failed.layers["delta"][:3] = np.nan
    frame = spm.tl.evaluate(failed, truth)
    np.testing.assert_array_equal(frame["value"], part["value"])
    rows = frame[frame["condition"].isin(absent) & frame["value"].notna()]
    assert set(rows["status"]) == {"error"}
    # sign_de20 of no change is 0: abstaining is not rewarded
    assert value(part, "sign_de20", absent[0]) == 0


def test_status_of_the_predictor_is_kept_unless_the_value_is_undefined(truth, pred):
    told = pred.copy()
    told.obs["status"] = ["unknown_gene"] + ["ok"] * (told.n_obs - 1)
    frame = spm.tl.evaluate(told, truth, metrics=["l2_top1000"])
    status = frame.set_index("condition")["status"]
    assert status[told.obs_names[0]] == "unknown_gene" and set(status.drop(told.obs_names[0])) == {"ok"}
    assert set(spm.tl.evaluate(told, truth, metrics=["l2_top1000"], min_cells=999)["status"]) == {"few_cells"}


def test_few_cells_leave_the_condition_out_of_all(screen, pred):
    thin = screen[~((screen.obs["perturbation"] == pred.obs_names[0]) & (np.arange(screen.n_obs) % 4 > 0))].copy()
    truth = spm.pp.pseudobulk(thin)
    frame = spm.tl.evaluate(pred, truth)
    rows = frame[frame["condition"] == pred.obs_names[0]]
    assert rows["value"].isna().all() and set(rows["status"]) == {"few_cells"}
    assert set(rows["n_cells_test"]) == {10}
    # the others are ranked among themselves
    rest = spm.pp.pseudobulk(thin[thin.obs["perturbation"] != pred.obs_names[0]].copy())
    others = spm.tl.evaluate(pred[1:].copy(), rest)
    kept = frame[frame["condition"] != pred.obs_names[0]]
    np.testing.assert_allclose(kept["value"], others["value"], rtol=1e-12)


def test_conditions_of_one_cell(screen, pred):
    """They have no standard error: no gene is called, and the other metrics stand."""
    labels = screen.obs["perturbation"]
    alone = screen[(labels == "control") | ~labels.duplicated()].copy()
    frame = spm.tl.evaluate(pred, spm.pp.pseudobulk(alone), min_cells=1).set_index("metric")
    assert set(frame.loc["mse_de20", "status"]) == set(frame.loc["auprc_de", "status"]) == {"few_genes"}
    assert set(frame.loc[["collapse"], "status"]) == {"few_conditions"}
    assert frame.loc["l2_top1000", "value"].notna().all() and frame.loc["pearson_delta", "value"].notna().all()


def test_too_few_conditions_are_said(truth, pred):
    few = truth[[*truth.obs_names[truth.obs["split"] == "train"], *pred.obs_names[:9]]].copy()
    frame = spm.tl.evaluate(pred[:9].copy(), few, metrics=["pds_l1", "collapse"])
    assert set(frame["status"]) == {"few_conditions"} and frame["value"].isna().all()


def test_evaluation_controls_touch_correlations_only(screen, pred):
    """Replace the evaluation controls by noise."""
    noisy = screen.copy()
    held = ((noisy.obs["perturbation"] == "control") & (noisy.obs["split"] == "test")).to_numpy()
    noisy.X[held] = np.random.default_rng(1).uniform(0, 3, (held.sum(), noisy.n_vars))
    before = spm.tl.evaluate(pred, spm.pp.pseudobulk(screen))
    after = spm.tl.evaluate(pred, spm.pp.pseudobulk(noisy))
    for metric in DIFFERENCE:
        same = [frame.loc[frame["metric"] == metric, "value"].to_numpy() for frame in (before, after)]
        # collapse subtracts a noise that is a difference of two sums
        np.testing.assert_allclose(*same, rtol=1e-9, err_msg=metric)
    for metric in CHANGE:
        changed = [frame.loc[frame["metric"] == metric, "value"].to_numpy() for frame in (before, after)]
        assert np.nanmax(np.abs(changed[0] - changed[1])) > 0.01, metric


def test_strict_leaves_targets_out_of_the_called_genes(screen):
    strong = screen.copy()
    name = sorted(set(strong.obs.loc[strong.obs["split"] == "test", "perturbation"]) - {"control"})[0]
    targets = [strong.var_names.get_loc(gene) for gene in name.split("+")]
    strong.X[np.ix_(strong.obs["perturbation"] == name, targets)] += 5
    strict = yardstick(spm.pp.pseudobulk(strong))
    row = strict.names.index(name)
    assert not set(targets) & set(strict.de[row]) and not strict.significant[row][1][targets].any()
    strong.obs.loc[strong.obs["perturbation"] == "control", "split"] = "train"
    published = yardstick(spm.pp.pseudobulk(strong))
    assert set(targets) <= set(published.de[row]) and published.significant[row][0][targets].all()


def test_contexts_have_their_own_controls_center_and_ranks(planted):
    two = split_screen(planted(contexts=("x", "y"), n_pairs=14, effect=0.2))
    both = two.obs["line"] == "y"
    two.X[both.to_numpy()] += 1.0
    spm.baselines.Additive.setup_anndata(two, cell_type_key="line")
    model = spm.baselines.Additive(two)
    model.train()
    frame = spm.tl.evaluate(model.predict(), spm.pp.pseudobulk(two, cell_type_key="line"))
    for context in ("x", "y"):
        one = two[two.obs["line"] == context].copy()
        spm.baselines.Additive.setup_anndata(one)
        alone = spm.baselines.Additive(one)
        alone.train()
        expected = spm.tl.evaluate(alone.predict(), spm.pp.pseudobulk(one))
        part = frame[frame["stratum"] == context]
        assert part["condition"].tolist() == expected["condition"].tolist()
        np.testing.assert_allclose(part["value"], expected["value"], rtol=1e-9)


def test_context_without_training_has_no_center(planted):
    two = planted(contexts=("x", "y"), n_pairs=0)
    perturbed = two.obs["perturbation"] != "control"
    held = ~perturbed & (np.arange(two.n_obs) % 3 == 0)
    two.obs["split"] = np.where((perturbed & (two.obs["line"] == "y")) | held, "test", "train")
    spm.baselines.Transfer.setup_anndata(two, cell_type_key="line")
    model = spm.baselines.Transfer(two)
    model.train()
    frame = spm.tl.evaluate(model.predict(), spm.pp.pseudobulk(two, cell_type_key="line"))
    assert set(frame["regime"]) == {"context_unseen"}
    centred = frame[frame["metric"] == "pearson_pert"]
    assert centred["value"].isna().all() and set(centred["status"]) == {"few_conditions"}
    assert frame.loc[frame["metric"] == "auprc_de", "value"].notna().all()


def test_without_a_split_the_rows_of_the_prediction_are_scored(screen, pred):
    whole = screen.copy()
    del whole.obs["split"]
    frame = spm.tl.evaluate(pred[:4].copy(), spm.pp.pseudobulk(whole), metrics=["l2_top1000"])
    assert set(frame["condition"]) == set(pred.obs_names[:4])
    assert set(frame["protocol"]) == {"published"}
    assert frame.set_index("condition")["regime"].to_dict() == pred.obs["seen"].iloc[:4].to_dict()


def test_input_that_cannot_be_scored_is_named(screen, truth, pred):
    broken = pred.copy()
    broken.layers["delta"][1, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinite values in 1 rows: " + re.escape(repr(pred.obs_names[1]))):
        spm.tl.evaluate(broken, truth)
    with pytest.raises(DataError, match="no pseudobulk of all cells"):
        spm.tl.evaluate(pred, spm.pp.pseudobulk(screen, cells="training"))
    with pytest.raises(ValueError, match="'l3' is unknown"):
        spm.tl.evaluate(pred, truth, metrics=["l3"])
    renamed = pred.copy()
    renamed.obs_names = ["Z1", *pred.obs_names[1:]]
    with pytest.warns(ScreenWarning, match="1 predicted rows were not measured and are not scored: 'Z1'"):
        spm.tl.evaluate(renamed, truth)
    doubled = pred.copy()
    doubled.obs_names = [pred.obs_names[1], *pred.obs_names[1:]]
    with pytest.raises(DataError, match="repeated row or gene names"):
        spm.tl.evaluate(doubled, truth)


def test_a_prediction_may_be_sparse(truth, pred):
    from scipy import sparse

    thin = pred.copy()
    thin.layers["delta"] = sparse.csr_matrix(pred.layers["delta"])
    pd.testing.assert_frame_equal(spm.tl.evaluate(thin, truth), spm.tl.evaluate(pred, truth), check_exact=True)


def test_rows_of_other_names_are_shown_where_there_is_no_split(screen, pred):
    adata = screen.copy()
    del adata.obs["split"]
    strange = pred.copy()
    strange.obs_names = [f"{name}|K562" for name in pred.obs_names]
    with pytest.raises(DataError, match=r"none of the 12 .* \('.*\|K562'.*\) is among the measured ones \('G00'"):
        spm.tl.evaluate(strange, spm.pp.pseudobulk(adata))


def test_a_measured_condition_has_a_status_of_the_closed_set(screen):
    adata = screen.copy()
    del adata.obs["split"]
    spm.baselines.AdditiveShrunk.setup_anndata(adata)
    model = spm.baselines.AdditiveShrunk(adata)
    model.train()
    truth = spm.pp.pseudobulk(adata)
    frame = spm.tl.evaluate(model.predict(list(truth.obs_names[:3])), truth)
    assert "measured" in set(frame["status"]) <= set(spm.metrics.STATUSES)


def test_against_all_other_perturbed_cells(screen, truth, pred):
    """Pooled from rows of the pseudobulk, training ones too, as if the cells had been tested."""
    from scperturb_modules import metrics

    ruler = yardstick(truth)
    x, labels = np.asarray(screen.X, dtype=float), screen.obs["perturbation"].to_numpy()
    frame = spm.tl.evaluate(pred, truth, metrics=["wmse", "auprc_de_pert"])
    for p, name in enumerate(ruler.names[:3]):
        cells, rest = x[labels == name], x[(labels != name) & (labels != "control")]
        test = stats.ttest_ind(cells, rest, equal_var=False)
        t, pvalue = (side[p] for side in ruler.welch_others)
        np.testing.assert_allclose(t, test.statistic, rtol=1e-8)
        np.testing.assert_allclose(pvalue, test.pvalue, rtol=1e-6)
        weights = metrics.effect_weights(test.statistic)
        said = pred[name].layers["delta"][0]
        expected = np.sum(weights * (ruler.difference[p] - said) ** 2)
        assert value(frame, "wmse", name) == pytest.approx(expected, rel=1e-9)
        keep = [i for i, gene in enumerate(screen.var_names) if gene not in name.split("+")]
        called = stats.false_discovery_control(test.pvalue[keep]) < 0.05
        score = metrics.de_score(said - ruler.center[p], ruler.se2_pooled[p])[keep]
        assert value(frame, "auprc_de_pert", name) == pytest.approx(metrics.average_precision(called, score)[0])


def test_a_lone_condition_has_no_others(planted):
    one = split_screen(planted(n_singles=3, n_pairs=0), n_test=1)
    names = set(one.obs.loc[one.obs["split"] == "test", "perturbation"]) - {"control"}
    alone = one[one.obs["perturbation"].isin({"control", *names})].copy()
    del alone.obs["split"]
    truth = spm.pp.pseudobulk(alone)
    frame = spm.tl.evaluate(truth, truth, metrics=["wmse", "wr2_delta", "l2_noise_free"]).set_index("metric")
    assert set(frame.loc[["wmse", "wr2_delta"], "status"]) == {"few_conditions"}
    assert frame.loc["l2_noise_free", "status"] == "ok"


def test_calls_with_directions(planted):
    """A prediction with all signs turned finds the same genes, and few in the right direction."""
    strong = split_screen(planted(effect=0.4))
    truth = spm.pp.pseudobulk(strong)
    spm.baselines.Additive.setup_anndata(strong)
    model = spm.baselines.Additive(strong)
    model.train()
    pred = model.predict()
    turned = pred.copy()
    turned.layers["delta"] = -turned.layers["delta"]
    ids = ["auprc_de", "auprc_de_signed", "sign_sig"]
    right, wrong = (spm.tl.evaluate(one, truth, metrics=ids).groupby("metric", observed=True) for one in (pred, turned))
    right, wrong = right["value"].mean(), wrong["value"].mean()
    assert right["auprc_de"] == pytest.approx(wrong["auprc_de"])
    assert right["auprc_de_signed"] > wrong["auprc_de_signed"] + 0.05  # most genes change, so chance is high
    assert right["sign_sig"] == pytest.approx(1 - wrong["sign_sig"])
