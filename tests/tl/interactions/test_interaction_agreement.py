"""Agreement of predicted with observed genetic interactions, against SciPy and counts by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.tl.interactions._agreement import interaction_agreement
from scperturb_modules.tl.interactions._interactions import genetic_interactions
from scperturb_modules.tl.interactions._scores import SCORES


def made_up(n: int = 40, *, seed: int = 0) -> pd.DataFrame:
    """A table of random scores; names G0+G1, ..."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.uniform(0, 1.5, (n, len(SCORES))), columns=list(SCORES))
    table.index = [f"G{i}+G{i + 1}" for i in range(n)]
    flags = {"is_neomorphic": table["model_fit"] < 0.3, "is_epistatic": table["equality"] < 0.2}
    flags |= {"is_redundant": table["similarity"] > 1.3, "is_synergistic": table["magnitude"] > 1.1}
    flags |= {"is_suppressive": table["magnitude"] < 0.5}
    names = ["neomorphic", "epistasis", "redundancy", "synergy", "suppression"]
    return table.assign(**flags, label=np.select(list(flags.values()), names, default="additive"))


@pytest.fixture
def tables():
    observed = made_up()
    predicted = made_up(seed=1)
    mixed = predicted[list(SCORES)] * 0.5 + observed[list(SCORES)] * 0.5
    return predicted.assign(**mixed), observed


def test_correlations_are_those_of_scipy(tables):
    predicted, observed = tables
    predicted.loc["G3+G4", "dominance"] = np.inf
    found = interaction_agreement(predicted, observed, n_boot=300).scores
    assert found.index.tolist() == list(SCORES)
    for score in SCORES:
        known = np.isfinite(predicted[score])
        x, y = predicted[score][known], observed[score][known]
        row = found.loc[score]
        assert row["n"] == known.sum()
        assert row["pearson"] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert row["spearman"] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
        assert row["pearson_lower"] < row["pearson"] < row["pearson_upper"]
        assert row["spearman_lower"] < row["spearman"] < row["spearman_upper"]
    assert found.loc["dominance", "n"] == 39


def test_intervals_of_correlations_are_as_wide_as_known():
    """For normal pairs the standard error of a Pearson correlation is (1 - r^2) / sqrt(n)."""
    rng = np.random.default_rng(0)
    one, other = made_up(400), made_up(400)
    one["c1"], noise = rng.normal(size=(2, 400))
    other["c1"] = 0.6 * one["c1"] + 0.8 * noise
    row = interaction_agreement(one, other).scores.loc["c1"]
    width = 2 * stats.norm.ppf(0.95) * (1 - row["pearson"] ** 2) / np.sqrt(400)
    assert row["pearson_upper"] - row["pearson_lower"] == pytest.approx(width, rel=0.15)


def test_overlap_of_the_strongest_pairs(tables):
    predicted, observed = tables
    top = interaction_agreement(predicted, observed, n_top=7, n_boot=1).top
    for name, ascending in (("synergy", False), ("suppression", True)):
        first, second = (set(t["magnitude"].sort_values(ascending=ascending).index[:7]) for t in tables)
        n = len(first & second)
        p = sum(stats.hypergeom.pmf(k, 40, 7, 7) for k in range(n, 8))
        expected = {"n_top": 7, "n": 40, "expected": 49 / 40, "overlap": n, "precision": n / 7, "p": p}
        assert top.loc[name].to_dict() == pytest.approx(expected)
    few = interaction_agreement(predicted, observed, n_top=100, n_boot=1).top
    assert few["n_top"].tolist() == [40, 40] and (few["precision"] == 1).all() and (few["p"] == 1).all()


