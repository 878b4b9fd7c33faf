"""What holds for each of them: form of the answer, order, leaks, unknown genes, contexts, storage."""

from __future__ import annotations

import json
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules import baselines, pp
from scperturb_modules._errors import DataError, MissingKeyError, NotTrainedError
from scperturb_modules._protocols import Predictor
from scperturb_modules.priors import gene_sets

EVERY = pytest.mark.parametrize("baseline", baselines.ALL, ids=lambda one: one.name)


def delta_of(model, conditions=None):
    return model.predict(conditions).layers["delta"]


@EVERY
def test_prediction_has_the_form_that_the_page_describes(baseline, drawn, fit, tmp_path):
    adata, table = drawn
    model = fit(baseline, adata, priors=table)
    pred = model.predict()
    test = adata.obs.loc[(adata.obs["split"] == "test") & (adata.obs["perturbation"] != "control"), "perturbation"]
    assert pred.obs_names.tolist() == sorted(set(test))
    assert pred.var_names.equals(adata.var_names)
    training = model.training
    control = training.varm["control_mean"][:, 0]
    np.testing.assert_array_equal(pred.layers["control"], np.tile(control, (pred.n_obs, 1)))
    np.testing.assert_array_equal(pred.X, pred.layers["control"] + pred.layers["delta"])
    np.testing.assert_array_equal(pred.var["control_mean"], training.var["control_mean"])
    assert np.isnan(pred.layers["lower"]).all() and np.isnan(pred.layers["upper"]).all()
    assert pred.X.dtype == np.float64
    counts = [("n_cells", 0), ("n_controls", 100)]
    assert all((pred.obs[column] == value).all() for column, value in counts)
    assert pred.obs["n_perturbed"].tolist() == [name.count("+") + 1 for name in pred.obs_names]
    assert pred.obs["gate"].isna().all()
    assert set(pred.obs["status"]) == {"ok"}
    assert set(pred.obs["seen"]) <= {"single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"}
    record = pred.uns[keys.ROOT]["prediction"]
    assert record["model"] == baseline.name
    assert record["fingerprint"] == training.uns[keys.ROOT]["pseudobulk"]["fingerprint"]
    assert json.loads(record["settings"])["seed"] == 0
    pred.write_h5ad(tmp_path / "pred.h5ad")
    stored = anndata.read_h5ad(tmp_path / "pred.h5ad")
    np.testing.assert_array_equal(stored.layers["delta"], pred.layers["delta"])
    assert stored.obs["anchor"].tolist() == pred.obs["anchor"].tolist()


@EVERY
def test_it_is_a_predictor_with_the_facts_a_benchmark_reads(baseline, drawn):
    adata, table = drawn
    model = baseline(adata, priors=table)
    assert isinstance(model, Predictor)
    assert (model.name, model.is_baseline, model.deterministic) == (type(model).__name__, True, True)
    assert baseline.uses_prior or not baseline.needs_prior


@EVERY
def test_test_cells_and_evaluation_controls_do_not_reach_it(baseline, drawn_contexts, fit):
    """The poison test: noise in place of every test cell, and no test cell at all, give the same bits."""
    adata, table = drawn_contexts
    held_out = (adata.obs["split"] == "test").to_numpy()
    poisoned = adata.copy()
    noise = np.random.default_rng(1).normal(50, 20, size=(held_out.sum(), adata.n_vars))
    values = adata.X.toarray()
    values[held_out] = noise
    poisoned.X = values
    model = fit(baseline, adata, priors=table)
    asked = model.predict().obs_names.tolist()
    expected = delta_of(model)
    np.testing.assert_array_equal(delta_of(fit(baseline, poisoned, priors=table)), expected)
    np.testing.assert_array_equal(delta_of(fit(baseline, adata[~held_out].copy(), priors=table), asked), expected)


