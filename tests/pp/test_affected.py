"""Affected genes: Welch's test from moments against scipy on the cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pp import affected_genes, pseudobulk
from scperturb_modules.pp._affected import welch


@pytest.fixture
def cells() -> AnnData:
    """Four perturbations, twelve genes; A raises g0 and g3 strongly and g3 is also a target; g11 is hardly detected."""
    rng = np.random.default_rng(0)
    label = np.repeat(["control", "A", "A+g3", "B"], [120, 60, 50, 40])
    X = rng.gamma(2, 1, (len(label), 12))
    X[:, 11] = 0
    X[0, 11] = 5
    X[np.char.startswith(label, "A"), 0] += 2
    X[np.char.startswith(label, "A"), 3] += 3
    obs = pd.DataFrame({"perturbation": label}, index=[f"c{i}" for i in range(len(label))])
    return AnnData(X, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(12)]))


def test_equals_scipy_on_the_cells(cells):
    table = affected_genes(pseudobulk(cells), n_top=20).set_index(["perturbation", "gene"])
    control = cells.X[cells.obs["perturbation"] == "control"]
    for condition in ("A", "A+g3", "B"):
        own = cells.X[cells.obs["perturbation"] == condition]
        expected = stats.ttest_ind(own, control, equal_var=False)
        tested = [i for i in range(11) if not (condition == "A+g3" and i == 3)]
        rows = table.loc[condition].loc[[f"g{i}" for i in tested]]
        assert len(table.loc[condition]) == len(tested)
        np.testing.assert_allclose(rows["t"], expected.statistic[tested], rtol=1e-10)
        np.testing.assert_allclose(rows["p"], expected.pvalue[tested], rtol=1e-10)
        np.testing.assert_allclose(rows["delta"], (own.mean(0) - control.mean(0))[tested], rtol=1e-10)
        np.testing.assert_allclose(rows["q"], stats.false_discovery_control(expected.pvalue[tested]), rtol=1e-9)
        order = np.argsort(-np.abs(expected.statistic[tested]))
        assert list(rows["rank"].iloc[order]) == list(range(1, len(tested) + 1))
        assert list(table.loc[condition]["rank"]) == list(range(1, len(tested) + 1))


def test_degrees_of_freedom_equal_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 7), rng.normal(0.5, 3, 19)
    se2_b = b.var(ddof=1) / len(b)
    expected = stats.ttest_ind(a, b, equal_var=False)
    t, df, p = welch(np.array(a.mean() - b.mean()), np.array(a.var(ddof=1) / 7 + se2_b), np.array(se2_b), 7, 19)
    np.testing.assert_allclose([t, df, p], [expected.statistic, expected.df, expected.pvalue], rtol=1e-12)


def test_without_variance():
    delta, zero = np.array([0.0, 2.0, 1.0]), np.zeros(3)
    t, _, p = welch(delta, np.array([0, 0, np.nan]), zero, np.array(5), np.array(5))
    np.testing.assert_array_equal(t, [0, np.inf, np.nan])
    np.testing.assert_array_equal(p, [1, 0, np.nan])


def test_lists_significant_or_top(cells):
    truth = pseudobulk(cells)
    significant = affected_genes(truth, condition="A", n_top=0)
    assert set(significant["gene"]) >= {"g0", "g3"}
    assert (significant["q"] < 0.05).all()
    assert list(affected_genes(truth, condition="A", n_top=4)["rank"][:4]) == [1, 2, 3, 4]
    assert affected_genes(truth, condition="A", n_top=0, fdr=0).empty
    assert list(affected_genes(truth, n_top=1, fdr=0)["perturbation"]) == ["A", "A+g3", "B"]


def test_targets_and_undetected_genes_are_left_out(cells):
    truth = pseudobulk(cells)
    assert "g3" not in set(affected_genes(truth, condition="A+g3")["gene"])
    with_target = affected_genes(truth, condition="A+g3", exclude_targets=False)
    assert with_target["gene"].iloc[0] == "g3"
    assert "g11" not in set(with_target["gene"])
    assert "g11" in set(affected_genes(truth, condition="A", min_detection=0)["gene"])


def test_contexts_are_told_apart(cells):
    cells.obs["cell_type"] = np.resize(["T1", "T2"], cells.n_obs)
    truth = pseudobulk(cells, cell_type_key="cell_type")
    both = affected_genes(truth, condition=["B|T2", "A"], n_top=2, fdr=0)
    assert list(both["perturbation"]) == ["B"] * 2 + ["A"] * 4
    assert list(both["cell_type"]) == ["T2"] * 2 + ["T1"] * 2 + ["T2"] * 2
    one = affected_genes(truth, condition="A|T1", n_top=2, fdr=0)
    pd.testing.assert_frame_equal(one, both.iloc[2:4].reset_index(drop=True))


def test_one_cell_has_no_row(cells):
    lone = pseudobulk(cells[np.r_[:120, 120:180, 269]].copy())
    assert set(affected_genes(lone)["perturbation"]) == {"A"}


def test_ties_go_by_name_and_gene_order_does_not_matter(cells):
    cells.X[:, 7] = cells.X[:, 8]
    table = affected_genes(pseudobulk(cells), condition="B")
    ranks = table.set_index("gene")["rank"]
    assert ranks["g8"] == ranks["g7"] + 1
    reverse = affected_genes(pseudobulk(cells[:, ::-1].copy()), condition="B")
    pd.testing.assert_frame_equal(table, reverse)


def test_errors(cells):
    truth = pseudobulk(cells)
    with pytest.raises(DataError, match=r"2 conditions are not in truth: 'D', 'A\|T1'; see truth.obs_names"):
        affected_genes(truth, condition=["A", "D", "A|T1"])
    with pytest.raises(MissingKeyError, match=r"layers\['delta'\].*spm\.pp\.pseudobulk"):
        affected_genes(cells)
