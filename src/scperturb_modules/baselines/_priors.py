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
from scperturb_modules.priors import GeneGraph, GeneSets, as_graph, is_edge_table, named_priors, spectral_embedding
from scperturb_modules.priors._profiles import Profiles, profiles_of
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

    @cached_property
    def directions(self) -> Array:
        """(n, F) vectors of length one, for cosine similarity; a zero vector stays zero."""
        length = np.linalg.norm(self.values, axis=1, keepdims=True)
        return self.values / np.where(length > 0, length, 1.0)


@dataclass(frozen=True)
class PriorSource:
    """One prior, in the forms that predictors use.

    Attributes
    ----------
    prior
        A network, gene sets, or the table itself.
    table
        Genes x features: of a network its spectral embedding, of gene sets their main directions.
    """

    prior: GeneGraph | GeneSets | pd.DataFrame
    table: pd.DataFrame

    @cached_property
    def views(self) -> dict[str, Profiles]:
        """What tells which genes are alike."""
        return profiles_of(self.prior, self.table)


def as_sources(priors: Any) -> dict[str, PriorSource]:
    """Name and read everything that the user passed as ``priors=``.

    Parameters
    ----------
    priors
        None, one prior, a sequence of them or a mapping from names: gene x feature DataFrames and objects with
        ``to_frame()`` (``spm.priors.GeneEmbedding``), networks (``spm.priors.GeneGraph``, edge tables with the columns
        ``source`` and ``target``), gene sets (``spm.priors.GeneSets``) and pathways
        (``spm.priors.PathwayHierarchy``). One list serves baselines and models.

    Raises
    ------
    TypeError
        Something that is no prior.
    DataError
        A table with repeated genes, columns that are not numbers, or infinite values; an edge table that cannot be
        read.
    """
    return {name: _source(name, prior) for name, prior in named_priors(priors).items()}


def knows(sources: Mapping[str, PriorSource], gene: str) -> bool:
    """Whether one of the priors tells which genes a gene is like."""
    return any(gene in view.row for source in sources.values() for view in source.views.values())


def as_tables(priors: Any) -> dict[str, pd.DataFrame]:
    """The gene x feature form of each prior, see :func:`as_sources`; a network has at most 16 features."""
    return {name: source.table for name, source in as_sources(priors).items()}


def _source(name: str, prior: Any) -> PriorSource:
    if isinstance(prior, PriorSource):
        return prior
    if hasattr(prior, "to_sets"):
        prior = prior.to_sets(level="all")
    if isinstance(prior, GeneSets):
        table = prior.to_frame(clip=True)
        table.attrs.update({**prior.attrs, "name": prior.name})
        return PriorSource(prior, table)
    if isinstance(prior, GeneGraph) or is_edge_table(prior):
        graph = as_graph(prior, name)
        return PriorSource(graph, spectral_embedding(graph, clip=True))
    table = _checked(name, prior)
    return PriorSource(table, table)


def _checked(name: str, prior: Any) -> pd.DataFrame:
    frame = prior.to_frame() if hasattr(prior, "to_frame") else prior
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"prior {name!r} is a {type(prior).__name__}; pass a DataFrame of genes x features, or of edges with the "
            "columns source and target, or what a function of spm.priors gives."
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
    columns = standardised(table)
    return columns / np.sqrt(max(columns.shape[1], 1))
