"""APP meets genes of every kind: measured or not, in a network or not, known nowhere; no row is dropped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError

UNTRAINED = {"max_epochs": 1}


def status_of(model, names, **arguments):
    return model.predict(names, store=False, **arguments).obs["status"].tolist()


def words(text):
    return set(text.split(";"))


def test_measured_and_in_the_network(app, app_screen):
    pred = app.predict(["G02+G10"], store=False)
    assert pred.obs["status"].tolist() == ["ok"] and pred.obs["seen"].tolist() == ["pair_2of2"]
    assert {"G02", "G10"} <= set(app_screen.var_names)
    full = app.predict(["G02+G10"], store=False, gate=False).layers["delta"]
    assert np.abs(full - app.anchor_of.of(("G02", "G10"), None).delta).max() > 1e-6, "the network is asked"


def test_in_the_network_but_not_measured(app, app_screen):
    assert "G12" not in app_screen.var_names
    pred = app.predict(["G12"], store=False, gate=False)
    assert words(pred.obs["status"].iloc[0]) == {"ok"}
    assert pred.shape == (1, app_screen.n_vars) and np.isfinite(pred.layers["delta"]).all()
    assert np.abs(pred.layers["delta"][0] - app.anchor_of.of(("G12",), None).delta).max() > 1e-6
    assert "1 not measured ('G12')" in app.summary()


@pytest.mark.parametrize("name", ["G49", "G29+G49"])
def test_measured_but_in_no_network(app, name):
    pred = app.predict([name], store=False)
    assert "isolated" in words(pred.obs["status"].iloc[0])
    assert "prior_only" not in words(pred.obs["status"].iloc[0])
    assert "isolated in every network" in app.summary()


def test_in_a_table_only(app):
    assert "prior_only" in words(status_of(app, ["T01"])[0])
    assert "prior_only" in words(status_of(app, ["G02+T01"])[0])
    both = words(status_of(app, ["G49+T01"])[0])
    assert {"isolated", "prior_only"} <= both


def test_in_a_network_only(app):
    """X01 is neither measured nor was it ever perturbed; its neighbours are all that is known."""
    assert not {"isolated", "prior_only", "unknown_gene"} & words(status_of(app, ["X01"])[0])


@pytest.mark.parametrize("name", ["TP53", "G02+TP53", "G49+TP53"])
@pytest.mark.parametrize("gate", [True, False])
def test_known_nowhere_is_the_anchor_to_the_last_bit(app, name, gate):
    pred = app.predict([name], store=False, gate=gate)
    np.testing.assert_array_equal(pred.layers["delta"][0], app.anchor_of.of(tuple(name.split("+")), None).delta)
    assert pred.obs["gate"].tolist() == [0] and pred.obs["status"].tolist() == ["unknown_gene"]


def test_known_nowhere_as_an_error(app_screen, fit):
    model = fit(app_screen, max_epochs=1, unknown="error")
    with pytest.raises(DataError, match="2 perturbed genes are known nowhere.*'BRCA1', 'TP53'"):
        model.predict(["G02", "G02+TP53", "BRCA1"], store=False)
    assert status_of(model, ["G12"])[0] != "unknown_gene"


@pytest.mark.parametrize("name", ["g02", "ENSG00000102145"])
def test_no_name_is_taken_for_another(app, name):
    assert status_of(app, [name]) == ["unknown_gene"]


def test_more_than_two_genes(app):
    pred = app.predict(["G10+G02+G24", "G02+G10+G12+G49"], store=False, gate=False)
    assert pred.obs_names.tolist() == ["G02+G10+G24", "G02+G10+G12+G49"]
    assert pred.obs["seen"].tolist() == ["higher_order"] * 2
    assert np.isfinite(pred.layers["delta"]).all()
    assert all("too_few_for_gate" in words(one) for one in status_of(app, list(pred.obs_names)))


def test_a_gene_named_twice_is_perturbed_once(app):
    twice, once = (app.predict([name], store=False, gate=False) for name in ("G12+G12", "G12"))
    assert twice.obs_names.tolist() == ["G12"]
    np.testing.assert_array_equal(twice.layers["delta"], once.layers["delta"])


def test_a_network_of_other_identifiers(app_screen):
    foreign = pd.DataFrame({"source": ["ENSG1", "ENSG2"], "target": ["ENSG2", "ENSG3"]})
    foreign.attrs["name"] = "ensembl"
    with pytest.raises(
        DataError, match=r"0 of 79 genes found in the network 'ensembl'; first names: 'G01', .* / 'ENSG1', 'ENSG2'"
    ):
        spm.APP(app_screen, priors=[foreign])


def test_every_row_that_is_asked_comes_back(app):
    names = ["TP53", "G49", "G02", "G02+G10", "T01+TP53", "X01", "G12+G49", "G02+G10+G24", "T01", "G12"]
    pred = app.predict(names, store=False)
    assert pred.obs_names.tolist() == names
    assert np.isfinite(pred.layers["delta"]).all() and (pred.obs["status"] != "").all()
    assert app.predict(["G10+G02", "G02+G10"], store=False).obs_names.tolist() == ["G02+G10"]
    assert app.predict([], store=False).n_obs == 0


def test_networks_alone_and_tables_alone(app_screen, fit, priors_of):
    edges, table = priors_of(app_screen)
    of_networks = fit(app_screen, priors=[edges], **UNTRAINED)
    assert status_of(of_networks, ["T01"]) == ["unknown_gene"]
    of_tables = fit(app_screen, priors=[table], **UNTRAINED)
    assert of_tables.networks == {} and of_tables.relation_weights == {}
    said = [words(one) for one in status_of(of_tables, ["T01", "G49", "X01"])]
    # without a network nothing is isolated from one
    assert not {"isolated", "prior_only"} & set.union(*said) and said[2] == {"unknown_gene"}


def test_without_any_prior(app_screen, fit):
    model = fit(app_screen, priors=None, **UNTRAINED)
    assert model.sources == {}
    pred = model.predict(["G02+G10", "G49", "G12"], store=False, gate=False)
    assert np.isfinite(pred.layers["delta"]).all()
    assert pred.obs["status"].iloc[0] == "ok" and pred.obs["status"].iloc[2] == "unknown_gene"
    assert pred.obs["anchor"].iloc[1] == "mean"
    assert "priors: none" in model.summary()


def test_the_control_is_no_condition(app):
    with pytest.raises(DataError, match="1 conditions name no perturbed gene: 'control'"):
        app.predict(["G12", "control"], store=False)


def test_a_gene_known_nowhere_has_no_attention(app):
    alone = app.get_attention(["TP53"])
    assert alone.shape == (1, len(app.nodes.names)) and alone.isna().all(axis=None)
    table = app.get_attention(["TP53", "G12"], n_top=3)
    assert table.loc["TP53"].isna().all()
    assert set(table.columns) == set(app.get_attention(["G12"]).loc["G12"].nlargest(3).index)
