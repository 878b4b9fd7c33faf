"""The simulated screen has what it says it has: cells, effects, truth, and room between the baselines."""

from __future__ import annotations

import time
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules import datasets
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules._keys import ROOT, SIMULATION
from scperturb_modules.datasets import SimulationSettings
from scperturb_modules.datasets._simulate_effects import _along_graph
from scperturb_modules.datasets._simulate_graph import draw_graph

CLASSES = {"additive": 30, "synergy": 7, "suppression": 7, "epistasis": 6, "redundancy": 5, "neomorphic": 5}
FEW_CELLS = {"n_cells": 2, "n_controls": 4}


def truth_of(adata):
    return adata.uns[ROOT][SIMULATION]


def dense(matrix):
    return matrix.toarray().astype(np.float64)


def mean_by_condition(adata):
    return pd.DataFrame(dense(adata.X)).groupby(adata.obs["perturbation"].to_numpy()).mean()


# --- form


def test_form_of_the_default_screen(default):
    assert default.shape == (600 + 100 * 100, 600)
    assert isinstance(default.X, sparse.csr_matrix) and default.X.dtype == np.float32
    assert isinstance(default.layers["counts"], sparse.csr_matrix) and default.layers["counts"].dtype == np.int32
    labels = default.obs["perturbation"].value_counts()
    assert labels["control"] == 600 and set(labels.drop("control")) == {100}
    genes = {gene for label in labels.index.drop("control") for gene in label.split("+")}
    assert genes == set(default.var_names[default.var["perturbable"]]) and len(genes) == 40
    assert all("+".join(sorted(label.split("+"))) == label for label in labels.index)
    assert default.obs["batch"].value_counts().tolist() == [5300, 5300]
    assert "cell_type" not in default.obs


def test_x_is_log1p_cp10k_of_the_counts(default):
    counts = dense(default.layers["counts"][:500])
    total = counts.sum(axis=1)
    np.testing.assert_array_equal(default.obs["n_counts"][:500], total)
    np.testing.assert_allclose(dense(default.X[:500]), np.log1p(counts / total[:, None] * 1e4), rtol=1e-5)


def test_same_seed_same_counts_and_other_seed_other_counts(tiny):
    again, other = datasets.simulate("tiny", seed=0), datasets.simulate("tiny", seed=1)
    np.testing.assert_array_equal(dense(tiny.layers["counts"]), dense(again.layers["counts"]))
    np.testing.assert_array_equal(truth_of(tiny)["delta_true"], truth_of(again)["delta_true"])
    assert (dense(tiny.layers["counts"]) != dense(other.layers["counts"])).mean() > 0.5


def test_number_of_cells_changes_no_effect(tiny):
    fewer = datasets.simulate("tiny", seed=0, **FEW_CELLS)
    pd.testing.assert_frame_equal(datasets.simulated_truth(fewer), datasets.simulated_truth(tiny))


def test_takes_seconds():
    start = time.process_time()
    datasets.simulate(seed=0)
    # measured: 1.6 s of processor time; a wall clock would measure the other jobs of the machine
    assert time.process_time() - start < 6


@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_truth_survives_writing(tiny, tmp_path, form):
    path = tmp_path / f"screen.{form}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Writing zarr v2")
        getattr(tiny, f"write_{form}")(path)
    read = getattr(anndata, f"read_{form}")(path)
    assert set(truth_of(read)) == set(truth_of(tiny))
    assert truth_of(read)["settings"] == truth_of(tiny)["settings"]
    assert (truth_of(read)["preset"], truth_of(read)["seed"]) == ("tiny", 0)
    for table in ("pairs", "mediators", "graph", "graph_partial", "graph_decoy"):
        pd.testing.assert_frame_equal(truth_of(read)[table], truth_of(tiny)[table], check_names=False)
    pd.testing.assert_frame_equal(datasets.simulated_truth(read), datasets.simulated_truth(tiny))
    pd.testing.assert_frame_equal(datasets.simulated_prior(read), datasets.simulated_prior(tiny))


def test_settings_win_over_the_preset():
    adata = datasets.simulate("tiny", n_cells=7, n_controls=9, n_batches=1, n_pairs=2)
    assert adata.obs["perturbation"].value_counts().to_dict()["control"] == 9
    assert adata.n_obs == 9 + 7 * 8 and adata.obs["batch"].nunique() == 1
    assert truth_of(adata)["settings"]["n_cells"] == 7


