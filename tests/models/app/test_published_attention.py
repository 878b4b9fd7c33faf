"""The published network finds planted mediators by its attention, and not when the network's labels are permuted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import scperturb_modules as spm

HELD_OUT = 24


def mean_auroc(attention, mediators):
    """Mean over perturbations of the AUROC of attention for their mediators, their own gene left out."""
    values = []
    for gene in attention.index:
        row = attention.loc[gene].drop(gene)
        values.append(roc_auc_score(row.index.isin(list(mediators.loc[gene])), row))
    return float(np.mean(values))


@pytest.mark.parametrize("seed", [0, 1])
def test_mediators_of_unseen_perturbations_are_attended_to(seed):
    adata = spm.datasets.simulate_mediators(seed=seed)
    truth = adata.uns["scperturb_modules"]["simulation"]
    held_out = sorted(np.random.default_rng(seed).permutation(list(truth["mediators"].index))[:HELD_OUT])
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(held_out), "test", "train")
    found = {}
    for permuted in (False, True):
        network = spm.priors.degrade(truth["graph"], permute_labels=permuted, seed=seed)
        spm.APP.setup_anndata(adata)
        # a sum tells several mediators apart where a mean blurs them; both are readings of the published equation
        model = spm.APP(
            adata, priors=[network], preset="paper", seed=seed, d=64, n_layers=1, agg="sum", final_activation=False
        )
        model.train(max_epochs=60)
        found[permuted] = mean_auroc(model.get_attention(held_out), truth["mediators"])
    assert found[False] >= 0.8, found
    assert found[True] <= 0.65, found
