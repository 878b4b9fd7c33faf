"""Intervals of genetic interactions cover what so many cells are expected to show; noise makes predictions alike."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.tl.interactions._interactions import genetic_interactions
from scperturb_modules.tl.interactions._noise import noise_of
from scperturb_modules.tl.interactions._pairs import find_pairs
from scperturb_modules.tl.interactions._scores import SCORES

SLOPES = ["c1", "c2", "magnitude"]


def samples(n_samples: int, *, n_cells: int, n_controls: int, **settings):
    """Screens of fresh cells of one simulated truth: a large screen dealt out like cards, batches evenly."""
    large = spm.datasets.simulate(n_cells=n_cells * n_samples, n_controls=n_controls * n_samples, **settings)
    place = large.obs.groupby(["perturbation", "batch"], observed=True).cumcount().to_numpy()
    return [large[place % n_samples == sample].copy() for sample in range(n_samples)]


def coverage(screens: list[AnnData], n_used: int, genes: list[str], n_boot: int) -> pd.Series:
    """Share of pairs whose interval holds the mean score over all screens."""
    tables = [genetic_interactions(spm.pp.pseudobulk(screen), genes=genes) for screen in screens]
    expected = np.mean([table[list(SCORES)].to_numpy() for table in tables], axis=0)
    inside = []
    for seed, screen in enumerate(screens[:n_used]):
        truth = spm.pp.pseudobulk(screen)
        table = genetic_interactions(truth, genes=genes, cells=screen, n_boot=n_boot, seed=seed)
        low, high = (table[[f"{score}_{side}" for score in SCORES]].to_numpy() for side in ("lower", "upper"))
        inside.append((low <= expected) & (expected <= high))
    return pd.Series(np.mean(inside, axis=(0, 1)), index=list(SCORES))


def brightest(screen: AnnData, n: int) -> list[str]:
    mean = np.asarray(screen.X.mean(axis=0)).ravel()
    mean[screen.var["perturbable"].to_numpy()] = -1
    return screen.var_names[np.argsort(-mean)[:n]].tolist()


def test_intervals_cover_the_expected_scores():
    settings = {"n_genes": 120, "n_perturbable": 8, "n_pairs": 10, "n_modules": 4}
    screens = samples(20, n_cells=60, n_controls=150, seed=0, **settings)
    covered = coverage(screens, 4, brightest(screens[0], 50), n_boot=50)
    assert covered.mean() >= 0.85 and covered[SLOPES].mean() >= 0.80, covered


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_intervals_of_every_score_cover_it(seed):
    settings = {"n_genes": 300, "n_perturbable": 16, "n_pairs": 24}
    screens = samples(40, n_cells=100, n_controls=300, seed=seed, **settings)
    covered = coverage(screens, 6, brightest(screens[0], 140), n_boot=150)
    assert (covered >= 0.85).all(), covered


def test_intervals_and_firm_classes(planted):
    screen = planted(n_genes=40, interaction=0.3)
    truth = spm.pp.pseudobulk(screen)
    plain, table = (genetic_interactions(truth, cells=cells, n_boot=40) for cells in (None, screen))
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    ends = [f"{score}_{side}" for score in SCORES for side in ("lower", "upper")]
    assert table.columns.tolist() == [*plain.columns, *ends, "firm"]
    assert table["magnitude"].between(table["magnitude_lower"], table["magnitude_upper"], inclusive="neither").all()
    assert (table["model_fit_upper"] <= 1).all() and (table["equality_lower"] >= 0).all()
    is_synergy = table["label"] == "synergy"
    assert (table["firm"][is_synergy] == (table["magnitude_lower"][is_synergy] > 1.15)).all()
    assert table.attrs["n_boot"] == 40 and plain.attrs["n_boot"] == 0
    pd.testing.assert_frame_equal(genetic_interactions(truth, cells=screen, n_boot=40), table)
    other = genetic_interactions(truth, cells=screen, n_boot=40, seed=1)
    assert not np.allclose(other["c1_lower"], table["c1_lower"])
    wider = genetic_interactions(truth, cells=screen, n_boot=40, ci=0.98)
    assert (wider["c1_upper"] - wider["c1_lower"] > table["c1_upper"] - table["c1_lower"]).all()


def test_intervals_by_context_and_with_missing_singles(planted):
    screen = planted(contexts=("T1", "T2"), n_genes=50)
    screen = screen[(screen.obs["line"] != "T2") | (screen.obs["perturbation"] != "G01")].copy()
    truth = spm.pp.pseudobulk(screen, cell_type_key="line")
    table = genetic_interactions(truth, cells=screen, n_boot=5)
    missing = table["status"] == "missing: G01|T2"
    assert missing.sum() == 2 and table.loc[missing, "c1_lower"].isna().all() and not table.loc[missing, "firm"].any()
    assert table.loc[~missing, "c1_lower"].notna().all()


def test_cells_must_be_those_of_the_pseudobulk(planted):
    screen, other = planted(), planted(seed=1)
    truth = spm.pp.pseudobulk(screen)
    with pytest.raises(DataError, match="not those of cells"):
        genetic_interactions(truth, cells=other)
    with pytest.raises(DataError, match="have no cells in cells: 'G00\\+G01'"):
        genetic_interactions(truth, cells=screen[screen.obs["perturbation"] != "G00+G01"].copy())
    bare = AnnData(truth.X, obs=truth.obs[[]], var=truth.var, layers={"delta": truth.layers["delta"]})
    with pytest.raises(DataError, match="cells are for a measured pseudobulk"):
        genetic_interactions(bare, cells=screen)


@pytest.fixture(scope="module")
def simulated():
    adata = spm.datasets.simulate(seed=0, n_genes=200, n_perturbable=20, n_pairs=20, n_cells=40, n_controls=200)
    truth = spm.pp.pseudobulk(adata)
    return truth, AnnData(spm.datasets.simulated_truth(adata))


def test_noise_takes_a_perfect_prediction_to_the_measured_scores(simulated):
    truth, perfect = simulated
    measured = genetic_interactions(truth)
    genes = measured.attrs["genes"]
    bare = genetic_interactions(perfect, layer=None, genes=genes)
    matched = genetic_interactions(perfect, layer=None, genes=genes, noise=truth)
    assert matched.attrs["noise"] == "matched" and bare.attrs["noise"] == "none"
    for score in ("magnitude", "model_fit", "similarity", "residual"):
        gap = abs(bare[score].mean() - measured[score].mean())
        assert abs(matched[score].mean() - measured[score].mean()) < 0.35 * gap, score
    assert (measured["magnitude"] < bare["magnitude"]).mean() > 0.9
    pd.testing.assert_frame_equal(genetic_interactions(perfect, layer=None, genes=genes, noise=truth), matched)


def test_noise_is_that_of_the_cells_and_once_that_of_the_controls(simulated):
    truth, perfect = simulated
    genes = truth.var_names[:50].tolist()
    pairs = find_pairs(perfect, None, None)
    noise = noise_of(truth, pairs, genes)
    assert (noise.side == 0).all()
    rng = np.random.default_rng(0)
    drawn = np.array([noise.draw(rng) for _ in range(3000)])
    at = truth.obs_names.get_indexer([name for name, _ in pairs.rows])
    columns = truth.var_names.get_indexer(genes)
    se2, control = (truth.layers[name][np.ix_(at, columns)] for name in ("se2", "se2_control"))
    np.testing.assert_allclose(drawn.var(axis=0), se2, rtol=0.2)
    np.testing.assert_allclose((drawn[:, 0] * drawn[:, 1]).mean(axis=0), control[0], atol=4 * se2.max() / 3000**0.5)


def test_rows_of_the_test_part_have_controls_of_their_own(planted):
    screen = planted()
    spm.pp.split(screen, "combination", seed=0)
    truth = spm.pp.pseudobulk(screen)
    pairs = find_pairs(truth, None, None)
    side = noise_of(truth, pairs, truth.var_names.tolist()).side
    is_test = truth.obs.loc[[name for name, _ in pairs.rows], "split"].to_numpy() == "test"
    assert is_test.any() and (side == is_test).all()


def test_rows_without_measured_noise_are_named(simulated):
    truth, perfect = simulated
    table = genetic_interactions(perfect, layer=None)
    first = table.index[0]
    gene = table.loc[first, "gene_a"]
    known = truth[~truth.obs_names.isin([first, gene])].copy()
    noisy = genetic_interactions(perfect, layer=None, noise=known, n_repeats=1)
    assert noisy.loc[first, "status"] == f"no_noise: {gene}, {first}"
    assert noisy.loc[first, list(SCORES)].isna().all() and noisy.loc[first, "label"] == ""
    untouched = ~((table["gene_a"] == gene) | (table["gene_b"] == gene))
    assert (noisy.loc[untouched, "status"] == "ok").all() and noisy["status"].ne("ok").sum() == (~untouched).sum()


def test_noise_is_for_predictions(simulated):
    truth, perfect = simulated
    with pytest.raises(DataError, match="noisy already"):
        genetic_interactions(truth, noise=truth)
    with pytest.raises(MissingKeyError, match="pseudobulk"):
        genetic_interactions(perfect, layer=None, noise=perfect)
    with pytest.raises(DataError, match="1 of 6 genes are not in noise"):
        genes = truth.var_names[-6:]
        genetic_interactions(perfect, layer=None, genes=genes, noise=truth[:, :-1].copy())
    with pytest.raises(ValueError, match="n_repeats=0"):
        genetic_interactions(perfect, layer=None, noise=truth, n_repeats=0)
