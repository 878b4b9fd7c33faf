"""What may not change APP's numbers: order of genes, cells and questions, test cells, threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models._folds import deal_members

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "G12+G49", "X01", "G02", "G49+TP53"]
MANY = ["G02", "G10", "G21", "G24", "G29", "G32", "G42", "G64", "G65", "G70", "X01", "T01", "TP53", "G01", "G03", "G05"]
FLOAT32 = 2e-4
"""Sums over cells, genes and patterns run in another order: rounding of float32, grown over the steps of training."""


def delta_of(model, names, *, gate=False):
    return model.predict(names, store=False, gate=gate).layers["delta"]


def hundred():
    """120 pairs of genes of all kinds, none asked elsewhere."""
    return [f"{first}+{second}" for i, first in enumerate(MANY) for second in MANY[i + 1 :]]


def test_a_and_b_is_b_and_a(app):
    np.testing.assert_array_equal(
        delta_of(app, ["G10+G02", "G70+G12", "TP53+G49"]), delta_of(app, ["G02+G10", "G12+G70", "G49+TP53"])
    )


@pytest.mark.parametrize("position", [0, 1, 31, 32, 33, 77, 120])
def test_a_row_alone_is_the_row_among_a_hundred(app, position):
    others = hundred()
    for name in ("G12", "G12+G49"):
        alone, attention = delta_of(app, [name])[0], app.get_attention([name]).to_numpy()[0]
        together = app.predict([*others[:position], name, *others[position:]], store=False, gate=False)
        assert together.n_obs == len(others) + 1 > 100
        np.testing.assert_array_equal(together[name].layers["delta"][0], alone)
        np.testing.assert_array_equal(together[name].obsm["attention"][0], attention)


def test_attention_of_a_row_alone_is_that_among_others_with_many_members(app_screen, fit):
    """Sums over five members and more run in another order at other places of a table."""
    model = fit(app_screen, max_epochs=1, n_members=5)
    together = model.get_attention(hundred())
    for name in together.index[:3]:
        np.testing.assert_array_equal(model.get_attention([name]).to_numpy()[0], together.loc[name])


def test_rows_of_many_genes_do_not_change_the_others(app):
    names = ["G12", "G02+G10", "G12+G49"]
    for wide in ("G02+G10+G24", "+".join(MANY)):
        np.testing.assert_array_equal(delta_of(app, [wide, *names])[1:], delta_of(app, names))
        np.testing.assert_array_equal(delta_of(app, [*names, wide])[-1], delta_of(app, [wide])[0])


def same_folds(first, second):
    assert first.data.rows == second.data.rows
    np.testing.assert_array_equal(first._members.held_out, second._members.held_out)
    assert first._members.hidden_genes == second._members.hidden_genes


def test_the_order_of_genes_does_not_matter(app, app_screen, fit):
    shuffled = app_screen[:, np.random.default_rng(3).permutation(app_screen.n_vars)].copy()
    model = fit(shuffled)
    same_folds(model, app)
    here = [shuffled.var_names.get_loc(name) for name in app_screen.var_names]
    assert here != sorted(here)
    np.testing.assert_allclose(delta_of(model, ASKED)[:, here], delta_of(app, ASKED), atol=FLOAT32)
    same_gates(model, app)


def test_the_order_of_cells_does_not_matter(app, app_screen, fit):
    model = fit(app_screen[np.random.default_rng(4).permutation(app_screen.n_obs)].copy())
    same_folds(model, app)
    np.testing.assert_allclose(delta_of(model, ASKED), delta_of(app, ASKED), atol=FLOAT32)
    same_gates(model, app)


def test_the_order_of_edges_and_of_table_rows_does_not_matter(app, app_screen, fit, priors_of):
    model = fit(app_screen, priors=[prior.iloc[::-1] for prior in priors_of(app_screen)])
    np.testing.assert_allclose(delta_of(model, ASKED), delta_of(app, ASKED), atol=FLOAT32)


def same_gates(first, second):
    assert first.gates.keys() == second.gates.keys() != set()
    for regime, gate in first.gates.items():
        assert gate.n == second.gates[regime].n
        assert gate.factor == pytest.approx(second.gates[regime].factor, abs=1e-2)


def test_test_cells_and_evaluation_controls_do_not_reach_it(app, app_screen, fit, priors_of):
    """Garbage in place of every test cell gives the same bits; so does a screen without them."""
    expected, gates = delta_of(app, ASKED), app.gates
    is_test = (app_screen.obs["split"] == "test").to_numpy()
    assert (app_screen.obs.loc[is_test, "perturbation"] == "control").sum() > 10
    poisoned = app_screen.copy()
    values = app_screen.X.toarray()
    values[is_test] = np.random.default_rng(1).normal(50, 20, size=(is_test.sum(), app_screen.n_vars))
    poisoned.X = values
    for other in (poisoned, app_screen[~is_test].copy()):
        model = fit(other, priors=priors_of(app_screen))
        np.testing.assert_array_equal(delta_of(model, ASKED), expected)
        assert repr(model.gates) == repr(gates)
    values[~is_test] *= 1.1
    poisoned.X = values
    model = fit(poisoned, priors=priors_of(app_screen))
    assert not np.allclose(delta_of(model, ASKED), expected), "training cells do reach it"


def test_folds_go_by_names_and_seed(app):
    names = [condition for condition, _ in app.data.rows]
    nobody = np.zeros(len(names), bool)
    dealt = deal_members(names, app.data.genes, nobody, n_members=2, n_folds=3, seed=0)
    np.testing.assert_array_equal(dealt.held_out, app._members.held_out)
    other = deal_members(names, app.data.genes, nobody, n_members=2, n_folds=3, seed=1)
    assert not np.array_equal(other.held_out, dealt.held_out)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_and_two_threads(make, float64, threads):
    module, batch, _ = make(sizes={"n_nodes": 60, "n_genes": 40, "share": 0.2}, n_rows=64)
    answers = []
    for n in (1, 2):
        threads(n)
        module.train(False)  # forgets the kept embeddings
        with torch.no_grad():
            answers.append(module.respond(module.read(batch)[0])[:3])
    for first, second in zip(*answers, strict=True):
        assert first.dtype == torch.float64
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)
