"""Intervals of baselines: what they are calibrated on, for whom there are some, and what survives a file."""

import json

import anndata
import numpy as np
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules import baselines, pp
from scperturb_modules._conditions import genes_of
from scperturb_modules.baselines._folds import folds_to_leave_out
from scperturb_modules.baselines._intervals import Intervals, LeftOut, _cell_variance, interval_half_widths
from scperturb_modules.baselines._prediction import LIKE_NOTHING, NOT_KNOWN
from scperturb_modules.baselines._training import named_rows
from scperturb_modules.metrics import top_genes
from scperturb_modules.metrics._conformal import LEVEL, LEVELS, Conformal, expression_thirds

EVERY = pytest.mark.parametrize("baseline", baselines.ALL, ids=lambda one: one.name)
SAID = ["lower", "upper"]


@pytest.fixture(scope="module")
def shrunk(drawn):
    """A trained baseline that tests may ask but not change."""
    adata, table = drawn
    model = baselines.AdditiveShrunk(adata, priors=table)
    model.train()
    return model


def assert_same(first, second):
    for layer in SAID:
        np.testing.assert_array_equal(first.layers[layer], second.layers[layer])
    for column in (keys.ERROR_BOUND, keys.INTERVAL_CELLS):
        np.testing.assert_array_equal(first.obs[column], second.obs[column])
    for column in (keys.INTERVAL, keys.ABSTAIN, keys.ABSTAIN_REASON):
        assert first.obs[column].tolist() == second.obs[column].tolist()


@EVERY
def test_every_baseline_gives_them_and_predicts_the_same_bits(baseline, drawn, fit):
    adata, table = drawn
    model = fit(baseline, adata, priors=table)
    without = model.predict()
    pred = model.predict(intervals=True)
    np.testing.assert_array_equal(pred.layers["delta"], without.layers["delta"])
    np.testing.assert_array_equal(pred.X, without.X)
    assert (pred.obs["interval"] != "none").any()
    for row in range(pred.n_obs):
        lower, delta, upper = (pred.layers[name][row] for name in ("lower", "delta", "upper"))
        if pred.obs["interval"].iloc[row] == "none":
            assert np.isnan(lower).all() and np.isnan(upper).all() and np.isnan(pred.obs["error_bound"].iloc[row])
        else:
            assert (lower < delta).all() and (delta < upper).all() and pred.obs["error_bound"].iloc[row] > 0
            np.testing.assert_allclose(upper - delta, delta - lower)
    assert keys.INTERVALS not in without.uns[keys.ROOT][keys.PREDICTION]
    assert np.isnan(without.layers["lower"]).all() and set(without.obs["interval"]) == {"none"}


@EVERY
def test_nothing_of_a_left_out_condition_enters_its_own_prediction(baseline, drawn, fit):
    """Another measurement of it, and its prediction as a left-out condition is the same to the bit."""
    adata, table = drawn
    training = pp.pseudobulk(adata, cells="training")
    before = fit(baseline, training, priors=table)
    ours, names = list(before._left_out()), named_rows(before._data.rows)
    for changed in ("G05", next(name for name in names if "+" in name)):
        other = training.copy()
        row = other.obs_names.get_loc(changed)
        noise = np.random.default_rng(0).normal(size=other.n_vars)
        other.layers["delta"][row] += noise
        other.X[row] += noise
        other.layers["se2"][row] *= 3
        other.obs.loc[changed, "n_cells"] = 7
        theirs = list(fit(baseline, other, priors=table)._left_out())
        assert [(one.row, one.regime) for one in ours] == [(one.row, one.regime) for one in theirs]
        same = {True: [], False: []}
        for one, again in zip(ours, theirs, strict=True):
            same[names[one.row] == changed].append(np.array_equal(one.prediction, again.prediction))
            assert names[one.row] != changed or not np.array_equal(one.error, again.error)
        assert all(same[True])
        # what other folds say does change
        assert changed != "G05" or all(same[False]) == (baseline is baselines.NoChange)


