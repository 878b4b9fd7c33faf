"""SCBIG as a whole: anchor and gate, order of questions, what reaches it, cells, contexts, input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._conditions import parse_row_name
from scperturb_modules._errors import DataError, NotTrainedError
from scperturb_modules.models._gate import Gate

ASKED = ["G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49", "X01"]


def delta_of(model, names=ASKED, **arguments):
    return model.predict(names, store=False, **arguments).layers["delta"]


def same_weights(first, second):
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def anchors_of(model, names):
    return np.array([model.anchor_of.of(tuple(name.split("+")), None).delta for name in names])


def residual_of(model, names):
    """The mean over members of what the network adds, read from the module itself."""
    module = model.module.subset(slice(0, model.settings.n_members))
    found = []
    for name in names:
        batch = {key: torch.as_tensor(values) for key, values in model._arrays_of([(name, None)]).items()}
        with torch.no_grad():
            found.append(module.respond(module.read(batch)[0]).residual[:, 0].double().numpy().mean(axis=0))
    return np.array(found)


# -- anchor and gate -------------------------------------------------------------------------------------------------


def gates_of(factor):
    return dict.fromkeys(("single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"), Gate(factor, factor, 9, 1.0, 0.1))


def test_untrained_it_is_its_anchor(big_screen, build):
    model = build(big_screen)
    with pytest.raises(NotTrainedError, match=r"predict\(\) needs a trained SCBIG; call train\(\) first"):
        model.predict(["G12"])
    model.is_trained_ = True
    np.testing.assert_array_equal(delta_of(model, gate=False), anchors_of(model, ASKED))
    doubles = ["G02+G10", "G10+G21"]
    table = build(big_screen, anchor="additive")
    table.is_trained_ = True
    factor = [table.anchor_of.factor(tuple(name.split("+")), None) for name in doubles]
    sums = [sum(table.anchor_of.part(gene, None).delta for gene in name.split("+")) for name in doubles]
    offset = [table.anchor_of.offset(tuple(name.split("+")), None) for name in doubles]
    expected = np.array(factor)[:, None] * np.array(sums) + np.array(offset)
    np.testing.assert_allclose(delta_of(table, doubles, gate=False), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_it_is_anchor_plus_gate_times_residual(big, monkeypatch, factor):
    monkeypatch.setattr(big, "gates", gates_of(factor))
    assert np.abs(residual_of(big, ASKED)).max() > 1e-3
    expected = anchors_of(big, ASKED) + factor * residual_of(big, ASKED)
    np.testing.assert_allclose(delta_of(big), expected, rtol=0, atol=0 if factor == 0 else 1e-6)
    ungated = anchors_of(big, ASKED) + residual_of(big, ASKED)
    np.testing.assert_allclose(delta_of(big, gate=False), ungated, rtol=0, atol=1e-6)


def test_a_measured_condition_is_returned_as_measured(big):
    pred = big.predict(["G02"], store=False)
    assert pred.obs["status"].tolist() == ["measured"] and pred.obs["gate"].tolist() == [0]
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(big, ["G02"]))


def test_it_tells_what_it_is(big):
    assert set(big.gates) == {"single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"}
    text = big.summary()
    sizes = big.programs.sizes
    assert f"programs: 4 of {sizes.min()} to {sizes.max()} genes" in text
    assert all(f"{regime} {gate.factor:.2f} (n = {gate.n})" in text for regime, gate in big.gates.items())
    assert "training: 2 epochs, validation loss" in text, "of the network that predicts, not of the flow"


# -- order of what is asked, seeds -----------------------------------------------------------------------------------


def test_a_and_b_is_b_and_a(big):
    one, other = ["G10+G02", "G70+G12", "G49+G29"], ["G02+G10", "G12+G70", "G29+G49"]
    for arguments in ({}, {"gate": False}):
        np.testing.assert_array_equal(delta_of(big, one, **arguments), delta_of(big, other, **arguments))
    np.testing.assert_array_equal(big.predict_cells(one, n_cells=5).X, big.predict_cells(other, n_cells=5).X)


@pytest.mark.parametrize("position", [0, 3, 9])
def test_a_row_alone_is_the_row_among_others(big, position):
    others = ["G02+G10", "G21+G24", "G29", "X01", "G32+G42+G64", "G49", "G10+G70", "G64", "G70+X01"]
    for name in ("G12", "G12+G49"):
        asked = [*others[:position], name, *others[position:]]
        together = big.predict(asked, store=False, gate=False)
        np.testing.assert_array_equal(together[name].layers["delta"][0], delta_of(big, [name], gate=False)[0])
        cells = big.predict_cells(asked, n_cells=4, seed=3)
        alone = big.predict_cells([name], n_cells=4, seed=3)
        np.testing.assert_array_equal(cells[cells.obs["perturbation"] == name].X, alone.X)


def test_same_seed_same_cells_and_another_seed_other_cells(big):
    first, again, other = (big.predict_cells(["G12"], n_cells=9, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.array_equal(first.X, other.X)


def same_model(first, second):
    assert same_weights(first, second) and repr(first.gates) == repr(second.gates)
    np.testing.assert_array_equal(first.programs.labels, second.programs.labels)
    np.testing.assert_array_equal(delta_of(first, gate=False), delta_of(second, gate=False))
    cells = [one.predict_cells(["G12", "G02+G10"], n_cells=5).X for one in (first, second)]
    np.testing.assert_array_equal(*cells)


def test_same_seed_same_training(big, big_screen, fit):
    torch.manual_seed(5)  # the caller's random state does not matter
    state = torch.get_rng_state()
    again = fit(big_screen)
    assert torch.equal(torch.get_rng_state(), state)
    same_model(again, big)
    assert again.history.keys() == big.history.keys()
    for name, frame in big.history.items():
        pd.testing.assert_frame_equal(frame, again.history[name])
    other = fit(big_screen, seed=1)
    assert not np.allclose(delta_of(other, gate=False), delta_of(big, gate=False))


# -- what reaches it -------------------------------------------------------------------------------------------------


def test_test_cells_do_not_reach_it(big, big_screen, fit, priors_of):
    """Random numbers in place of every cell of the test part change no bit of programs, weights or predictions."""
    is_test = (big_screen.obs["split"] == "test").to_numpy()
    assert (big_screen.obs.loc[is_test, "perturbation"] == "control").sum() > 10
    poisoned = big_screen.copy()
    values = big_screen.X.toarray()
    rng = np.random.default_rng(1)
    values[is_test] = rng.gamma(2, 2, size=(is_test.sum(), values.shape[1]))
    poisoned.X = values
    counts = poisoned.layers["counts"].toarray()
    counts[is_test] = rng.poisson(50, size=counts[is_test].shape)
    poisoned.layers["counts"] = counts
    for other in (poisoned, big_screen[~is_test].copy()):
        model = fit(other, priors=priors_of(big_screen))
        assert repr(model.programs.to_uns()) == repr(big.programs.to_uns())
        np.testing.assert_array_equal(model.programs.loading, big.programs.loading)
        for name, array in big._arrays.items():
            np.testing.assert_array_equal(model._arrays[name], array)
        same_model(model, big)
        assert repr(model.program_intervals) == repr(big.program_intervals)
    values[~is_test] *= 1.1
    poisoned.X = values
    model = fit(poisoned, priors=priors_of(big_screen), flow_steps=1, autoencoder_steps=1)
    assert not np.array_equal(model._arrays["target"], big._arrays["target"])


@pytest.mark.parametrize("form", ["csc", "dense", "float64"])
def test_forms_of_the_matrix(big_screen, build, form):
    """Without training: what it learns of the data, and what an untrained flow makes of cells, are the same."""
    forms = {"csc": sparse.csc_matrix, "dense": lambda x: x.toarray(), "float64": lambda x: x.astype(np.float64)}
    changed = big_screen.copy()
    changed.X = forms[form](changed.X)
    models = [build(one) for one in (changed, big_screen)]
    np.testing.assert_array_equal(models[0].programs.labels, models[1].programs.labels)
    for name in ("margin", "loading", "mean", "sd", "within", "relations"):
        np.testing.assert_allclose(*(getattr(one.programs, name) for one in models), atol=1e-5)
    for model in models:
        model.is_trained_ = True
    np.testing.assert_allclose(*(delta_of(one, gate=False) for one in models), atol=1e-5)
    np.testing.assert_allclose(*(one.predict_cells(["G12"], n_cells=6).X for one in models), atol=1e-5)
    activities = [one.get_program_activity(store=False).to_numpy() for one in models]
    np.testing.assert_allclose(*activities, atol=1e-5)
    latents = [one.get_latent_representation(store=False) for one in models]
    assert np.abs(np.abs(latents[0]) - np.abs(latents[1])).max() < 1e-3, "principal components, up to their sign"


def test_a_dense_screen_trains_alike(big, big_screen, fit):
    dense = big_screen.copy()
    dense.X = big_screen.X.toarray()
    model = fit(dense)
    np.testing.assert_allclose(delta_of(model, gate=False), delta_of(big, gate=False), atol=1e-5)
    found, wanted = (one.predict_cells(["G12", "G02+G10"], n_cells=6).X for one in (model, big))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


# -- training --------------------------------------------------------------------------------------------------------


def test_history_has_the_terms_of_every_stage(big):
    assert {"train_loss", "validation_loss"} <= set(big.history)
    of_cells = {"autoencoder_train_loss", "autoencoder_reconstruction_train", "autoencoder_programs_train"}
    of_flow = {"flow_train_loss", "flow_matching_train", "flow_correlation_train", "flow_distribution_train"}
    of_flow |= {"flow_distribution_spread_train", "flow_correlation_signal_train", "flow_correlation_floor_train"}
    assert of_cells | of_flow <= set(big.history)
    assert len(big.history["train_loss"]) == 2
    n_rows = len(big.data.rows)
    assert len(big.history["autoencoder_train_loss"]) == -(-6 // -(-n_rows // 8))
    assert len(big.history["flow_train_loss"]) == -(-8 // -(-n_rows // 16))
    for name, table in big.history.items():
        assert table.columns.tolist() == [name] and np.isfinite(table.to_numpy()).all()


def test_losses_fall(big_screen, fit):
    model = fit(big_screen, max_epochs=1, autoencoder_steps=24, flow_steps=40, w_correlation=0.0, w_distribution=0.0)
    for name in ("autoencoder_reconstruction_train", "flow_matching_train"):
        loss = model.history[name].to_numpy().ravel()
        assert loss[-2:].mean() < loss[:2].mean()


def test_every_stage_trains_its_own_part(big, big_screen, build):
    before, after = build(big_screen).module.state_dict(), big.module.state_dict()
    for name in ("readout", "programs.weight", "generator.velocity.out.weight", "generator.autoencoder.to_latent"):
        assert not torch.equal(before[name], after[name]), name
    states = big.get_latent_representation(store=False)[(big_screen.obs["split"] != "test").to_numpy()]
    np.testing.assert_allclose(states.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(states.std(axis=0), 1, atol=1e-4)


def test_a_second_round_goes_on(big_screen, fit):
    model = fit(big_screen, max_epochs=1)
    before = {name: one.clone() for name, one in model.module.state_dict().items()}
    history = {name: len(table) for name, table in model.history.items()}
    fresh = fit(big_screen, max_epochs=1)
    model.train(1, batch_size=8, accelerator="cpu")
    assert {name: len(table) for name, table in model.history.items()} == history
    moved = [not torch.equal(before[name], one) for name, one in model.module.named_parameters()]
    assert np.mean(moved) > 0.9
    assert not same_weights(model, fresh)
    loss = "autoencoder_reconstruction_train"
    assert model.history[loss].iloc[0, 0] < fresh.history[loss].iloc[0, 0], "from the weights of the first"
    states = model._states_of_training_cells()[:, :4]
    rows = np.flatnonzero((big_screen.obs["split"] != "test").to_numpy())
    np.testing.assert_allclose(states[rows], model.get_latent_representation(store=False)[rows], atol=1e-4)
    assert np.isfinite(model.predict_cells(["G12"], n_cells=3).X).all()


def test_rows_of_the_users_validation_part_are_left_out_by_all(make_screen, fit, monkeypatch):
    adata, names, seen = make_screen(), ["G64", "G02+G24"], []
    adata.obs.loc[adata.obs["perturbation"].isin(names), "split"] = "val"
    with_cells = spm.SCBIG._with_cells

    def watched(self, rows, **kwargs):
        seen.append(rows)
        return with_cells(self, rows, **kwargs)

    monkeypatch.setattr(spm.SCBIG, "_with_cells", watched)
    model = fit(adata)
    place = [model.data.index[name, None] for name in names]
    assert model._members.left_out_by_all[place].all() and model._members.left_out_by_all.sum() == 2
    assert "validation_loss" in model.history
    others = np.setdiff1d(np.arange(len(model.data.rows)), place)
    assert len(seen) == 2, "autoencoder and flow"
    for rows in seen:
        np.testing.assert_array_equal(rows, others)


# -- generated cells -------------------------------------------------------------------------------------------------


def reference_of(model, context=0):
    return model.module.generator.reference[context].numpy().astype(np.float64)


def generated(model, name):
    """All cells that the reference becomes, before they are cut at 0, and the predicted change."""
    delta = delta_of(model, [name])[0]
    row = parse_row_name(str(model.predict([name], store=False).obs_names[0]))
    return model._generated(row, delta).astype(np.float64), delta


ROWS = ["G12", "G02+G10", "G12+G49", "G02"]


@pytest.mark.parametrize("name", ROWS)
def test_the_mean_of_generated_cells_is_the_prediction(big, name):
    found, delta = generated(big, name)
    wanted = np.maximum(reference_of(big).mean(axis=0) + delta, 0)
    np.testing.assert_allclose(found.mean(axis=0), wanted, rtol=0, atol=1.2e-4)
    assert found.min() >= 0


def test_so_is_that_of_shifted_cells_before_they_are_cut(big_screen, fit):
    model = fit(big_screen, decode="shifted")
    for name in ROWS:
        found, delta = generated(model, name)
        np.testing.assert_allclose(found.mean(axis=0), reference_of(model).mean(axis=0) + delta, rtol=0, atol=1e-5)
        assert np.ptp(found - reference_of(model), axis=0).max() > 1e-3, "the flow moves cells apart"


def test_the_reference_is_of_training_controls_each_as_often_as_any_other(big, big_screen):
    training = (big_screen.obs["perturbation"] == "control") & (big_screen.obs["split"] != "test")
    own = {tuple(one) for one in big_screen[training.to_numpy()].X.toarray()}
    drawn = [tuple(one) for one in big.module.generator.reference[0].numpy()]
    times = pd.Series(drawn).value_counts()
    assert set(drawn) == own and times.max() - times.min() <= 1 and len(drawn) == 512


def test_zeros_stay_zeros(big, big_screen):
    cells = big.predict_cells(["G12", "G02+G10"], n_cells=20)
    controls = big_screen[cells.obs["control_cell"].tolist()].X.toarray()
    silent = (reference_of(big) == 0).all(axis=0)
    assert ((controls == 0).mean() > 0.2) and np.all(cells.X[:, ~silent][controls[:, ~silent] == 0] < 1e-3)
    assert cells.X.dtype == np.float32 and cells.X.min() >= 0


@pytest.mark.parametrize("decode", ["rescaled", "shifted"])
def test_before_training_the_flow_adds_nothing(big_screen, build, decode):
    """An untrained flow leaves cells where their mean is predicted: all of them moved alike."""
    model = build(big_screen, decode=decode)
    model.is_trained_ = True
    cells = model.predict_cells(["G12"], n_cells=12)
    controls = big_screen[cells.obs["control_cell"].tolist()].X.toarray()
    delta = delta_of(model, ["G12"])[0]
    if decode == "shifted":
        np.testing.assert_allclose(cells.X, np.maximum(controls + delta, 0), atol=1e-5)
    else:
        gene = int(np.argmax(controls.min(axis=0)))
        factor = np.expm1(cells.X[:, gene]) / np.expm1(controls[:, gene])
        np.testing.assert_allclose(factor, factor[0], rtol=1e-4)


def test_no_change_without_a_flow_is_no_change(big):
    cells = big.module.generator.reference[0]
    nothing = np.zeros(cells.shape[1], dtype=np.float32)
    np.testing.assert_allclose(big._without_flow(cells[:20], cells, nothing), cells[:20], atol=1e-5)


def test_the_flow_sees_a_condition_as_in_training(big):
    """A measured single is shown without its own measurement, a new pair with those of its genes."""
    rows, change = big._seen(("G02", None), np.ones(big.training.n_vars))
    assert torch.all(rows.measured == 0) and rows.present.sum() == 1 and torch.all(change == 1)
    rows, _ = big._seen(("G02+G10", None), np.ones(big.training.n_vars))
    assert rows.measured.sum() == 2


def test_guidance_and_solvers_reach_the_cells(big, monkeypatch):
    generator = big.module.generator
    plain = big.predict_cells(["G12"], n_cells=6).X
    for settings, same in (
        ({"guidance": 1.0}, True),
        ({"guidance": 4.0}, False),
        ({"solver": "euler", "n_steps": 1}, False),
        ({"n_steps": 16}, False),
    ):
        monkeypatch.setattr(generator, "settings", replace(big.settings, **settings))
        found = big.predict_cells(["G12"], n_cells=6).X
        assert np.array_equal(found, plain) == same


# -- genes that are known nowhere ------------------------------------------------------------------------------------


def test_a_gene_known_nowhere_moves_cells_by_the_anchor_alone(big, big_screen):
    names = ["TP53", "G02+TP53"]
    pred = big.predict(names, store=False)
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(big, names))
    assert pred.obs["status"].tolist() == ["unknown_gene"] * 2 and pred.obs["gate"].tolist() == [0, 0]
    cells = big.predict_cells(["TP53"], n_cells=8)
    controls = big_screen[cells.obs["control_cell"].tolist()].X.toarray()
    gene = int(np.argmax(controls.min(axis=0)))
    factor = np.expm1(cells.X[:, gene]) / np.expm1(controls[:, gene])
    np.testing.assert_allclose(factor, factor[0], rtol=1e-4)
    found, delta = generated(big, "TP53")
    np.testing.assert_allclose(found.mean(axis=0), np.maximum(reference_of(big).mean(axis=0) + delta, 0), atol=1.2e-4)


def test_or_it_is_an_error(big_screen, build):
    model = build(big_screen, unknown="error")
    model.is_trained_ = True
    for ask in (model.predict, model.predict_cells):
        with pytest.raises(DataError, match="1 perturbed genes are known nowhere.*: 'TP53'. Leave them out, give a"):
            ask(["G02+TP53"])


# -- cell types ------------------------------------------------------------------------------------------------------


def test_every_cell_type_has_its_own_controls(make_screen, fit, priors_of):
    adata = make_screen(n_cell_types=2, n_perturbable=8, n_pairs=6, n_cells=12, n_controls=40)
    model = fit(adata, max_epochs=1)
    assert model.data.contexts == ("type1", "type2")
    training = ((adata.obs["perturbation"] == "control") & (adata.obs["split"] != "test")).to_numpy()
    for code, context in enumerate(model.data.contexts):
        own = adata[training & (adata.obs["cell_type"] == context).to_numpy()].X.toarray()
        assert {tuple(one) for one in model.module.generator.reference[code].numpy()} == {tuple(one) for one in own}
    perturbed = sorted(set(adata.obs["perturbation"]) - {"control"})[:2]
    cells = model.predict_cells([perturbed[0], f"{perturbed[1]}|type2"], n_cells=5)
    assert cells.obs.groupby(["perturbation", "cell_type"], observed=True).size().tolist() == [5, 5, 5]
    of_control = adata.obs.loc[cells.obs["control_cell"], "cell_type"].astype(str).to_numpy()
    np.testing.assert_array_equal(of_control, cells.obs["cell_type"].astype(str))
    for code, context in enumerate(model.data.contexts):
        name = f"{perturbed[0]}|{context}"
        delta = model.predict([name], store=False).layers["delta"][0]
        found = model._generated((perturbed[0], context), delta)
        wanted = np.maximum(reference_of(model, code).mean(axis=0) + delta, 0)
        np.testing.assert_allclose(found.mean(axis=0), wanted, atol=1.2e-4)
    changes = model.program_changes([perturbed[0]], store=False)
    assert set(changes["condition"]) == {f"{perturbed[0]}|type1", f"{perturbed[0]}|type2"}
    alone = model.predict_cells([f"{perturbed[0]}|type2"], n_cells=5)
    both = cells[(cells.obs["cell_type"] == "type2") & (cells.obs["perturbation"] == perturbed[0])]
    np.testing.assert_array_equal(alone.X, both.X)


# -- without cells ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bulk(big_screen):
    return spm.pp.pseudobulk(big_screen, cells="training")


def test_a_pseudobulk_is_enough_for_means(bulk, big, big_screen, fit, priors_of):
    settings = {"generate": False, "relations": ("response", "priors"), "priors": priors_of(big_screen)}
    model = fit(bulk, **settings)
    assert model.module.generator is None and not any("flow" in name for name in model.history)
    assert np.isfinite(delta_of(model, gate=False)).all()
    assert np.abs(delta_of(model, gate=False) - anchors_of(model, ASKED)).max() > 1e-4
    assert model.program_changes(["G12"], store=False)["observed"].isna().all()
    assert len(model.gene_programs()) == bulk.n_vars
    with pytest.raises(DataError, match=r"predict_cells\(\) needs the cells, and this SCBIG has none: build it from"):
        model.predict_cells(["G12"])
    for ask in (model.module_correlation, model.flow_paths, model.get_latent_representation):
        with pytest.raises(ValueError, match="needs a model that learned of cells; leave generate=False out"):
            ask(*(["G12"] if ask == model.flow_paths else []))
    with pytest.raises(DataError, match=r"has no cells; pass them, or load it with spm\.load"):
        model.get_program_activity()
    assert model.get_program_activity(big_screen, store=False).shape == (big_screen.n_obs, 4)
    same_as_cells = fit(big_screen, **settings)
    np.testing.assert_array_equal(delta_of(same_as_cells, gate=False), delta_of(model, gate=False))
    cells = same_as_cells.predict_cells(["G12"], n_cells=5)
    controls = big_screen[cells.obs["control_cell"].tolist()].X.toarray()
    np.testing.assert_allclose(cells.X, np.maximum(controls + delta_of(model, ["G12"]), 0), atol=1e-5)


def test_without_cells_and_with_settings_that_need_them(bulk, priors_of, big_screen, build):
    priors, mend = priors_of(big_screen), r'relations=\("response", "priors"\)'
    with pytest.raises(DataError, match=f"a pseudobulk has none: build the model from the screen, or pass {mend}"):
        build(bulk, priors=priors)
    with pytest.raises(DataError, match=f"SCBIG learns from cells, and there are none: .*pass generate=False, {mend}"):
        build(bulk, priors=priors, relations=("response", "priors"))


def test_programs_that_cannot_be(big_screen, build):
    with pytest.raises(DataError, match="79 programs need at least 158 genes .*there are 79 of 79. Pass n_programs="):
        build(big_screen, n_programs=79)
    with pytest.raises(DataError, match="nothing to find gene programs from: .*no prior knows the genes. Pass priors="):
        build(big_screen, priors=None, relations=("priors",))
    with pytest.raises(TypeError, match="SCBIG has no setting 'n_modules'"):
        build(big_screen, n_modules=3)


def test_neither_predictions_nor_programs_are_stored_unasked(make_screen, fit):
    adata = make_screen()
    model = fit(adata, max_epochs=1)
    stored = adata.uns[keys.ROOT][keys.SCBIG]
    assert set(stored) == {keys.PRIORS}
    model.predict(["G12"], store=False)
    model.gene_programs(store=False)
    model.program_changes(["G12"], store=False)
    model.module_correlation(["G12"], store=False)
    model.flow_paths("G12", store=False)
    model.get_program_activity(store=False)
    model.get_latent_representation(store=False)
    assert set(stored) == {keys.PRIORS} and not adata.obsm and "scbig_program" not in adata.var
    model.predict(["G12"])
    assert set(stored) == {keys.PRIORS, keys.PREDICTION}
