"""The mean of the nearest training singles in prior space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

from scperturb_modules.baselines._base import MIN_COVERED, Baseline
from scperturb_modules.baselines._folds import N_FOLDS, gene_folds
from scperturb_modules.baselines._prediction import NO_EMBEDDING, OK, Response, joined, sum_of
from scperturb_modules.baselines._priors import Embedding
from scperturb_modules.baselines._training import Array, Index, Source, TrainingData

if TYPE_CHECKING:
    from anndata import AnnData

NEIGHBOUR_COUNTS = (1, 3, 5, 10, 20, None)
"""Numbers of neighbours to choose from; None: all."""


class NeighbourSettings(NamedTuple):
    """How many neighbours (None: all), and the weight of their mean against the mean of all singles."""

    k: int | None
    factor: float


@dataclass(frozen=True)
class Neighbours:
    """Predict a single perturbation from its nearest training singles in prior space.

    ``mean + factor * (weighted mean of the k nearest - mean)``, weights ``max(cosine, 0)``. Number of neighbours and
    factor are chosen by cross-validation over genes: for each k the factor is the least-squares one in [0, 1], and
    the k with the least squared error wins. With fewer than ten covered singles the factor is 0.

    Attributes
    ----------
    genes, delta
        Perturbed gene and (n, G) change of every training single of one source.
    embedding
        The fused prior.
    seed
        Seed of the folds.
    k, factor
        Settings to use instead of chosen ones; None: choose.
    """

    genes: tuple[str, ...]
    delta: Array
    embedding: Embedding
    seed: int = 0
    k: int | str | None = None
    factor: float | None = None

    @classmethod
    def of(cls, data: TrainingData, source: Source, embedding: Embedding, **settings: Any) -> Neighbours:
        """Collect the singles of a source."""
        rows = data.rows_of(source, order=1)
        return cls(tuple(data.genes[i][0] for i in rows), data.delta[rows], embedding, **settings)

    @cached_property
    def _gene_array(self) -> np.ndarray:
        return np.array(self.genes, dtype=object)

    @cached_property
    def _covered(self) -> Index:
        return np.array([i for i, gene in enumerate(self.genes) if gene in self.embedding], dtype=np.intp)

    @cached_property
    def _fold(self) -> Index:
        """(n,) fold of each single."""
        folds = gene_folds(self.genes, seed=self.seed)
        return np.array([folds[gene] for gene in self.genes], dtype=np.intp)

    @cached_property
    def settings(self) -> NeighbourSettings:
        """Settings chosen on all singles."""
        return self._choose(np.ones(len(self.genes), dtype=bool))

    @cached_property
    def _settings_without_fold(self) -> dict[int, NeighbourSettings]:
        return {fold: self._choose(self._fold != fold) for fold in range(N_FOLDS)}

    @cached_property
    def _mean(self) -> Array:
        return self.delta.mean(axis=0)

    def predict(self, gene: str) -> Array | None:
        """(G,) predicted change of a single; None where no training single is similar."""
        everything = np.arange(len(self.genes))
        return self._shrunken(gene, everything, self._mean, self.settings)

    def predict_without(self, gene: str, mean_of_others: Array) -> Array | None:
        """Predict a training single as if it had not been measured.

        Neighbours and mean are those of the other singles, and the settings were chosen without the fold that holds
        the gene, so that nothing of its own measurement enters, to the last bit.
        """
        own = self._gene_array == gene
        settings = self._settings_without_fold[int(self._fold[np.flatnonzero(own)[0]])]
        return self._shrunken(gene, np.flatnonzero(~own), mean_of_others, settings)

    def _shrunken(self, gene: str, pool: Index, mean: Array, settings: NeighbourSettings) -> Array | None:
        pool = np.intersect1d(pool, self._covered)
        if gene not in self.embedding or not len(pool):
            return None
        weights = self._weights([gene], pool, settings.k)[0]
        similar = np.flatnonzero(weights)
        if not len(similar):
            return None
        # a sparse product reads the rows with a weight and no other
        chosen = sparse.csr_matrix((weights[similar], pool[similar], [0, len(similar)]), shape=(1, len(self.genes)))
        return mean + settings.factor * ((chosen @ self.delta)[0] - mean)

    def _weights(self, genes: Sequence[str], pool: Index, k: int | None) -> Array:
        """(len(genes), len(pool)) weights of covered singles, each row of sum 1, or 0 without a similar one."""
        directions = self.embedding.directions
        rows = self.embedding.rows(genes)
        columns = self.embedding.rows(self._gene_array[pool])
        similarity = np.maximum(directions[rows] @ directions[columns].T, 0.0)
        if k is not None and k < len(pool):
            # stable: equal similarities are taken in the order of names
            far = np.argsort(-similarity, axis=1, kind="stable")[:, k:]
            np.put_along_axis(similarity, far, 0.0, axis=1)
        total = similarity.sum(axis=1, keepdims=True)
        return np.divide(similarity, total, out=np.zeros_like(similarity), where=total > 0)

    def _choose(self, usable: np.ndarray) -> NeighbourSettings:
        """Choose k and factor on the usable singles alone."""
        counts = NEIGHBOUR_COUNTS if self.k is None else (None if self.k == "all" else int(self.k),)
        fixed = self.factor
        if np.count_nonzero(usable[self._covered]) < MIN_COVERED:
            return NeighbourSettings(counts[-1], 0.0 if fixed is None else fixed)
        if len(counts) == 1 and fixed is not None:
            return NeighbourSettings(counts[0], fixed)
        moments = np.sum([self._moments(usable, fold, counts) for fold in range(N_FOLDS)], axis=0)
        product, square = moments
        best = np.divide(product, square, out=np.zeros_like(product), where=square > 0).clip(0.0, 1.0)
        factors = best if fixed is None else np.full_like(best, fixed)
        # error of a factor f up to a constant: f^2 |p - m|^2 - 2 f <t - m, p - m>
        chosen = int(np.argmin(factors**2 * square - 2 * factors * product))
        return NeighbourSettings(counts[chosen], float(factors[chosen]))

    def _moments(self, usable: np.ndarray, fold: int, counts: Sequence[int | None]) -> Array:
        """(2, n_counts): sums of <truth - mean, neighbours - mean> and |neighbours - mean|^2 over one fold."""
        known = np.flatnonzero(usable & (self._fold != fold))
        covered = usable[self._covered]
        in_fold = self._fold[self._covered] == fold
        asked, pool = self._covered[covered & in_fold], self._covered[covered & ~in_fold]
        moments = np.zeros((2, len(counts)))
        if not len(asked) or not len(pool):
            return moments
        mean = self.delta[known].mean(axis=0)
        truth, effects = self.delta[asked] - mean, self.delta[pool]
        for i, k in enumerate(counts):
            weights = self._weights(self._gene_array[asked], pool, k)
            similar = weights.any(axis=1, keepdims=True)
            mixed = weights @ effects if k is None else sparse.csr_matrix(weights) @ effects
            step = (mixed - mean) * similar
            moments[:, i] = np.sum(truth * step), np.sum(step * step)
        return moments


class NearestPrior(Baseline):
    """Predict a single as the mean of the nearest training singles in prior space, combinations as sums.

    Cosine similarity in the fused prior, weights ``max(cosine, 0)``, shrunk towards the mean single by a factor;
    see :class:`Neighbours`. Measured singles are used as they are, in sums too. A gene without prior gets the mean
    single (status ``"no_embedding"``).

    Parameters
    ----------
    adata, priors, seed
        As in :class:`Baseline`.
    k
        Number of neighbours, or ``"all"``; None: chosen among 1, 3, 5, 10, 20 and all by cross-validation over genes.
    factor
        Weight of the neighbours against the mean single, 0 to 1; None: chosen with k.
    """

    needs_prior = True
    uses_prior = True
    options = ("seed", "k", "factor")

    def __init__(
        self,
        adata: AnnData,
        *,
        priors: Any = None,
        seed: int = 0,
        k: int | str | None = None,
        factor: float | None = None,
    ) -> None:
        if not (k is None or k == "all" or (isinstance(k, Integral) and k > 0)):
            raise ValueError(f'k is {k!r}; give a positive number of neighbours, "all", or None to choose it.')
        if factor is not None and not 0 <= factor <= 1:
            raise ValueError(f"factor is {factor}; give a weight between 0 and 1, or None to choose it.")
        super().__init__(adata, priors=priors, seed=seed)
        # NumPy's numbers are no JSON
        self.k = int(k) if isinstance(k, Integral) else k
        self.factor = None if factor is None else float(factor)

    def _fit(self) -> None:
        embedding = self._require_embedding()
        self._neighbours = self._fit_each_source(
            lambda source: Neighbours.of(self._data, source, embedding, seed=self.seed, k=self.k, factor=self.factor)
        )
        chosen = {source: neighbours.settings for source, neighbours in self._neighbours.items()}
        self._record("chosen_k", {source: one.k or "all" for source, one in chosen.items()})
        self._record("chosen_factor", {source: one.factor for source, one in chosen.items()})

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        parts = [self._part(gene, context) for gene in genes]
        missing = any(part.status != OK for part in parts)
        return Response(
            sum_of([part.delta for part in parts]),
            joined(part.anchor for part in parts),
            NO_EMBEDDING if missing else OK,
        )

    def _part(self, gene: str, context: str | None) -> Response:
        data, source = self._data, self._data.source(context)
        single = data.single(gene, context)
        if single is not None:
            return Response(data.delta[single], "measured")
        predicted = self._neighbours[source].predict(gene)
        if predicted is not None:
            return Response(predicted, "neighbours")
        status = OK if gene in self._neighbours[source].embedding else NO_EMBEDDING
        return Response(data.mean_single(source), "mean", status)