def test_left_out_conditions_stand_for_what_their_fold_has_seen(shrunk):
    data = shrunk._data
    names = named_rows(data.rows)
    found = iter(shrunk._left_out())
    counted = {}
    for held_out in folds_to_leave_out(data, seed=0):
        rest = {name for name, out in zip(names, held_out, strict=True) if not out}
        for row in np.flatnonzero(held_out):
            one = next(found)
            genes = genes_of(names[row])
            n_seen = sum(gene in rest for gene in genes)
            regime = "single_unseen" if len(genes) == 1 else f"pair_{n_seen}of2"
            assert (one.row, one.regime) == (row, regime)
            np.testing.assert_array_equal(one.error, data.delta[row] - one.prediction)
            counted.setdefault(regime, set()).add(row)
    assert next(found, None) is None
    fitted = shrunk._intervals.regimes
    assert {regime: one.n for regime, one in fitted.items()} == {
        regime: len(rows) for regime, rows in counted.items() if len(rows) >= 10
    }


def test_a_regime_is_calibrated_on_conditions_of_its_own(shrunk):
    """Against a fit by hand; pairs of measured singles lend nothing to those of unmeasured ones."""
    training = shrunk.training
    left_out = [one for one in shrunk._left_out() if one.regime == "pair_2of2"]
    condition = np.array([one.row for one in left_out])
    names = named_rows(shrunk._data.rows)
    n_cells = training.obs.loc[names, "n_cells"].to_numpy()[condition]
    control_mean = training.var["control_mean"].to_numpy()
    variance = _cell_variance(training)
    by_hand = Conformal.fit(
        np.array([one.error for one in left_out]),
        np.array([one.prediction for one in left_out]),
        np.array([variance / n for n in n_cells]),
        condition,
        expression_thirds(control_mean),
        top_genes(control_mean, list(training.var_names)),
    )
    pred = shrunk.predict(["G06+G07"], intervals=True)
    assert pred.obs["seen"].tolist() == ["pair_2of2"]
    noise = variance / 25
    half = by_hand.half_width(pred.layers["delta"], noise, expression_thirds(control_mean))
    np.testing.assert_allclose(pred.layers["upper"] - pred.layers["delta"], half)
    bound = by_hand.error_bound(pred.layers["delta"], noise, np.arange(training.n_vars))
    np.testing.assert_allclose(pred.obs["error_bound"], bound)


def test_variance_between_cells_is_pooled_over_conditions(drawn):
    adata, _ = drawn
    training = pp.pseudobulk(adata, cells="training")
    cells = adata[(adata.obs["split"] == "train") & (adata.obs["perturbation"] != "control")]
    values, labels = cells.X.toarray().astype(float), cells.obs["perturbation"].astype(str).to_numpy()
    groups = [values[labels == name] for name in sorted(set(labels))]
    within = sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups)
    pooled = within / sum(len(group) - 1 for group in groups)
    np.testing.assert_allclose(_cell_variance(training), pooled, rtol=1e-4)


def test_cells_of_one_condition_alone_tell_no_variance(make_training):
    training = make_training({"G00": 1.0, "G01": 2.0}, se2=np.nan, n_cells=1)
    np.testing.assert_array_equal(_cell_variance(training), 0.0)


def screen_of(make_training, n, *, seed=0, pairs=0):
    rng = np.random.default_rng(seed)
    names = [f"G{i:02d}" for i in range(n)]
    names += [f"G{i:02d}+G{(i + 1 + i // n) % n:02d}" for i in range(pairs)]
    return make_training({name: rng.normal(size=40) for name in names}, se2=0.02)


@pytest.mark.parametrize(("n", "said"), [(9, "none"), (10, "coarse"), (29, "coarse"), (30, "ok")])
def test_few_conditions_are_said_so(make_training, fit, n, said):
    model = fit(baselines.MeanShift, screen_of(make_training, n))
    pred = model.predict(["G35", "G00"], intervals=True)
    assert pred.obs["interval"].tolist() == [said, "none"], "what was measured has none"
    assert np.isnan(pred.layers["lower"][0]).all() == np.isnan(pred.obs["error_bound"].iloc[0]) == (said == "none")


def test_no_regime_borrows_from_another(make_training, fit):
    """Singles alone were calibrated on: pairs have no interval, whatever is known of them."""
    model = fit(baselines.Additive, screen_of(make_training, 20, pairs=4))
    pred = model.predict(["G35", "G02+G09", "G02+G35", "G34+G35"], intervals=True)
    assert pred.obs["seen"].tolist() == ["single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"]
    assert pred.obs["interval"].tolist() == ["coarse", "none", "none", "none"]