def test_classes_and_confusion(tables):
    predicted, observed = tables
    found = interaction_agreement(predicted, observed, n_boot=1)
    synergy = found.classes.loc["synergy"]
    ten = predicted["magnitude"].sort_values(ascending=False).index[:10]
    assert synergy["precision_at_10"] == observed.loc[ten, "is_synergistic"].mean()
    assert synergy["base_rate"] == observed["is_synergistic"].mean()
    is_observed = observed["label"] == "synergy"
    assert synergy["recall"] == (predicted["label"] == "synergy")[is_observed].mean()
    new = predicted["model_fit"].sort_values().index[:10]
    assert found.classes.loc["neomorphic", "precision_at_10"] == observed.loc[new, "is_neomorphic"].mean()
    assert np.isnan(found.classes.loc["additive", "precision_at_10"])
    assert found.confusion.to_numpy().sum() == 40
    both = (observed["label"] == "epistasis") & (predicted["label"] == "additive")
    assert found.confusion.loc["epistasis", "additive"] == both.sum()
    assert found.confusion.sum(axis=1)["synergy"] == synergy["n_observed"] == is_observed.sum()


def test_an_additive_prediction_ranks_nothing(planted):
    adata = planted(n_genes=60, interaction=0.3)
    spm.pp.split(adata, "combination", seed=0)
    truth = spm.pp.pseudobulk(adata)
    model = spm.baselines.Additive(spm.pp.pseudobulk(adata, cells="training"))
    model.train()
    singles = truth[truth.obs["n_perturbed"] == 1].copy()
    predicted = genetic_interactions(model.predict([n for n in truth.obs_names if "+" in n]), singles=singles)
    observed = genetic_interactions(truth, genes=predicted.attrs["genes"])
    found = interaction_agreement(predicted, observed)
    for score in ("c1", "c2", "magnitude", "model_fit"):
        assert found.scores.loc[score].drop("n").isna().all() and found.scores.loc[score, "n"] == 12
    assert found.scores.loc["singles_similarity", "pearson"] > 0.9
    assert found.top[["overlap", "precision", "p"]].isna().all(axis=None) and (found.top["n"] == 12).all()
    assert np.isnan(found.classes.loc["synergy", "precision_at_10"])


def test_pairs_of_one_table_are_named(tables):
    predicted, observed = tables
    found = interaction_agreement(predicted.iloc[2:], observed.iloc[:-1], n_boot=1)
    assert found.n_pairs == 37 and found.only_predicted == ("G39+G40",)
    assert found.only_observed == ("G0+G1", "G1+G2")


def test_tables_that_cannot_be_compared(tables):
    predicted, observed = tables
    with pytest.raises(DataError, match="No pair is in both"):
        interaction_agreement(predicted.iloc[:2], observed.iloc[2:])
    with pytest.raises(DataError, match="observed lacks 1 columns: 'c1'"):
        interaction_agreement(predicted, observed.drop(columns="c1"))
    with pytest.raises(DataError, match="predicted has 1 pairs more than once: 'G0\\+G1'"):
        interaction_agreement(predicted.iloc[[0, 0, 1]], observed)
    predicted.attrs["genes"], observed.attrs["genes"] = ["a", "b"], ["b", "c"]
    with pytest.raises(DataError, match="over 2 genes .* not the same"):
        interaction_agreement(predicted, observed)
    with pytest.raises(ValueError, match="n_top=0"):
        interaction_agreement(predicted, observed, n_top=0)


def test_tables_read_from_a_file_can_be_compared(tables, tmp_path):
    predicted, observed = tables
    observed.attrs["genes"] = ["a"]
    predicted.to_csv(tmp_path / "gi.csv")
    read = pd.read_csv(tmp_path / "gi.csv", index_col=0, float_precision="round_trip")
    one, other = (interaction_agreement(table, observed, n_boot=20) for table in (predicted, read))
    pd.testing.assert_frame_equal(one.scores, other.scores)
    pd.testing.assert_frame_equal(one.confusion, other.confusion)


def test_two_rows_are_too_few_for_a_correlation():
    changes = AnnData(np.random.default_rng(0).normal(size=(5, 30)))
    changes.obs_names = ["A", "B", "C", "A+B", "A+C"]
    table = genetic_interactions(changes, layer=None)
    assert interaction_agreement(table, table).scores["pearson"].isna().all()
