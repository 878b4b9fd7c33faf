from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import baselines
from scperturb_modules.baselines._linear import gene_scores, perturbed_scores, solve_weights


def kronecker_ridge(change, scores, perturbed, penalty):
    """The same ridge problem as one system of K * K unknowns."""
    k = scores.shape[1]
    left = np.kron(perturbed.T @ perturbed + penalty * np.eye(k), scores.T @ scores + penalty * np.eye(k))
    right = (scores.T @ change.T @ perturbed).reshape(-1, order="F")
    return np.linalg.solve(left, right).reshape(k, k, order="F")


@pytest.mark.parametrize("penalty", [0.01, 0.1, 10.0])
def test_weights_solve_the_kronecker_system(penalty):
    rng = np.random.default_rng(0)
    change, scores, perturbed = rng.normal(size=(12, 30)), rng.normal(size=(30, 4)), rng.normal(size=(12, 4))
    np.testing.assert_allclose(
        solve_weights(change, scores, perturbed, penalty),
        kronecker_ridge(change, scores, perturbed, penalty),
        rtol=1e-8,
        atol=1e-10,
    )


def test_a_prediction_equals_the_kronecker_solution(make_training, fit):
    rng = np.random.default_rng(0)
    changes = {f"G{i:02d}": rng.normal(size=40) for i in range(12)} | {"G00+G01": rng.normal(size=40)}
    training = make_training(changes)
    model = fit(baselines.Linear, training)
    n_components, penalty = model.settings["n_components"]["all"], model.settings["penalty"]["all"]
    scores = gene_scores(training.X, n_components)
    column = {gene: i for i, gene in enumerate(training.var_names)}
    perturbed = perturbed_scores([name.split("+") for name in training.obs_names], scores, column)
    offset = training.layers["delta"].mean(axis=0)
    weights = kronecker_ridge(training.layers["delta"] - offset, scores, perturbed, penalty)
    expected = offset + scores @ weights @ (scores[20] + scores[21])
    np.testing.assert_allclose(model.predict(["G20+G21"]).layers["delta"][0], expected, atol=1e-8)


def test_gene_scores_are_principal_components():
    values = np.random.default_rng(0).normal(size=(6, 30))
    scores = gene_scores(values, 3)
    centred = values - values.mean(axis=1, keepdims=True)
    left, singular, _ = np.linalg.svd(centred.T, full_matrices=False)
    np.testing.assert_allclose(np.abs(scores), np.abs(left[:, :3] * singular[:3]), atol=1e-10)
    assert gene_scores(values, 50).shape == (30, 6)


def test_a_gene_without_row_gets_the_offset(make_training, fit):
    rng = np.random.default_rng(0)
    changes = {f"G{i:02d}": rng.normal(size=40) for i in range(12)}
    pred = fit(baselines.Linear, make_training(changes)).predict(["ABSENT", "G00+ABSENT"])
    np.testing.assert_allclose(pred.layers["delta"][0], np.mean(list(changes.values()), axis=0), rtol=1e-12)
    assert pred.obs["status"].tolist() == ["unknown_gene"] * 2
    assert not np.allclose(pred.layers["delta"][1], pred.layers["delta"][0])


def test_a_perturbed_but_unmeasured_gene_has_no_embedding(make_training, fit):
    changes = {f"G{i:02d}": float(i) for i in range(6)} | {"ABSENT": 1.0}
    pred = fit(baselines.Linear, make_training(changes)).predict(["ABSENT+G20"])
    assert pred.obs["status"].tolist() == ["no_embedding"]


def test_cross_validation_finds_a_planted_bilinear_law(make_training, fit):
    """The change is bilinear in expression components: the model must beat the mean on unseen genes."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(60, 3))
    names = [f"G{i:02d}" for i in range(60)]
    changes = {name: loadings @ loadings[i] for i, name in enumerate(names)}
    training = make_training({name: changes[name] for name in names[:45]}, n_genes=60)
    asked = names[45:]
    truth = np.array([changes[name] for name in asked])
    linear = fit(baselines.Linear, training).predict(asked).layers["delta"]
    mean = fit(baselines.MeanShift, training).predict(asked).layers["delta"]
    assert np.linalg.norm(linear - truth) < 0.3 * np.linalg.norm(mean - truth)


def test_the_setting_with_the_least_held_out_error_is_chosen(make_training, fit):
    """Against a plain loop over folds and settings that computes every error in full."""
    from scperturb_modules.baselines._folds import gene_folds, split_rows
    from scperturb_modules.baselines._linear import N_COMPONENTS, PENALTIES

    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(40, 3))
    names = [f"G{i:02d}" for i in range(30)]
    training = make_training({name: loadings @ loadings[i] + 0.3 * rng.normal(size=40) for i, name in enumerate(names)})
    delta, column = training.layers["delta"], {gene: i for i, gene in enumerate(training.var_names)}
    genes = [(name,) for name in names]
    errors = {}
    for n_components in N_COMPONENTS:
        for penalty in PENALTIES:
            errors[n_components, penalty] = 0.0
            for fold in range(5):
                train, held_out = split_rows(genes, gene_folds(names, seed=0), fold)
                scores = gene_scores(training.X[train], n_components)
                offset = delta[train].mean(axis=0)
                known = perturbed_scores([genes[i] for i in train], scores, column)
                weights = solve_weights(delta[train] - offset, scores, known, penalty)
                asked = perturbed_scores([genes[i] for i in held_out], scores, column)
                errors[n_components, penalty] += np.sum((delta[held_out] - offset - asked @ weights.T @ scores.T) ** 2)
    settings = fit(baselines.Linear, training).settings
    assert (settings["n_components"]["all"], settings["penalty"]["all"]) == min(errors, key=errors.get)
