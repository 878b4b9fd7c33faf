"""Training, prediction and what a model may see: the toy stands for every model on the base."""

from __future__ import annotations

import gc
import json
import weakref

import anndata
import numpy as np
import pandas as pd
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules import pp, tl
from scperturb_modules._attention import stored_attention
from scperturb_modules._errors import DataError, MissingKeyError, NotTrainedError
from scperturb_modules._protocols import Predictor
from scperturb_modules.baselines import AdditiveShrunk
from scperturb_modules.models import PerturbationModel

ASKED = ["G07", "G01+G06", "G00", "G00+G01", "TP53", "G07+TP53"]


def delta_of(model, conditions=None, **arguments):
    return model.predict(conditions, store=False, **arguments).layers["delta"]


def test_it_is_a_predictor_with_the_facts_a_benchmark_reads(trained, toy_class):
    assert isinstance(trained, Predictor)
    assert (toy_class.name, toy_class.key) == ("Toy", "toy")
    assert (toy_class.is_baseline, toy_class.deterministic) == (False, False)
    assert (toy_class.needs_prior, toy_class.uses_prior) == (False, True)


def test_an_option_may_not_hide_what_the_base_holds(toy_class):
    with pytest.raises(TypeError, match="'networks', 'training' cannot be options of Bad"):
        type("Bad", (toy_class,), {"options": ("seed", "unknown", "training", "networks")})


def test_a_model_without_a_network_cannot_be_built(screen):
    class Half(PerturbationModel):
        """Lacks both hooks."""

    with pytest.raises(TypeError, match="abstract methods? .*_datamodule.*_network_answer"):
        Half(screen)


def test_training_keeps_a_history_and_no_trainer(trained):
    assert trained.is_trained
    assert {"train_loss", "validation_loss"} <= set(trained.history)
    assert all(len(frame) == 3 for frame in trained.history.values())
    assert trained.fit_result.n_epochs == 3
    assert "trainer" not in vars(trained) and not trained.module.training


