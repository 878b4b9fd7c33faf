"""Gene x feature tables side by side, as one embedding of genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from scperturb_modules.baselines._training import Array, Index
from scperturb_modules.priors._standardise import standardised


@dataclass(frozen=True)
class Embedding:
    """One vector per covered gene.

    Attributes
    ----------
    genes
        The n covered genes, sorted.
    values
        (n, F) float64, standardised columns of all tables side by side; each table has the same weight.
    """

    genes: tuple[str, ...]
    values: Array

    @cached_property
    def row(self) -> Mapping[str, int]:
        """Row number of each gene."""
        return {gene: i for i, gene in enumerate(self.genes)}

    def __contains__(self, gene: object) -> bool:
        return gene in self.row

    def rows(self, genes: Iterable[str]) -> Index:
        """Row numbers of covered genes."""
        return np.array([self.row[gene] for gene in genes], dtype=np.intp)


def fuse_tables(tables: Mapping[str, pd.DataFrame]) -> Embedding | None:
    """Put tables side by side; None when they cover no gene.

    Columns are standardised over the genes of their table, and each table is divided by the root of its number of
    columns, so that a wide table does not outvote a narrow one. A row with a NaN counts as absent. A gene that is
    absent from a table, but not from all, gets zeros there: the table's average gene.
    """
    blocks = [block for block in map(_standardised, tables.values()) if block.shape[0] and block.shape[1]]
    if not blocks:
        return None
    genes = sorted(set().union(*(block.index for block in blocks)))
    values = np.hstack([block.reindex(genes).fillna(0.0).to_numpy() for block in blocks])
    return Embedding(tuple(genes), values)


def _standardised(table: pd.DataFrame) -> pd.DataFrame:
    columns = standardised(table)
    return columns / np.sqrt(max(columns.shape[1], 1))