@EVERY
def test_the_poison_test_can_fail(baseline, drawn, fit):
    """Training cells do reach it, all but NoChange."""
    adata, table = drawn
    changed = adata.copy()
    values = adata.X.toarray()
    values[(adata.obs["split"] == "train").to_numpy()] *= 1.5
    changed.X = values
    same = np.array_equal(delta_of(fit(baseline, changed, priors=table)), delta_of(fit(baseline, adata, priors=table)))
    assert same == (baseline is baselines.NoChange)


@EVERY
def test_a_screen_and_its_training_pseudobulk_give_the_same(baseline, drawn, fit):
    adata, table = drawn
    training = pp.pseudobulk(adata, cells="training")
    asked = ["G00", "G04+G06", "G00+G01"]
    np.testing.assert_array_equal(
        delta_of(fit(baseline, training, priors=table), asked), delta_of(fit(baseline, adata, priors=table), asked)
    )


@EVERY
def test_order_of_genes_in_a_name_does_not_matter(baseline, drawn, fit):
    adata, table = drawn
    model = fit(baseline, adata, priors=table)
    forward, backward = (model.predict([name]) for name in ("G00+G09+G11", "G11+G00+G09"))
    np.testing.assert_array_equal(forward.layers["delta"], backward.layers["delta"])
    assert backward.obs_names.tolist() == ["G00+G09+G11"]
    assert model.predict(["G01+G00", "G00+G01", "G01+G01"]).obs_names.tolist() == ["G00+G01", "G01"]


@EVERY
def test_order_of_cells_genes_conditions_and_prior_rows_does_not_matter(baseline, drawn, fit):
    adata, table = drawn
    rng = np.random.default_rng(3)
    asked = fit(baselines.NoChange, adata).predict().obs_names.tolist()
    expected = pd.DataFrame(delta_of(fit(baseline, adata, priors=table), asked), columns=adata.var_names)
    cells = adata[rng.permutation(adata.n_obs)].copy()
    np.testing.assert_allclose(delta_of(fit(baseline, cells, priors=table), asked), expected, atol=1e-9)
    genes = adata[:, rng.permutation(adata.n_vars)].copy()
    permuted = delta_of(fit(baseline, genes, priors=table), asked)
    np.testing.assert_allclose(permuted, expected[genes.var_names], atol=1e-9)
    training = pp.pseudobulk(adata, cells="training")
    rows = training[rng.permutation(training.n_obs)].copy()
    shuffled = table.iloc[rng.permutation(len(table))]
    np.testing.assert_array_equal(delta_of(fit(baseline, rows, priors=shuffled), asked), expected)


@EVERY
def test_genes_known_nowhere_are_said_so(baseline, drawn, fit):
    adata, table = drawn
    pred = fit(baseline, adata, priors=table).predict(["TP35", "G05+TP35", "G05"])
    assert pred.obs["status"].tolist()[:2] == ["unknown_gene"] * 2
    assert pred.obs["status"].tolist()[2] in ("ok", "measured")
    assert np.isfinite(pred.layers["delta"]).all()


@EVERY
def test_contexts_are_fitted_one_by_one(baseline, drawn_contexts, fit):
    """What happens in one context changes nothing in another; Transfer is there for just that."""
    adata, table = drawn_contexts
    values = adata.X.toarray()
    values[(adata.obs["cell_type"] == "rpe1").to_numpy()] *= 2
    other = adata.copy()
    other.X = values
    models = [fit(baseline, one, priors=table) for one in (adata, other)]
    pred = models[0].predict(["G30", "G00|k562"])
    assert pred.obs_names.tolist() == ["G30|k562", "G30|rpe1", "G00|k562"]
    assert pred.obs["cell_type"].tolist() == ["k562", "rpe1", "k562"]
    before, after = (delta_of(model, ["G30|k562", "G00|k562", "G00+G09|k562"]) for model in models)
    assert np.array_equal(before, after) == (baseline is not baselines.Transfer)
    mine = fit(baseline, adata[adata.obs["cell_type"] == "k562"].copy(), priors=table)
    if baseline is not baselines.Transfer:
        np.testing.assert_array_equal(delta_of(mine, ["G30|k562", "G00|k562", "G00+G09|k562"]), before)


