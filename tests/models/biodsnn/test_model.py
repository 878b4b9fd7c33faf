"""BioDSNN as a whole: anchor and gate, order of questions, what reaches it, cells, attention, input."""

from __future__ import annotations

import builtins
import os
import socket

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError, NotTrainedError
from scperturb_modules.models._gate import Gate
from scperturb_modules.models.biodsnn._pathways import pathway_attention

ASKED = ["G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49", "X01", "P01"]


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


def test_at_gate_0_it_is_the_anchor_bit_for_bit(bio, bio_screen, priors_of, monkeypatch):
    assert np.abs(residual_of(bio, ASKED)).max() > 1e-3
    monkeypatch.setattr(bio, "gates", gates_of(0.0))
    pred = bio.predict(ASKED, store=False)
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(bio, ASKED))
    assert (pred.obs["gate"] == 0).all()
    anchor = spm.baselines.AdditiveShrunk(bio_screen, priors=priors_of(bio_screen), seed=0)
    anchor.train()
    np.testing.assert_array_equal(anchor.predict(ASKED).layers["delta"], pred.layers["delta"])


@pytest.mark.parametrize("factor", [0.25, 1.0])
def test_else_it_is_anchor_plus_gate_times_residual(bio, monkeypatch, factor):
    monkeypatch.setattr(bio, "gates", gates_of(factor))
    pred = bio.predict(ASKED, store=False)
    expected = anchors_of(bio, ASKED) + factor * residual_of(bio, ASKED)
    np.testing.assert_allclose(pred.layers["delta"], expected, rtol=0, atol=1e-6)
    ungated = bio.predict(ASKED, store=False, gate=False).layers["delta"]
    np.testing.assert_allclose(ungated, anchors_of(bio, ASKED) + residual_of(bio, ASKED), rtol=0, atol=1e-6)


def test_gates_are_fitted_and_told(bio):
    assert set(bio.gates) == {"single_unseen", "pair_2of2", "pair_1of2", "pair_0of2"}
    assert bio.gates["single_unseen"].n == sum(order == 1 for order in bio.data.order)
    for regime, gate in bio.gates.items():
        assert f"{regime} {gate.factor:.2f} (n = {gate.n})" in bio.summary()
    report = bio.mask.report
    assert f"{report['genes_pathway']} genes by pathways, {report['genes_fallback']} by co-expression" in bio.summary()


def test_a_measured_condition_is_returned_as_measured(bio):
    pred = bio.predict(["G02"], store=False)
    assert pred.obs["status"].tolist() == ["measured"] and pred.obs["gate"].tolist() == [0]
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(bio, ["G02"]))


# -- order of what is asked, seeds -----------------------------------------------------------------------------------


def test_a_and_b_is_b_and_a(bio):
    one, other = ["G10+G02", "G70+G12", "G49+G29"], ["G02+G10", "G12+G70", "G29+G49"]
    for arguments in ({}, {"gate": False}):
        np.testing.assert_array_equal(delta_of(bio, one, **arguments), delta_of(bio, other, **arguments))
    np.testing.assert_array_equal(bio.predict_cells(one, n_cells=5).X, bio.predict_cells(other, n_cells=5).X)
    assert bio.predict(["G10+G02", "G02+G10"], store=False).obs_names.tolist() == ["G02+G10"]


@pytest.mark.parametrize("position", [0, 5, 33])
def test_a_row_alone_is_the_row_among_others(bio, position):
    names = ["G02", "G10", "G21", "G24", "G29", "G32", "G42", "G64", "X01", "P01", "G01", "G03"]
    others = [f"{first}+{second}" for i, first in enumerate(names) for second in names[i + 1 :]][:40]
    for name in ("G12", "G12+G49"):
        together = bio.predict([*others[:position], name, *others[position:]], store=False, gate=False)
        assert together.n_obs == 41
        np.testing.assert_array_equal(together[name].layers["delta"][0], delta_of(bio, [name], gate=False)[0])
        np.testing.assert_array_equal(together[name].layers["sd"], bio.predict([name], store=False).layers["sd"])
    wide = delta_of(bio, ["G02+G10+G24", "G12"], gate=False)
    np.testing.assert_array_equal(wide[1], delta_of(bio, ["G12"], gate=False)[0])


