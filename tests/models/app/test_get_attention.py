"""Attention as users read it: of models, of predictions, in figures; and the warning that it says nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._attention import stored_attention
from scperturb_modules._errors import ScreenWarning

ASKED = ["G12", "G49", "G02+G10", "G10+G21", "G12+G70", "G29+G49", "G12+G49"]


def test_attention_sums_to_one_and_is_that_of_the_prediction(app):
    table = app.get_attention(ASKED)
    np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-5)
    assert (table.to_numpy() >= 0).all() and table.columns.tolist() == list(app.nodes.names)
    pred = app.predict(ASKED, store=False)
    np.testing.assert_array_equal(pred.obsm["attention"], table.to_numpy())
    assert stored_attention(pred, "pred").columns.tolist() == list(app.nodes.names)
    assert pred.uns[keys.ROOT]["attention_tv"] == app.attention_tv
    assert pred.obsm["attention_sd"].shape == table.shape and (pred.obsm["attention_sd"] > 0).any()


def test_the_genes_that_get_most(app):
    table, top = app.get_attention(ASKED), app.get_attention(ASKED, n_top=2)
    wanted = {gene for _, row in table.iterrows() for gene in row.nlargest(2).index}
    assert set(top.columns) == wanted and top.equals(table[top.columns])


@pytest.mark.parametrize("pool", ["measured", "connected"])
def test_genes_outside_the_pool_get_nothing(app_screen, fit, pool):
    model = fit(app_screen, max_epochs=1, pool=pool)
    inside = getattr(model.nodes, pool)
    table = model.get_attention(ASKED).to_numpy()
    assert 0 < inside.sum() < len(inside)
    assert (table[:, ~inside] == 0).all()
    np.testing.assert_allclose(table[:, inside].sum(axis=1), 1, atol=1e-5)


def test_attention_that_hardly_depends_on_the_perturbation_is_warned_of(app_screen, priors_of):
    """The published form with the published start: what enters the tanh is small, and the context cancels."""
    model = spm.APP(app_screen, priors=priors_of(app_screen), preset="paper", d=16, n_layers=0)
    with torch.no_grad():
        model.module.attention.of_context.weight.mul_(1e-3)
    with pytest.warns(ScreenWarning, match=r"hardly depends on the perturbation \(TV = 0\.0"):
        model.train(1, lr=1e-6, accelerator="cpu")
    assert model.attention_tv < keys.LOW_ATTENTION_TV


def test_a_model_without_attention_says_so(app_screen, fit):
    model = fit(app_screen, max_epochs=1, attention="context")
    with pytest.raises(ValueError, match='attention="all"'):
        model.get_attention(["G12"])
    assert model.attention_tv is None and "attention" not in model.predict(["G12"], store=False).obsm


@pytest.mark.parametrize(("kind", "names"), [("heatmap", None), ("bar", "G12+G70")])
def test_attention_can_be_drawn(app, kind, names):
    plt = pytest.importorskip("matplotlib.pyplot")
    axes = spm.pl.attention(app.predict([*ASKED, "TP53"], store=False), names, kind=kind)
    drawn = {label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    assert drawn & set(app.nodes.names)
    plt.close("all")


def test_embeddings_are_those_of_a_member(app):
    first, second = (app.get_gene_embedding(member=member) for member in (0, 1))
    assert first.shape == (len(app.nodes.names), app.settings.d) and not first.equals(second)
