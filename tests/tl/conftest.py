"""Screens and predictors that the tests of ``tl`` share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


def make_planted(
    *,
    n_singles: int = 12,
    n_pairs: int = 12,
    n_cells: int = 40,
    n_controls: int = 160,
    n_genes: int = 60,
    effect: float = 0.3,
    interaction: float = 0.0,
    contexts: tuple[str, ...] = (),
    seed: int = 0,
):
    """Log expression, normal per gene with sd .4, with planted single effects and pairs = sum + interaction.

    Genes are ``G00``, ...; singles perturb the first of them; ``uns["planted"]`` has the true change of each label.
    """
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    genes = [f"G{i:02d}" for i in range(n_genes)]
    single = {gene: rng.normal(0, effect, n_genes) for gene in genes[:n_singles]}
    pairs = [(genes[i], genes[(i + step) % n_singles]) for step in (1, 2) for i in range(n_singles)][:n_pairs]
    changes = {"control": np.zeros(n_genes), **single}
    for pair in pairs:
        changes["+".join(sorted(pair))] = sum(single[g] for g in pair) + rng.normal(0, interaction, n_genes)
    base = rng.uniform(1.5, 3, n_genes)
    labels, where, blocks = [], [], []
    for context in contexts or ("",):
        for label, change in changes.items():
            n = n_controls if label == "control" else n_cells
            labels += [label] * n
            where += [context] * n
            blocks.append(base + change + rng.normal(0, 0.4, (n, n_genes)))
    obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(len(labels))])
    if contexts:
        obs["line"] = where
    adata = AnnData(np.vstack(blocks).astype(np.float32), obs=obs, var=pd.DataFrame(index=genes))
    adata.uns["planted"] = pd.DataFrame(changes, index=genes).T
    return adata


@pytest.fixture(scope="session")
def planted():
    """The function that makes a screen with planted effects."""
    return make_planted


class Model:
    """A minimal predictor: no change; subclasses say more."""

    def __init__(self, adata, *, priors=None, seed=0):
        self.adata, self.seed, self.is_trained = adata, seed, False

    @classmethod
    def setup_anndata(cls, adata, *, perturbation_key, control, layer, batch_key, cell_type_key, split_key):
        adata.uns["setup_done"] = True

    def train(self):
        assert self.adata.uns["setup_done"]
        self.is_trained = True

    def delta(self, name):
        return np.zeros(self.adata.n_vars)

    def predict(self, conditions=None):
        from anndata import AnnData

        delta = np.array([self.delta(name) for name in conditions])
        obs = pd.DataFrame(index=list(conditions))
        prediction = AnnData(delta, obs=obs, var=pd.DataFrame(index=self.adata.var_names))
        prediction.layers["delta"] = delta
        return prediction


@pytest.fixture(scope="session")
def model_class():
    """A minimal predictor class to derive from."""
    return Model