@EVERY
def test_a_context_with_controls_only_is_served_by_the_others(baseline, drawn_contexts, fit):
    adata, table = drawn_contexts
    control_only = (adata.obs["cell_type"] == "rpe1") & (adata.obs["perturbation"] != "control")
    screen = adata[~control_only].copy()
    model = fit(baseline, screen, priors=table)
    pred = model.predict(["G30|rpe1", "G05|rpe1", "G05+G09|rpe1"])
    assert pred.obs["seen"].tolist() == ["context_unseen"] * 3
    control = model.training.varm["control_mean"][:, 1]
    np.testing.assert_array_equal(pred.layers["control"][0], control)
    if baseline is baselines.MeanShift:
        training = model.training
        singles = training.layers["delta"][["+" not in name for name in training.obs_names]]
        np.testing.assert_allclose(pred.layers["delta"][0], singles.mean(axis=0), rtol=1e-12)


def test_save_and_load_in_a_new_process_give_the_same_bits(drawn, fit, tmp_path):
    adata, table = drawn
    table = table.copy()
    table.attrs["name"] = "go/bp"
    table.iloc[3, 1] = np.nan
    models = [fit(baseline, adata, priors=table, seed=2) for baseline in baselines.ALL]
    edges = pd.DataFrame({"source": table.index[:-1], "target": table.index[1:]})
    sets = gene_sets({"a": table.index[::2], "b": table.index[::3], "c": table.index[:5]})
    models.append(fit(baselines.NearestPrior, adata, priors={"table": table, "edges": edges, "sets": sets}))
    for i, model in enumerate(models):
        model.save(tmp_path / f"model{i}")
    assert len(list(tmp_path.iterdir())) == len(models), "nothing temporary stays behind"
    program = (
        "import sys, numpy as np\n"
        "from scperturb_modules.baselines import Baseline\n"
        "for path in sys.argv[1:]:\n"
        "    model = Baseline.load(path)\n"
        "    print(repr(model), model.settings)\n"
        "    np.save(path + '/delta.npy', model.predict().layers['delta'])\n"
    )
    paths = [str(tmp_path / f"model{i}") for i in range(len(models))]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{model!r} {model.settings}" for model in models]
    for path, model in zip(paths, models, strict=True):
        np.testing.assert_array_equal(np.load(f"{path}/delta.npy"), delta_of(model))


def test_saving_does_not_overwrite_and_loading_checks(drawn, fit, tmp_path):
    adata, _ = drawn
    folder = tmp_path / "model"
    model = fit(baselines.MeanShift, adata)
    model.save(folder)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        model.save(folder)
    model.save(folder, overwrite=True)
    assert baselines.MeanShift.load(folder).predict().n_obs == model.predict().n_obs
    with pytest.raises(DataError, match=r"holds a MeanShift; call MeanShift.load or Baseline.load"):
        baselines.Additive.load(folder)
    with pytest.raises(FileNotFoundError, match="no model.json"):
        baselines.Baseline.load(tmp_path)
    record = json.loads((folder / "model.json").read_text())
    for change, message in (({"class": "Oracle"}, "'Oracle', which is no baseline"), ({"format": 2}, "has format 2")):
        (folder / "model.json").write_text(json.dumps(record | change))
        with pytest.raises(DataError, match=message):
            baselines.Baseline.load(folder)


def test_training_again_gives_the_same(drawn, fit):
    adata, table = drawn
    model = fit(baselines.KernelRidge, adata, priors=table)
    first = delta_of(model)
    model.train()
    np.testing.assert_array_equal(delta_of(model), first)