def test_same_seed_same_numbers(screen, fit, priors):
    first, second = (delta_of(fit(screen, priors=priors)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_prediction_is_anchor_plus_gated_residual(trained):
    rows = ["G07", "G01+G06"]
    pred = trained.predict(rows, store=False)
    anchors = [trained.anchor_of.of(("G07",), None), trained.anchor_of.of(("G01", "G06"), None)]
    scale, shift = (getattr(trained.module, name).detach().numpy().astype(np.float64) for name in ("scale", "shift"))
    for i, anchor in enumerate(anchors):
        expected = anchor.delta + 0.5 * (anchor.delta * scale + (i + 1) * shift)
        np.testing.assert_allclose(pred.layers["delta"][i], expected, rtol=1e-5, atol=1e-6)
    assert pred.obs["gate"].tolist() == [0.5, 0.5]
    assert pred.obs["anchor"].tolist() == [anchor.anchor for anchor in anchors]
    assert pred.obs["status"].tolist() == ["isolated", "ok"]
    assert pred.obs["seen"].tolist() == ["single_unseen", "pair_2of2"]
    assert json.loads(pred.uns[keys.ROOT]["prediction"]["settings"])["features"] == ["a", "b"]


def test_the_gate_can_be_switched_off(trained):
    rows = ["G07", "G00", "TP53"]
    full, gated = trained.predict(rows, store=False, gate=False), trained.predict(rows, store=False)
    assert full.obs["gate"].tolist() == [1, 0, 0]
    anchor = trained.anchor_of.of(("G07",), None).delta
    np.testing.assert_allclose(full.layers["delta"][0] - anchor, 2 * (gated.layers["delta"][0] - anchor), atol=1e-12)
    np.testing.assert_array_equal(full.layers["delta"][1:], gated.layers["delta"][1:])


def test_a_measured_condition_is_its_shrunken_measurement(trained, trained_screen):
    pred = trained.predict(["G00", "G00+G01"], store=False)
    assert pred.obs["status"].tolist() == pred.obs["seen"].tolist() == ["measured"] * 2
    assert pred.obs["gate"].tolist() == [0, 0]
    baseline = AdditiveShrunk(trained_screen)
    baseline.train()
    np.testing.assert_array_equal(pred.layers["delta"], baseline.predict(["G00", "G00+G01"]).layers["delta"])


def test_a_class_may_predict_measured_conditions_as_if_they_were_not(screen, fit):
    model = fit(screen)
    model.returns_measured = False
    pred = model.predict(["G00", "G00+G01"], store=False)
    assert pred.obs["gate"].tolist() == [0.5, 0.5] and "measured" not in set(pred.obs["status"])
    anchor = model.anchor_of.leave_one_out(("G00",), None)
    assert pred.obs["anchor"].tolist()[0] == anchor.anchor
    model.factor = 0.0
    np.testing.assert_array_equal(delta_of(model, ["G00"])[0], anchor.delta)


def test_a_gene_known_nowhere_gets_the_anchor_alone(trained, screen, toy_class, priors):
    pred = trained.predict(["TP53", "G07+TP53"], store=False)
    assert pred.obs["status"].tolist() == ["unknown_gene"] * 2
    assert pred.obs["gate"].tolist() == [0, 0]
    np.testing.assert_array_equal(pred.layers["delta"][0], trained.anchor_of.of(("TP53",), None).delta)
    model = toy_class(screen, priors=priors, unknown="error")
    model.train(1, accelerator="cpu")
    with pytest.raises(DataError, match="1 perturbed genes are known nowhere.*'TP53'"):
        model.predict(["TP53"])


def test_genes_that_are_measured_or_in_a_prior_are_known(trained):
    asked = ["X01", "X02", "T01", "G11", "g11"]
    assert [gene for gene in asked if trained.knows(gene)] == asked[:-1]


def test_a_row_does_not_depend_on_what_else_is_asked(trained):
    together = delta_of(trained, ASKED)
    for i, name in enumerate(ASKED):
        np.testing.assert_array_equal(delta_of(trained, [name])[0], together[i])
    np.testing.assert_array_equal(delta_of(trained, ASKED[::-1])[::-1], together)
    np.testing.assert_array_equal(
        delta_of(trained, ["G06+G01", "TP53+G07"]), delta_of(trained, ["G01+G06", "G07+TP53"])
    )


def test_what_the_network_adds_comes_with_the_prediction(trained):
    pred = trained.predict(["TP53", "G07", "G00"], store=False)
    attention = stored_attention(pred, "pred")
    assert attention.index.tolist() == pred.obs_names.tolist() and attention.columns.tolist() == ["G00", "X01"]
    assert attention.to_numpy().tolist() == [[0, 0], [0.5, 0.5], [0.5, 0.5]]
    assert np.isnan(pred.obsm["attention"]).any(axis=1).tolist() == [True, False, False]
    assert pred.uns[keys.ROOT]["attention_tv"] == 0.25
    distance = pred.uns[keys.ROOT]["distance"]
    assert distance.index.tolist() == pred.obs_names.tolist() and distance["nearest"].tolist() == [0, 0, 1]


def test_predict_without_names_is_the_test_part(trained):
    assert trained.predict(store=False).obs_names.tolist() == ["G01+G06", "G04+G05", "G07"]
    assert trained.predict([], store=False).n_obs == 0


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_what_is_written_into_the_screen_survives_a_file(screen, fit, priors, tmp_path, form):
    model = fit(screen, priors=priors)
    before = screen.uns[keys.ROOT]["toy"].keys()
    assert set(before) == {"priors"}
    pred = model.predict(["G07", "TP53"])
    path = tmp_path / f"screen.{form}"
    (screen.write_h5ad if form == "h5ad" else screen.write_zarr)(path)
    stored = (anndata.read_h5ad if form == "h5ad" else anndata.read_zarr)(path).uns[keys.ROOT]["toy"]
    found = stored["prediction"]
    np.testing.assert_array_equal(found["delta"], pred.layers["delta"].astype(np.float32))
    assert found["delta"].dtype == np.float32
    assert [str(name) for name in found["conditions"]] == ["G07", "TP53"]
    assert [str(name) for name in found["genes"]] == screen.var_names.tolist()
    assert found["obs"]["status"].tolist() == ["isolated", "unknown_gene"]
    priors_read = stored["priors"]
    assert priors_read["name"].tolist() == ["ppi", "go/bp"]
    assert priors_read["kind"].tolist() == ["network", "table"]
    assert priors_read["n_genes"].tolist() == [10, 10] and priors_read["n_matched"].tolist() == [8, 8]
    assert priors_read["version"].tolist() == ["2", ""] and priors_read["licence"].tolist() == ["CC0", ""]
    pred.write_h5ad(tmp_path / "pred.h5ad")
    read = anndata.read_h5ad(tmp_path / "pred.h5ad")
    pd.testing.assert_frame_equal(stored_attention(read, "pred"), stored_attention(pred, "pred"))


def test_predict_writes_only_where_asked(screen, fit, make_screen):
    model = fit(screen)
    model.predict(store=False)
    assert "prediction" not in screen.uns[keys.ROOT]["toy"] and "priors" not in screen.uns[keys.ROOT]["toy"]
    model.predict()
    assert "prediction" in screen.uns[keys.ROOT]["toy"]
    assert "toy" not in model.training.uns[keys.ROOT]


def test_test_cells_and_evaluation_controls_do_not_reach_it(screen, fit, toy_class, priors):
    """The poison test: noise in place of every test cell, and no test cell at all, give the same bits."""
    expected = delta_of(fit(screen, priors=priors), ASKED)
    held_out = (screen.obs["split"] == "test").to_numpy()
    values = screen.X.toarray()
    values[held_out] = np.random.default_rng(1).normal(50, 20, size=(held_out.sum(), screen.n_vars))
    poisoned = screen.copy()
    poisoned.X = values
    for other in (poisoned, screen[~held_out].copy()):
        np.testing.assert_array_equal(delta_of(fit(other, priors=priors), ASKED), expected)
    values[~held_out] *= 1.5
    poisoned.X = values
    assert not np.array_equal(delta_of(fit(poisoned, priors=priors), ASKED), expected), "training cells do reach it"


def test_a_screen_and_its_training_pseudobulk_give_the_same(screen, fit, priors):
    training = pp.pseudobulk(screen, cells="training")
    model = fit(training, priors=priors)
    np.testing.assert_array_equal(delta_of(model, ASKED), delta_of(fit(screen, priors=priors), ASKED))
    assert (model.summary_stats.n_vars, model.get_var_names().tolist()) == (12, screen.var_names.tolist())
    model.predict(ASKED)
    assert "prediction" in training.uns[keys.ROOT]["toy"]
    with pytest.raises(ValueError, match="pass conditions="):
        model.predict()
    with pytest.raises(DataError, match='cells="training"'):
        type(model)(pp.pseudobulk(screen))


def test_order_of_genes_and_cells_does_not_matter(screen, fit, priors):
    expected = pd.DataFrame(delta_of(fit(screen, priors=priors), ASKED), columns=screen.var_names)
    rng = np.random.default_rng(3)
    cells = screen[rng.permutation(screen.n_obs)].copy()
    np.testing.assert_allclose(delta_of(fit(cells, priors=priors), ASKED), expected, atol=1e-6)
    genes = screen[:, rng.permutation(screen.n_vars)].copy()
    permuted = delta_of(fit(genes, priors=priors), ASKED)
    np.testing.assert_allclose(permuted, expected[genes.var_names], atol=1e-6)
    assert not np.allclose(permuted, expected)


def test_contexts(make_screen, toy_class, fit):
    adata = make_screen(contexts=("k562", "rpe1"))
    toy_class.setup_anndata(adata, cell_type_key="cell_type")
    pred = fit(adata).predict(["G07", "G00+G01|rpe1"])
    assert pred.obs_names.tolist() == ["G07|k562", "G07|rpe1", "G00+G01|rpe1"]
    assert pred.obs["cell_type"].tolist() == ["k562", "rpe1", "rpe1"]


def test_a_loop_over_folds_holds_one_screen(make_screen, toy_class):
    """scvi-tools keeps what was set up in lists of the class, from where nothing ever goes."""
    gone = []
    for seed in range(3):
        adata = make_screen(seed)
        toy_class.setup_anndata(adata)
        model = toy_class(adata)
        model.train(1, accelerator="cpu")
        model.predict()
        gone.append(weakref.ref(adata))
        del adata, model
        gc.collect()
        assert [one() is None for one in gone] == [True] * len(gone)


def test_several_models_of_one_setup_and_of_a_copy(screen, toy_class):
    first, second = toy_class(screen), toy_class(screen, width=3)
    copied = screen.copy()
    third = toy_class(copied)
    assert first.adata is second.adata is screen and third.adata is copied
    assert toy_class(screen).adata is screen


def test_scvi_views_still_work(trained, capsys):
    assert trained.summary_stats.n_perturbation == 13
    assert trained.registry["setup_args"]["perturbation_key"] == "perturbation"
    trained.view_anndata_setup()
    assert "Toy.setup_anndata" in capsys.readouterr().out
    assert trained.device.type == "cpu"


def test_what_is_missing_is_said_with_the_call_that_mends_it(screen, toy_class, make_screen):
    with pytest.raises(MissingKeyError, match="call setup_anndata"):
        toy_class(make_screen())
    with pytest.raises(DataError, match=r"view of another one\. Call adata = adata\.copy\(\)"):
        toy_class(screen[:, :5])
    model = toy_class(screen)
    for act in (model.predict, model.predict_cells, lambda: model.save("nowhere")):
        with pytest.raises(NotTrainedError, match="call train"):
            act()
    model.train(1, accelerator="cpu")
    with pytest.raises(TypeError, match=r"write predict\(\['G00'\]\)"):
        model.predict("G00")
    with pytest.raises(DataError, match="name no perturbed gene"):
        model.predict(["control"])
    with pytest.raises(TypeError, match=r"\['width'\] is a object"):
        toy_class(screen, width=object())


def test_a_benchmark_takes_the_class(make_screen, toy_class, priors):
    board = tl.benchmark(make_screen(), [toy_class, AdditiveShrunk], priors=priors, scheme=None, n_seeds=1)
    frame = board.frame
    assert set(frame["model"]) == {"Toy", "AdditiveShrunk"}
    assert "error" not in set(frame["status"])
