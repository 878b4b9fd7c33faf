"""NearestPrior, EmbeddingLinear and KernelRidge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import baselines, priors
from scperturb_modules._errors import DataError
from scperturb_modules.baselines import fuse_tables
from scperturb_modules.priors import as_tables

NEEDING = (baselines.EmbeddingLinear, baselines.KernelRidge, baselines.NearestPrior)


def grouped(rng, n_genes=36, n_groups=4, noise=0.3):
    """Genes of a group share their response and their place in prior space."""
    centres, places = rng.normal(size=(n_groups, 40)), 3 * rng.normal(size=(n_groups, 5))
    names = [f"G{i:02d}" for i in range(n_genes)]
    changes = {name: centres[i % n_groups] + noise * rng.normal(size=40) for i, name in enumerate(names)}
    table = pd.DataFrame([places[i % n_groups] + 0.1 * rng.normal(size=5) for i in range(n_genes)], index=names)
    return changes, table


@pytest.fixture
def groups():
    return grouped(np.random.default_rng(0))


def split(changes, n_test=8):
    names = sorted(changes)
    return {name: changes[name] for name in names[n_test:]}, names[:n_test]


@pytest.mark.parametrize("baseline", NEEDING)
def test_a_good_prior_beats_the_mean_and_a_permuted_one_does_not(baseline, groups, make_training, fit):
    changes, table = groups
    known, asked = split(changes)
    training = make_training(known)
    truth = np.array([changes[name] for name in asked])
    rng = np.random.default_rng(1)
    decoys = [table.set_axis(rng.permutation(table.index)) for _ in range(8)]

    def error(model):
        return np.mean(np.linalg.norm(model.predict(asked).layers["delta"] - truth, axis=1))

    mean = error(fit(baselines.MeanShift, training))
    assert error(fit(baseline, training, priors=table)) < 0.5 * mean
    assert np.mean([error(fit(baseline, training, priors=decoy)) for decoy in decoys]) > 0.97 * mean


def test_neighbours_that_are_all_alike_are_the_mean_and_no_neighbour_is_the_fitted_mean(groups, make_training, fit):
    """A prior that tells two kinds of genes apart, but all training genes are of one kind."""
    changes, _ = groups
    known, asked = split(changes)
    kinds = pd.DataFrame({"kind": [1.0] * 36 + [-1.0] * 4}, index=[f"G{i:02d}" for i in range(40)])
    model = fit(baselines.NearestPrior, make_training(known), priors=kinds)
    mean, fitted = (
        fit(one, make_training(known)).predict(asked[:1]).layers["delta"][0]
        for one in (baselines.MeanShift, baselines.MeanFitted)
    )
    near = model.predict(asked).layers["delta"]
    factor = near[0] @ mean / (mean @ mean)
    np.testing.assert_allclose(near, np.tile(factor * mean, (8, 1)), rtol=1e-10, atol=1e-12)
    far = model.predict(["G38"])
    assert far.obs["anchor"].tolist() == ["mean"], "no training gene is like it"
    np.testing.assert_allclose(far.layers["delta"][0], fitted, rtol=1e-12)


def test_nearest_prior_sums_measured_and_predicted_singles(groups, make_training, fit):
    changes, table = groups
    known, asked = split(changes)
    model = fit(baselines.NearestPrior, make_training(known), priors=table)
    seen, unseen = sorted(known)[0], asked[0]
    single = model.predict([unseen]).layers["delta"][0]
    pred = model.predict([f"{seen}+{unseen}"])
    np.testing.assert_allclose(pred.layers["delta"][0], known[seen] + single, rtol=1e-12)
    assert pred.obs["anchor"].tolist() == ["measured+neighbours"]


@pytest.mark.parametrize("baseline", NEEDING)
def test_a_gene_without_embedding_gets_the_mean(baseline, groups, make_training, fit):
    changes, table = groups
    known, asked = split(changes)
    model = fit(baseline, make_training(known), priors=table.drop(asked[0]))
    pred = model.predict([asked[0]])
    np.testing.assert_allclose(pred.layers["delta"][0], np.mean(list(known.values()), axis=0), rtol=1e-12)
    assert pred.obs["status"].tolist() == ["no_embedding"]


@pytest.mark.parametrize("baseline", NEEDING)
def test_too_small_a_prior_falls_back_to_the_mean(baseline, groups, make_training, fit):
    changes, table = groups
    known, asked = split(changes)
    few = table.loc[[*asked, *sorted(known)[:9]]]
    training = make_training(known)
    assert baseline.why_not(training, few) == "the priors cover 9 of 28 perturbed training genes; 10 are needed"
    delta = fit(baseline, training, priors=few).predict(asked).layers["delta"]
    np.testing.assert_allclose(delta, np.tile(np.mean(list(known.values()), axis=0), (8, 1)), rtol=1e-12)


@pytest.mark.parametrize("baseline", NEEDING)
def test_why_not_without_a_prior(baseline, make_training, fit):
    training = make_training({"G00": 1.0})
    assert baseline.why_not(training, None) == "no prior given"
    with pytest.raises(ValueError, match="needs a prior .* pass priors="):
        fit(baseline, training)


def test_embedding_linear_recovers_a_linear_law(make_training, fit):
    rng = np.random.default_rng(0)
    names = [f"G{i:02d}" for i in range(40)]
    table = pd.DataFrame(rng.normal(size=(40, 4)), index=names)
    law = rng.normal(size=(4, 40))
    changes = {name: table.loc[name].to_numpy() @ law for name in names}
    training = make_training({name: changes[name] for name in names[:30]})
    delta = fit(baselines.EmbeddingLinear, training, priors=table).predict(names[30:]).layers["delta"]
    truth = np.array([changes[name] for name in names[30:]])
    assert np.linalg.norm(delta - truth) < 0.02 * np.linalg.norm(truth)


def test_kernel_coefficients_solve_the_ridge_system():
    from scperturb_modules.baselines._kernel import ridge

    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 9))
    similarity, scores = root @ root.T, rng.normal(size=(9, 3))
    penalties = np.array([0.1, 10.0, np.inf])
    coefficients = ridge(similarity, scores, penalties)
    for i, penalty in enumerate(penalties[:2]):
        expected = np.linalg.solve(similarity + penalty * np.eye(9), scores[:, i])
        np.testing.assert_allclose(coefficients[:, i], expected, atol=1e-10)
    np.testing.assert_array_equal(coefficients[:, 2], 0.0)


def test_kernel_response_to_a_pair_is_the_sum_over_its_genes(groups, make_training, fit):
    changes, table = groups
    known, asked = split(changes)
    for baseline in (baselines.EmbeddingLinear, baselines.KernelRidge):
        model = fit(baseline, make_training(known), priors=table)
        first, second, pair = model.predict([asked[0], asked[1], f"{asked[0]}+{asked[1]}"]).layers["delta"]
        mean = np.mean(list(known.values()), axis=0)
        np.testing.assert_allclose(pair - mean, (first - mean) + (second - mean), atol=1e-10)


def test_tables_are_named_and_fused():
    first = pd.DataFrame({"x": [1.0, 3.0, np.nan], "flat": 1.0}, index=["B", "A", "C"])
    second = pd.DataFrame({"y": [0.0, 4.0]}, index=["A", "D"])
    second.attrs["name"] = "go/bp"
    tables = as_tables([first, second])
    assert list(tables) == ["prior_0", "go/bp"]
    fused = fuse_tables(tables)
    assert fused.genes == ("A", "B", "D"), "a row with NaN is absent"
    # columns standardised, a constant one dropped, an absent gene is average
    np.testing.assert_allclose(fused.values, [[1, -1], [-1, 0], [0, 1]])
    assert fuse_tables({}) is None
    assert fuse_tables({"p": first.iloc[2:]}) is None


def test_a_wide_table_weighs_as_much_as_a_narrow_one():
    rng = np.random.default_rng(0)
    wide, narrow = (pd.DataFrame(rng.normal(size=(30, n)), index=[f"G{i}" for i in range(30)]) for n in (100, 2))
    values = fuse_tables({"w": wide, "n": narrow}).values
    assert np.sum(values[:, :100] ** 2) == pytest.approx(np.sum(values[:, 100:] ** 2))


def test_objects_with_to_frame_are_tables():
    class Table:
        def to_frame(self):
            return pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"])

    assert list(as_tables(Table())) == ["prior_0"]
    assert list(as_tables({"esm": Table()})) == ["esm"]


def test_bad_tables_say_what_is_wrong():
    with pytest.raises(TypeError, match="prior 'prior_0' is a ndarray; pass a DataFrame"):
        as_tables([np.zeros((2, 2))])
    with pytest.raises(DataError, match="1 genes in more than one row: 'A'"):
        as_tables(pd.DataFrame({"x": [1, 2]}, index=["A", "A"]))
    with pytest.raises(DataError, match="not numbers: 'name'"):
        as_tables(pd.DataFrame({"name": ["p", "q"]}, index=["A", "B"]))


def test_genes_named_by_numbers_and_repeated_columns():
    table = pd.DataFrame([[0.0, 4.0], [1.0, 0.0], [5.0, 2.0]], index=["B", 5, "A"], columns=["x", "x"])
    fused = fuse_tables(as_tables(table))
    assert fused.genes == ("5", "A", "B")
    renamed = table.set_axis(["x", "y"], axis=1).rename(index=str)
    np.testing.assert_array_equal(fused.values, fuse_tables(as_tables(renamed)).values)
    with pytest.raises(DataError, match="1 genes in more than one row: '5'"):
        as_tables(table.set_axis([5, "5", "A"]))


def test_infinite_values_of_a_prior_are_named():
    table = pd.DataFrame({"x": [0.0, np.inf, 1.0], "y": [1.0, 2.0, np.nan]}, index=["A", "B", "C"])
    with pytest.raises(DataError, match="infinite values for 1 genes: 'B'"):
        as_tables(table)


def test_genes_in_a_column_are_to_be_moved_into_the_index():
    with pytest.raises(DataError, match=r"not numbers: 'index'.*table\.set_index"):
        as_tables(pd.DataFrame({"x": [0.0, 1.0]}, index=["A", "B"]).reset_index())


@pytest.mark.parametrize("linear", [True, False])
def test_training_genes_that_are_all_alike_have_no_similarity(linear):
    """Rounding must not be scaled up to a kernel."""
    from scperturb_modules.baselines._kernel import GeneKernel

    for place in np.random.default_rng(0).normal(size=(20, 5)):
        values = np.tile(place, (23, 1))
        kernel = GeneKernel(values, linear)
        np.testing.assert_allclose(kernel(np.vstack([values, -values])), 0.0, atol=1e-12)


def test_how_close_a_neighbour_has_to_be_is_learned_from_the_noise(make_training, fit):
    """Noisy groups of nine want the mean of many; twins, each unlike all others, want the twin alone."""
    rng = np.random.default_rng(0)
    changes, table = grouped(rng, noise=2.0)
    names = [f"G{i:02d}" for i in range(40)]
    responses, places = np.repeat(rng.normal(size=(20, 40)), 2, axis=0), np.repeat(rng.normal(size=(20, 8)), 2, axis=0)
    twins = dict(zip(names, responses, strict=True)), pd.DataFrame(places, index=names)
    learned = []
    for measured, prior in ((changes, table), twins):
        model = fit(baselines.NearestPrior, make_training(measured), priors={"p": prior})
        learned.append(model.settings["neighbours"]["all"]["sources"]["p"])
    noisy, clear = learned
    assert noisy["power"] < clear["power"] == 4
    assert noisy["pseudo_count"] > clear["pseudo_count"]
    assert clear["error"] < 0.2 < noisy["error"] < 1


@pytest.mark.parametrize("baseline", [baselines.EmbeddingLinear, baselines.KernelRidge])
def test_a_prior_that_says_nothing_is_mostly_left_alone(baseline, groups, make_training, fit):
    """The best of many settings gains by chance on permuted genes; one standard error stops most of that."""
    changes, table = groups
    training, rng = make_training(changes), np.random.default_rng(2)
    decoys = [table.set_axis(rng.permutation(table.index)) for _ in range(12)]
    models = [fit(baseline, training, priors=decoy) for decoy in decoys]
    unused = [model for model in models if model.settings["n_components"]["all"] == 0]
    assert len(unused) >= 8
    mean = fit(baselines.MeanShift, training).predict(["G00"])
    np.testing.assert_array_equal(unused[0].predict(["G00"]).layers["delta"], mean.layers["delta"])
    assert unused[0].predict(["G00"]).obs["anchor"].tolist() == ["mean"]


def test_a_gain_is_clear_above_one_standard_error():
    from scperturb_modules.baselines._kernel import is_clear

    noise = np.array([-1.0, 1.0, -1.0, 1.0])  # standard error 0.577
    assert not is_clear(noise + 0.5)
    assert is_clear(noise + 0.6)
    assert not is_clear(np.array([3.0]))
    assert not is_clear(np.array([]))


def test_among_penalties_as_good_as_the_best_the_strongest_is_taken():
    from scperturb_modules.baselines._kernel import PENALTIES, strongest_penalty

    noise = np.array([-1.0, 1.0, -1.0, 1.0])  # standard error 0.577
    gains = np.array([np.full(4, value) for value in (1.0, 3.0, 2.9, 0.5, 0.0)])
    assert strongest_penalty(gains) == PENALTIES[1]
    gains[2:4] = 3.0 - 0.5 + noise, 3.0 - 0.6 + noise
    assert strongest_penalty(gains) == PENALTIES[2]
    assert strongest_penalty(gains - 3.0) == np.inf


def edges_of(table, n_neighbours=4):
    """Each gene joined to its nearest genes in the table, as an edge table."""
    values = table.to_numpy()
    distance = np.square(values[:, None] - values).sum(axis=-1) + np.diag(np.full(len(values), np.inf))
    near = np.argsort(distance, axis=1)[:, :n_neighbours]
    source = table.index.repeat(n_neighbours)
    return pd.DataFrame({"source": source, "target": table.index[near.ravel()], "weight": 1.0})


@pytest.mark.parametrize("baseline", NEEDING)
def test_a_network_counts_as_its_spectral_embedding(baseline, groups, make_training, fit):
    """For all but NearestPrior, which sees neighbourhoods as well."""
    changes, table = groups
    known, asked = split(changes)
    edges = edges_of(table)

    def answer(prior):
        return fit(baseline, make_training(known), priors=prior).predict(asked).layers["delta"]

    expected = answer(edges)
    for same in (priors.GeneGraph.from_table(edges), [edges], {"net": edges}):
        np.testing.assert_array_equal(answer(same), expected)
    as_features = np.array_equal(answer(priors.spectral_embedding(edges)), expected)
    assert as_features == (baseline is not baselines.NearestPrior)
    shuffled = edges.assign(target=np.random.default_rng(0).permutation(edges["target"]))
    assert not np.allclose(answer(shuffled), expected)


def test_tables_and_networks_in_one_list(groups):
    _, table = groups
    edges = edges_of(table)
    edges.attrs = {"name": "STRING", "derived_from": "same_line_other_screen"}
    network = priors.GeneGraph.from_table(edges, name="HuMAP")
    named = as_tables([table, edges, network, edges])
    assert list(named) == ["prior_0", "STRING", "HuMAP", "STRING_3"]
    pd.testing.assert_frame_equal(named["prior_0"], table)
    pd.testing.assert_frame_equal(named["STRING"], priors.spectral_embedding(edges))
    assert [named[name].attrs["name"] for name in ("STRING", "HuMAP", "STRING_3")] == ["STRING", "HuMAP", "STRING_3"]
    assert {named[name].attrs["derived_from"] for name in ("STRING", "HuMAP")} == {"same_line_other_screen"}
    assert list(as_tables({"x": table, "y": edges})) == ["x", "y"]
    assert list(priors.as_graphs([table, edges, network, edges])) == ["STRING", "HuMAP", "STRING_3"]


def test_a_small_network_gives_few_features_or_none(make_training, caplog):
    path = pd.DataFrame({"source": list("ABCDE"), "target": list("BCDEF")})
    assert as_tables(path)["prior_0"].shape == (6, 4)
    with caplog.at_level("INFO"):
        assert as_tables(path.head(2))["prior_0"].empty
    assert "3 of 3 connected genes get no spectral features" in caplog.text
    for baseline, n_covered in ((baselines.KernelRidge, 0), (baselines.NearestPrior, 1)):  # it sees neighbours, too
        reason = baseline.why_not(make_training({"A": 1.0}), path.head(2))
        assert reason == f"the priors cover {n_covered} of 1 perturbed training genes; 10 are needed"


def test_nearest_prior_works_on_a_network_of_pairs(make_training, fit):
    """Parts of two genes have no spectral features, but neighbours."""
    rng = np.random.default_rng(0)
    names = [f"G{i:02d}" for i in range(24)]
    twins = dict(zip(names, np.repeat(rng.normal(size=(12, 40)), 2, axis=0), strict=True))
    pairs = pd.DataFrame({"source": names[::2], "target": names[1::2]})
    training = make_training({name: change for name, change in twins.items() if name != "G01"})
    assert baselines.NearestPrior.why_not(training, pairs) is None
    model = fit(baselines.NearestPrior, training, priors=pairs)
    left = model.predict(["G01"]).layers["delta"][0] - twins["G01"]
    assert np.linalg.norm(left) < 0.5 * np.linalg.norm(twins["G01"])
