"""APP as a whole: gates, folds, ensemble, cell types, files, MuData."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._attention import stored_attention
from scperturb_modules._errors import ScreenWarning
from scperturb_modules.models._gate import Gate
from scperturb_modules.priors._standardise import standardised
from scperturb_modules.train import FitResult

ASKED = ["G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49"]


def delta_of(model, names=ASKED, **arguments):
    return model.predict(names, store=False, **arguments).layers["delta"]


def residual_of(model, names):
    """The mean over members of what the network adds, read from the module itself."""
    rows = [(name, None) for name in names]
    module = model.module.subset(slice(0, model.settings.n_members))
    batch = {name: torch.as_tensor(values) for name, values in model._arrays_of(rows).items()}
    with torch.no_grad():
        answer = module.respond(module.read(batch)[0])
    return (answer.gate[..., None] * answer.residual).double().numpy()


def anchors_of(model, names):
    return np.array([model.anchor_of.of(tuple(name.split("+")), None).delta for name in names])


def test_networks_and_gene_sets_are_features_too_as_the_anchor_has_them(app_screen, priors_of):
    sets = spm.priors.gene_sets({"odd": ["G01", "G03", "G05", "G07"], "low": ["G01", "G02", "G03"]}, name="go")
    model = spm.APP(app_screen, priors=[sets, *priors_of(app_screen)], n_members=1, n_folds=2)
    features = model.module.nodes.features
    assert features.names == ["expression", "table", "go (sets)", "graph (spectral)"]
    for number, source in ((2, "go"), (3, "graph")):
        table = standardised(model.sources[source].table).reindex(list(model.nodes.names))
        present = getattr(features, f"present_{number}")[:, 0].bool().numpy()
        np.testing.assert_array_equal(present, table.notna().all(axis=1))
        values = getattr(features, f"values_{number}").numpy()
        np.testing.assert_array_equal(values[present], table[present].to_numpy(dtype=np.float32))


# -- gates -----------------------------------------------------------------------------------------------------------


def test_without_the_gate_it_is_anchor_plus_residual(app):
    residual = residual_of(app, ASKED).mean(axis=0)
    assert np.abs(residual).max() > 1e-3
    pred = app.predict(ASKED, store=False, gate=False)
    np.testing.assert_allclose(pred.layers["delta"], anchors_of(app, ASKED) + residual, atol=1e-6)
    assert (pred.obs["gate"] == 1).all()


def test_each_regime_has_its_gate(app, monkeypatch):
    regimes = app.predict(ASKED, store=False).obs["seen"].tolist()
    assert set(regimes) == {"single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"}
    factor = {"single_unseen": 0.0, "pair_2of2": 0.25, "pair_1of2": 0.5, "pair_0of2": 1.0}
    monkeypatch.setattr(app, "gates", {name: Gate(one, one, 9, 1.0, 0.1) for name, one in factor.items()})
    pred = app.predict(ASKED, store=False)
    expected = [factor[regime] for regime in regimes]
    assert pred.obs["gate"].tolist() == expected
    step = np.array(expected)[:, None] * residual_of(app, ASKED).mean(axis=0)
    np.testing.assert_allclose(pred.layers["delta"], anchors_of(app, ASKED) + step, atol=1e-6)
    np.testing.assert_array_equal(pred.layers["delta"][0], anchors_of(app, ASKED)[0])


def test_gates_are_told(app):
    assert {"single_unseen", "pair_2of2"} <= app.gates.keys()
    assert app.gates["pair_2of2"].n == sum(order == 2 for order in app.data.order)
    assert app.gates["single_unseen"].n == sum(order == 1 for order in app.data.order)
    for regime, gate in app.gates.items():
        assert 0 <= gate.factor <= 1
        assert f"{regime} {gate.factor:.2f} (n = {gate.n})" in app.summary()


def test_five_left_out_conditions_fit_a_gate_and_four_do_not(app, monkeypatch):
    for n, said in ((4, True), (5, False)):
        monkeypatch.setattr(app, "gates", {"pair_2of2": Gate(0.0, 0.0, n, 0.0, 0.0)})
        status = app.predict(["G02+G10", "G12"], store=False).obs["status"].tolist()
        assert ("too_few_for_gate" in status[0]) is said and "too_few_for_gate" in status[1]


def test_a_screen_of_few_pairs_says_so(make_screen, fit):
    model = fit(make_screen(n_pairs=3))
    pair = next(name for name in ("G02+G10", "G02+G24", "G10+G24") if (name, None) not in model.data.index)
    assert model.gates.get("pair_2of2") is None
    pred = model.predict([pair], store=False)
    assert pred.obs["status"].tolist() == ["too_few_for_gate"] and pred.obs["gate"].tolist() == [0]
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(model, [pair]))


# -- who learns what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_folds", [0, 3])
def test_val_conditions_are_left_out_by_all_and_stop_training(make_screen, fit, n_folds):
    val = ("G24", "G24+G29", "G21+G70")
    model = fit(make_screen(val=val), n_folds=n_folds, gate=bool(n_folds))
    rows = [model.data.index[name, None] for name in val]
    assert model._members.held_out[rows].all()
    assert model._arrays["held_out"][rows, : model.settings.n_members].all()
    datamodule = model._datamodule(batch_size=8, num_workers=0)
    assert datamodule.n_train == len(model.data.rows) - len(val)
    assert datamodule.n_val == (len(val) if not n_folds else len(model.data.rows))
    assert "validation_loss" in model.history and model.fit_result.best_epoch is not None
    assert delta_of(model).shape == (len(ASKED), model.data.delta.shape[1])


def test_val_conditions_do_not_train_the_network(make_screen, fit):
    """Other changes of val conditions, the anchor as it was: no weight of the first epochs moves."""
    val = ("G24+G29", "G21+G70")
    adata = make_screen(val=val)
    weights = []
    for factor in (1.0, 5.0):
        model = spm.APP(adata, priors=None, n_folds=0, gate=False, n_members=1, d=8, rank=4)
        rows = [model.data.index[name, None] for name in val]
        model._arrays["target"][rows] *= factor
        model.train(2, batch_size=8, accelerator="cpu", limit_val_batches=0)
        weights.append(model.module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_folds_there_is_no_validation_and_no_gate(app_screen, fit):
    model = fit(app_screen, n_folds=0, gate=False)
    assert model.gates == {} and "validation_loss" not in model.history
    pred = model.predict(ASKED, store=False)
    assert (pred.obs["gate"] == 1).all() and not pred.obs["status"].str.contains("too_few").any()
    np.testing.assert_array_equal(pred.layers["delta"], delta_of(model, gate=False))


@pytest.mark.filterwarnings("ignore:APP. attention hardly")
def test_early_stopping(app_screen, fit):
    model = fit(app_screen, max_epochs=40, train={"patience": 2, "lr": 1.0})
    result = model.fit_result
    assert isinstance(result, FitResult) and result.stopped_early
    assert result.n_epochs == result.best_epoch + 3 < 40


def test_the_mean_of_members_is_not_worse_than_the_average_member(app):
    arrays = app._arrays_of(app.data.rows, training=True)
    batch = {name: torch.as_tensor(values) for name, values in arrays.items()}
    module = app.module.subset(slice(0, app.settings.n_members))
    with torch.no_grad():
        rows, anchor = module.read(batch)
        answer = module.respond(rows)
    each = (anchor + answer.gate[..., None] * answer.residual).double().numpy()
    assert len(each) == 2 and np.abs(each[0] - each[1]).max() > 1e-4
    error = np.square(each - app.data.delta).sum(axis=-1)
    of_mean = np.square(each.mean(axis=0) - app.data.delta).sum(axis=-1)
    assert (of_mean <= error.mean(axis=0) + 1e-6).all() and of_mean.sum() < error.mean(axis=0).sum()


def test_the_network_follows_the_model_to_another_device(app_screen, fit):
    model = fit(app_screen, max_epochs=1)
    model.predict(["G12"], store=False)
    model.module.to("meta")
    assert model._members_only().device.type == "meta"


# -- cell types ------------------------------------------------------------------------------------------------------


def two_types(strength=1.0, n_cells=30):
    """Singles with effects of opposite signs in two cell types; no prior tells the genes apart."""
    rng = np.random.default_rng(0)
    genes = [f"G{i:02d}" for i in range(20)]
    effect = strength * rng.normal(size=20)
    blocks, labels, types = [], [], []
    for context, sign in (("a", 1), ("b", -1)):
        for label in ("control", *genes[:10]):
            mean = 4 + (0 if label == "control" else sign * effect)
            blocks.append(mean + 0.1 * rng.normal(size=(n_cells, 20)))
            labels += [label] * n_cells
            types += [context] * n_cells
    obs = pd.DataFrame({"perturbation": labels, "cell_type": types})
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = AnnData(np.concatenate(blocks).astype(np.float32), obs=obs)
    adata.var_names = genes
    return adata


def error_in_types(cell_type_key):
    """Squared error of the network alone for unmeasured genes, against the opposite effects."""
    adata = two_types()
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(["G08", "G09"]), "test", "train")
    spm.APP.setup_anndata(adata, cell_type_key=cell_type_key)
    model = spm.APP(adata, anchor="zero", gate=False, n_folds=0, n_members=1, d=16, rank=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        # the control of each cell type is taken off, so that cell types differ by the way of attention alone: slow
        model.train(250, batch_size=8, lr=0.01, accelerator="cpu")
    truth = spm.pp.pseudobulk(adata, cell_type_key="cell_type")
    errors = []
    for context in ("a", "b"):
        name = f"G08|{context}" if cell_type_key else "G08"
        measured = truth[f"G08|{context}"].layers["delta"][0]
        errors.append(np.square(delta_of(model, [name])[0] - measured).sum())
    return sum(errors)


def test_opposite_effects_in_two_cell_types_are_told_apart():
    assert 2 * error_in_types("cell_type") < error_in_types(None)


@pytest.mark.parametrize("covariate", ["none", "onehot", "profile"])
def test_a_cell_type_without_perturbed_cells(make_screen, fit, covariate):
    adata = make_screen(n_cell_types=3, n_pairs=12, n_cells=12, n_controls=40, n_perturbable=8)
    unseen = (adata.obs["cell_type"] == "type3") & (adata.obs["perturbation"] != "control")
    adata.obs.loc[unseen, "split"] = "test"
    model = fit(adata, max_epochs=1, covariate=covariate)
    gene = sorted({gene for row in model.data.genes for gene in row})[0]
    pred = model.predict([gene], store=False, gate=False)
    assert pred.obs["cell_type"].tolist() == ["type1", "type2", "type3"]
    assert pred.obs["seen"].tolist()[2] == "context_unseen"
    assert "too_few_for_gate" in pred.obs["status"].iloc[2]
    assert np.isfinite(pred.layers["delta"]).all()


# -- files and MuData ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_predictions_and_screens_go_through_files(make_screen, fit, tmp_path, form):
    adata = make_screen()
    model = fit(adata, max_epochs=1)
    asked = [*ASKED, "TP53"]
    pred = model.predict(asked)
    read = {}
    for name, one in (("pred", pred), ("screen", adata)):
        path = tmp_path / f"{name}.{form}"
        (one.write_h5ad if form == "h5ad" else one.write_zarr)(path)
        read[name] = (anndata.read_h5ad if form == "h5ad" else anndata.read_zarr)(path)
    back = read["pred"]
    assert back.obs_names.tolist() == asked and back.obs["status"].tolist() == pred.obs["status"].tolist()
    np.testing.assert_array_equal(back.layers["delta"], pred.layers["delta"])
    for name in ("attention", "attention_sd"):
        np.testing.assert_array_equal(back.obsm[name], pred.obsm[name])
    pd.testing.assert_frame_equal(stored_attention(back, "back"), stored_attention(pred, "pred"))
    assert back.uns[keys.ROOT]["attention_tv"] == model.attention_tv
    stored = read["screen"].uns[keys.ROOT]["app"]
    np.testing.assert_array_equal(stored["prediction"]["delta"], pred.layers["delta"].astype(np.float32))
    assert [str(name) for name in stored["prediction"]["conditions"]] == asked
    assert stored["priors"]["name"].tolist() == ["graph", "table"]
    again = fit(read["screen"], max_epochs=1)
    np.testing.assert_array_equal(delta_of(again, gate=False), delta_of(model, gate=False))


def test_a_mudata_of_rna_and_guides(app, make_screen, fit, priors_of):
    mudata = pytest.importorskip("mudata")
    adata = make_screen()
    labels = adata.obs["perturbation"].astype(str)
    guides = pd.get_dummies(labels.str.split("+").explode()).groupby(level=0, sort=False).max().loc[adata.obs_names]
    guides = AnnData(
        guides.to_numpy(np.float32),
        obs=adata.obs[["perturbation", "split"]],
        var=pd.DataFrame(index="guide_" + guides.columns),
    )
    rna = AnnData(adata.X, obs=pd.DataFrame(index=adata.obs_names), var=adata.var)
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": rna, "guides": guides})
    mdata.obs[["perturbation", "split"]] = adata.obs[["perturbation", "split"]]
    spm.APP.setup_mudata(mdata)
    model = fit(mdata, priors=priors_of(adata))
    np.testing.assert_array_equal(delta_of(model, gate=False), delta_of(app, gate=False))
    assert model.predict(store=True).n_obs == len(ASKED)
    assert "prediction" in mdata.uns[keys.ROOT]["app"]
