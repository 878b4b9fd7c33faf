"""Programs learned from a screen: from training cells alone, with what is reported of them."""

from __future__ import annotations

from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.baselines import TrainingData
from scperturb_modules.baselines._side import training_side
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.models.scbig.programs import _program_cells
from scperturb_modules.models.scbig.programs._coherence import coherence, loadings
from scperturb_modules.models.scbig.programs._program_cells import ProgramCells
from scperturb_modules.models.scbig.programs._program_sources import ProgramSources
from scperturb_modules.models.scbig.programs._programs import GenePrograms
from scperturb_modules.models.scbig.programs._stability import stability
from scperturb_modules.priors import GeneGraph, as_graph

TABLES = ("genes", "labels", "margin", "loading", "mean", "sd", "within", "z", "relations")


def simulated(seed=0, **settings):
    """A screen with programs that vary between cells, some pairs held out."""
    sizes = {"n_genes": 320, "n_perturbable": 24, "n_pairs": 10, "n_cells": 40, "n_controls": 300, "module_sd": 0.5}
    adata = spm.datasets.simulate("default", seed=seed, **(sizes | settings))
    spm.pp.split(adata, "combination", seed=0)
    spm.SCBIG.setup_anndata(adata, batch_key="batch" if "batch" in adata.obs else None)
    return adata


def learned(adata, *, networks=None, tables=None, cells=True, seed=0, **settings):
    training, _ = training_side(adata)
    data = TrainingData.from_pseudobulk(training)
    priors = {"networks": networks or {}, "tables": tables or {}}
    chosen = ScbigSettings(**settings)
    return GenePrograms.learn(adata if cells else None, data, training, **priors, settings=chosen, seed=seed)


def module_of(adata):
    return adata.var["module"].to_numpy()


@pytest.fixture(scope="module")
def adata():
    return simulated()


@pytest.fixture(scope="module")
def programs(adata):
    return learned(adata)


def arrays_equal(one, other):
    for name in TABLES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "least"), [("equal", 0.95), ("unequal", 0.85)])
def test_planted_modules_are_found_by_default(sizes, least):
    adata = simulated(1, module_sizes=sizes)
    programs = learned(adata)
    assert adjusted_rand_score(module_of(adata), programs.labels) > least
    assert len(programs.names) == 8


def test_a_useful_network_is_heeded_and_a_wrong_one_is_not(adata, programs):
    truth = module_of(adata)
    edges = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    shuffled = dict(zip(adata.var_names, np.random.default_rng(0).permutation(adata.var_names), strict=True))
    table = pd.DataFrame(np.random.default_rng(1).normal(size=(320, 5)), index=adata.var_names)
    networks = {"right": as_graph(edges, "right"), "wrong": as_graph(edges, "wrong").rename(shuffled)}
    found = learned(adata, networks=networks, tables={"random": table}, n_programs=8)
    assert adjusted_rand_score(truth, found.labels) > 0.95
    weight = found.report["sources"].set_index("source")["weight"]
    assert weight["right"] > 0.2 > 0.1 > weight["wrong"] and weight["random"] < 0.05 and weight["coexpression"] == 1


def test_test_cells_are_never_read(adata, programs):
    changed = adata.copy()
    is_test = (changed.obs["split"] == "test").to_numpy()
    assert is_test.any()
    values, counts = changed.X.toarray(), changed.layers["counts"].toarray()
    values[is_test], counts[is_test] = 7.0, 900
    changed.X, changed.layers["counts"] = sparse.csr_matrix(values), sparse.csr_matrix(counts)
    arrays_equal(learned(changed), programs)


def test_sparse_dense_and_reordered_genes_give_the_same(adata, programs):
    dense = adata.copy()
    dense.X = adata.X.toarray()
    found = learned(dense)
    np.testing.assert_array_equal(found.labels, programs.labels)
    np.testing.assert_allclose(found.loading, programs.loading, atol=1e-5)
    np.testing.assert_allclose(found.mean, programs.mean, atol=1e-6)
    training, _ = training_side(adata)
    turned = adata[:, ::-1].copy()  # the training data say which order is meant
    cells = ProgramCells.of(turned, TrainingData.from_pseudobulk(training), seed=0)
    np.testing.assert_allclose(cells.mean, programs.mean, rtol=1e-6)


def test_the_seed_decides(adata, programs):
    arrays_equal(learned(adata), programs)


def test_random_programs_are_equal_in_size_and_mean_nothing(adata):
    found = learned(adata, n_programs=7, random_programs=True)
    assert np.ptp(found.sizes) <= 1 and found.sizes.sum() == 320 and found.names == tuple(f"P{k}" for k in range(1, 8))
    assert abs(adjusted_rand_score(module_of(adata), found.labels)) < 0.05 and np.abs(found.z).max() < 4


