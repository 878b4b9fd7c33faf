"""What the nearest genes in prior space say of a perturbation that was not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from scperturb_modules.baselines._base import MIN_COVERED, Baseline
from scperturb_modules.baselines._folds import N_FOLDS, gene_folds
from scperturb_modules.baselines._prediction import NO_EMBEDDING, OK, Response, joined, sum_of
from scperturb_modules.baselines._training import Array, Index, Source, TrainingData
from scperturb_modules.priors import PriorSource, knows
from scperturb_modules.priors._fusion import Fusion, Similar, learn, learnt_from, no_fusion
from scperturb_modules.priors._prior_source import similarities
from scperturb_modules.priors._profiles import Against


class Predicted(NamedTuple):
    """(G,) change, and whether a training single is like the gene at all."""

    delta: Array
    has_neighbours: bool


@dataclass(frozen=True)
class Neighbours:
    """Predict a single perturbation from the training singles of genes that are alike in the priors.

    What each prior weighs, how close a gene has to be and how much is left to the mean single is learned from the
    training singles by leaving each out (:func:`scperturb_modules.priors.fuse` says how). With fewer than ten covered
    singles nothing is learned, and the mean single is the answer.

    Attributes
    ----------
    genes, delta
        Perturbed gene and (n, G) change of every training single of one source of training conditions.
    priors
        Sources of similarity by name.
    seed
        Seed of the folds, and of the draw of singles to learn from where there are very many.
    """

    genes: tuple[str, ...]
    delta: Array
    priors: Mapping[str, PriorSource]
    seed: int = 0

    @classmethod
    def of(cls, data: TrainingData, source: Source, priors: Mapping[str, PriorSource], *, seed: int = 0) -> Neighbours:
        """Collect the singles of a source."""
        rows = data.rows_of(source, order=1)
        return cls(tuple(data.genes[i][0] for i in rows), data.delta[rows], priors, seed)

    def covers(self, gene: str) -> bool:
        """Whether a prior knows the gene."""
        return knows(self.priors, gene)

    @cached_property
    def fusion(self) -> Fusion:
        """Learned from all singles."""
        return self._learn(np.arange(len(self.genes)))

    def facts(self) -> dict[str, Any]:
        """What was learned, as plain values."""
        fusion = self.fusion
        return {
            "base": fusion.base,
            "base_weight": fusion.base_weight,
            "sources": {one.source: {k: v for k, v in asdict(one).items() if k != "source"} for one in fusion.sources},
        }

    def predict(self, gene: str) -> Predicted | None:
        """Predict a single that was not measured; None where no prior knows the gene."""
        if not self.covers(gene):
            return None
        if gene not in self._weights:
            self._weights[gene] = self._row_weights(gene, self.fusion)
        return self._mixed(*self._weights[gene], self._mean)

    def predict_without(self, gene: str, mean_of_others: Array) -> Predicted | None:
        """Predict a training single as if it had not been measured.

        Neighbours and mean are those of the other genes, and what is learned was learned without the fold that holds
        the gene, so that nothing of its own measurement enters, to the last bit.
        """
        if not self.covers(gene):
            return None
        if gene not in self._weights_without:
            fusion = self._fusion_without_fold[self._fold_of[gene]]
            self._weights_without[gene] = self._row_weights(gene, fusion, without=gene)
        return self._mixed(*self._weights_without[gene], mean_of_others)

    def _mixed(self, on_effects: Array, on_mean: float, mean: Array) -> Predicted:
        used = np.flatnonzero(on_effects)
        # a sparse product reads the rows with a weight and no other
        chosen = sparse.csr_matrix((on_effects[used], used, [0, len(used)]), shape=(1, len(self.genes)))
        return Predicted((chosen @ self.delta)[0] + on_mean * mean, bool(len(used)))

    def _row_weights(self, gene: str, fusion: Fusion, *, without: str | None = None) -> tuple[Array, float]:
        kept = np.array([other != without for other in self.genes])
        similar: dict[str, dict[str, Array]] = {}
        for fit in fusion.sources:
            values = self._against[fit.source, fit.view].similarity([gene])
            similar[fit.source] = {fit.view: np.where(kept, values, 0.0)}
        on_effects, on_mean = fusion.row_weights(similar, n_singles=len(self.genes))
        return on_effects[0], float(on_mean[0])

    @cached_property
    def _mean(self) -> Array:
        return self.delta.mean(axis=0)

    @cached_property
    def _weights(self) -> dict[str, tuple[Array, float]]:
        return {}

    @cached_property
    def _weights_without(self) -> dict[str, tuple[Array, float]]:
        return {}

    @cached_property
    def _against(self) -> dict[tuple[str, str], Against]:
        return {
            (name, view): Against(profiles, self.genes)
            for name, prior in self.priors.items()
            for view, profiles in prior.views.items()
        }

    @cached_property
    def _fold_of(self) -> dict[str, int]:
        return gene_folds(self.genes, seed=self.seed)

    @cached_property
    def _fusion_without_fold(self) -> dict[int, Fusion]:
        fold = np.array([self._fold_of[gene] for gene in self.genes], dtype=np.intp)
        return {one: self._learn(np.flatnonzero(fold != one)) for one in range(N_FOLDS)}

    @cached_property
    def _learning(self) -> tuple[Index, Array, Similar]:
        """The singles to learn from, the inner products of their changes, and their similarities."""
        rows = learnt_from(len(self.genes), seed=self.seed)
        genes = tuple(self.genes[i] for i in rows)
        return rows, self.delta[rows] @ self.delta[rows].T, similarities(self.priors, genes)

    def _learn(self, usable: Index) -> Fusion:
        """Learn from the usable singles alone."""
        if len({gene for gene in (self.genes[i] for i in usable) if self.covers(gene)}) < MIN_COVERED:
            return no_fusion()
        rows, products, similar = self._learning
        place = np.flatnonzero(np.isin(rows, usable))
        part = np.ix_(place, place)
        return learn(
            {name: {view: values[part] for view, values in views.items()} for name, views in similar.items()},
            products[part],
            [self.genes[i] for i in rows[place]],
        )


class NearestPrior(Baseline):
    """Predict a single from the training singles of the genes most alike in the priors, combinations as sums.

    Which prior tells which responses are alike, how close a gene has to be, and how much is left to the mean single
    (times a factor) is learned from the training singles alone; see :class:`Neighbours`. Measured singles are used as
    they are, in sums too. A gene that no prior knows gets the mean single (status ``"no_embedding"``).

    Parameters
    ----------
    adata, priors, seed
        As in :class:`Baseline`.

    Notes
    -----
    ``fitted`` says what each prior weighs, by source of training conditions: ``base``, ``base_weight`` and, per prior,
    ``view``, ``power``, ``pseudo_count``, ``weight`` and ``error`` (of left-out singles; 1 is that of the base).
    """

    needs_prior = True
    uses_prior = True

    @classmethod
    def _covers(cls, sources: Mapping[str, PriorSource]) -> Callable[[str], bool]:
        """Whether a prior tells which genes a gene is like."""
        return lambda gene: knows(sources, gene)

    def _fit(self) -> None:
        if not any(view.genes for source in self.priors.values() for view in source.views.values()):
            raise self._no_prior()
        self._neighbours = self._fit_each_source(
            lambda source: Neighbours.of(self._data, source, self.priors, seed=self.seed)
        )
        self._record("neighbours", {source: one.facts() for source, one in self._neighbours.items()})

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
        predicted = self._neighbours[source].predict(gene) if len(self._neighbours[source].genes) else None
        if predicted is None:
            return Response(data.mean_single(source), "mean", NO_EMBEDDING)
        return Response(predicted.delta, "neighbours" if predicted.has_neighbours else "mean")