def test_what_is_missing_is_said_with_the_call_that_mends_it(drawn, make_training):
    adata, _ = drawn
    raw = adata.copy()
    del raw.uns[keys.ROOT]
    with pytest.raises(MissingKeyError, match="call setup_anndata"):
        baselines.MeanShift(raw)
    with pytest.raises(MissingKeyError, match=r"obs\['condition'\] does not exist"):
        baselines.MeanShift.setup_anndata(raw, perturbation_key="condition")
    with pytest.raises(DataError, match='cells="training"'):
        baselines.MeanShift(pp.pseudobulk(adata))
    model = baselines.MeanShift(make_training({"G00": 1.0}))
    for action in (model.predict, lambda: model.save("nowhere")):
        with pytest.raises(NotTrainedError, match="call train"):
            action()
    model.train()
    with pytest.raises(ValueError, match="pass conditions="):
        model.predict()
    with pytest.raises(TypeError, match=r"write predict\(\['G00'\]\)"):
        model.predict("G00")
    with pytest.raises(DataError, match="2 conditions name no perturbed gene: 'control', ''"):
        model.predict(["control", "", "G00"])
    with pytest.raises(DataError, match="the screen has no cell_type_key"):
        model.predict(["G00|k562"])
    with pytest.raises(DataError, match="no perturbed training condition"):
        baselines.MeanShift(make_training({"G00": 1.0})[:0].copy()).train()


def test_a_view_is_not_set_up(drawn):
    """What is written into a view is lost, or lands in its parent."""
    adata, _ = drawn
    before = json.dumps(adata.uns[keys.ROOT]["setup"], sort_keys=True)
    with pytest.raises(DataError, match=r"view of another one\. Call adata = adata\.copy\(\)"):
        baselines.MeanShift.setup_anndata(adata[:, :20], split_key="part")
    assert json.dumps(adata.uns[keys.ROOT]["setup"], sort_keys=True) == before


def test_settings_may_be_numpy_numbers(drawn, fit, tmp_path):
    adata, table = drawn
    model = fit(baselines.NearestPrior, adata, priors=table, seed=np.int64(1))
    plain = fit(baselines.NearestPrior, adata, priors=table, seed=1)
    np.testing.assert_array_equal(delta_of(model), delta_of(plain))
    model.save(tmp_path / "model")
    assert baselines.NearestPrior.load(tmp_path / "model").settings == plain.settings


def test_overwriting_destroys_nothing_but_a_saved_baseline(drawn, fit, tmp_path):
    model = fit(baselines.MeanShift, drawn[0])
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "notes.txt").write_text("a file")
    for name in ("thesis", "notes.txt"):
        with pytest.raises(FileExistsError, match="is no saved baseline and would be lost"):
            model.save(tmp_path / name, overwrite=True)
    assert (tmp_path / "thesis" / "chapter.txt").exists() and (tmp_path / "notes.txt").exists()
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty", overwrite=True)
    assert baselines.Baseline.load(tmp_path / "empty").predict().n_obs == model.predict().n_obs


def test_setup_is_recorded_and_used(drawn, fit):
    adata, _ = drawn
    renamed = adata.copy()
    renamed.obs = renamed.obs.rename(columns={"perturbation": "guide", "split": "part"})
    renamed.obs["guide"] = renamed.obs["guide"].replace("control", "NT")
    baselines.MeanShift.setup_anndata(renamed, perturbation_key="guide", control="NT", split_key="part")
    model, same = fit(baselines.MeanShift, renamed), fit(baselines.MeanShift, adata)
    np.testing.assert_array_equal(delta_of(model), delta_of(same))
    with pytest.raises(DataError, match="'NT'"):
        model.predict(["NT"])


def test_the_list_of_competitors():
    assert len(baselines.ALL) == len(set(baselines.ALL)) == 12
    assert all(issubclass(one, baselines.Baseline) for one in baselines.ALL)