def test_a_gene_known_nowhere_has_none(shrunk):
    pred = shrunk.predict(["TP53", "TP53+G05", "G05+G21", "G30"], intervals=True)
    assert pred.obs["status"].tolist()[:2] == ["unknown_gene"] * 2
    assert pred.obs["interval"].tolist()[:2] == ["none"] * 2
    assert np.isnan(pred.layers["upper"][:2]).all() and np.isfinite(pred.layers["upper"][2:]).all()


def test_without_priors_a_gene_known_nowhere_is_like_any_other(drawn, fit):
    model = fit(baselines.AdditiveShrunk, drawn[0])
    pred = model.predict(["TP53", "G30"], intervals=True)
    assert pred.obs["status"].tolist() == ["unknown_gene", "ok"] and pred.obs["abstain"].all()
    np.testing.assert_array_equal(pred.layers["upper"][0], pred.layers["upper"][1])
    assert np.isfinite(pred.layers["upper"]).all()


def test_half_widths_at_the_own_size_and_level_are_the_own(shrunk):
    pred = shrunk.predict(intervals=True)
    own = pred.obs["interval_cells"].to_numpy()
    assert set(own) == {25.0}
    half = (pred.layers["upper"] - pred.layers["lower"]) / 2
    np.testing.assert_allclose(interval_half_widths(pred, level=LEVEL, n_cells=own), half, rtol=1e-12)
    sizes = [interval_half_widths(pred, level=LEVEL, n_cells=own * factor) for factor in (0.2, 1, 10, np.inf)]
    known = np.isfinite(half).all(axis=1)
    assert known.any()
    for wide, narrow in zip(sizes, sizes[1:], strict=False):
        assert (wide[known] > narrow[known]).all()
    levels = [interval_half_widths(pred, level=level, n_cells=own)[known] for level in LEVELS]
    for narrow, wide in zip(levels, levels[1:], strict=False):
        assert (narrow < wide).all()


def test_half_widths_of_other_sizes_equal_those_of_the_scale(shrunk):
    """The expected error is told from the width and its factor; here it is at hand."""
    pred = shrunk.predict(intervals=True)
    fitted = shrunk._intervals
    n_cells = np.linspace(5, 500, pred.n_obs)
    found = interval_half_widths(pred, level=0.7, n_cells=n_cells)
    thirds = expression_thirds(pred.var["control_mean"].to_numpy())
    for row, regime in enumerate(pred.obs["seen"]):
        if regime in fitted.regimes:
            noise = fitted.cell_variance / n_cells[row]
            half = fitted.regimes[regime].half_width(pred.layers["delta"][[row]], noise, thirds, 0.7)[0]
            np.testing.assert_allclose(found[row], half, rtol=1e-9)
        else:
            assert np.isnan(found[row]).all()


def test_a_saved_baseline_gives_the_same(shrunk, tmp_path):
    shrunk.save(tmp_path / "model")
    assert_same(baselines.Baseline.load(tmp_path / "model").predict(intervals=True), shrunk.predict(intervals=True))


def test_plain_values_give_the_same(shrunk):
    fitted = Intervals.from_plain(json.loads(json.dumps(shrunk._intervals.to_plain())))
    pred = shrunk.predict()
    fitted.write(pred, has_priors=True)
    assert_same(pred, shrunk.predict(intervals=True))
    assert fitted.table.equals(shrunk._intervals.table)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("has_some", [True, False])
def test_files_keep_them(shrunk, make_training, fit, tmp_path, kind, has_some):
    model = shrunk if has_some else fit(baselines.MeanShift, screen_of(make_training, 5))
    pred = model.predict(["G30", "G00+G01", "TP53"], intervals=True)
    path = tmp_path / f"pred.{kind}"
    if kind == "h5ad":
        pred.write_h5ad(path)
        stored = anndata.read_h5ad(path)
    else:
        pred.write_zarr(path)
        stored = anndata.read_zarr(path)
    assert_same(pred, stored)
    cells = np.array([10.0, 25.0, 100.0])
    np.testing.assert_array_equal(
        interval_half_widths(stored, level=0.8, n_cells=cells), interval_half_widths(pred, level=0.8, n_cells=cells)
    )


