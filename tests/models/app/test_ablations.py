"""Every setting of the ablations builds, trains and predicts; what a variant means is visible in what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "G12+G49", "G02", "G02+G10+G24"]

VARIANTS = [
    {"embedding": "random"},
    {"embedding": "identity"},
    {"attention": "static"},
    {"attention": "context"},
    {"score": "additive"},
    {"score": "additive+bilinear", "heads": 2},
    {"heads": 2},
    {"pool": "measured"},
    {"pool": "connected"},
    {"context": "mean"},
    {"context": "sum"},
    {"context": "mean+count"},
    {"context_skip": False},
    {"head": "linear"},
    {"head": "mlp"},
    {"agg": "sum"},
    {"agg": "max"},
    {"combine": "add"},
    {"activation": "leaky_relu", "final_activation": False},
    {"anchor": "mean"},
    {"anchor": "additive"},
    {"anchor": "zero"},
    {"features": "expression"},
    {"features": ("prior",)},
    {"responses": False, "scale_parts": False, "inner_gate": False},
    {"center_control": False},
    {"n_layers": 0},
    {"gamma": 1.0},
    {"edge_dropout": 0.0, "id_dropout": 0.0, "prior_dropout": 0.0, "dropout": 0.0, "p_mask": 0.0},
    {"preset": "paper"},
]


def name_of(settings):
    return ",".join(f"{name}={value}" for name, value in settings.items())


def check(model, names=ASKED):
    pred = model.predict(names, store=False, gate=False)
    assert pred.obs_names.tolist() == names and np.isfinite(pred.layers["delta"]).all()
    assert np.isfinite([loss for frame in model.history.values() for loss in frame.to_numpy().ravel()]).all()
    return pred


@pytest.mark.filterwarnings("ignore:APP. attention hardly")
@pytest.mark.parametrize("settings", VARIANTS, ids=name_of)
def test_every_variant_trains_and_predicts(app_screen, fit, settings):
    model = fit(app_screen, max_epochs=1, **settings)
    pred = check(model)
    for name, value in settings.items():
        assert model.option_values[name] in (value, (value,))
    still = model.predict(["G12"], store=False, gate=False).layers["delta"]
    assert not np.array_equal(pred.layers["delta"][3], still[0])


@pytest.mark.parametrize("fuse", ["gate", "concat", "mean"])
def test_two_networks_one_of_them_directed(app_screen, fit, priors_of, fuse):
    edges, table = priors_of(app_screen)
    arrows = pd.DataFrame({"source": ["G02", "G10", "G01"], "target": ["G49", "G03", "G05"]})
    arrows.attrs.update({"name": "grn", "directed": True})
    model = fit(app_screen, max_epochs=1, priors=[edges, arrows, table], fuse=fuse)
    pred = check(model)
    assert pred.obs["status"].str.split(";").explode().ne("isolated").all(), "G49 has a neighbour in the second"
    if fuse == "gate":
        assert list(model.relation_weights) == ["graph", "grn with the arrow", "grn against it"]
        assert all(0 <= weight <= 1 for weight in model.relation_weights.values())
        assert sum(model.relation_weights.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore:APP. attention hardly")
def test_the_published_network_has_no_anchor_no_gate_and_one_member(app_screen, fit):
    model = fit(app_screen, preset="paper", n_members=1, n_folds=0)
    pred = check(model)
    assert (pred.obs["gate"] == 1).all() and set(pred.obs["anchor"]) <= {"zero"}
    assert model.gates == {} and model._members.held_out.shape[1] == 1
    gated = model.predict(ASKED, store=False)
    np.testing.assert_array_equal(gated.layers["delta"], pred.layers["delta"])
    assert "measured" not in set(gated.obs["status"]), "a training condition is predicted, not looked up"


def test_without_an_anchor_a_training_condition_has_the_gate_of_new_ones(app_screen, fit):
    """It is predicted as if it had not been measured, so that its gate is that of the regime it would be in."""
    model = fit(app_screen, max_epochs=1, anchor="zero")
    pred = model.predict(["G02", "G65+G70", "G12", "G02+G10"], store=False)
    wanted = [model.gates[regime].factor for regime in ("single_unseen", "pair_2of2", "single_unseen", "pair_2of2")]
    assert pred.obs["gate"].tolist() == wanted
    assert pred.obs["seen"].tolist()[:2] == ["measured", "measured"]
    assert "too_few_for_gate" not in ";".join(pred.obs["status"])


@pytest.mark.parametrize("anchor", ["mean", "additive"])
def test_anchors_by_another_reading(app_screen, fit, anchor):
    model = fit(app_screen, max_epochs=1, anchor=anchor)
    for gate in model.gates:
        model.gates[gate] = model.gates[gate].__class__(0.0, 0.0, 9, 0.0, 1.0)
    delta = model.predict(["G12", "G02+G10", "G12+G02"], store=False).layers["delta"]
    singles = [model.anchor_of.of((gene,), None).delta for gene in ("G02", "G10")]
    of_unmeasured = model.data.mean_single(model.data.source(None)) if anchor == "mean" else np.zeros(delta.shape[1])
    np.testing.assert_allclose(delta[0], of_unmeasured, atol=1e-12)
    factor, offset = (getattr(model.anchor_of, name)(("G02", "G10"), None) for name in ("factor", "offset"))
    np.testing.assert_allclose(delta[1], factor * sum(singles) + offset, atol=1e-12)
    np.testing.assert_allclose(delta[2], factor * (singles[0] + of_unmeasured) + offset, atol=1e-12)


def test_static_attention_is_the_same_for_all_without_a_word_of_warning(app_screen, fit):
    model = fit(app_screen, max_epochs=1, attention="static")
    table = model.get_attention(ASKED).to_numpy()
    np.testing.assert_allclose(table, np.tile(table[0], (len(table), 1)), rtol=1e-5)
    assert model.attention_tv == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("covariate", ["none", "onehot", "profile"])
def test_cell_types(make_screen, fit, covariate):
    adata = make_screen(n_cell_types=2, n_pairs=6, n_cells=12, n_controls=40, n_perturbable=8)
    model = fit(adata, max_epochs=1, covariate=covariate)
    first, second = check(model, ["G12|type1", "G12|type2"]).layers["delta"]
    assert not np.array_equal(first, second)
    assert model.module.covariates.shape == (2, {"none": 1, "onehot": 2, "profile": 1}[covariate])
