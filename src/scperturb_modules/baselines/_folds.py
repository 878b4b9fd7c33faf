"""Folds over genes, in which settings are chosen inside the training side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from scperturb_modules.baselines._training import Index, TrainingData

N_FOLDS = 5

MIN_COMBINATIONS = 10
"""Fewer combinations than this get no folds of their own."""


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


def folds_to_leave_out(data: TrainingData, *, seed: int) -> Iterator[NDArray[np.bool_]]:
    """(P,) masks of conditions to leave out: all of some genes, so that these are new; then some combinations only.

    A fold without which nothing is left to train on is left out itself.
    """
    of_gene = gene_folds({gene for row in data.genes for gene in row}, seed=seed)
    combinations = {row[0] for row, genes in zip(data.rows, data.genes, strict=True) if len(genes) > 1}
    of_combination = gene_folds(combinations, seed=seed) if len(combinations) >= MIN_COMBINATIONS else {}
    for fold in range(N_FOLDS):
        yield from _usable([fold in {of_gene[gene] for gene in genes} for genes in data.genes])
    for fold in range(N_FOLDS):
        yield from _usable([of_combination.get(condition) == fold for condition, _ in data.rows])


def _usable(held_out: Sequence[bool]) -> Iterator[NDArray[np.bool_]]:
    mask = np.array(held_out, dtype=bool)
    if mask.any() and not mask.all():
        yield mask
