"""How alike genes are in a prior: each gene gets a profile, and similarity is the cosine between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.priors._components import symmetric_adjacency
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._overlap import rarity_rows
from scperturb_modules.priors._set_table import GeneSets
from scperturb_modules.priors._standardise import standardised

Array: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = Array | sparse.csr_array

RESTART = 0.5
"""Chance of a random walk to end at each step, so that it stays near."""
N_STEPS = 6
"""A walk is followed until only 2 % of it is left."""
_BLOCK = 512
_ROUNDING = 1e-12
"""A similarity that is not larger is zero but for rounding."""
_AVERAGE = 1e-9
"""A gene no further than this from the mean of its table, in standard deviations, has no direction but rounding."""


@dataclass(frozen=True)
class Profiles:
    """Genes that a prior knows, and what makes their profiles.

    Attributes
    ----------
    genes
        The n genes with a profile.
    source
        (n, F) rows of length one, dense or sparse; or a walk on a graph, from which they are computed when asked for.
    """

    genes: tuple[str, ...]
    source: Rows | Walk

    @cached_property
    def row(self) -> dict[str, int]:
        """Row number of each gene."""
        return {gene: i for i, gene in enumerate(self.genes)}

    def of(self, genes: Sequence[str]) -> Rows:
        """Profiles (m, F) of known genes."""
        rows = np.array([self.row[gene] for gene in genes], dtype=np.intp)
        return self.source.profiles(rows) if isinstance(self.source, Walk) else self.source[rows]


@dataclass(frozen=True)
class Walk:
    """Random walks with restart on a graph, one from each gene.

    The profile of a gene is how often walks from it are at each gene, over 6 steps of which each is the last with
    chance 1/2; a step goes to a neighbour with chance proportional to the weight. Genes alike in it are neighbours,
    or have the same ones. As a random walk with restart (Köhler et al., Am J Hum Genet 82, 2008), cut short.

    Attributes
    ----------
    start
        (n,) numbers of the genes with an edge.
    step
        (N, N) CSR array, column j: where walks at gene j go.
    """

    start: NDArray[np.intp]
    step: sparse.csr_array

    @classmethod
    def on(cls, graph: GeneGraph) -> Walk:
        """Directions and signs are not used."""
        weight = symmetric_adjacency(graph)
        total = weight.sum(axis=1)
        scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
        return cls(np.flatnonzero(total > 0), sparse.csr_array(weight @ sparse.diags_array(scale)))

    def profiles(self, rows: NDArray[np.intp]) -> Array:
        """(m, N) profiles of the genes with these row numbers."""
        blocks = [self._visits(self.start[rows[i : i + _BLOCK]]) for i in range(0, len(rows), _BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, self.step.shape[0]))

    def _visits(self, start: NDArray[np.intp]) -> Array:
        at = np.zeros((self.step.shape[0], len(start)))
        at[start, np.arange(len(start))] = 1.0
        visits = at
        for _ in range(N_STEPS):
            at = (1 - RESTART) * (self.step @ at)
            visits = visits + at
        return np.ascontiguousarray((visits / np.linalg.norm(visits, axis=0)).T)


def profiles_of(prior: GeneGraph | GeneSets | pd.DataFrame, table: pd.DataFrame) -> dict[str, Profiles]:
    """What can be seen of a prior, by the name of the view.

    Parameters
    ----------
    prior
        Gene sets: one view, ``"sets"``, the sets of a gene weighted by their rarity. A network: ``"walk"``
        (:class:`Walk`), which sees the neighbourhood, and ``"spectral"``, which sees the place in the whole. A table:
        ``"features"``, its standardised columns.
    table
        Its form as a gene x feature table: of a network the spectral embedding.
    """
    if isinstance(prior, GeneSets):
        return {"sets": _sets(prior)}
    place = _features(table)
    if isinstance(prior, GeneGraph):
        walk = Walk.on(prior)
        return {"walk": Profiles(tuple(prior.genes[i] for i in walk.start), walk), "spectral": place}
    return {"features": place}


@dataclass(frozen=True)
class Against:
    """Similarity with a fixed list of genes, those whose responses were measured.

    Attributes
    ----------
    profiles
        The view of a prior.
    columns
        (m,) genes; one may occur twice.
    """

    profiles: Profiles
    columns: tuple[str, ...]

    def similarity(self, genes: Sequence[str]) -> Array:
        """(n, m) cosine of profiles; 0 where it is below, and where the prior does not know one of both genes."""
        known = self._known(genes)
        values = np.zeros((len(genes), len(self.columns)))
        if len(known) and len(self._known_columns):
            # the walks of many genes take longer than all else
            rows = self._column_profiles if genes is self.columns else self.profiles.of([genes[i] for i in known])
            product: Any = rows @ self._column_profiles.T
            dense = product.toarray() if sparse.issparse(product) else product
            values[np.ix_(known, self._known_columns)] = np.where(dense > _ROUNDING, dense, 0.0)
        return values

    @cached_property
    def _known_columns(self) -> NDArray[np.intp]:
        return self._known(self.columns)

    @cached_property
    def _column_profiles(self) -> Rows:
        return self.profiles.of([self.columns[i] for i in self._known_columns])

    def _known(self, genes: Sequence[str]) -> NDArray[np.intp]:
        return np.array([i for i, gene in enumerate(genes) if gene in self.profiles.row], dtype=np.intp)


def _sets(sets: GeneSets) -> Profiles:
    known, rows = rarity_rows(sets.membership)
    return Profiles(tuple(sets.genes[i] for i in known), rows)


def _features(table: pd.DataFrame) -> Profiles:
    columns = standardised(table)
    length = np.linalg.norm(columns.to_numpy(), axis=1)
    known = length > _AVERAGE  # as genes that were filled in with the mean
    return Profiles(tuple(map(str, columns.index[known])), columns.to_numpy()[known] / length[known, None])
