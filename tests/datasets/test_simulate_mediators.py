"""The mediator screen: changes are sums of the signatures of three neighbours."""

from __future__ import annotations

import numpy as np

import scperturb_modules as spm


def test_changes_are_sums_over_mediators():
    adata = spm.datasets.simulate_mediators(n_perturbations=60, n_cells=200, n_controls=2000, seed=3)
    truth = adata.uns["scperturb_modules"]["simulation"]["mediators"]
    delta = spm.pp.pseudobulk(adata).to_df("delta")
    members = np.array(
        [[gene in set(truth.loc[name]) for gene in sorted(set(truth.to_numpy().ravel()))] for name in delta.index]
    )
    signatures, *_ = np.linalg.lstsq(members.astype(float), delta.to_numpy(), rcond=None)
    left = delta.to_numpy() - members @ signatures
    assert np.abs(left).mean() < 0.05 < np.abs(delta.to_numpy()).mean()


def test_mediators_are_neighbours_and_nobody_else_leads_to_them():
    stored = spm.datasets.simulate_mediators(seed=0).uns["scperturb_modules"]["simulation"]
    graph = spm.priors.GeneGraph.from_table(stored["graph"])
    edges = {frozenset((graph.genes[a], graph.genes[b])) for a, b in zip(graph.source, graph.target, strict=True)}
    planted = {frozenset((gene, one)) for gene, row in stored["mediators"].iterrows() for one in row}
    assert planted == {edge for edge in edges if {name[0] for name in edge} == {"P", "M"}}
    assert len(edges) > len(planted)


def test_a_seed_is_a_screen():
    one, same, other = (spm.datasets.simulate_mediators(n_perturbations=12, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.X, same.X)
    assert (one.X != other.X).any()
