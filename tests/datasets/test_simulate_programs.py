"""Planted gene programs: modules vary between cells, differ in size, and perturbations change which go together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import datasets
from scperturb_modules._errors import DataError
from scperturb_modules._keys import ROOT, SIMULATION
from scperturb_modules.datasets._simulate_cells import ExpectedExpression, draw_rate_model
from scperturb_modules.datasets._simulate_graph import draw_graph
from scperturb_modules.datasets._simulate_programs import draw_programs, nearest_correlation

FEW_CELLS = {"n_cells": 2, "n_controls": 4}
NO_EFFECT = {"effect_scale": 0.0, "sys": 0.0, "own_effect": 0.0}
# nothing but modules and a little noise of counting makes cells differ
QUIET = {"programme_sd": 0.0, "batch_sd": 0.0, "guide_efficacy": 1.0, "library_log_mean": 10.5, **NO_EFFECT}


def truth_of(adata):
    return adata.uns[ROOT][SIMULATION]


def labels_of(adata):
    return adata.obs["perturbation"].to_numpy()


def activity_of(adata):
    """(N, K) mean over the genes of each module."""
    module = adata.var["module"].to_numpy()
    expression = adata.X.toarray().astype(np.float64)
    return np.column_stack([expression[:, module == number].mean(axis=1) for number in np.unique(module)])


def expected_correlation(planted, adata):
    """Of the log shares of modules to first order: all lose what the total of the cell gains."""
    module, loading = adata.var["module"].to_numpy(), adata.var["module_loading"].to_numpy()
    share = np.asarray(adata.layers["counts"].sum(axis=0)).ravel() / adata.layers["counts"].sum()
    slope = np.diag(np.bincount(module, loading) / np.bincount(module)) - np.bincount(module, loading * share)
    covariance = slope @ planted @ slope.T
    scale = np.sqrt(np.diagonal(covariance))
    return covariance / scale / scale[:, None]


@pytest.fixture(scope="module")
def programs():
    return datasets.simulate("programs", seed=0, **FEW_CELLS)


# --- what was there before


@pytest.mark.parametrize(
    ("preset", "seed", "counts", "effect"),
    [("tiny", 0, 152807, 3.0533711042195217), ("two_cell_types", 5, 2057538, 6.864849553597988)],
)
def test_screens_without_programs_are_the_same_as_before(preset, seed, counts, effect):
    adata = datasets.simulate(preset, seed=seed, **FEW_CELLS)
    # a last digit of exp() may differ between machines, and with it a single count
    assert adata.layers["counts"].sum() == pytest.approx(counts, rel=1e-5)
    assert truth_of(adata)["effect_size"] == pytest.approx(effect, rel=1e-6)


def test_activity_leaves_graph_and_effects(programs):
    without = datasets.simulate("programs", seed=0, module_sd=0.0, rewiring=0.0, **FEW_CELLS)
    pd.testing.assert_frame_equal(programs.var.drop(columns="module_loading"), without.var)
    pd.testing.assert_frame_equal(*(datasets.simulated_truth(adata, "log_rate") for adata in (programs, without)))
    assert not {"program_correlation", "program_correlation_control"} & set(truth_of(without))


# --- activity


def test_genes_follow_their_module_by_their_loading():
    adata = datasets.simulate("tiny", module_sd=0.5, n_controls=3000, n_cells=1, **QUIET)
    loading, module = adata.var["module_loading"].to_numpy(), adata.var["module"].to_numpy()
    assert loading.min() >= 0.3 and loading.max() <= 0.7 and loading.mean() == pytest.approx(0.5, abs=0.04)
    control = adata[labels_of(adata) == "control"]
    high = np.asarray(control.layers["counts"].mean(axis=0)).ravel() > 100
    log_count = np.log(control.layers["counts"].toarray()[:, high] + 1.0)
    log_count -= log_count.mean(axis=0)
    # activity up to a common factor, and slopes of the genes on it
    of_module = {number: log_count[:, module[high] == number].mean(axis=1) for number in np.unique(module)}
    slope = [log_count[:, i] @ of_module[m] / (of_module[m] @ of_module[m]) for i, m in enumerate(module[high])]
    assert np.corrcoef(slope, loading[high])[0, 1] > 0.9


@pytest.mark.parametrize("rewiring", [0.0, 1.0])
def test_measured_correlation_follows_the_planted_one(rewiring):
    adata = datasets.simulate(
        n_pairs=2, n_perturbable=4, n_cells=1500, n_controls=1500, n_genes=400, n_modules=5,
        module_sd=0.4, rewiring=rewiring, **QUIET,
    )  # fmt: skip
    truth, labels, activity = truth_of(adata), labels_of(adata), activity_of(adata)
    planted = {"control": truth["program_correlation_control"]}
    planted |= dict(zip(truth["rows"], truth["program_correlation"], strict=True))
    for name, correlation in planted.items():
        measured = np.corrcoef(activity[labels == name].T)
        # sampling 0.02, unequal expression of the modules, noise of counting
        assert np.abs(measured - expected_correlation(correlation, adata)).max() < 0.12, name


def test_cells_whose_guide_failed_go_together_as_controls():
    settings = {**QUIET, "guide_efficacy": 0.5}
    adata = datasets.simulate(n_pairs=0, n_perturbable=3, n_cells=3000, n_controls=3000, n_genes=300, n_modules=4,
                              module_sd=0.5, rewiring=1.0, **settings)  # fmt: skip
    labels, activity, works = labels_of(adata), activity_of(adata), adata.obs["guide_efficacy"].to_numpy() > 0
    control = np.corrcoef(activity[labels == "control"].T)
    for name in truth_of(adata)["rows"]:
        failed, worked = (np.corrcoef(activity[(labels == name) & (works == which)].T) for which in (False, True))
        assert np.abs(failed - control).max() < 0.12 < 0.2 < np.abs(worked - control).max()


def test_rewiring_can_be_seen_in_the_preset():
    adata = datasets.simulate("programs", seed=0, n_pairs=20)
    truth, labels, activity = truth_of(adata), labels_of(adata), activity_of(adata)
    at = np.triu_indices(8, k=1)
    control = np.corrcoef(activity[labels == "control"].T)[at]
    measured = np.array([np.corrcoef(activity[labels == name].T)[at] - control for name in truth["rows"]])
    planted = np.array([row[at] - truth["program_correlation_control"][at] for row in truth["program_correlation"]])
    assert np.corrcoef(measured.ravel(), planted.ravel())[0, 1] > 0.7
    assert 2 * truth["noise_floor"] < truth["effect_size"]


# --- rewiring


def test_controls_have_a_few_coupled_pairs(programs):
    control = truth_of(programs)["program_correlation_control"]
    off_diagonal = control[np.triu_indices(8, k=1)]
    assert sorted(off_diagonal)[-4:] == [0.0, 0.5, 0.5, 0.5] and (off_diagonal >= 0).all()
    assert ((control == 0.5).sum(axis=0) <= 1).all(), "pairs are disjoint"


def test_without_rewiring_modules_are_independent():
    truth = truth_of(datasets.simulate("tiny", module_sd=0.5, **FEW_CELLS))
    np.testing.assert_array_equal(truth["program_correlation_control"], np.eye(4))
    np.testing.assert_array_equal(truth["program_correlation"], np.tile(np.eye(4), (12, 1, 1)))


def test_genes_of_a_module_change_the_same_pairs_more_or_less():
    adata = datasets.simulate("programs", rewiring=0.4, **FEW_CELLS)  # so small that every sum is a valid matrix
    truth = truth_of(adata)
    change = dict(zip(truth["rows"], truth["program_correlation"] - truth["program_correlation_control"], strict=True))
    singles = [name for name in truth["rows"] if "+" not in name]
    of_module = {}
    for name in singles:
        size = np.abs(change[name]).max()
        assert 0.5 * 0.4 * 0.6 <= size <= 0.5 * 0.4 * 1.4
        direction = change[name] / size
        np.testing.assert_allclose(of_module.setdefault(adata.var.loc[name, "module"], direction), direction, atol=1e-9)
    sizes = [np.abs(change[name]).max() for name in singles]
    assert len(of_module) == 8 and np.unique(np.round(sizes, 9)).size == len(singles)
    for rule in of_module.values():
        values = rule[np.triu_indices(8, k=1)]
        was_coupled = truth["program_correlation_control"][np.triu_indices(8, k=1)] > 0
        assert sorted(np.abs(np.round(values, 9)))[-4:] == [0, 1, 1, 1]
        np.testing.assert_allclose(values[was_coupled & (values != 0)], -1)
        assert (was_coupled & (np.abs(values) > 1e-9)).sum() == 1
    for name, pair in truth["pairs"].iterrows():
        np.testing.assert_allclose(change[name], change[pair["first"]] + change[pair["second"]], atol=1e-12)


def test_every_correlation_is_valid(programs):
    truth = truth_of(programs)
    every = truth["program_correlation"]
    assert every.shape == (100, 8, 8) and every.dtype == np.float64
    np.testing.assert_array_equal(every, every.transpose(0, 2, 1))
    np.testing.assert_allclose(np.diagonal(every, axis1=1, axis2=2), 1, atol=1e-12)
    assert np.linalg.eigvalsh(every).min() > -1e-12


def test_nearest_correlation_keeps_what_is_valid():
    valid = np.array([[1.0, 0.5], [0.5, 1.0]])
    assert nearest_correlation(valid) is valid
    np.testing.assert_allclose(nearest_correlation(np.array([[1.0, 1.5], [1.5, 1.0]])), np.ones((2, 2)))


# --- truth


@pytest.mark.parametrize("settings", [{}, {"n_cell_types": 2, "module_sizes": "unequal"}])
def test_delta_true_is_the_mean_of_many_cells(settings):
    adata = datasets.simulate(
        "tiny",
        seed=3,
        n_cells=4000,
        n_controls=6000,
        n_perturbable=3,
        n_pairs=1,
        module_sd=0.5,
        rewiring=1.0,
        **settings,
    )
    labels = labels_of(adata)
    context = adata.obs["cell_type"].to_numpy() if "cell_type" in adata.obs else np.full(adata.n_obs, "")
    z_scores = []
    for name, expected in datasets.simulated_truth(adata).iterrows():
        condition, _, cell_type = name.partition("|")
        perturbed, control = (
            adata.X[(labels == label) & (context == cell_type)].toarray().astype(np.float64)
            for label in (condition, "control")
        )
        error2 = perturbed.var(axis=0) / len(perturbed) + control.var(axis=0) / len(control)
        z_scores.append((perturbed.mean(axis=0) - control.mean(axis=0) - expected) / np.sqrt(error2))
    z_scores = np.array(z_scores)
    # all genes share the activities, so that their errors are less independent than without
    assert np.sqrt(np.square(z_scores).mean()) == pytest.approx(1, abs=0.25)
    assert np.abs(z_scores).max() < 5


def test_expectation_over_activities_is_that_of_many_draws():
    """Without noise of counting: what is tabulated over shares, averaged over 40,000 draws of the activities."""
    settings = datasets.SimulationSettings(
        n_genes=80, n_perturbable=6, n_pairs=0, n_modules=4, n_batches=1, programme_sd=0.0, module_sd=0.5, rewiring=1.0
    )
    rng = np.random.default_rng(0)
    graph = draw_graph(settings, rng)
    programs = draw_programs(settings, graph, rng)
    rates = draw_rate_model(settings, graph.targets, programs, rng)
    expected = ExpectedExpression(settings, rates)
    normal = rng.normal(size=(40_000, 4))
    nothing, effect, correlation = np.zeros(80), rng.normal(size=80), programs.correlation([0])
    for add, matrix in ((nothing, programs.control), (effect, correlation)):
        shift = programs.shift(matrix, np.ones(40_000, dtype=bool), normal) + add
        shares = rates.shares(0, np.zeros(40_000, dtype=int), np.zeros((40_000, 2)), shift)
        drawn = expected._of_share(np.log(shares)).mean(axis=0)
        np.testing.assert_allclose(expected._mean(0, 1.0, add, matrix), drawn, atol=0.012)


def test_no_effect_of_modules_alone():
    adata = datasets.simulate("null", module_sd=0.5, **FEW_CELLS)
    assert (truth_of(adata)["delta_true"] == 0).all()


# --- sizes


@pytest.mark.parametrize("seed", range(4))
def test_modules_of_unequal_size(seed):
    adata = datasets.simulate(seed=seed, module_sizes="unequal", **FEW_CELLS)
    size = adata.var["module"].value_counts()
    assert len(size) == 8 and size.sum() == 600
    assert size.min() >= 18 and size.max() > 1.4 * 75
    targets = adata.var.loc[truth_of(adata)["mediators"].index, "module"]
    assert (targets.value_counts() == 5).all()
    for number in range(1, 4):
        mediators = truth_of(adata)["mediators"][f"mediator{number}"]
        assert (adata.var.loc[mediators, "module"].to_numpy() == targets.to_numpy()).all()


def test_small_modules_keep_their_mediators():
    for seed in range(5):
        adata = datasets.simulate("tiny", seed=seed, module_sizes="unequal", n_genes=40, n_perturbable=20, **FEW_CELLS)
        others = adata.var.loc[~adata.var["perturbable"], "module"].value_counts()
        assert len(others) == 4 and others.min() >= 3 and len(adata.var) == 40


def test_small_modules_do_not_fall_apart():
    adata = datasets.simulate(module_sizes="unequal", seed=1, **FEW_CELLS)
    graph, module = truth_of(adata)["graph"], adata.var["module"]
    within = graph[module[graph["source"]].to_numpy() == module[graph["target"]].to_numpy()]
    n_edges = module[within["source"]].value_counts()
    degree = 2 * n_edges / module.value_counts()
    assert degree.min() > 5


# --- errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"module_sd": -0.1}, "module_sd=-0.1, but a standard deviation is not negative"),
        ({"module_sizes": "random"}, "module_sizes='random'; choose one of 'equal', 'unequal'"),
        ({"module_sd": 0.5, "rewiring": 1.5}, "rewiring=1.5, but it lies between 0 and 1"),
        ({"rewiring": 0.5}, r"rewiring=0.5, but modules have no activity.*set module_sd > 0"),
        ({"module_sizes": "unequal", "n_genes": 210, "n_modules": 35}, r"at least 7 of 210 genes.*n_modules <= 30"),
        ({"module_sd": "0.5"}, "module_sd='0.5', but it is a finite number"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(DataError, match=message):
        datasets.simulate("tiny", **settings)
