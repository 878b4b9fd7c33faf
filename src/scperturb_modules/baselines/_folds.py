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
    """Row numbers without any gene of a fold, and those with one: no held-out gene is in a training row."""
    held_out = np.array([any(folds[gene] == fold for gene in row) for row in genes], dtype=bool)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