@pytest.mark.parametrize(
    ("preset", "settings", "error", "message"),
    [
        ("tny", {}, DataError, "'tny'.*'tiny'"),
        ("tiny", {"cells": 3}, TypeError, "no setting 'cells'.*n_cells"),
        ("tiny", {"n_cells": 0}, DataError, "n_cells=0"),
        ("tiny", {"n_modules": 2}, DataError, "n_modules >= 3"),
        ("tiny", {"n_genes": 15}, DataError, "2 unperturbed genes per module.*raise n_genes"),
        ("tiny", {"n_pairs": 16}, DataError, "form 15 pairs"),
        ("tiny", {"guide_efficacy": 1.1}, DataError, "guide_efficacy=1.1"),
        ("tiny", {"gi": "rule"}, DataError, "'module_rule'"),
        ("tiny", {"batch_sd": -1}, DataError, "batch_sd=-1"),
        ("tiny", {"dispersion": 0}, DataError, "dispersion=0"),
        ("tiny", {"n_genes": 80.0}, DataError, "n_genes=80.0, but it is a whole number"),
        ("tiny", {"sys": float("nan")}, DataError, "sys=nan, but it is a finite number"),
        ("tiny", {"effect_scale": "2"}, DataError, "effect_scale='2', but it is a finite number"),
    ],
)
def test_settings_that_cannot_be(preset, settings, error, message):
    with pytest.raises(error, match=message):
        datasets.simulate(preset, **settings)


# --- cells


def test_share_of_cells_whose_guide_failed(default):
    is_control = default.obs["perturbation"] == "control"
    efficacy = default.obs["guide_efficacy"]
    assert (efficacy[is_control] == 0).all()
    failed = (efficacy[~is_control] == 0).mean()
    assert failed == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / 10_000))
    assert efficacy[efficacy > 0].mean() == pytest.approx(0.8, abs=0.01)


def test_cells_whose_guide_failed_look_like_controls(default):
    expression, efficacy = dense(default.X), default.obs["guide_efficacy"].to_numpy()
    labels = default.obs["perturbation"].to_numpy()
    control = expression[labels == "control"].mean(axis=0)
    row = datasets.simulated_truth(default).abs().sum(axis=1).idxmax()
    distance = {
        works: np.linalg.norm(expression[(labels == row) & ((efficacy > 0) == works)].mean(axis=0) - control)
        for works in (True, False)
    }
    assert distance[True] > 10
    # about 15 cells: noise of about sqrt(600 * 0.7 / 15) = 5.3
    assert distance[False] < 7


def test_library_size_is_lognormal(default):
    log_size = np.log(default.obs["n_counts"].to_numpy())
    # the spread of the total adds a little to that of the library size
    assert log_size.mean() == pytest.approx(8.5, abs=0.03)
    assert log_size.std() == pytest.approx(0.35, abs=0.03)


def test_counts_have_the_negative_binomial_variance():
    adata = datasets.simulate(
        "tiny", n_controls=8000, n_cells=1, n_batches=1, programme_sd=0.0, library_log_sd=0.0, dispersion=0.3
    )
    counts = dense(adata[adata.obs["perturbation"] == "control"].layers["counts"])
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    high = mean > 5
    assert high.sum() > 30
    dispersion = (variance - mean) / mean**2
    assert np.median(dispersion[high]) == pytest.approx(0.3, abs=0.01)
    assert np.abs(dispersion[high] - 0.3).max() < 0.06


def test_dropout_removes_weak_counts_more_often():
    kept, lost = (datasets.simulate("tiny", n_controls=3000, n_cells=1, dropout=share) for share in (0.0, 0.6))
    controls = [dense(adata[adata.obs["perturbation"] == "control"].layers["counts"]) for adata in (kept, lost)]
    ratio = controls[1].mean(axis=0) / controls[0].mean(axis=0)
    order = np.argsort(controls[0].mean(axis=0))
    assert ratio[order[:10]].mean() < ratio[order[-10:]].mean() - 0.05
    assert ratio[order[-1]] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("settings", [{}, {"state_effect": 0.6}, {"dropout": 0.3}, {"n_cell_types": 2}])
