"""Who is trained on what: members see all conditions, fold members leave some out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._errors import DataError
from scperturb_modules.baselines._folds import MIN_COMBINATIONS


@dataclass(frozen=True)
class Members:
    """The members of an ensemble.

    Parameters
    ----------
    n_members
        Members that are trained on everything; the first ones.
    held_out
        (P, M) bool, which training rows each member leaves out.
    hidden_genes
        For each member the genes of which it has seen no perturbation; empty for members and for folds of combinations.
    """

    n_members: int
    held_out: NDArray[np.bool_]
    hidden_genes: tuple[frozenset[str], ...]

    @property
    def trains(self) -> NDArray[np.bool_]:
        """(P, M)."""
        return ~self.held_out

    @property
    def left_out_by_all(self) -> NDArray[np.bool_]:
        """(P,) rows of the validation part."""
        return np.asarray(self.held_out.all(axis=1), dtype=bool)


def deal_members(
    names: Sequence[str],
    genes: Sequence[tuple[str, ...]],
    is_validation: NDArray[np.bool_],
    *,
    n_members: int,
    n_folds: int,
    seed: int,
) -> Members:
    """Deal training rows to the members.

    Fold members come in two kinds. The first leave out every condition with a gene of their fold: for them these genes
    are unseen, as in a combination of unmeasured genes. The second leave out combinations only: for them these are new
    pairs of measured genes. Rows of the validation part are left out by all.

    Parameters
    ----------
    names, genes
        (P,) conditions without their context, and their genes. The same condition in two contexts is in one fold.
    is_validation
        (P,) bool.
    n_members, n_folds, seed
        As in the settings. With fewer genes than folds there are as many folds as genes.

    Raises
    ------
    DataError
        Every row is in the validation part.
    """
    if np.all(is_validation):
        raise DataError(
            f"all {len(names)} training conditions are in the validation part of the split; give some of them "
            "obs['split'] = 'train'."
        )
    columns = [np.zeros(len(names), dtype=bool)] * n_members
    hidden: list[frozenset[str]] = [frozenset()] * n_members
    trained = [pair for pair, left in zip(zip(names, genes, strict=True), is_validation, strict=True) if not left]
    single_genes = sorted({gene for _, row in trained for gene in row})
    combinations = sorted({name for name, row in trained if len(row) > 1})
    rng = np.random.default_rng(seed)
    if n_folds and len(single_genes) > 1:
        for fold in _dealt(single_genes, n_folds, rng):
            columns.append(np.array([not fold.isdisjoint(row) for row in genes], dtype=bool))
            hidden.append(fold)
    if n_folds and len(combinations) >= MIN_COMBINATIONS:
        for fold in _dealt(combinations, n_folds, rng):
            columns.append(np.array([name in fold for name in names], dtype=bool))
            hidden.append(frozenset())
    held_out = np.column_stack(columns) | is_validation[:, None]
    # a fold member that would be left with nothing is left out itself
    kept = np.flatnonzero(np.any(~held_out, axis=0))
    return Members(n_members, held_out[:, kept], tuple(hidden[member] for member in kept))


def _dealt(names: Sequence[str], n_folds: int, rng: np.random.Generator) -> list[frozenset[str]]:
    """Deal sorted names to folds; by names and seed only."""
    shuffled = rng.permutation(len(names))
    n = min(n_folds, len(names))
    return [frozenset(names[i] for i in shuffled[fold::n]) for fold in range(n)]
