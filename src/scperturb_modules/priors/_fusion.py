"""Which prior tells which responses are alike: learned from measured single perturbations, by leaving each out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Similar: TypeAlias = Mapping[str, Mapping[str, Array]]
"""Source to view to (n, P) similarity with the P training singles, from 0 to 1; 0 where a gene is not known."""

POWERS = (1, 2, 4)
PSEUDO_COUNTS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""In training singles that are as similar as the most similar one usually is."""
MOST_LEARNT_FROM = 600
"""Settings that so many singles choose are certain; more would cost the cube of their number."""
_LEAST_SIZE = 0.25
"""Effects below this share of the median one count as that large, or a perturbation without effect would rule."""
_STEP_BITS = 30
"""Errors are rounded to multiples of 2^-30 of a usual one: what is equal but for rounding ties, on every machine."""


@dataclass(frozen=True)
class SourceFit:
    """How one source predicts, and what its word weighs.

    Attributes
    ----------
    source, view
        Its name, and what of it is looked at.
    power
        Similarities are raised to it: a high one trusts the closest alone.
    pseudo_count
        Weight of the base against a neighbour of the usual largest similarity.
    scale
        That usual largest similarity, the median over training singles.
    weight
        Share in the mean over sources, before those that do not know a gene abstain.
    error
        Mean error of training singles that were left out, in units of that of the base.
    """

    source: str
    view: str
    power: int
    pseudo_count: float
    scale: float
    weight: float
    error: float


@dataclass(frozen=True)
class Fusion:
    """What was learned.

    Attributes
    ----------
    base
        Factor of the mean single in the prediction without any prior; 0 is no change.
    base_weight
        Share of the base in the mean over sources.
    sources
        One each, in the order given; a source that joins no two training genes has no fit.
    """

    base: float
    base_weight: float
    sources: tuple[SourceFit, ...]

    def row_weights(self, similar: Similar, *, n_singles: int) -> tuple[Array, Array]:
        """What singles and their mean weigh in a prediction.

        Parameters
        ----------
        similar
            Similarity of n genes with the P training singles, in the chosen view of each source; 0 for singles that
            must not enter. Nothing is needed without sources, and n is 1 then.
        n_singles
            P.

        Returns
        -------
        on_effects, on_mean
            (n, P) and (n,): the prediction is ``on_effects @ effects + on_mean * mean``.

        Notes
        -----
        A source s with evidence ``E = (similarity / scale) ** power`` predicts ``(E @ effects + c base mean) /
        (sum(E) + c)``. Sources without evidence for a gene abstain; the others and the base share their weight.
        """
        n_genes = len(similar[self.sources[0].source][self.sources[0].view]) if self.sources else 1
        total, on_effects = np.full(n_genes, self.base_weight), np.zeros((n_genes, n_singles))
        for fit in self.sources:
            evidence = (similar[fit.source][fit.view] / fit.scale) ** fit.power
            amount = evidence.sum(axis=1)
            total += fit.weight * (amount > 0)
            on_effects += fit.weight * evidence / (amount + fit.pseudo_count)[:, None]
        told = total > np.finfo(np.float64).tiny  # smaller numbers have no reciprocal
        on_effects *= np.divide(1.0, total, out=np.zeros_like(total), where=told)[:, None]
        return on_effects, self.base * (1.0 - on_effects.sum(axis=1))


def no_fusion() -> Fusion:
    """The mean single, whatever the priors say."""
    return Fusion(1.0, 1.0, ())


def learn(similar: Similar, products: Array, genes: Sequence[str]) -> Fusion:
    """Learn how each source predicts and what it weighs, from leave-one-out predictions of training singles.

    Parameters
    ----------
    similar
        (P, P) similarities among the training singles.
    products
        (P, P) inner products of their effects.
    genes
        (P,) perturbed gene of each; singles of one gene, as in several cell types, never predict each other.

    Notes
    -----
    View, power and pseudo-count of a source are those with the least error. Squared errors are divided by the size of
    the effect, so that a few strong perturbations do not decide for all. A source's weight is ``exp(-t)``: t is how
    many standard errors its mean error lies above that of the best source, or of the base. Sources that cannot be told
    apart weigh the same; where priors say nothing, the base is among the best.
    """
    data = _Left(products, np.asarray(genes, dtype=object))
    fits: dict[str, tuple[SourceFit, Array]] = {}
    for name, views in similar.items():
        tried = [data.fit(name, view, values) for view, values in views.items()]
        usable = [one for one in tried if one is not None]
        if usable:
            fits[name] = min(usable, key=lambda one: float(one[1].sum()))
    errors = np.array([data.base_error, *(error for _, error in fits.values())])
    weights = soft_best(errors)
    reference = max(float(data.base_error.sum()), 1e-300)
    sources = tuple(
        replace(fit, weight=float(weight), error=float(error.sum()) / reference)
        for (fit, error), weight in zip(fits.values(), weights[1:], strict=True)
    )
    return Fusion(data.base, float(weights[0]), sources)