def test_delta_true_is_the_mean_of_many_cells(settings):
    adata = datasets.simulate("tiny", seed=3, n_cells=3000, n_controls=6000, n_perturbable=3, n_pairs=1, **settings)
    truth = datasets.simulated_truth(adata)
    context = adata.obs["cell_type"].astype(str) if "cell_type" in adata.obs else pd.Series("", index=adata.obs_names)
    z_scores = []
    for name, expected in truth.iterrows():
        condition, _, cell_type = name.partition("|")
        perturbed, control = (
            dense(adata.X[((adata.obs["perturbation"] == label) & (context == cell_type)).to_numpy()])
            for label in (condition, "control")
        )
        error2 = perturbed.var(axis=0) / len(perturbed) + control.var(axis=0) / len(control)
        z_scores.append((perturbed.mean(axis=0) - control.mean(axis=0) - expected) / np.sqrt(error2))
    z_scores = np.array(z_scores)
    assert np.sqrt(np.square(z_scores).mean()) == pytest.approx(1, abs=0.2)
    assert np.abs(z_scores).max() < 5


# --- effects


def test_mediators_are_neighbours_and_carry_the_effect(default):
    mediators, graph = truth_of(default)["mediators"], truth_of(default)["graph"]
    edges = set(zip(graph["source"], graph["target"], strict=True))
    log_rate = datasets.simulated_truth(default, "log_rate").abs()
    ranks = []
    for gene, row in mediators.iterrows():
        assert len(set(row)) == 3 and not set(row) & set(mediators.index)
        assert all((gene, other) in edges or (other, gene) in edges for other in row)
        assert all(default.var.loc[other, "module"] == default.var.loc[gene, "module"] for other in row)
        ranks.extend(log_rate.loc[gene].drop(gene).rank(ascending=False)[list(row)])
    assert np.median(ranks) <= 5


def test_signal_leaves_through_the_mediators_and_fades():
    settings = SimulationSettings(n_genes=40, n_perturbable=4, n_modules=3, n_pairs=0)
    graph = draw_graph(settings, np.random.default_rng(0))
    weight = np.zeros((40, 40))
    for (first, second), value in zip(graph.edges, graph.weights, strict=True):
        weight[first, second] = weight[second, first] = value
    expected = np.zeros((4, 40))
    for row, mediators in enumerate(graph.mediators):
        signal = dict.fromkeys(mediators, 0.6)
        for _ in range(3):
            arriving = dict.fromkeys(range(40), 0.0)
            for gene, amount in signal.items():
                expected[row, gene] += amount
                for other in range(40):
                    arriving[other] += 0.6 * amount * weight[gene, other] / weight[gene].sum()
            signal = arriving
    np.testing.assert_allclose(_along_graph(graph), expected, atol=1e-12)


def test_target_gene_goes_down(default):
    targets = truth_of(default)["mediators"].index
    truth = datasets.simulated_truth(default)
    own = np.array([truth.loc[gene, gene] for gene in targets])
    assert (own < 0).mean() > 0.9


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_free_truth_has_the_planted_class(seed, gi_class_of):
    adata = datasets.simulate(seed=seed, **FEW_CELLS)
    genes = adata.var_names[~adata.var["perturbable"]][::2]
    effect = datasets.simulated_truth(adata, "log_rate")[genes]
    pairs = truth_of(adata)["pairs"]
    assert pairs["gi_class"].value_counts().to_dict() == CLASSES
    found = pd.Series(
        {
            name: gi_class_of(*(effect.loc[row].to_numpy() for row in (pair["first"], pair["second"], name)))
            for name, pair in pairs.iterrows()
        }
    )
    recall = (found == pairs["gi_class"]).groupby(pairs["gi_class"]).mean()
    assert recall.mean() >= 0.9, recall


def test_class_depends_on_the_modules_alone(default):
    pairs, module = truth_of(default)["pairs"], default.var["module"]
    first, second = module[pairs["first"]].to_numpy(), module[pairs["second"]].to_numpy()
    both = pd.Series(list(zip(np.minimum(first, second), np.maximum(first, second), strict=True)), index=pairs.index)
    assert (pairs["gi_class"].groupby(both).nunique() == 1).all()
    assert both.nunique() < 0.6 * len(pairs)  # enough pairs share their modules to learn from
    assert ((first == second) == (pairs["gi_class"] == "redundancy")).all()
    epistatic = pairs[pairs["gi_class"] == "epistasis"]
    winner = module[np.where(epistatic["c1"] > epistatic["c2"], epistatic["first"], epistatic["second"])].to_numpy()
    assert (pd.Series(winner).groupby(both[epistatic.index].to_numpy()).nunique() == 1).all()


