"""Folds over genes, in which settings are chosen inside the training side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scperturb_modules.baselines._training import Index

N_FOLDS = 5


def gene_folds(genes: Iterable[str], *, seed: int) -> dict[str, int]:
    """Deal genes to five folds; depends on their names and the seed only.

    >>> sorted(gene_folds(["C", "A", "B"], seed=0).values())
    [0, 1, 2]
    """
    names = sorted(set(genes))
    shuffled = np.random.default_rng(seed).permutation(len(names))
    return {names[i]: int(position % N_FOLDS) for position, i in enumerate(shuffled)}


def split_rows(genes: Sequence[tuple[str, ...]], folds: Mapping[str, int], fold: int) -> tuple[Index, Index]:
    """Row numbers without any gene of a fold, to train on, and those with genes of the fold only, to predict.

    A combination of held-out and other genes is in neither: it would reward knowing the other genes.
    """
    in_fold = [[folds[gene] == fold for gene in row] for row in genes]
    train = np.array([not any(inside) for inside in in_fold], dtype=bool)
    held_out = np.array([all(inside) for inside in in_fold], dtype=bool)
    return np.flatnonzero(train), np.flatnonzero(held_out)
