"""The same numbers as cell-eval 0.8 where the definitions coincide, and other ones where they are meant to (E7)."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest

from scperturb_modules import metrics

if not os.environ.get("CI"):  # in CI a missing cell-eval is a failure: a skipped test proves nothing
    pytest.importorskip("cell_eval")

pytestmark = pytest.mark.filterwarnings("ignore")  # of cell-eval and what it imports

N, CELLS, G = 12, 35, 60
NAMES = [f"G{i:02d}" for i in range(N)]  # each condition perturbs the gene of its name


class Case:
    """Log-normalised cells of 12 conditions; the last one changes nothing. Predicted cells, and real controls."""

    def __init__(self):
        rng = np.random.default_rng(0)
        base = rng.gamma(2.0, 0.5, G) + 0.5
        effect = np.where(rng.random((N, G)) < 0.25, rng.normal(0, 0.6, (N, G)), 0.0)
        effect[np.arange(N), np.arange(N)] = -0.5
        effect[-1] = 0
        self.controls = self.draw(rng, base, (80, G))
        self.cells = self.draw(rng, (base + effect)[:, None], (N, CELLS, G))
        confused = 0.5 * effect + 0.4 * np.roll(effect, 1, axis=0)
        self.predicted = self.draw(rng, (base + confused)[:, None], (N, CELLS, G))
        self.truth = self.cells.mean(axis=1) - self.controls.mean(axis=0)
        self.prediction = self.predicted.mean(axis=1) - self.controls.mean(axis=0)

    @staticmethod
    def draw(rng, mean, shape):
        return np.maximum(rng.normal(mean, 0.35, shape), 0.0)

    def adata(self, blocks):
        from anndata import AnnData

        labels = np.repeat(NAMES, CELLS).tolist() + ["control"] * len(self.controls)
        obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
        adata = AnnData(np.vstack([blocks.reshape(-1, G), self.controls]), obs=obs)
        adata.var_names = [f"G{i:02d}" for i in range(G)]
        return adata


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.fixture(scope="module")
def evaluator(case, tmp_path_factory):
    from cell_eval import MetricsEvaluator

    return MetricsEvaluator(
        adata_pred=case.adata(case.predicted),
        adata_real=case.adata(case.cells),
        control_pert="control",
        pert_col="perturbation",
        num_threads=1,
        outdir=str(tmp_path_factory.mktemp("cell_eval")),
    )


@pytest.fixture(scope="module")
def theirs(evaluator):
    skipped = ["pearson_edistance", "clustering_agreement"]
    table, _ = evaluator.compute(profile="full", skip_metrics=skipped, write_csv=False, break_on_error=True)
    return table.to_pandas().set_index("perturbation").loc[NAMES]


def ours(function, truth, prediction):
    return np.array([function(t, h)[0] for t, h in zip(truth, prediction, strict=True)])


@pytest.mark.parametrize(
    ("name", "function"),
    [("mae", metrics.mae), ("mae_delta", metrics.mae), ("mse", metrics.mse), ("mse_delta", metrics.mse),
     ("pearson_delta", metrics.pearson)],
)  # fmt: skip
def test_metrics_of_means(case, theirs, name, function):
    """Both sides of ours are changes; with one control on both sides an error of means is an error of changes."""
    np.testing.assert_allclose(ours(function, case.truth, case.prediction), theirs[name], atol=1e-6)


def test_discrimination_differs_by_the_number_that_divides_the_rank(case, theirs):
    own = [[i] for i in range(N)]
    for name, function in (("l1", metrics.pds_l1), ("l2", metrics.pds_l2), ("cosine", metrics.pds_cos)):
        their_scores = theirs[f"discrimination_score_{name}"].to_numpy(dtype=float)
        scores, _ = function(case.truth, case.prediction, own)
        np.testing.assert_allclose(1 - (1 - scores) * (N - 1) / N, their_scores, atol=1e-6, err_msg=name)
        assert len(set(scores)) > 1 and np.abs(scores - their_scores).max() > 0.005


def test_only_ours_takes_out_both_targets_of_a_pair(case):
    """Theirs leaves out a gene whose name equals the label: of ``A+B`` none."""
    from cell_eval._types import PerturbationAnndataPair
    from cell_eval.metrics import discrimination_score

    targets = [sorted(np.argsort(-np.abs(t))[:2].tolist()) for t in case.truth]
    pairs = [f"G{a:02d}+G{b:02d}" for a, b in targets]
    both = []
    for blocks in (case.predicted, case.cells):
        adata = case.adata(blocks)
        renamed = dict(zip(NAMES, pairs, strict=True))
        adata.obs["perturbation"] = adata.obs["perturbation"].map(lambda name, renamed=renamed: renamed.get(name, name))
        both.append(adata)
    found = discrimination_score(PerturbationAnndataPair(both[1], both[0], "perturbation", "control"), metric="l1")
    theirs = np.array([found[name] for name in pairs])
    kept, _ = metrics.pds_l1(case.truth, case.prediction)
    np.testing.assert_allclose(1 - (1 - kept) * (N - 1) / N, theirs, atol=1e-6)
    removed, _ = metrics.pds_l1(case.truth, case.prediction, targets)
    assert np.abs(removed - kept).max() > 0


def test_ties_are_broken_by_the_sort_there(case):
    from cell_eval._types import PerturbationAnndataPair
    from cell_eval.metrics import discrimination_score

    same = case.adata(np.tile(case.cells[:1], (N, 1, 1)))
    found = discrimination_score(PerturbationAnndataPair(same, same.copy(), "perturbation", "control"), metric="l1")
    assert len(set(found.values())) > 1  # one prediction for all, and all truths the same
    truth = np.tile(case.truth[:1], (N, 1))
    assert metrics.pds_l1(truth, truth)[0].tolist() == [0.5] * N


def test_significant_genes_are_the_same(case, evaluator):
    table = evaluator.de_comparison.real.data.to_pandas()
    for p, name in enumerate(NAMES):
        rows = table[table["target"].astype(str) == name].set_index("feature")
        rows.index = rows.index.astype(str)
        called = (rows["fdr"] < 0.05).reindex([f"G{i:02d}" for i in range(G)]).to_numpy()
        assert metrics.changed_genes(case.cells[p], case.controls)[0].tolist() == called.tolist()


def test_differential_expression_score_with_their_fold_changes(case, evaluator, theirs):
    """The overlap is theirs; which called genes are kept depends on the fold change, log of means there."""
    genes = [f"G{i:02d}" for i in range(G)]
    cut = 0
    for p, name in enumerate(NAMES):
        sides = []
        for side in (evaluator.de_comparison.real, evaluator.de_comparison.pred):
            rows = side.data.to_pandas()
            rows = rows[rows["target"].astype(str) == name].set_index("feature")
            rows.index = rows.index.astype(str)
            sides.append(rows.reindex(genes))
        true, called = ((side["fdr"] < 0.05).to_numpy() for side in sides)
        value, status = metrics.des_overlap(true, called, sides[1]["abs_log2_fold_change"].to_numpy())
        cut += called.sum() > true.sum()
        if true.any():
            assert value == pytest.approx(theirs["overlap_at_N"].iloc[p], abs=1e-6)
        else:
            assert status == "no_true_de" and np.isnan(value) and theirs["overlap_at_N"].iloc[p] == 0
    assert cut > 0


def test_nothing_truly_changed_is_zero_there_and_undefined_here(case, theirs):
    value, status = metrics.des(case.cells[-1], case.predicted[-1], case.controls, case.controls)
    assert status == "no_true_de" and np.isnan(value) and theirs["overlap_at_N"].iloc[-1] == 0


def test_score_of_cells_agrees_where_no_list_is_cut(case, theirs):
    agree = 0
    for p in range(N - 1):
        true, _ = metrics.changed_genes(case.cells[p], case.controls)
        called, _ = metrics.changed_genes(case.predicted[p], case.controls)
        if called.sum() <= true.sum():
            value, _ = metrics.des(case.cells[p], case.predicted[p], case.controls, case.controls)
            assert value == pytest.approx(theirs["overlap_at_N"].iloc[p], abs=1e-6)
            agree += 1
    assert agree > 2


def test_energy_distance_over_all_pairs_is_theirs(case):
    """Theirs averages over all pairs, i = i among them: ``edist_v``."""
    from sklearn.metrics import pairwise_distances

    for p in range(3):
        x, y = case.cells[p], case.controls
        theirs = 2 * pairwise_distances(x, y).mean() - pairwise_distances(x).mean() - pairwise_distances(y).mean()
        assert metrics.edist_v(x, y)[0] == pytest.approx(theirs, abs=1e-6)
        bias = pairwise_distances(x).mean() / (len(x) - 1) + pairwise_distances(y).mean() / (len(y) - 1)
        assert metrics.edist(x, y)[0] == pytest.approx(theirs - bias, abs=1e-6)