def test_random_classes_do_not_depend_on_the_modules():
    adata = datasets.simulate(gi="random", **FEW_CELLS)
    pairs, module = truth_of(adata)["pairs"], adata.var["module"]
    assert pairs["gi_class"].value_counts().to_dict() == CLASSES
    same = module[pairs["first"]].to_numpy() == module[pairs["second"]].to_numpy()
    assert (pairs["gi_class"][~same] == "redundancy").any() and (pairs["gi_class"][same] != "redundancy").any()


@pytest.mark.parametrize("gi_class", ["additive", "synergy", "suppression", "epistasis", "redundancy"])
def test_doubles_are_the_stated_combination(gi_class):
    adata = datasets.simulate("tiny", sys=0.0, own_effect=0.0, **FEW_CELLS)
    effect, pairs = datasets.simulated_truth(adata, "log_rate"), truth_of(adata)["pairs"]
    name = pairs.index[pairs["gi_class"] == gi_class][0]
    pair = pairs.loc[name]
    planted = {"additive": 2.0, "synergy": 3.0, "suppression": 1.0, "epistasis": 1.1, "redundancy": 1.1}
    assert pair["c1"] + pair["c2"] == pytest.approx(planted[gi_class])
    expected = pair["c1"] * effect.loc[pair["first"]] + pair["c2"] * effect.loc[pair["second"]]
    np.testing.assert_allclose(effect.loc[name], expected, atol=1e-12)


def test_systematic_effect_enters_a_double_once():
    adata = datasets.simulate("tiny", gi="none", sys=1.0, **FEW_CELLS)
    without = datasets.simulate("tiny", gi="none", sys=0.0, **FEW_CELLS)
    systematic = datasets.simulated_truth(adata, "log_rate") - datasets.simulated_truth(without, "log_rate")
    assert systematic.iloc[0].abs().max() > 0.3
    np.testing.assert_allclose(systematic, np.tile(systematic.iloc[0], (len(systematic), 1)), atol=1e-12)


def test_every_class_occurs_in_tiny(tiny):
    assert set(truth_of(tiny)["pairs"]["gi_class"]) == set(CLASSES)
    assert len(truth_of(tiny)["rows"]) == 12


# --- presets


def test_null_has_no_effect():
    adata = datasets.simulate("null", n_cells=30, n_controls=300)
    assert (datasets.simulated_truth(adata) == 0).all(axis=None)
    assert (datasets.simulated_truth(adata, "log_rate") == 0).all(axis=None)
    means = mean_by_condition(adata)
    distance = np.linalg.norm(means.drop("control") - means.loc["control"], axis=1)
    noise = truth_of(adata)["noise_floor"]
    # controls add a tenth of the variance of 30 cells
    assert distance.mean() == pytest.approx(noise * np.sqrt(1.1), rel=0.05)


def test_additive_only_is_exactly_additive():
    adata = datasets.simulate("additive_only", **FEW_CELLS)
    effect, pairs = datasets.simulated_truth(adata, "log_rate"), truth_of(adata)["pairs"]
    assert set(pairs["gi_class"]) == {"additive"}
    total = effect.loc[pairs["first"]].to_numpy() + effect.loc[pairs["second"]].to_numpy()
    np.testing.assert_allclose(effect.loc[pairs.index], total, atol=1e-12)
    assert np.linalg.norm(total, axis=1).min() > 5


def test_additive_only_has_the_pairs_of_the_default(default):
    adata = datasets.simulate("additive_only", **FEW_CELLS)
    assert truth_of(adata)["pairs"].index.equals(truth_of(default)["pairs"].index)


def test_sys_only_has_one_common_effect():
    adata = datasets.simulate("sys_only", **FEW_CELLS)
    truth = datasets.simulated_truth(adata)
    assert truth.iloc[0].abs().mean() > 0.1
    assert (truth == truth.iloc[0]).all(axis=None)


def similarity_of_neighbours(adata):
    """Mean correlation of effects between targets of one module, minus that between modules."""
    targets = truth_of(adata)["mediators"].index
    genes = adata.var_names[~adata.var["perturbable"]]
    correlation = np.corrcoef(datasets.simulated_truth(adata, "log_rate").loc[targets, genes])
    module = adata.var.loc[targets, "module"].to_numpy()
    first, second = np.triu_indices(len(targets), k=1)
    same = module[first] == module[second]
    values = correlation[first, second]
    return values[same].mean() - values[~same].mean()


