"""Everything that can be passed as ``priors=``, read into the forms that predictors use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._given import is_edge_table, named_priors
from scperturb_modules.priors._graph import GeneGraph, as_graph
from scperturb_modules.priors._profiles import Against, Array, Profiles, profiles_of
from scperturb_modules.priors._set_table import GeneSets
from scperturb_modules.priors._spectral import spectral_embedding


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


def similarities(sources: Mapping[str, PriorSource], genes: tuple[str, ...]) -> dict[str, dict[str, Array]]:
    """Source to view to the similarity (P, P) of genes among themselves; 0 where a gene is not known."""
    return {
        name: {view: Against(profiles, genes).similarity(genes) for view, profiles in source.views.items()}
        for name, source in sources.items()
    }


def as_tables(priors: Any) -> dict[str, pd.DataFrame]:
    """The gene x feature form of each prior, see :func:`as_sources`; a network has at most 16 features."""
    return {name: source.table for name, source in as_sources(priors).items()}


def _source(name: str, prior: Any) -> PriorSource:
    if isinstance(prior, PriorSource):
        return prior
    if is_edge_table(prior):
        return _graph_source(as_graph(prior, name))
    if hasattr(prior, "to_sets") or isinstance(prior, GeneSets):
        return _of_sets(prior)
    if isinstance(prior, GeneGraph) or (hasattr(prior, "to_graph") and not hasattr(prior, "to_frame")):
        return _of_graph(prior, name)
    table = _checked(name, prior)
    return PriorSource(table, table)


# kept, because a benchmark gives the same objects to every baseline of every fold
@lru_cache(maxsize=8)
def _of_graph(prior: Any, name: str) -> PriorSource:
    return _graph_source(as_graph(prior, name))


@lru_cache(maxsize=8)
def _of_sets(prior: Any) -> PriorSource:
    """Gene sets, or pathways: the sets of all their levels."""
    sets = prior if isinstance(prior, GeneSets) else prior.to_sets(level="all")
    return PriorSource(sets, sets.to_frame(clip=True))


def _graph_source(graph: GeneGraph) -> PriorSource:
    return PriorSource(graph, spectral_embedding(graph, clip=True))


def require_distinct(genes: pd.Index, name: str) -> None:
    """Raise :class:`DataError` where a table has a gene in more than one row."""
    if genes.has_duplicates:
        repeated = genes[genes.duplicated()].unique()
        raise DataError(
            f"prior {name!r} has {len(repeated)} genes in more than one row: {name_some(repeated)}. Keep one row per "
            "gene, for example table.groupby(level=0).mean()."
        )


def _checked(name: str, prior: Any) -> pd.DataFrame:
    frame = prior.to_frame() if hasattr(prior, "to_frame") else prior
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"prior {name!r} is a {type(prior).__name__}; pass a DataFrame of genes x features, or of edges with the "
            "columns source and target, or what a function of spm.priors gives."
        )
    frame = frame.set_axis(frame.index.astype(str))
    require_distinct(frame.index, name)
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
