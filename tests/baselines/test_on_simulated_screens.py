"""Baselines where the truth is planted: who has to win, and where nobody can."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import baselines, datasets, pp


def split_into(adata, scheme, fold=0):
    """Training pseudobulk and names of the test rows under a scheme."""
    pp.split(adata, scheme, seed=0, fold=fold, batch_key="batch", overwrite=True)
    truth = pp.pseudobulk(adata, batch_key="batch")
    test = truth[truth.obs["split"] == "test"]
    return pp.pseudobulk(adata, batch_key="batch", cells="training"), test


def distances(model, names, planted):
    """(P,) L2 distance of predicted to planted changes."""
    return np.linalg.norm(model.predict(names).layers["delta"] - planted.loc[list(names)].to_numpy(), axis=1)


def lower_bound(gain, rng):
    """Lower end of the bootstrap 95 % interval of a mean over conditions."""
    return np.percentile(gain[rng.integers(0, len(gain), (2000, len(gain)))].mean(axis=1), 2.5)


def correlation(truth, predicted):
    return np.mean([np.corrcoef(t, h)[0, 1] for t, h in zip(truth, predicted, strict=True)])


@pytest.fixture(scope="module")
def default_screen():
    adata = datasets.simulate(seed=0)
    return adata, datasets.simulated_truth(adata)


def test_additive_beats_mean_and_no_change_on_pairs_of_measured_singles(default_screen, fit):
    adata, planted = default_screen
    training, test = split_into(adata, "combination")
    rng = np.random.default_rng(0)
    additive = distances(fit(baselines.Additive, training), test.obs_names, planted)
    assert set(fit(baselines.Additive, training).predict(test.obs_names).obs["seen"]) == {"pair_2of2"}
    for weaker in (baselines.MeanShift, baselines.NoChange):
        gain = distances(fit(weaker, training), test.obs_names, planted) - additive
        assert lower_bound(gain, rng) > 0


def test_shrinkage_alone_beats_the_plain_sum(default_screen, fit):
    adata, planted = default_screen
    training, test = split_into(adata, "combination")
    plain, shrunk = (
        distances(fit(one, training), test.obs_names, planted).mean()
        for one in (baselines.Additive, baselines.AdditiveShrunk)
    )
    assert shrunk < 0.95 * plain


def test_the_fitted_factor_is_below_one_on_purely_additive_effects(fit):
    """The sum carries the noise of two conditions: shrinkage helps with no interaction to learn."""
    adata = datasets.simulate("additive_only", seed=1, n_cells=50, n_genes=300)
    training, _ = split_into(adata, "combination")
    assert 0.5 < fit(baselines.AdditiveFitted, training).settings["factor"]["all"] < 1


@pytest.mark.parametrize("baseline", [baselines.NearestPrior, baselines.EmbeddingLinear, baselines.KernelRidge])
def test_the_true_graph_helps_on_unseen_singles_and_the_decoy_does_not(baseline, unseen_singles, fit):
    gains = {"true": [], "decoy": []}
    for training, names, planted, priors in unseen_singles:
        plain = baselines.MeanFitted if baseline is baselines.NearestPrior else baselines.MeanShift
        mean = distances(fit(plain, training), names, planted)
        for kind, prior in priors.items():
            gains[kind].append(mean - distances(fit(baseline, training, priors=prior), names, planted))
    rng = np.random.default_rng(0)
    assert lower_bound(np.concatenate(gains["true"]), rng) > 0
    decoy = np.concatenate(gains["decoy"])
    assert lower_bound(decoy, rng) <= 0
    # a prior that says nothing costs next to nothing
    assert decoy.mean() > -0.02 * mean.mean()


@pytest.mark.parametrize("baseline", [baselines.EmbeddingLinear, baselines.KernelRidge])
def test_a_prior_regression_is_not_wild_on_pairs_of_genes_far_from_the_training_genes(baseline, default_screen, fit):
    """About twenty covered genes and sixteen features: a weak penalty that wins by chance ruins two of these pairs."""
    adata, planted = default_screen
    prior = datasets.simulated_prior(adata, "partial")
    training, test = split_into(adata, "unseen_single", fold=2)
    asked = fit(baselines.NoChange, training).predict(test.obs_names).obs["seen"]
    names = asked.index[asked == "pair_0of2"]
    assert len(names) == 4
    mean = distances(fit(baselines.MeanShift, training), names, planted)
    predicted = distances(fit(baseline, training, priors=prior), names, planted)
    assert predicted.mean() < 1.1 * mean.mean()


@pytest.fixture(scope="module")
def unseen_singles(default_screen):
    adata, planted = default_screen
    priors = {kind: datasets.simulated_prior(adata, kind) for kind in ("true", "decoy")}
    folds = []
    for fold in range(5):
        training, test = split_into(adata, "unseen_single", fold)
        names = [name for name in test.obs_names if "+" not in name]
        folds.append((training, names, planted, priors))
    return folds


def test_where_all_effects_are_systematic_the_mean_looks_good_and_nothing_is_specific(fit):
    # every guide works: else more cells of a pair respond than of a single, and that much is specific
    adata = datasets.simulate("sys_only", seed=0, n_cells=60, n_genes=300, guide_efficacy=1.0)
    training, test = split_into(adata, "combination")
    mean = fit(baselines.MeanShift, training).predict(test.obs_names)
    assert correlation(test.layers["delta"], mean.layers["delta"]) > 0.5
    # centred on the mean of training conditions (Systema) nobody knows anything
    reference = (training.X - training.layers["control_train"]).mean(axis=0)
    truth = test.X - test.layers["control_train"] - reference
    prior = datasets.simulated_prior(adata)
    for baseline in (baselines.Linear, baselines.EmbeddingLinear, baselines.NearestPrior, baselines.AdditiveShrunk):
        predicted = fit(baseline, training, priors=prior).predict(test.obs_names).layers["delta"]
        assert abs(correlation(truth, predicted - reference)) < 0.05, baseline.name


def test_without_any_effect_the_mean_has_no_skill_against_held_out_controls(fit):
    adata = datasets.simulate("null", seed=0, n_cells=60, n_genes=300)
    training, test = split_into(adata, "combination")
    mean = fit(baselines.MeanShift, training).predict(test.obs_names)
    assert abs(correlation(test.layers["delta"], mean.layers["delta"])) < 0.05


def test_two_cell_types_and_transfer(fit):
    adata = datasets.simulate("two_cell_types", seed=0, n_genes=300)
    planted = datasets.simulated_truth(adata)
    keys = {"batch_key": "batch", "cell_type_key": "cell_type"}
    pp.split(adata, "unseen_context", seed=0, **keys)
    baselines.Transfer.setup_anndata(adata, **keys)
    names = fit(baselines.NoChange, adata).predict().obs_names
    transfer, mean, nothing = (
        distances(fit(one, adata), names, planted).mean()
        for one in (baselines.Transfer, baselines.MeanShift, baselines.NoChange)
    )
    assert transfer < 0.8 * mean
    assert mean < nothing
    assert baselines.Transfer.why_not(fit(baselines.NoChange, adata).training, None, list(names)) is None
