from __future__ import annotations

import itertools

import numpy as np

from scperturb_modules.baselines._folds import N_FOLDS, gene_folds, split_rows

GENES = [f"G{i:02d}" for i in range(23)]


def test_folds_are_even_and_depend_on_names_and_seed_only():
    folds = gene_folds(GENES, seed=1)
    assert sorted(np.bincount(list(folds.values()))) == [4, 4, 5, 5, 5]
    assert folds == gene_folds(GENES[::-1] + GENES, seed=1)
    assert folds != gene_folds(GENES, seed=2)


def test_no_held_out_gene_is_in_a_training_row_and_no_other_in_a_held_out_one():
    rows = [(gene,) for gene in GENES] + list(itertools.combinations(GENES, 2))
    folds = gene_folds(GENES, seed=0)
    for fold in range(N_FOLDS):
        train, held_out = split_rows(rows, folds, fold)
        inside = [{folds[gene] == fold for gene in row} for row in rows]
        assert train.tolist() == [i for i, some in enumerate(inside) if some == {False}]
        assert held_out.tolist() == [i for i, some in enumerate(inside) if some == {True}]
        assert 0 < len(held_out) < len(train) < len(rows) - len(held_out)