def test_asked_again_it_says_the_same(bio):
    np.testing.assert_array_equal(delta_of(bio, gate=False), delta_of(bio, gate=False))
    first, again, other = (bio.predict_cells(["G12"], n_cells=9, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.X, again.X)
    assert not np.array_equal(first.X, other.X)


def test_same_seed_same_training(bio, bio_screen, fit):
    torch.manual_seed(5)  # the caller's random state does not matter
    state = torch.get_rng_state()
    again = fit(bio_screen, n_members=2, uncertainty=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert same_weights(again, bio) and repr(again.gates) == repr(bio.gates) and again.sd_factors == bio.sd_factors
    np.testing.assert_array_equal(delta_of(again, gate=False), delta_of(bio, gate=False))
    np.testing.assert_array_equal(again.predict_cells(["G12"], n_cells=5).X, bio.predict_cells(["G12"], n_cells=5).X)
    for name, frame in bio.history.items():
        pd.testing.assert_frame_equal(frame, again.history[name])
    other = fit(bio_screen, n_members=2, uncertainty=True, seed=1)
    assert not np.allclose(delta_of(other, gate=False), delta_of(bio, gate=False))


# -- what reaches it -------------------------------------------------------------------------------------------------


def test_test_cells_do_not_reach_it(bio, bio_screen, fit, priors_of):
    """Noise in place of every cell of the test part changes no bit; in place of a training cell it does."""
    is_test = (bio_screen.obs["split"] == "test").to_numpy()
    assert (bio_screen.obs.loc[is_test, "perturbation"] == "control").sum() > 10
    poisoned = bio_screen.copy()
    values = bio_screen.X.toarray()
    values[is_test] = np.random.default_rng(1).normal(50, 20, size=(is_test.sum(), values.shape[1]))
    poisoned.X = values
    for other in (poisoned, bio_screen[~is_test].copy()):
        model = fit(other, priors=priors_of(bio_screen), n_members=2, uncertainty=True)
        pd.testing.assert_frame_equal(
            model.knowledge.coexpression.to_table(), bio.knowledge.coexpression.to_table(), check_exact=True
        )
        np.testing.assert_array_equal(model.mask.matrix.toarray(), bio.mask.matrix.toarray())
        assert model._arrays.keys() == bio._arrays.keys()
        for name, array in bio._arrays.items():
            np.testing.assert_array_equal(model._arrays[name], array)
        assert same_weights(model, bio) and repr(model.gates) == repr(bio.gates)
        assert model.sd_factors == bio.sd_factors
        np.testing.assert_array_equal(delta_of(model), delta_of(bio))
    values[~is_test] *= 1.1
    poisoned.X = values
    model = spm.BioDSNN(poisoned, priors=priors_of(bio_screen), d=4, n_folds=2)
    assert not np.array_equal(model._arrays["target"], bio._arrays["target"])


@pytest.mark.parametrize("form", ["csc", "dense", "float64", "backed"])
def test_forms_of_the_matrix(bio, make_screen, fit, form, tmp_path):
    adata = make_screen()
    if form == "backed":
        adata.write_h5ad(tmp_path / "screen.h5ad")
        adata = anndata.read_h5ad(tmp_path / "screen.h5ad", backed="r")
        spm.BioDSNN.setup_anndata(adata)
    else:
        forms = {"csc": sparse.csc_matrix, "dense": lambda x: x.toarray(), "float64": lambda x: x.astype(np.float64)}
        adata.X = forms[form](adata.X)
    model = fit(adata, n_members=2, uncertainty=True)
    np.testing.assert_allclose(delta_of(model, gate=False), delta_of(bio, gate=False), atol=2e-4)
    cells = model.predict_cells(["G12"], n_cells=6)
    np.testing.assert_allclose(cells.X, bio.predict_cells(["G12"], n_cells=6).X, atol=1e-2)


def test_the_order_of_genes_and_cells_does_not_matter(bio, bio_screen, fit):
    rng = np.random.default_rng(3)
    shuffled = bio_screen[rng.permutation(bio_screen.n_obs), rng.permutation(bio_screen.n_vars)].copy()
    model = fit(shuffled, n_members=2, uncertainty=True)
    here = [shuffled.var_names.get_loc(name) for name in bio_screen.var_names]
    np.testing.assert_array_equal(model.mask.matrix.toarray()[here][:, here], bio.mask.matrix.toarray())
    graphs = [one.knowledge.coexpression.to_table() for one in (model, bio)]
    pd.testing.assert_frame_equal(*graphs, check_exact=True)
    np.testing.assert_array_equal(model._members.held_out, bio._members.held_out)
    for name in ("target", "measured_part", "expected_part", "se"):
        np.testing.assert_allclose(model._arrays[name][..., here], bio._arrays[name], atol=1e-5)


def test_neither_a_file_nor_a_socket_is_opened(bio_screen, priors_of, fit, monkeypatch):
    priors = priors_of(bio_screen)
    fit(bio_screen, max_epochs=1)  # whatever libraries read at their first use
    opened = []

    def refuse(name):
        def refused(*args, **kwargs):
            opened.append((name, args))
            raise AssertionError(f"{name}{args} was called")

        return refused

    for home, name in ((builtins, "open"), (os, "open"), (os, "mkdir"), (socket, "socket"), (socket, "getaddrinfo")):
        monkeypatch.setattr(home, name, refuse(name))
    model = spm.BioDSNN(bio_screen, priors=priors, d=4, n_folds=2)
    monkeypatch.undo()
    assert opened == [] and model.knowledge.coexpression is not None


# -- genes of every kind ---------------------------------------------------------------------------------------------


def words(pred):
    return [set(text.split(";")) for text in pred.obs["status"]]


def strange_screen(make_screen):
    """G02 is measured, in networks and in pathways; of M.., N.. and S.. each lacks one, Z1 all of them."""
    adata = make_screen(n_pairs=6)
    kinds = {"G10": "N1", "G21": "S1", "G24": "M1", "G29": "Z1"}
    labels = adata.obs["perturbation"].astype(str)
    for old, new in kinds.items():
        labels = labels.str.replace(old, new, regex=False)
    adata.obs["perturbation"] = ["+".join(sorted(name.split("+"))) for name in labels]
    adata.obs["split"] = adata.obs["split"].astype(str)
    names = [{"G10": "N1", "G21": "S1"}.get(name, name) for name in adata.var_names]
    adata.var_names = names
    adata = adata[:, ~adata.var_names.isin(["G24", "G29"])].copy()
    in_network = [name for name in adata.var_names if name not in ("N1", "G49")] + ["M1"]
    edges = pd.DataFrame({"source": in_network[:-1], "target": in_network[1:], "weight": 1.0})
    edges.attrs["name"] = "graph"
    members = [name for name in adata.var_names if name not in ("S1", "G49")]
    sets = spm.priors.gene_sets({"first": members[:40] + ["M1"], "second": members[40:]}, name="sets")
    spm.BioDSNN.setup_anndata(adata)
    return adata, [edges, sets]


@pytest.fixture(scope="module")
def strange(make_screen, fit):
    adata, priors = strange_screen(make_screen)
    return fit(adata, priors=priors)


@pytest.mark.parametrize(
    ("gene", "measured", "in_network", "in_pathway"),
    [
        ("G02", True, True, True),
        ("N1", True, False, True),
        ("S1", True, True, False),
        ("M1", False, True, True),
        ("Z1", False, False, False),
        ("G49", True, False, False),
    ],
)
def test_a_gene_that_something_lacks_runs(strange, gene, measured, in_network, in_pathway):
    assert (gene in strange.training.var_names) == measured
    assert (gene in strange.networks["graph"].connected) == in_network
    assert (gene in strange.knowledge.pathways.genes) == in_pathway
    node = strange.nodes.names.index(gene)
    number = int(strange.module.gene_of[node])
    assert number == (strange.training.var_names.get_loc(gene) if measured else -1)
    names = [gene, *(f"{gene}+{other}" for other in ("G32", "G42"))]
    pred = strange.predict([*names, f"{gene}+G32+G64"], store=False, gate=False)
    assert np.isfinite(pred.layers["delta"]).all() and pred.n_obs == 4
    said = set().union(*words(pred))
    connected = in_network or in_pathway
    assert ("isolated" in said) == (not connected) and "unknown_gene" not in said and "prior_only" not in said
    if measured:
        status = strange.mask.table.loc[gene, "status"]
        assert (status == "pathway") == in_pathway
    cells = strange.predict_cells(names[:2], n_cells=4)
    assert np.isfinite(cells.X).all()


def test_known_nowhere_is_the_anchor(bio, monkeypatch):
    monkeypatch.setattr(bio, "gates", gates_of(1.0))
    names = ["TP53", "G02+TP53"]
    pred = bio.predict(names, store=False)
    np.testing.assert_array_equal(pred.layers["delta"], anchors_of(bio, names))
    assert pred.obs["status"].tolist() == ["unknown_gene"] * 2 and pred.obs["gate"].tolist() == [0, 0]
    assert np.isnan(bio.predict([*names, "G12"], store=False).layers["sd"]).all(axis=1).tolist() == [True, True, False]
    cells = bio.predict_cells(["TP53"], n_cells=4)
    assert cells.shape == (4, bio.training.n_vars) and np.isfinite(cells.X).all()
    with pytest.raises(DataError, match=r"1 conditions have a gene that is known nowhere: 'G02\+TP53'. Leave them out"):
        bio.get_pathway_attention(["G02", "G02+TP53"], store=False)


# -- errors ----------------------------------------------------------------------------------------------------------


def test_several_cell_types_are_refused(make_screen):
    adata = make_screen(n_cell_types=2, n_pairs=6, n_cells=12, n_controls=40, n_perturbable=8)
    spm.BioDSNN.setup_anndata(adata, cell_type_key="cell_type")
    with pytest.raises(DataError, match=r"one cell type, and the screen has 2: 'type1', 'type2'.*\[\"cell_type\"\]"):
        spm.BioDSNN(adata, d=4, n_folds=2)
    one = adata[adata.obs["cell_type"] == "type1"].copy()
    spm.BioDSNN.setup_anndata(one, cell_type_key="cell_type")
    assert spm.BioDSNN(one, d=4, n_folds=2).data.contexts == ("type1",)


def test_several_modalities_are_refused(make_screen):
    adata = make_screen()
    perturbed = (adata.obs["perturbation"] != "control").to_numpy()
    adata.obs["how"] = np.where(np.cumsum(perturbed) <= 40, "CRISPRa", "CRISPRi")
    with pytest.raises(DataError, match=r"one modality, and 'how' has 2: 'CRISPRi \(\d+ cells\)', 'CRISPRa \(40 cell"):
        spm.BioDSNN.setup_anndata(adata, modality_key="how")
    with pytest.raises(MissingKeyError, match="'mode'.*modality_key="):
        spm.BioDSNN.setup_anndata(adata, modality_key="mode")
    # controls are perturbed in no way
    adata.obs["how"] = np.where(perturbed, "CRISPRi", "none")
    spm.BioDSNN.setup_anndata(adata, modality_key="how")


def test_a_pseudobulk_has_no_cells_to_learn_from(bio_screen, priors_of, fit):
    training = spm.pp.pseudobulk(bio_screen, cells="training")
    with pytest.raises(DataError, match="a pseudobulk has none: build the model from the screen, or pass use_coexpr"):
        spm.BioDSNN(training)
    of_cells = "BioDSNN learns from cells, .* build the model from the screen.* use_vae=False"
    with pytest.raises(DataError, match=of_cells):
        spm.BioDSNN(training, use_coexpression=False)
    with pytest.raises(DataError, match=of_cells):
        spm.BioDSNN(training, use_coexpression=False, use_vae=False, modulation_rank=0, level="cell")
    settings = {"use_coexpression": False, "use_vae": False, "modulation_rank": 0}
    priors = priors_of(bio_screen)
    model, of_screen = (fit(one, priors=priors, **settings) for one in (training, bio_screen))
    np.testing.assert_array_equal(delta_of(model, gate=False), delta_of(of_screen, gate=False))
    with pytest.raises(DataError, match="needs the cells, and this BioDSNN has none"):
        model.predict_cells(["G12"])


def test_what_needs_training_says_so(bio_screen):
    model = spm.BioDSNN(bio_screen, d=4, n_folds=2)
    for ask in (model.predict, model.predict_cells, model.get_pathway_attention):
        with pytest.raises(NotTrainedError, match="train"):
            ask(["G12"])


# -- cells -----------------------------------------------------------------------------------------------------------


def change_of_cells(model, name, cells):
    """(n, G) change of given control cells, as predict_cells adds it."""
    delta = model.predict([name], store=False).layers["delta"][0]
    with torch.no_grad():
        return model._change_of_cells((name, None), delta, cells).numpy(), delta


def controls_of(adata):
    chosen = (adata.obs["perturbation"] == "control") & (adata.obs["split"] != "test")
    return adata[chosen.to_numpy()].X.toarray()


@pytest.mark.parametrize("name", ["G12", "G02", "G02+G10", "G12+G49"])
def test_the_mean_over_all_training_controls_is_the_change_of_the_condition(bio, bio_screen, name):
    changes, delta = change_of_cells(bio, name, controls_of(bio_screen))
    assert changes.std(axis=0).max() > 1e-4, "cells differ"
    np.testing.assert_allclose(changes.astype(np.float64).mean(axis=0), delta, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["G02", "G12"])
def test_a_condition_varies_as_the_data_stream_met_it_in_training(bio, bio_screen, name):
    """A measured single is encoded as if it had not been measured, as in training; so is one that was not measured."""
    row, controls = (name, None), controls_of(bio_screen)
    arrays, number = bio._arrays, bio.data.index.get(row)
    if number is None:
        arrays, number = bio._arrays_of([row]), 0
    assert arrays["measured"][number].sum() == 0
    changes, delta = change_of_cells(bio, name, controls)
    stream = bio.module.stream
    with torch.no_grad():
        sensitivity = stream.sensitivity(*bio._encode(bio._batch(arrays, np.array([number]))))
        of_cells = stream.deviation(sensitivity, stream.state(torch.tensor(controls))[None], stream.centre)[0]
    np.testing.assert_allclose(changes, delta + of_cells.numpy(), rtol=0, atol=1e-6)


def test_predicted_cells_are_regenerated_controls_plus_the_change(bio, bio_screen):
    cells = bio.predict_cells(["G12+G70"], n_cells=7, seed=3)
    controls = bio_screen[cells.obs["control_cell"].tolist()].X.toarray()
    changes, _ = change_of_cells(bio, "G12+G70", controls)
    with torch.no_grad():
        regenerated = bio.module.stream.regenerated(torch.tensor(controls)).numpy()
    assert np.all((regenerated == 0) == (controls == 0))
    np.testing.assert_allclose(cells.X, np.maximum(regenerated + changes, 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("use_vae", [True, False])
def test_without_modulation_all_cells_change_alike(bio_screen, fit, use_vae):
    model = fit(bio_screen, modulation_rank=0, use_vae=use_vae)
    cells = model.predict_cells(["G12"], n_cells=20)
    controls = torch.tensor(bio_screen[cells.obs["control_cell"].tolist()].X.toarray())
    before = controls.numpy() if model.module.stream is None else model.module.stream.regenerated(controls)
    delta = model.predict(["G12"], store=False).layers["delta"]
    np.testing.assert_allclose(cells.X, np.maximum(torch.as_tensor(before).detach().numpy() + delta, 0), atol=1e-5)
    if use_vae:
        changes, _ = change_of_cells(model, "G12", controls.numpy())
        np.testing.assert_array_equal(changes, np.tile(delta.astype(np.float32), (20, 1)))


def test_the_change_follows_the_state_of_the_cell(make_screen, fit):
    """Effects of the simulated screen grow with the first programme of a cell."""
    adata = make_screen(seed=2, state_effect=1.0, effect_scale=3.0, n_cells=60, n_controls=200, n_pairs=6)
    model = fit(adata, max_epochs=3, stream_steps=250, use_vae=False, n_cells=24)
    controls = (adata.obs["perturbation"] == "control") & (adata.obs["split"] != "test")
    state = adata.obs.loc[controls, "cell_state"].to_numpy()
    found = []
    for name in ("G02", "G10", "G21", "G24", "G29", "G12", "G02+G10"):
        changes, delta = change_of_cells(model, name, adata[controls.to_numpy()].X.toarray())
        found.append(np.corrcoef(changes @ delta, state)[0, 1])
    assert np.median(found) > 0.5


def test_the_autoencoder_learns_and_is_kept(bio, bio_screen, priors_of, trained_between):
    fresh = spm.BioDSNN(bio_screen, priors=priors_of(bio_screen), **bio.option_values)
    before, after = fresh.module.state_dict(), bio.module.state_dict()
    parts = {name: name.split(".")[:3] for name in after if name.startswith("stream.vae.")}
    weights = [name for name in parts if name.endswith("weight") and after[name].dim() == 2]
    assert {name.split(".")[2] for name in weights} == {"encoder", "decoder"}
    for name in [*weights, "stream.of_state.weight", "stream.of_genes.weight", "stream.centre"]:
        assert trained_between(before[name], after[name]), name
    assert {"cells_reconstruction_train", "cells_kl_train", "cells_spread_train", "cells_energy_train"} <= set(
        bio.history
    )
    assert {"cells_active_dimensions_train", "train_loss", "validation_loss"} <= set(bio.history)


def test_the_data_stream_does_not_move_the_knowledge_stream(bio_screen, fit):
    short, long = (fit(bio_screen, stream_steps=steps) for steps in (3, 12))
    for name, value in short.module.state_dict().items():
        if not name.startswith("stream."):
            assert torch.equal(value, long.module.state_dict()[name]), name
    assert not torch.equal(short.module.stream.of_state.weight, long.module.stream.of_state.weight)


# -- uncertainty -----------------------------------------------------------------------------------------------------


def test_standard_deviations_are_those_of_the_module_times_their_factor(bio):
    pred = bio.predict(["G12", "G02", "G02+G10", "G02+G10+G24"], store=False)
    sd, factors = pred.layers["sd"], bio.sd_factors
    assert set(factors) == set(bio.gates) and all(factor > 0 for factor in factors.values())
    assert np.isnan(sd[1]).all(), "measured"
    assert np.isnan(sd[3]).all(), "no regime like it was left out"
    module = bio.module.subset(slice(0, 2))
    for i, regime in ((0, "single_unseen"), (2, "pair_2of2")):
        rows = [(str(pred.obs_names[i]), None)]
        batch = {key: torch.as_tensor(values) for key, values in bio._arrays_of(rows).items()}
        with torch.no_grad():
            answer = module.respond(module.read(batch)[0])
        variance = np.exp(answer.log_variance[:, 0].double().numpy()).mean(axis=0)
        between = answer.residual[:, 0].double().numpy().var(axis=0)
        np.testing.assert_allclose(sd[i], factors[regime] * np.sqrt(variance + between), rtol=1e-6)


def test_left_out_entries_are_covered(bio):
    from scperturb_modules.models._left_out import left_out_rows
    from scperturb_modules.models.biodsnn._uncertainty import NORMAL_QUANTILE

    covered = {}
    for row in left_out_rows(bio.module, bio._arrays, bio.data, bio._members):
        error = row.difference - bio.gates[row.regime].factor * row.residual
        total = bio.sd_factors[row.regime] ** 2 * row.variance + bio.data.se2[row.row]
        covered.setdefault(row.regime, []).append(np.abs(error) <= NORMAL_QUANTILE * np.sqrt(total) * (1 + 1e-6))
    assert set(covered) == set(bio.sd_factors)
    for regime, found in covered.items():
        share = np.mean(found)
        assert share >= 0.9 or bio.sd_factors[regime] == 0
        assert share == pytest.approx(0.9, abs=2 / np.size(found)) or bio.sd_factors[regime] == 0


# -- attention of pathways -------------------------------------------------------------------------------------------


def test_pathway_attention_is_that_of_the_module(bio, slow):
    names = ["G12", "G02", "G10+G02"]
    table = bio.get_pathway_attention(names, store=False)
    edges = bio.module.encoder.mixing.edges.numpy()
    module = bio.module.subset(slice(0, 2))
    weights = []
    for name in ("G12", "G02", "G02+G10"):
        batch = {key: torch.as_tensor(values) for key, values in bio._arrays_of([(name, None)]).items()}
        with torch.no_grad():
            weights.append(module.attention(module.read(batch)[0]).double().numpy().mean(axis=0))
    stacked = np.vstack([*(one[:1] for one in weights), weights[0][1:]])
    wanted = pathway_attention(
        stacked, edges, bio.knowledge.pathways, bio.training.var_names, ["G12", "G02", "G02+G10"]
    )
    pd.testing.assert_frame_equal(table, wanted)
    assert table["attention"].between(0, 1).all() and table["change"].abs().max() > 0
    measured, pathways = set(bio.training.var_names), bio.knowledge.pathways
    for name, n_genes in zip(table["name"], table["n_genes"], strict=True):
        members = {gene for gene in pathways.genes if name in pathways.sets_of(gene)}
        assert n_genes == len(members & measured) < len(members)


def test_pathway_attention_of_a_row_is_the_same_among_others(bio):
    alone = bio.get_pathway_attention(["G12"], store=False)
    among = bio.get_pathway_attention(["G02+G10", "G12", "X01"], store=False)
    pd.testing.assert_frame_equal(among[among["condition"] == "G12"].reset_index(drop=True), alone)


def test_pathway_attention_is_stored_where_asked(bio_screen, fit):
    adata = bio_screen.copy()
    model = fit(adata, max_epochs=1)
    table = model.get_pathway_attention(["G12"], store=False)
    assert "pathway_attention" not in adata.uns[keys.ROOT]["biodsnn"]
    model.get_pathway_attention(["G12"])
    pd.testing.assert_frame_equal(adata.uns[keys.ROOT]["biodsnn"]["pathway_attention"], table)


def test_without_conditions_there_is_an_empty_table(bio):
    assert len(bio.get_pathway_attention([], store=False)) == 0


@pytest.mark.parametrize("settings", [{"priors": None}, {"use_attention": False}, {"use_mask": False}])
def test_without_attention_over_pathways_it_says_so(bio_screen, fit, settings):
    model = fit(bio_screen, max_epochs=1, modulation_rank=0, use_vae=False, **settings)
    with pytest.raises(ValueError, match=r"no attention over pathways; pass spm.priors.reactome\(...\) or gene sets"):
        model.get_pathway_attention(["G12"])