def test_unpredictable_effects_are_unrelated_to_the_modules(default):
    assert similarity_of_neighbours(default) > 0.5
    assert abs(similarity_of_neighbours(datasets.simulate("unpredictable", **FEW_CELLS))) < 0.03


def test_prior_strength_sets_how_much_can_be_predicted(default):
    half = similarity_of_neighbours(datasets.simulate(prior_strength=0.5, **FEW_CELLS))
    assert half == pytest.approx(similarity_of_neighbours(default) / 2, abs=0.05)


def test_two_cell_types_share_part_of_the_effect():
    adata = datasets.simulate("two_cell_types", **FEW_CELLS)
    counts = adata.obs.groupby(["perturbation", "cell_type"]).size().unstack()
    assert counts.shape == (101, 2) and (counts.drop("control") == 2).all(axis=None)
    effect = datasets.simulated_truth(adata, "log_rate")
    assert list(effect.index) == sorted(effect.index) and effect.index[0].endswith("|type1")
    one, two = (effect[effect.index.str.endswith(f"|type{number}")].to_numpy() for number in (1, 2))
    assert 0.8 < np.corrcoef(one.ravel(), two.ravel())[0, 1] < 0.97
    targets = np.flatnonzero(adata.var["perturbable"])
    np.testing.assert_array_equal(one[:, targets], two[:, targets])  # the guide works alike


# --- graphs and priors


def test_decoy_is_the_graph_under_other_names(default):
    graph, decoy = truth_of(default)["graph"], truth_of(default)["graph_decoy"]
    new_name = {}
    for end in ("source", "target"):
        for true, other in zip(graph[end], decoy[end], strict=True):
            assert new_name.setdefault(true, other) == other
    assert len(set(new_name.values())) == len(new_name)
    np.testing.assert_array_equal(graph["weight"], decoy["weight"])
    assert np.mean([true == other for true, other in new_name.items()]) < 0.02


def test_partial_graph_lacks_genes_and_nothing_else(default):
    graph, partial = truth_of(default)["graph"], truth_of(default)["graph_partial"]
    present = set(partial["source"]) | set(partial["target"])
    assert len(present) == pytest.approx(0.7 * 600, abs=6)
    kept = graph[graph["source"].isin(present) & graph["target"].isin(present)].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, partial.reset_index(drop=True))


def test_graph_is_denser_within_modules(default):
    graph, module = truth_of(default)["graph"], default.var["module"]
    assert (graph["source"] < graph["target"]).all() and not graph.duplicated(["source", "target"]).any()
    within = (module[graph["source"]].to_numpy() == module[graph["target"]].to_numpy()).sum()
    assert within / (8 * 75 * 74 / 2) == pytest.approx(0.10, abs=0.015)
    assert (len(graph) - within) / (600 * 525 / 2) == pytest.approx(0.005, abs=0.0008)


def module_purity(adata, kind):
    """How often the nearest gene in the embedding is of the same module."""
    prior = datasets.simulated_prior(adata, kind).to_numpy()
    module = adata.var.loc[datasets.simulated_prior(adata, kind).index, "module"].to_numpy()
    distance = np.square(prior[:, None] - prior).sum(axis=-1) + np.diag(np.full(len(prior), np.inf))
    return (module[distance.argmin(axis=1)] == module).mean()


def test_prior_knows_the_modules_and_the_decoy_does_not(default):
    assert module_purity(default, "true") > 0.9
    assert module_purity(default, "partial") > 0.8
    assert module_purity(default, "decoy") == pytest.approx(1 / 8, abs=0.06)


def test_prior_is_labelled_and_deterministic(default):
    prior = datasets.simulated_prior(default, "partial", n_features=5)
    assert prior.shape[1] == 5 and prior.attrs["derived_from"] == "simulator graph"
    assert prior.attrs["name"] == "simulated graph (partial)"
    pd.testing.assert_frame_equal(prior, datasets.simulated_prior(default, "partial", n_features=5))
    assert (prior.to_numpy()[np.abs(prior.to_numpy()).argmax(axis=0), np.arange(5)] > 0).all()


