"""From the user's priors (gene x feature tables, networks) to one embedding of genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.baselines._training import Array, Index
from scperturb_modules.priors import GeneGraph, as_graph, is_edge_table, named_priors, spectral_embedding


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

    @cached_property
    def directions(self) -> Array:
        """(n, F) vectors of length one, for cosine similarity; a zero vector stays zero."""
        length = np.linalg.norm(self.values, axis=1, keepdims=True)
        return self.values / np.where(length > 0, length, 1.0)


def as_tables(priors: Any) -> dict[str, pd.DataFrame]:
    """Name every table that the user passed as ``priors=``.

    Parameters
    ----------
    priors
        None, one gene x feature DataFrame, a sequence of them or a mapping from names. Objects with a
        ``to_frame()`` method count as tables. ``attrs["name"]`` names a table of a sequence. A network (a
        ``spm.priors.GeneGraph``, or an edge table: a DataFrame with the columns ``source`` and ``target``) counts as
        its spectral embedding, of 16 features or as many as a small network has; so that one list of priors serves
        baselines and models.

    Raises
    ------
    TypeError
        Something that is no table.
    DataError
        A table with repeated genes, columns that are not numbers, or infinite values; an edge table that cannot be
        read.
    """
    return {name: _checked(name, prior) for name, prior in named_priors(priors).items()}


def _checked(name: str, prior: Any) -> pd.DataFrame:
    if isinstance(prior, GeneGraph) or is_edge_table(prior):
        return spectral_embedding(as_graph(prior, name), clip=True)
    frame = prior.to_frame() if hasattr(prior, "to_frame") else prior
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"prior {name!r} is a {type(prior).__name__}; pass a DataFrame of genes x features, or of edges with the "
            "columns source and target."
        )
    frame = frame.set_axis(frame.index.astype(str))
    if frame.index.has_duplicates:
        repeated = frame.index[frame.index.duplicated()].unique()
        raise DataError(
            f"prior {name!r} has {len(repeated)} genes in more than one row: {name_some(repeated)}. Keep one row per "
            "gene, for example table.groupby(level=0).mean()."
        )
    wrong = [column for column, dtype in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(dtype)]
    if wrong:
        raise DataError(
            f"prior {name!r} has columns that are not numbers: {name_some(wrong)}. Drop or encode them; genes belong "
            "in the index, table.set_index(column)."
        )
    infinite = frame.index[np.isinf(frame.to_numpy(dtype=np.float64, na_value=np.nan)).any(axis=1)]
    if len(infinite):
        raise DataError(f"prior {name!r} has infinite values for {len(infinite)} genes: {name_some(infinite)}.")
    return frame


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
    # names of columns may repeat, their numbers do not
    complete = table.set_axis(range(table.shape[1]), axis=1).dropna().astype(np.float64).sort_index()
    centred = complete - complete.mean()
    spread = complete.std(ddof=0)
    informative = spread > 1e-12 * complete.abs().max()
    return centred.loc[:, informative] / spread[informative] / np.sqrt(max(int(informative.sum()), 1))