def test_training_again_calibrates_again(drawn, fit):
    adata, table = drawn
    model = fit(baselines.MeanShift, adata, priors=table)
    first = model._intervals
    model.train()
    assert model._intervals is not first
    assert model._intervals.to_plain() == first.to_plain()


def test_contexts_are_left_out_together(drawn_contexts, fit):
    adata, table = drawn_contexts
    model = fit(baselines.AdditiveShrunk, adata, priors=table)
    names = named_rows(model._data.rows)
    for held_out in folds_to_leave_out(model._data, seed=0):
        out = {name.partition("|")[0] for name, left in zip(names, held_out, strict=True) if left}
        kept = {name.partition("|")[0] for name, left in zip(names, held_out, strict=True) if not left}
        assert not out & kept
    pred = model.predict(["G30", "G05+G21"], intervals=True)
    assert pred.obs_names.tolist() == ["G30|k562", "G30|rpe1", "G05+G21|k562", "G05+G21|rpe1"]
    assert np.isfinite(pred.layers["upper"]).all()


def test_measured_without_change_or_noise_is_no_division_by_nothing(make_training, fit):
    model = fit(baselines.NoChange, make_training({f"G{i:02d}": 0.0 for i in range(12)}))
    pred = model.predict(["G35"], intervals=True)
    half = interval_half_widths(pred, level=0.5, n_cells=np.array([10.0]))
    assert (half >= 0).all() and half.max() < 1e-5


ALIKE = ["G00", "G01", "G02"]


def test_what_is_not_to_be_believed_and_why(shrunk, drawn, fit):
    adata, table = drawn
    plain = fit(baselines.AdditiveShrunk, adata)
    asked = ["TP53", "G05+TP53", "G30", "G30+G31", "G05+G30", "G05", "G05+G07"]
    pred = plain.predict(asked)
    expected = [NOT_KNOWN, NOT_KNOWN, LIKE_NOTHING, LIKE_NOTHING, "", "", ""]
    assert pred.obs["abstain_reason"].tolist() == expected
    assert pred.obs["abstain"].tolist() == [bool(reason) for reason in expected]
    assert pred.obs["abstain"].dtype == bool
    # G00 to G03 were not measured, but a prior has neighbours of them
    assert plain.predict(ALIKE).obs["abstain"].all()
    assert not shrunk.predict([*ALIKE, "G00+G01", "G00+G05"]).obs["abstain"].any()


def test_a_network_with_an_open_gate_knows_something(shrunk):
    rows = [("G30", None), ("G31", None), ("G32", None), ("TP53", None)]
    pred = baselines.make_prediction(
        shrunk.training,
        rows,
        np.zeros((4, shrunk.training.n_vars)),
        seen=["single_unseen"] * 4,
        anchor=["mean", "zero", "mean", "mean"],
        status=["ok", "isolated;too_few_for_gate", "prior_only", "isolated;unknown_gene"],
        model="Net",
        settings={},
        gate=[0.3, 0.0, np.nan, 1.0],
    )
    assert pred.obs["abstain_reason"].tolist() == ["", LIKE_NOTHING, LIKE_NOTHING, NOT_KNOWN]


@pytest.mark.parametrize("baseline", [baselines.MeanShift, baselines.MeanFitted, baselines.NoChange])
def test_means_and_nothing_are_the_same_for_any_condition(baseline, drawn, fit):
    """Even of pairs whose singles were measured."""
    pred = fit(baseline, drawn[0]).predict(["G05+G07", "G05+G09"])
    assert pred.obs["abstain"].all() and set(pred.obs["abstain_reason"]) == {LIKE_NOTHING}


def test_left_out_conditions_may_come_in_any_order(shrunk):
    left_out = list(shrunk._left_out())
    names = named_rows(shrunk._data.rows)
    backward = Intervals.fit(shrunk.training, names, reversed(left_out))
    for regime, one in shrunk._intervals.regimes.items():
        other = backward.regimes[regime]
        np.testing.assert_allclose(other.factors, one.factors, rtol=1e-9)
        np.testing.assert_allclose(other.scale.gene, one.scale.gene, rtol=1e-9)
    assert Intervals.fit(shrunk.training, names, left_out[:9]).regimes == {}
    assert isinstance(left_out[0], LeftOut)