def test_prior_solves_the_eigenvalue_problem(tiny):
    graph = truth_of(tiny)["graph"]
    adjacency = pd.DataFrame(0.0, index=tiny.var_names, columns=tiny.var_names)
    for source, target, weight in graph.itertuples(index=False):
        adjacency.loc[source, target] = adjacency.loc[target, source] = weight
    walk = adjacency.div(adjacency.sum(axis=1), axis=0)
    prior = datasets.simulated_prior(tiny, n_features=4)
    moved = walk.loc[prior.index, prior.index].to_numpy() @ prior.to_numpy()
    value = (moved * prior.to_numpy()).sum(axis=0) / np.square(prior.to_numpy()).sum(axis=0)
    np.testing.assert_allclose(moved, prior.to_numpy() * value, atol=1e-8)
    assert (np.diff(value) < 0).all() and value[0] < 0.999


def test_truth_follows_a_choice_of_genes(tiny):
    some = tiny[:, ["G05", "G02"]].copy()
    expected = datasets.simulated_truth(tiny)[["G05", "G02"]]
    pd.testing.assert_frame_equal(datasets.simulated_truth(some), expected)


def test_truth_of_genes_that_were_not_simulated(tiny):
    renamed = tiny[:, :3].copy()
    renamed.var_names = ["G01", "TP53", "MYC"]
    with pytest.raises(DataError, match="2 genes were not simulated: 'MYC', 'TP53'"):
        datasets.simulated_truth(renamed)


def test_truth_of_a_real_screen(screen):
    with pytest.raises(MissingKeyError, match=r"spm\.datasets\.simulate"):
        datasets.simulated_truth(screen)
    with pytest.raises(MissingKeyError, match=r"spm\.datasets\.simulate"):
        datasets.simulated_prior(screen)


def test_unknown_tables_and_graphs(tiny):
    with pytest.raises(DataError, match="'delta_true'"):
        datasets.simulated_truth(tiny, "delta")
    with pytest.raises(DataError, match="'decoy'"):
        datasets.simulated_prior(tiny, "false")
    with pytest.raises(DataError, match="80 genes has 1 to 78"):
        datasets.simulated_prior(tiny, n_features=80)


# --- room for comparisons


def test_baselines_stand_in_the_order_of_measured_screens(default):
    """Plain numpy: additive < mean double < no change on L2, with margins; ranges of a prototype of these rules."""
    means = mean_by_condition(default)
    control = means.loc["control"].to_numpy()
    top = np.argsort(-control)[:300]
    change = (means.drop("control") - control).iloc[:, top]
    pairs = truth_of(default)["pairs"]
    doubles = change.loc[pairs.index].to_numpy()
    sums = change.loc[pairs["first"]].to_numpy() + change.loc[pairs["second"]].to_numpy()
    mean_double = (doubles.sum(axis=0) - doubles) / (len(doubles) - 1)
    no_change, mean, additive = (np.linalg.norm(guess - doubles, axis=1).mean() for guess in (0, mean_double, sums))
    assert 6.5 < no_change < 8.5 and 6 < mean < 7.7 and 3.5 < additive < 4.8
    assert additive < 0.75 * mean < 0.75 * no_change
    correlation = np.mean([np.corrcoef(guess, measured)[0, 1] for guess, measured in zip(sums, doubles, strict=True)])
    assert correlation == pytest.approx(0.84, abs=0.05)


def test_module_neighbours_predict_unseen_singles(default):
    means = mean_by_condition(default)
    targets = truth_of(default)["mediators"].index
    change = (means.drop("control") - means.loc["control"]).loc[targets].to_numpy()
    module = default.var.loc[targets, "module"].to_numpy()
    same = (module[:, None] == module) & ~np.eye(len(module), dtype=bool)
    neighbours = same @ change / same.sum(axis=1, keepdims=True)
    others = (change.sum(axis=0) - change) / (len(change) - 1)
    errors = [np.linalg.norm(guess - change, axis=1).mean() for guess in (neighbours, others)]
    assert 0.2 < 1 - errors[0] / errors[1] < 0.4


def test_room_is_recorded(default):
    record = truth_of(default)
    assert 0 < 3 * record["noise_floor"] < record["effect_size"]
    halves = dense(default.X[default.obs["perturbation"].to_numpy() == record["rows"][0]])
    # half the distance of two halves estimates the error of the whole
    rng = np.random.default_rng(0)
    distances = []
    for _ in range(20):
        first, second = np.split(rng.permutation(len(halves)), 2)
        distances.append(np.linalg.norm(halves[first].mean(axis=0) - halves[second].mean(axis=0)) / 2)
    assert np.mean(distances) == pytest.approx(record["noise_floor"], rel=0.06)