def mean_factor(products: Array, genes: Sequence[str]) -> float:
    """Factor, 0 to 1, with which the mean of the other genes' effects predicts an effect best.

    Parameters
    ----------
    products
        (P, P) inner products of the effects.
    genes
        (P,) what was perturbed; rows of the same name are not others.
    """
    return _Left(products, np.asarray(genes, dtype=object)).base


def soft_best(errors: Array) -> Array:
    """(S,) weights of S predictors from their errors (S, P) on the same things; of sum 1.

    ``exp(-t)`` with t the standard errors by which a mean error exceeds the least one: a soft form of the rule to take
    everything within one standard error of the best.

    >>> soft_best(np.array([[1.0, 2.0], [1.0, 2.0]]))
    array([0.5, 0.5])
    """
    excess = errors - errors[np.argmin(errors.sum(axis=1))]
    mean = excess.mean(axis=1)
    error = excess.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])
    distance = np.divide(mean, error, out=np.where(mean > 0, np.inf, 0.0), where=error > 0)
    weight = np.exp(-distance)
    return weight / weight.sum()


def learnt_from(n: int, *, seed: int) -> NDArray[np.intp]:
    """Numbers of the singles to learn from: all, or 600 drawn ones."""
    if n <= MOST_LEARNT_FROM:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST_LEARNT_FROM])


class _Products(NamedTuple):
    """Row sums of products with the inner products G of the effects; N the evidence, B the weights of the mean."""

    amount: Array
    with_self: Array  # (N G)_pp
    squared: Array  # (N G N')_pp
    with_mean: Array  # (N G B')_pp


class _Left:
    """Leave-one-out errors of training singles."""

    def __init__(self, products: Array, genes: NDArray[np.object_]) -> None:
        self._products = products
        self._same = genes[:, None] == genes[None, :]
        others = (~self._same).sum(axis=1, keepdims=True)
        self._mean = np.divide(~self._same, others, out=np.zeros(products.shape), where=others > 0)
        self._square = np.diag(products)
        size = np.sqrt(np.maximum(self._square, 0.0))
        least = _LEAST_SIZE * float(np.median(size))
        self._importance = 1.0 / np.maximum(size, least if least > 0 else 1.0)
        usual = float((self._importance * self._square).mean())
        self._step = 2.0 ** (math.frexp(usual)[1] - _STEP_BITS)
        mean_products = self._mean @ products
        self._mean_self = np.diag(mean_products)
        self._mean_squared = (mean_products * self._mean).sum(axis=1)
        gain, cost = (float((self._importance * one).sum()) for one in (self._mean_self, self._mean_squared))
        self.base = min(max(gain / cost, 0.0), 1.0) if cost > 0 else 0.0
        """Factor of the mean of the other genes' singles, 0 to 1, with the least error."""
        self.base_error: Array = self._error(
            self._square, self.base * self._mean_self, self.base**2 * self._mean_squared
        )

    def fit(self, source: str, view: str, similarity: Array) -> tuple[SourceFit, Array] | None:
        """The settings with the least error, and the (P,) errors; None where no training gene is like another."""
        alike = np.where(self._same, 0.0, similarity)
        largest = alike.max(axis=1, initial=0.0)
        if not (largest > 0).any():
            return None
        scale = float(np.median(largest[largest > 0]))
        best: tuple[SourceFit, Array] | None = None
        for power in POWERS:
            products = self._of((alike / scale) ** power)
            for count in PSEUDO_COUNTS:
                error = self._with_count(products, count)
                if best is None or error.sum() < best[1].sum():
                    best = SourceFit(source, view, power, count, scale, 0.0, 0.0), error
        return best

    def _of(self, evidence: Array) -> _Products:
        products = evidence @ self._products
        return _Products(
            evidence.sum(axis=1),
            np.diag(products).copy(),
            (products * evidence).sum(axis=1),
            (products * self._mean).sum(axis=1),
        )

    def _with_count(self, one: _Products, count: float) -> Array:
        """Errors of ``(N d + count base mean) / (sum N + count)``, from sums that do not depend on the count."""
        total = one.amount + count
        mean = count * self.base
        cross = (one.with_self + mean * self._mean_self) / total
        square = (one.squared + 2 * mean * one.with_mean + mean**2 * self._mean_squared) / total**2
        return self._error(self._square, cross, square)

    def _error(self, own: Array, cross: Array, square: Array) -> Array:
        error = self._importance * (own - 2 * cross + square)
        return np.round(error / self._step) * self._step