def test_a_pseudobulk_has_responses_and_priors(adata):
    network = as_graph(adata.uns["scperturb_modules"]["simulation"]["graph_partial"], "network")
    found = learned(adata, networks={"network": network}, cells=False, relations=("response", "priors"), n_programs=6)
    with_cells = learned(adata, networks={"network": network}, relations=("response", "priors"), n_programs=6)
    np.testing.assert_array_equal(found.labels, with_cells.labels)
    np.testing.assert_allclose(found.mean, with_cells.mean, rtol=1e-5)
    np.testing.assert_allclose(found.sd, with_cells.sd, rtol=0.1)  # that of the pseudobulk is within batches
    assert np.isfinite(found.relations).all() and np.isfinite(found.loading).all()
    with pytest.raises(DataError, match=r'a pseudobulk has none: .*relations=\("response", "priors"\)'):
        learned(adata, cells=False)


def test_nothing_to_learn_from(adata):
    with pytest.raises(DataError, match=r"nothing to find gene programs from.*Pass priors="):
        learned(adata, relations=("priors",), n_programs=4)
    with pytest.raises(DataError, match="nothing to find gene programs from"):
        learned(adata, relations=("priors",))
    with pytest.raises(DataError, match="200 programs need at least 400 genes"):
        learned(adata, n_programs=200)


def test_priors_alone(adata):
    found = learned(
        adata, networks={"n": GeneGraph.from_table(ring(adata.var_names))}, relations=("priors",), n_programs=4
    )
    assert len(found.names) == 4 and found.report["sources"]["source"].tolist() == ["n"]
    np.testing.assert_array_equal(found.report["uncovered"], np.zeros(0))


def ring(names):
    return pd.DataFrame({"source": names, "target": np.roll(names, 1)})


# -- cells -----------------------------------------------------------------------------------------------------------


def test_cells_are_drawn_alike_from_all_conditions(adata, monkeypatch):
    monkeypatch.setattr(_program_cells, "MOST_CELLS", 400)
    training, _ = training_side(adata)
    cells = ProgramCells.of(adata, TrainingData.from_pseudobulk(training), seed=0)
    kept = adata[(adata.obs["split"] != "test").to_numpy()]
    n_conditions = kept.obs["perturbation"].nunique()
    assert abs(cells.cells.shape[0] - 400) <= n_conditions
    one_hot = cells.covariates[:, 1:n_conditions].toarray()
    share = one_hot.sum(axis=0) / len(one_hot)
    expected = kept.obs["perturbation"].value_counts(normalize=True).sort_index().to_numpy()[1:]
    np.testing.assert_allclose(share, expected, atol=2 / 400)
    assert cells.covariates.shape[1] == 1 + (n_conditions - 1) + 1  # depth, conditions, the second batch


def test_depth_is_that_of_the_counts_or_the_number_of_expressed_genes(adata):
    training, _ = training_side(adata)
    data = TrainingData.from_pseudobulk(training)
    rows = np.flatnonzero((adata.obs["split"] != "test").to_numpy())
    depth = ProgramCells.of(adata, data, seed=0).covariates[:, [0]].toarray().ravel()
    np.testing.assert_allclose(depth, np.log(np.asarray(adata.layers["counts"][rows].sum(axis=1)).ravel()))
    bare = adata.copy()
    del bare.layers["counts"]
    depth = ProgramCells.of(bare, data, seed=0).covariates[:, [0]].toarray().ravel()
    np.testing.assert_allclose(depth, np.log((adata.X[rows].toarray() > 0).sum(axis=1)))


