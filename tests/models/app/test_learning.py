"""What APP learns on small screens with known truth: interactions where there are some, else nothing."""

from __future__ import annotations

import numpy as np

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY

SMALL = {"n_genes": 200, "n_modules": 6, "n_perturbable": 24, "n_pairs": 120, "n_cells": 60, "n_controls": 300}
SEED = 100  # settings were chosen on this seed, too; the benchmark reports others


def judged(preset, scheme, *, network="graph_partial", permuted=False, effect_scale=2.0, **settings):
    """The fitted model; errors of APP, of its ungated network and of its anchor on the same test conditions."""
    adata = spm.datasets.simulate(preset, seed=SEED, effect_scale=effect_scale, **SMALL)
    spm.pp.split(adata, scheme, seed=SEED)
    edges = adata.uns["scperturb_modules"]["simulation"][network]
    edges = spm.priors.degrade(edges, permute_labels=permuted, seed=SEED)
    spm.APP.setup_anndata(adata)
    model = spm.APP(adata, priors=[edges], seed=SEED, **settings)
    model.train()
    anchor = spm.baselines.AdditiveShrunk(adata, priors=[edges], seed=SEED)
    anchor.train()
    truth = spm.pp.pseudobulk(adata)
    columns = [
        spm.tl.evaluate(pred, truth, metrics=[PRIMARY]).set_index(["regime", "condition"])["value"]
        for pred in (model.predict(), model.predict(gate=False, store=False), anchor.predict())
    ]
    return model, *(column.loc[columns[0].index] for column in columns)


def paired_t(model, anchor, *regimes):
    """t of how much lower the error of the model is; 0 where both are the same to the last digits."""
    chosen = model.index.get_level_values("regime").isin(regimes)
    difference = (anchor - model)[chosen].to_numpy()
    assert len(difference) >= 10
    spread = difference.std(ddof=1)
    return 0.0 if spread < 1e-5 else difference.mean() / spread * np.sqrt(len(difference))


def test_interactions_of_measured_genes_are_learned():
    model, error, _, of_anchor = judged("default", "combination")
    assert model.gates["pair_2of2"].factor > 0
    assert paired_t(error, of_anchor, "pair_2of2") > 3
    assert error.mean() < 0.95 * of_anchor.mean()


def test_where_pairs_are_sums_nothing_is_lost_against_the_anchor():
    # something may be won: training pairs tell more of the effects of their genes than the singles in the anchor
    _, error, _, of_anchor = judged("additive_only", "combination", effect_scale=1.0)
    assert error.mean() < 1.01 * of_anchor.mean()
    assert paired_t(error, of_anchor, "pair_2of2") > -3


def test_a_network_of_wrong_names_wins_nothing_at_unseen_genes():
    _, error, ungated, of_anchor = judged("default", "unseen_gene", permuted=True, responses=False)
    regimes = ("pair_1of2", "pair_0of2", "single_unseen")
    assert paired_t(ungated, of_anchor, *regimes) < 3
    assert paired_t(error, of_anchor, *regimes) < 3
    # the network alone is worse than the anchor here, so that an open gate would be seen
    assert ungated.mean() > 1.02 * of_anchor.mean()
    assert error.mean() < 1.01 * of_anchor.mean()
