"""The anchor: what is known about a condition before any network, and what would be known had it not been measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from scperturb_modules.baselines._base import source_name
from scperturb_modules.baselines._nearest import Neighbours
from scperturb_modules.baselines._prediction import MEASURED, NO_EMBEDDING, OK, Response, joined, sum_of
from scperturb_modules.baselines._training import Array, Source, TrainingData
from scperturb_modules.priors import PriorSource, knows

PRIOR_CONDITIONS = 5
"""Weight of the common variance in that of a gene, in conditions."""

MIN_PAIRS = 10
"""Fewer training pairs with both singles measured than this do not fit a factor."""


@dataclass(frozen=True)
class PairFit:
    """What measured pairs have in common beside the sums of their singles: a factor and an offset per gene.

    Attributes
    ----------
    rows
        Row numbers of the n training pairs with both singles measured in their context.
    sums, measured
        (n, G) sums of the shrunken singles, and measured changes of the pairs.
    """

    rows: tuple[int, ...]
    sums: Array
    measured: Array

    @classmethod
    def of(cls, data: TrainingData, source: Source, effects: Array) -> PairFit:
        """Compare each measured pair with the sum of ``effects`` (P, G) at its singles."""
        rows, sums = [], []
        for row in data.rows_of(source, order=2):
            singles = [data.single(gene, data.rows[row][1]) for gene in data.genes[row]]
            if None in singles:
                continue
            rows.append(int(row))
            sums.append(sum_of([effects[single] for single in singles]))
        shape = (len(rows), data.delta.shape[1])
        return cls(tuple(rows), np.array(sums).reshape(shape), data.delta[rows].reshape(shape))

    def factor(self, *, without: int | None = None) -> float:
        """Least-squares factor over all pairs, or all but one row; 1 with fewer than ten pairs or without effects."""
        return self._fit(without)[0]

    def offset(self, *, without: int | None = None) -> Array:
        """(G,) mean of what the factor leaves, shrunken to zero by its noise; 0 where there is no factor.

        A sum of two changes holds the controls' noise twice and the response that all perturbations share twice, a
        measured pair once. Both are the same for all pairs.
        """
        return self._fit(without)[1]

    def _fit(self, without: int | None) -> tuple[float, Array]:
        """Factor and offset, kept: both are asked for with every row that is predicted."""
        if without not in self._fits:
            self._fits[without] = self._fitted(np.array([row != without for row in self.rows], dtype=bool))
        return self._fits[without]

    def _fitted(self, kept: np.ndarray) -> tuple[float, Array]:
        n, square = int(kept.sum()), self._square[kept].sum()
        if n < MIN_PAIRS or not square > 0:
            return 1.0, np.zeros(self.sums.shape[1])
        factor = float(self._product[kept].sum() / square)
        left = self.measured[kept] - factor * self.sums[kept]
        mean, noise = left.mean(axis=0), left.var(axis=0, ddof=1) / n
        variance = max(float((mean**2 - noise).mean()), 0.0)
        total = variance + noise
        return factor, mean * np.divide(variance, total, out=np.zeros_like(total), where=total > 0)

    @cached_property
    def _product(self) -> Array:
        """(n,) <sum, measured pair>."""
        return np.einsum("ng,ng->n", self.sums, self.measured)

    @cached_property
    def _square(self) -> Array:
        """(n,) <sum, sum>."""
        return np.einsum("ng,ng->n", self.sums, self.sums)

    @cached_property
    def _fits(self) -> dict[int | None, tuple[float, Array]]:
        return {}


class Anchor:
    """The strong simple prediction that models add to.

    - all singles measured: the sum of the singles, each shrunken per gene (:func:`shrink_to_zero`), times a factor,
      plus an offset that all pairs share (:class:`PairFit`; 1 and 0 with fewer than ten training pairs);
    - a gene whose single was not measured in the context enters the sum with the nearest-prior prediction where a
      prior covers it (:class:`Neighbours`), else with the mean single;
    - a condition measured in training: its own shrunken measurement.

    Parameters
    ----------
    data
        The training view.
    priors
        Sources of similarity by name, see :func:`as_sources`; without any, unmeasured singles get the mean.
    seed
        Seed of the folds without which the neighbours of training singles are learned.

    Notes
    -----
    :meth:`leave_one_out` gives the anchor that a training condition would have had, had it not been measured. Models
    are trained on those, since a target inside its own anchor leaves the network nothing to learn.
    """

    def __init__(self, data: TrainingData, priors: Mapping[str, PriorSource] | None = None, *, seed: int = 0) -> None:
        self.data = data
        self.priors = dict(priors or {})
        self.effects = _shrunken(data)
        self._pairs = {source: PairFit.of(data, source, self.effects) for source in data.sources}
        self._neighbours = {
            source: Neighbours.of(data, source, self.priors, seed=seed)
            for source in data.sources
            if self.priors and len(data.rows_of(source, order=1))
        }

    def of(self, genes: tuple[str, ...], context: str | None) -> Response:
        """Anchor of any condition, measured or not; ``genes`` sorted."""
        row = self._row(genes, context)
        if row is not None:
            return Response(self.effects[row], MEASURED, MEASURED)
        return self._sum([self.part(gene, context) for gene in genes], genes, context)

    def leave_one_out(self, genes: tuple[str, ...], context: str | None, *, masked: Collection[str] = ()) -> Response:
        """Anchor of a condition as if it had not been measured.

        Parameters
        ----------
        genes, context
            The condition, measured in training or not.
        masked
            Genes of a combination whose singles are to count as not measured either, so that training meets every
            regime.
        """
        if len(genes) == 1:
            masked = genes
        own = self._row(genes, context)
        parts = [self.part(gene, context, masked=gene in masked, without=own) for gene in genes]
        return self._sum(parts, genes, context)

    def part(self, gene: str, context: str | None, *, masked: bool = False, without: int | None = None) -> Response:
        """What one gene brings to the sum, before the factor.

        Parameters
        ----------
        gene, context
            The gene.
        masked
            As if its single had not been measured.
        without
            Number of a training row that must not enter: that of the condition whose anchor this is a part of.
        """
        row = None if masked else self.data.single(gene, context)
        return self._unseen(gene, context, without=without) if row is None else Response(self.effects[row], "shrunken")

    def factor(self, genes: tuple[str, ...], context: str | None) -> float:
        """What the sum is multiplied by; fitted without the condition itself, and 1 for a single."""
        if len(genes) < 2:
            return 1.0
        return self._pairs[self.data.source(context)].factor(without=self._row(genes, context))

    def offset(self, genes: tuple[str, ...], context: str | None) -> Array:
        """(G,) what is added to the sum; fitted without the condition itself, and 0 for a single.

        Twice the offset of pairs for three genes, and so on: so often is counted too much what all share.
        """
        if len(genes) < 2:
            return np.zeros(self.data.delta.shape[1])
        fit = self._pairs[self.data.source(context)]
        return (len(genes) - 1) * fit.offset(without=self._row(genes, context))

    def settings(self) -> dict[str, Any]:
        """Fitted factors, L2 norms of offsets and chosen neighbours, per source of training conditions."""
        factor = {source_name(source): fit.factor() for source, fit in self._pairs.items()}
        offset = {source_name(source): float(np.linalg.norm(fit.offset())) for source, fit in self._pairs.items()}
        n_pairs = {source_name(source): len(fit.rows) for source, fit in self._pairs.items()}
        chosen = {source_name(source): one.facts() for source, one in self._neighbours.items()}
        return {"factor": factor, "offset_l2": offset, "n_pairs": n_pairs, "neighbours": chosen}

    def _row(self, genes: tuple[str, ...], context: str | None) -> int | None:
        return self.data.index.get(("+".join(genes), context))

    def _sum(self, parts: list[Response], genes: tuple[str, ...], context: str | None) -> Response:
        missing = any(part.status != OK for part in parts)
        total = sum_of([part.delta for part in parts])
        if len(genes) > 1:
            total = self.factor(genes, context) * total + self.offset(genes, context)
        return Response(total, joined(part.anchor for part in parts), NO_EMBEDDING if missing else OK)

    def _unseen(self, gene: str, context: str | None, *, without: int | None = None) -> Response:
        """What is known of a single without its own measurement in the context, and without one more row."""
        source = self.data.source(context)
        row = self.data.single(gene, context)
        neighbours = self._neighbours.get(source)
        mean = self._mean_without(source, without if row is None else row)
        predicted = None
        if neighbours is not None:
            predicted = neighbours.predict(gene) if row is None else neighbours.predict_without(gene, mean)
        if predicted is not None:
            return Response(predicted.delta, "neighbours" if predicted.has_neighbours else "mean")
        covered = not self.priors or knows(self.priors, gene)
        return Response(mean, "mean", OK if covered else NO_EMBEDDING)

    def _mean_without(self, source: Source, row: int | None) -> Array:
        others = None if row is None else self._mean_of_others.get(row)
        return self.data.mean_single(source) if others is None else others

    @cached_property
    def _mean_of_others(self) -> dict[int, Array]:
        """For each training condition that tells the mean single of its context, the mean that the others tell.

        Sums of what stands before and after, never a total minus the own value: that would keep rounding of it.
        """
        means: dict[int, Array] = {}
        for context in self.data.perturbed_contexts:
            rows, per_gene = self.data.single_changes((context,))
            if len(rows) < 2:
                means.update({int(row): np.zeros(self.data.delta.shape[1]) for row in rows})
                continue
            before, after = _sums_before(per_gene), _sums_before(per_gene[::-1])[::-1]
            means.update(zip(map(int, rows), (before + after) / (len(rows) - 1), strict=True))
        return means


def shrink_to_zero(delta: Array, se2: Array, *, reference: np.ndarray | None = None) -> Array:
    """Shrink measured changes by their noise, per condition and gene (empirical Bayes).

    ``delta * tau2 / (tau2 + se2)``. The variance of true changes is a product, ``tau2 = a_p b_g / m``: how strong the
    condition is, times how readily the gene responds, over the common variance. Each is a moment estimate, the mean of
    ``delta**2 - se2`` over genes, conditions and both, not below 0; ``b_g`` is pulled to ``m`` as by five more
    conditions. One variance for all genes would shrink the strong changes of noisy, responsive genes most.

    Parameters
    ----------
    delta, se2
        (P, G) changes and their squared standard errors; infinite noise is allowed.
    reference
        (P,) mask of the conditions that tell ``b_g`` and ``m``; None: all.

    Returns
    -------
    ndarray
        (P, G) float64. Without noise the changes are returned as they are; with infinite noise zeros.

    Notes
    -----
    The form was chosen by halving the cells of single perturbations of five real screens: the shrunken change of one
    half predicts the other with 9 to 25 % less L2 than the plain change. One variance per condition is worse in four
    of them, and on Norman (2019) worse than no shrinkage (``benchmarks/accuracy/shrinkage.py``).

    Examples
    --------
    >>> import numpy as np
    >>> shrink_to_zero(np.array([[2.0, 2.0]]), np.array([[2.0, 2.0]]))
    array([[1., 1.]])
    """
    excess = delta**2 - se2
    tells = np.isfinite(excess).all(axis=1)
    if reference is not None:
        tells &= reference
    told = excess[tells]
    common = max(float(told.mean()), 0.0) if told.size else 0.0
    variance = np.zeros_like(excess)
    if common > 0:
        of_gene = (told.sum(axis=0) + PRIOR_CONDITIONS * common) / (len(told) + PRIOR_CONDITIONS)
        of_condition = excess.mean(axis=1, keepdims=True)
        variance = np.maximum(of_condition, 0.0) * np.maximum(of_gene, 0.0) / common
    total = variance + se2
    # a gene without noise keeps its value, whatever tau2 is
    weight = np.divide(variance, total, out=np.ones_like(total), where=se2 > 0)
    return delta * weight


def _shrunken(data: TrainingData) -> Array:
    """(P, G) shrunken changes. Singles alone tell how genes respond: a pair must not be in its own anchor."""
    effects = np.empty_like(data.delta)
    for context in data.perturbed_contexts:
        rows, singles = data.rows_of((context,)), data.rows_of((context,), order=1)
        reference = np.isin(rows, singles) if len(singles) else None
        effects[rows] = shrink_to_zero(data.delta[rows], data.se2[rows], reference=reference)
    return effects


def _sums_before(values: Array) -> Array:
    """(n, G) for each row the sum of the rows before it."""
    sums = np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=sums[1:])
    return sums