def test_control_statistics_are_those_of_all_training_controls(adata, programs):
    own = ((adata.obs["split"] != "test") & (adata.obs["perturbation"] == "control")).to_numpy()
    cells = adata.X[own].toarray().astype(np.float64)
    np.testing.assert_allclose(programs.mean, cells.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(programs.sd, cells.std(axis=0), rtol=1e-5, atol=1e-7)
    activity = programs.activity(sparse.csr_array(adata.X[own])).astype(np.float64)
    np.testing.assert_allclose(programs.relations, np.corrcoef(activity.T), atol=1e-5)


# -- what is said of them --------------------------------------------------------------------------------------------


def test_activity_is_the_mean_of_standardised_genes(adata, programs):
    cells = adata.X[:20].toarray()
    scaled = (cells - programs.mean) / np.maximum(programs.sd, 0.1)
    expected = np.column_stack([scaled[:, programs.labels == name].mean(axis=1) for name in programs.names])
    found = programs.activity(cells)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(programs.activity(adata.X[:20]), found, atol=1e-5)
    np.testing.assert_allclose(programs.project(cells[1] - cells[0]), expected[1] - expected[0], atol=1e-6)
    assert programs.project(np.zeros((2, 3, 320))).shape == (2, 3, 8)


def test_standard_errors_of_projected_changes(programs):
    rng = np.random.default_rng(0)
    error = rng.uniform(0.5, 2, 320)
    drawn = programs.project(rng.normal(size=(20_000, 320)) * error)
    np.testing.assert_allclose(programs.standard_error(error), drawn.std(axis=0), rtol=0.03)


def test_loadings_are_correlations_with_the_other_genes():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(50, 12)).astype(np.float32) + rng.normal(size=(50, 1)).astype(np.float32)
    samples[:, 5] = 0
    samples -= samples.mean(axis=0)
    labels = np.array([0] * 6 + [1] * 5 + [2])
    found = loadings(samples, labels)
    for gene in range(11):
        others = (labels == labels[gene]) & (np.arange(12) != gene)
        expected = 0 if gene == 5 else np.corrcoef(samples[:, gene], samples[:, others].sum(axis=1))[0, 1]
        assert found[gene] == pytest.approx(expected, abs=1e-5)
    assert found[11] == 0  # alone


def test_coherence_is_that_of_planted_and_not_of_random_programs(draw_cells):
    cells, program, _ = draw_cells(200, 4, 300, loading=0.5)
    within, z = coherence(cells, program, seed=0)
    expected = [loadings(cells, program)[program == k].mean() for k in range(4)]
    np.testing.assert_allclose(within, expected)
    assert z.min() > 10
    _, z = coherence(cells, np.random.default_rng(1).permutation(program), seed=0)
    assert np.abs(z).max() < 4


def test_tables(adata, programs):
    table = programs.table()
    assert table.index.tolist() == list(programs.names) and (table["name"] == "").all()
    assert table["n_genes"].is_monotonic_decreasing and table["n_genes"].sum() == 320
    assert table["z"].min() > 2
    genes = programs.genes_table()
    assert list(genes.columns) == ["program", "gene", "loading", "margin"] and sorted(genes["gene"]) == sorted(
        adata.var_names
    )
    for name, own in genes.groupby("program"):
        assert own["loading"].is_monotonic_decreasing
        assert table.loc[name, "top_genes"].split(";") == own["gene"].head(20).tolist()
    assert len(programs.genes_table(3)) == 24
    number = {gene: i for i, gene in enumerate(programs.genes)}
    np.testing.assert_array_equal(genes["loading"], programs.loading[[number[gene] for gene in genes["gene"]]])


def test_many_programs_keep_the_order_of_numbers(programs):
    labels = np.array([f"P{k % 12 + 1}" for k in range(320)], dtype=object)
    many = replace(programs, labels=labels, within=np.zeros(12), z=np.zeros(12), relations=np.eye(12))
    assert many.table().index.tolist() == [f"P{k}" for k in range(1, 13)]
    assert many.genes_table()["program"].unique().tolist() == [f"P{k}" for k in range(1, 13)]


def test_they_survive_a_file(programs, tmp_path):
    saved = anndata.AnnData(obs=pd.DataFrame(index=["a"]))
    saved.uns["programs"] = programs.to_uns()
    saved.write_h5ad(tmp_path / "programs.h5ad")
    read = GenePrograms.from_uns(anndata.read_h5ad(tmp_path / "programs.h5ad").uns["programs"])
    arrays_equal(read, programs)
    pd.testing.assert_frame_equal(read.table(), programs.table())
    assert read.report["scan"]["n_programs"].tolist() == programs.report["scan"]["n_programs"].tolist()
    assert list(read.report["uncovered"]) == list(programs.report["uncovered"]) == []
    np.testing.assert_array_equal(read.code, programs.code)


# -- stability -------------------------------------------------------------------------------------------------------


def test_planted_programs_are_stable_and_noise_is_not(adata):
    training, _ = training_side(adata)
    data = TrainingData.from_pseudobulk(training)
    sources = ProgramSources.of(adata, data, networks={}, tables={}, wanted=("coexpression",), seed=0)
    found = stability(sources, 8)
    assert found["seeds"] > 0.95 and found["halves"] > 0.8 and found["strong_halves"] > 0.9
    rng = np.random.default_rng(0)
    noise = rng.normal(size=sources.cells.cells.shape).astype(np.float32)
    nothing = replace(sources, cells=replace(sources.cells, cells=noise))
    assert stability(nothing, 8, n_seeds=2)["halves"] < 0.05
    with pytest.raises(DataError, match="Stability is judged by cells"):
        stability(replace(sources, cells=None), 8)
