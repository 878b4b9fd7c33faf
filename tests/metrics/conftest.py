"""A small world of conditions in which every metric can be computed by its entry in the table."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.metrics import METRICS, de_genes, de_score, effect_weights, significant_genes, top_genes

N_CONDITIONS, N_GENES = 40, 240


class World:
    """True changes of 40 conditions: a common shift, and 30 genes of their own with sizes that differ by condition."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.names = [f"G{i:03d}" for i in range(N_GENES)]
        self.control_mean = rng.gamma(2.0, 0.5, N_GENES)
        self.se2 = rng.uniform(0.002, 0.02, N_GENES)
        own = np.zeros((N_CONDITIONS, N_GENES))
        for row in own:
            row[rng.choice(N_GENES, 30, replace=False)] = rng.normal(0, rng.lognormal(-0.5, 0.6), 30)
        self.truth = 0.1 * rng.normal(size=N_GENES) + own + rng.normal(size=own.shape) * np.sqrt(self.se2)
        self.training_mean = self.truth.mean(axis=0) + 0.02 * rng.normal(size=N_GENES)
        self.noise = np.broadcast_to(self.se2 / 2, own.shape)

    def score(self, name: str, prediction: np.ndarray) -> np.ndarray:
        """Values of a metric: (P,) per condition, or one number."""
        metric = METRICS[name]
        if metric.kind == "across":
            return metric.function(self.truth, prediction, None)[0]
        if metric.kind == "dataset":
            aside = (self.noise,) if metric.aside else ()
            return np.array([metric.function(self.truth, prediction, *aside)[0]])
        return np.array([self._row(metric, row, prediction[row]) for row in range(len(prediction))])

    def _row(self, metric, row, predicted):
        center = self.training_mean if metric.reference != "ctrl" else 0.0
        true, predicted = self.truth[row] - center, predicted - center
        significant, tested = self.significant(true)
        t = true / np.sqrt(self.se2)
        genes = {
            "all": np.arange(N_GENES),
            "top1000": top_genes(self.control_mean, self.names, n=100),
            "de20": de_genes(t, np.ones(N_GENES)),
            "tested": np.flatnonzero(tested),
            "significant": np.flatnonzero(significant),
        }[metric.gene_set]
        weights = effect_weights((self.truth[row] - self.training_mean) / np.sqrt(self.se2))
        aside = {None: (), "noise": (self.noise[row],), "weights": (weights,)}[metric.aside]
        if metric.target in ("significance", "direction"):
            up = metric.target == "direction"
            true = significant * (np.sign(true) if up else 1.0)
            predicted = de_score(predicted, self.se2) * (np.sign(predicted) if up else 1.0)
        if metric.target == "mean":
            true, predicted = true + self.control_mean, predicted + self.control_mean
        return metric.function(true[genes], predicted[genes], *(values[genes] for values in aside))[0]

    def significant(self, true):
        from scipy.stats import norm

        p = 2 * norm.sf(np.abs(true) / np.sqrt(self.se2))
        return significant_genes(p, np.ones(N_GENES))


@pytest.fixture(scope="module")
def world() -> World:
    return World()
