"""The same numbers as scperteval 0.2 where the definitions coincide, and other ones where they are meant to (E7)."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import metrics

if not os.environ.get("CI"):  # in CI a missing scperteval is a failure: a skipped test proves nothing
    pytest.importorskip("scperteval")

N, CELLS, G = 12, 35, 60
NAMES = [f"P{i:02d}" for i in range(N)]


class Case:
    """A screen of 12 conditions with 35 cells each, and predicted cells for the same conditions."""

    def __init__(self):
        rng = np.random.default_rng(0)
        base = rng.gamma(2.0, 0.5, G)
        effect = np.where(rng.random((N, G)) < 0.2, rng.normal(0, 0.8, (N, G)), 0.0)
        self.control = rng.normal(base, 0.4, (80, G))
        self.cells = rng.normal((base + effect)[:, None], 0.4, (N, CELLS, G))
        confused = 0.3 * effect + 0.3 * np.roll(effect, 1, axis=0)  # as near to a neighbour's truth as to the own
        self.predicted = rng.normal((base + confused)[:, None] + 0.1, 0.4, (N, CELLS, G))
        self.training_mean = base + rng.normal(0, 0.1, G)
        self.truth = self.cells.mean(axis=1) - self.control.mean(axis=0)
        self.prediction = self.predicted.mean(axis=1) - self.control.mean(axis=0)

    @staticmethod
    def adata(blocks: np.ndarray, control: np.ndarray | None = None):
        from anndata import AnnData

        x = blocks.reshape(-1, G) if control is None else np.vstack([blocks.reshape(-1, G), control])
        labels = np.repeat(NAMES, blocks.shape[1]).tolist() + ["control"] * (len(x) - blocks.shape[0] * blocks.shape[1])
        adata = AnnData(x, obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(x))]))
        adata.var_names = [f"G{i:02d}" for i in range(G)]
        return adata

    def theirs(self, protocol: str, predicted: np.ndarray | None = None, **options) -> np.ndarray:
        import scperteval

        predicted = self.predicted if predicted is None else predicted
        table = scperteval.score(self.prepared, protocol, self.adata(predicted), **options).per_perturbation
        return table.set_index("perturbation").loc[NAMES, "score"].to_numpy(dtype=float)


@pytest.fixture(scope="module")
def case():
    import scperteval

    case = Case()
    sources = {"train_pert": case.training_mean}
    case.prepared = scperteval.prepare(case.adata(case.cells, case.control), [], workers=1, sources=sources)
    return case


def ours(function, truth, prediction) -> np.ndarray:
    return np.array([function(t, h)[0] for t, h in zip(truth, prediction, strict=True)])


def test_pearson_against_controls(case):
    expected = case.theirs("pearson_ctrl")
    np.testing.assert_allclose(ours(metrics.pearson, case.truth, case.prediction), expected, atol=1e-6)


def test_pearson_against_the_training_mean(case):
    reference = case.training_mean - case.control.mean(axis=0)
    expected = case.theirs("pearson", center_on="train_pert")
    got = ours(metrics.pearson, case.truth - reference, case.prediction - reference)
    np.testing.assert_allclose(got, expected, atol=1e-6)
    # their own pearson_pert centres on the other *tested* conditions, which a predictor cannot know
    assert np.abs(got - case.theirs("pearson_pert")).max() > 0.01


def test_l2_over_the_genes_highest_in_controls(case):
    genes = metrics.top_genes(case.control.mean(axis=0), [f"G{i:02d}" for i in range(G)], n=25)
    got = ours(metrics.l2, case.truth[:, genes], case.prediction[:, genes])
    np.testing.assert_allclose(got, case.theirs("l2_heg_k=25"), atol=1e-6)


def test_mse(case):
    np.testing.assert_allclose(ours(metrics.mse, case.truth, case.prediction), case.theirs("mse"), atol=1e-6)


def test_discrimination_without_excluded_genes_is_their_nir(case):
    expected = case.theirs("nir")
    assert len(set(expected)) > 1  # not all conditions are told apart, or the test could not fail
    np.testing.assert_allclose(metrics.pds_l2(case.truth, case.prediction)[0], expected, atol=1e-12)
    # ours takes the target genes out, and the primary variant measures absolute differences
    excluded = [np.flatnonzero(np.abs(t) > 0.8) for t in case.truth]
    assert metrics.pds_l2(case.truth, case.prediction, excluded)[0].tolist() != expected.tolist()


def test_ties_count_half_and_not_by_noise(case):
    same = np.tile(case.predicted[:1], (N, 1, 1))
    same_truth = np.tile(case.truth[:1], (N, 1))
    assert metrics.pds_l2(same_truth, same.mean(axis=1))[0].tolist() == [0.5] * N
    import scperteval

    equal = scperteval.prepare(case.adata(np.tile(case.cells[:1], (N, 1, 1)), case.control), [], workers=1)
    table = scperteval.score(equal, "nir", case.adata(same)).per_perturbation
    assert set(table["score"]) != {0.5}


def test_average_precision_of_changed_genes(case):
    """Theirs tests against all other perturbed cells and ranks by the t of predicted cells; the area is the same."""
    from scipy.stats import ttest_ind
    from scperteval.blocks.de import bh

    got = []
    for p in range(N):
        others = np.delete(case.cells, p, axis=0).reshape(-1, G)
        raw = ttest_ind(case.cells[p], others, equal_var=False).pvalue
        significant, tested = metrics.significant_genes(raw, np.ones(G))
        assert tested.all()
        assert significant.tolist() == (bh(raw) < 0.05).tolist()
        score = np.abs(ttest_ind(case.predicted[p], others, equal_var=False).statistic)
        got.append(metrics.average_precision(significant, score)[0])
    np.testing.assert_allclose(got, case.theirs("de_auprc"), atol=1e-6)


def test_a_prediction_without_information_is_zero_here_and_nan_there(case):
    constant = np.full_like(case.predicted, 0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's division by zero inside scperteval
        assert np.isnan(case.theirs("pearson", predicted=constant)).all()
    assert ours(metrics.pearson, case.cells.mean(axis=1), constant.mean(axis=1)).tolist() == [0.0] * N


def test_one_predicted_row_per_condition_cannot_be_ranked_by_t_there(case):
    """Their t needs cells; ours scores the predicted mean, and a perfect one finds every changed gene first."""
    from scipy.stats import norm

    perfect = case.cells.mean(axis=1, keepdims=True)
    theirs = case.theirs("de_auprc", predicted=perfect)
    se2 = np.full(G, 0.4**2 * (1 / CELLS + 1 / 80))
    for t in case.truth:
        significant, _ = metrics.significant_genes(2 * norm.sf(np.abs(t) / np.sqrt(se2)), np.ones(G))
        assert metrics.average_precision(significant, metrics.de_score(t, se2))[0] == 1.0
    assert theirs.min() < 0.99


def against_others(case):
    """(P, G) Welch t of the true cells of each condition against all other perturbed cells."""
    from scipy.stats import ttest_ind

    others = [np.delete(case.cells, p, axis=0).reshape(-1, G) for p in range(N)]
    return [ttest_ind(x, y, equal_var=False).statistic for x, y in zip(case.cells, others, strict=True)]


def test_weighted_errors(case):
    weights = [metrics.effect_weights(t) for t in against_others(case)]
    lots = list(zip(case.truth, case.prediction, weights, strict=True))
    got = [metrics.weighted_mse(*lot)[0] for lot in lots]
    np.testing.assert_allclose(got, case.theirs("wmse_exp2"), atol=1e-6)
    got = [metrics.weighted_r2(*lot)[0] for lot in lots]
    np.testing.assert_allclose(got, case.theirs("weighted_r2_ctrl_exp2"), atol=1e-6)
    assert min(got) < 0  # not cut below


def test_explained_variance_without_weights(case):
    equal = np.full(G, 1 / G)
    got = [metrics.weighted_r2(t, h, equal)[0] for t, h in zip(case.truth, case.prediction, strict=True)]
    np.testing.assert_allclose(got, case.theirs("r2_ctrl"), atol=1e-6)


def test_transposed_rank_is_theirs_read_from_the_other_end(case):
    """``rank`` there is 0 for the best."""
    scores, _ = metrics.rank_t(case.truth, case.prediction)
    np.testing.assert_allclose(1 - scores, case.theirs("rank"), atol=1e-6)
    assert scores.tolist() != metrics.pds_l2(case.truth, case.prediction)[0].tolist()


def test_distances_of_populations(case):
    from scperteval.protocols import metrics as theirs

    for p in range(N):
        sides = case.cells[p], case.predicted[p]
        assert metrics.edist(*sides)[0] == pytest.approx(theirs.energy_distance(*sides, None), abs=1e-6)
        assert metrics.mmd(*sides)[0] == pytest.approx(theirs.unbiased_mmd_median(*sides, None), abs=1e-6)
    few = case.cells[0][:9], case.predicted[0]
    assert np.isnan(metrics.edist(*few)[0]) and np.isfinite(theirs.energy_distance(*few, None))
    equal = np.ones((20, G))
    assert metrics.mmd(equal, equal)[1] == "degenerate" and theirs.unbiased_mmd_median(equal, equal, None) == 0.0


def test_lists_of_changed_genes_are_cut_by_change_here_and_by_t_there(case):
    theirs = case.theirs("de_overlap_k=20")
    got = ours(lambda t, h: metrics.top_overlap(t, h, k=20), case.truth, case.prediction)
    assert np.abs(got - theirs).max() > 0.01
