"""Regression from prior embeddings of genes to the principal components of the response."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import linalg, sparse
from scipy.spatial.distance import cdist, pdist

from scperturb_modules.baselines._base import MIN_COVERED, Baseline
from scperturb_modules.baselines._folds import N_FOLDS, gene_folds, split_rows
from scperturb_modules.baselines._prediction import NO_EMBEDDING, OK, Response
from scperturb_modules.baselines._training import Array, Source

PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Relative to a kernel with mean diagonal 1."""

MAX_COMPONENTS = 50


@dataclass(frozen=True)
class GeneKernel:
    """Similarity between genes in prior space, centred on the training genes.

    Centred, so that the average training gene has no response beyond the mean shift. Scaled to a mean diagonal of 1
    over the training genes.

    Attributes
    ----------
    values
        (n, F) embedding of the training genes.
    linear
        Inner product, else ``exp(-distance**2 / (2 bandwidth**2))`` with the median distance as bandwidth.
    """

    values: Array
    linear: bool

    @cached_property
    def _bandwidth(self) -> float:
        return float(np.median(pdist(self.values))) or 1.0

    @cached_property
    def _training_means(self) -> Array:
        return self._raw(self.values).mean(axis=0)

    @cached_property
    def _scale(self) -> float:
        raw = self._raw(self.values)
        diagonal = float(np.mean(np.diag(raw)))
        spread = diagonal - float(raw.mean())
        # genes that are all alike leave rounding only
        return spread if spread > 1e-12 * diagonal else 1.0

    def _raw(self, values: Array) -> Array:
        if self.linear:
            return values @ self.values.T
        return np.exp(-cdist(values, self.values, "sqeuclidean") / (2 * self._bandwidth**2))

    def __call__(self, values: Array) -> Array:
        """(m, n) similarity of m genes to the training genes."""
        raw = self._raw(values)
        centred = raw - raw.mean(axis=1, keepdims=True) - self._training_means + self._training_means.mean()
        return centred / self._scale


class KernelFit(NamedTuple):
    """``change = mean_shift + (kernel row of the condition) @ coefficients @ components``."""

    kernel: GeneKernel
    incidence: sparse.csr_matrix
    coefficients: Array
    components: Array


class PriorRegression(Baseline):
    """Kernel ridge regression of what the mean shift leaves over on a prior embedding of the perturbed genes.

    The response to a combination is a sum over its genes, so its kernel is the sum over pairs of genes. Residuals are
    reduced to principal component scores. Training conditions with an uncovered gene are left out; an uncovered gene
    of a predicted condition adds nothing to the mean shift (status ``"no_embedding"``). Where held-out genes are not
    predicted better than by the mean shift, by more than one standard error, the prediction is the mean shift.
    Among penalties that predict them about as well as the best, the strongest is taken.
    """

    needs_prior = True
    uses_prior = True
    _linear: bool

    def _fit(self) -> None:
        self._require_embedding()
        self._choices: dict[Source, Array] = {}
        self._models = self._fit_each_source(self._fit_source)
        self._record_choices()

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        source = self._data.source(context)
        mean = self._data.mean_shift(source, len(genes))
        embedding = self._require_embedding()
        covered = [gene for gene in genes if gene in embedding]
        status = OK if len(covered) == len(genes) else NO_EMBEDDING
        model = self._models[source]
        if model is None or not covered:
            return Response(mean, "mean", status)
        similarity = model.kernel(embedding.values[embedding.rows(covered)]).sum(axis=0)
        scores = (model.incidence @ similarity) @ model.coefficients
        return Response(mean + scores @ model.components, "prior", status)

    def _fit_source(self, source: Source) -> KernelFit | None:
        data, embedding = self._data, self._require_embedding()
        rows = [row for row in data.rows_of(source) if all(gene in embedding for gene in data.genes[row])]
        perturbed = [data.genes[row] for row in rows]
        genes = sorted({gene for some in perturbed for gene in some})
        if len(genes) < MIN_COVERED:
            return None
        residual = np.array([data.delta[row] - data.mean_shift(source, len(data.genes[row])) for row in rows])
        components = principal_components(residual, MAX_COMPONENTS)
        if not len(components):
            return None
        scores = residual @ components.T
        incidence = incidence_of(perturbed, genes)
        kernel = GeneKernel(embedding.values[embedding.rows(genes)], self._linear)
        similarity = incidence @ (incidence @ kernel(kernel.values)).T
        penalties = self._choose(held_out_gains(similarity, scores, perturbed, seed=self.seed))
        self._choices[source] = penalties
        if not np.isfinite(penalties).any():
            return None
        return KernelFit(kernel, incidence, ridge(similarity, scores, penalties), components)

    @abstractmethod
    def _choose(self, gains: Array) -> Array:
        """(K,) penalty of each component, infinite to predict zero, from :func:`held_out_gains`."""

    def _record_choices(self) -> None:
        used = {source: choice[np.isfinite(choice)] for source, choice in self._choices.items()}
        self._record("n_components", {source: len(choice) for source, choice in used.items()})
        self._record("penalty", {source: float(choice[0]) for source, choice in used.items() if len(choice)})


class EmbeddingLinear(PriorRegression):
    """Ridge regression from a gene embedding to principal component scores of the response, plus the mean.

    The pretrained embedding with a linear decoder of Ahlmann-Eltze et al. 2025, for any embedding: columns
    standardised, combinations summed. Number of components and penalty by cross-validation over genes.
    """

    _linear = True

    def _choose(self, gains: Array) -> Array:
        first_components = np.cumsum(gains, axis=2)
        last = int(np.argmax(first_components.sum(axis=1).max(axis=0)))
        penalty = strongest_penalty(first_components[:, :, last])
        return np.where(np.arange(gains.shape[2]) <= last, penalty, np.inf)


class KernelRidge(PriorRegression):
    """Kernel ridge regression from the fused priors to the response, plus the mean.

    Gaussian kernel with the median distance as bandwidth; the penalty by cross-validation over genes. A penalty per
    component was tried: it chases noise, and loses to the mean with a prior that says nothing.
    """

    _linear = False

    def _choose(self, gains: Array) -> Array:
        return np.full(gains.shape[2], strongest_penalty(gains.sum(axis=2)))


def principal_components(values: Array, most: int) -> Array:
    """(K, G) orthonormal directions of largest variance about zero; those without variance are left out."""
    n = len(values)
    kept = min(most, n, values.shape[1])
    variance, vectors = linalg.eigh(values @ values.T, subset_by_index=[n - kept, n - 1])
    real = variance > 1e-12 * max(variance[-1], 1e-300)
    directions = vectors[:, real].T @ values / np.sqrt(variance[real])[:, None]
    return directions[::-1]


def incidence_of(perturbed: Sequence[tuple[str, ...]], genes: Sequence[str]) -> sparse.csr_matrix:
    """(P, n) one where a condition perturbs a gene."""
    column = {gene: i for i, gene in enumerate(genes)}
    columns = [column[gene] for some in perturbed for gene in some]
    starts = np.cumsum([0, *(len(some) for some in perturbed)])
    return sparse.csr_matrix((np.ones(len(columns)), columns, starts), shape=(len(perturbed), len(genes)))


def ridge(similarity: Array, scores: Array, penalties: Array) -> Array:
    """(P, K) dual coefficients ``(similarity + penalty I)^-1 scores``, zero for an infinite penalty."""
    values, vectors = linalg.eigh(similarity)
    gain = 1.0 / (np.maximum(values, 0.0)[:, None] + penalties)
    return vectors @ (gain * (vectors.T @ scores))


def is_clear(gains: Array) -> bool:
    """Whether gains (n,) have a mean above one standard error; the best of many settings gains by chance."""
    return len(gains) > 1 and float(gains.mean()) > float(gains.std(ddof=1)) / np.sqrt(len(gains))


def strongest_penalty(gains: Array) -> float:
    """The strongest penalty whose gains (n_penalties, n) are not clearly below the best; infinite if that is not clear.

    Few held-out genes hardly tell neighbouring penalties apart, and a weak one makes wild predictions for genes that
    lie outside of the training genes (the one-standard-error rule of Breiman et al. 1984).
    """
    best = gains[np.argmax(gains.sum(axis=1))]
    if not is_clear(best):
        return np.inf
    return max(penalty for penalty, gain in zip(PENALTIES, gains, strict=True) if not is_clear(best - gain))


def held_out_gains(similarity: Array, scores: Array, perturbed: Sequence[tuple[str, ...]], *, seed: int) -> Array:
    """(n_penalties, n, K) how much less squared error than zero has, for n conditions whose genes were held out."""
    folds = gene_folds((gene for some in perturbed for gene in some), seed=seed)
    gains = [np.zeros((len(PENALTIES), 0, scores.shape[1]))]
    for fold in range(N_FOLDS):
        train, held_out = split_rows(perturbed, folds, fold)
        if not len(train):
            continue
        values, vectors = linalg.eigh(similarity[np.ix_(train, train)])
        across = similarity[np.ix_(held_out, train)] @ vectors
        rotated = vectors.T @ scores[train]
        positive = np.maximum(values, 0.0)[:, None]
        predicted = np.array([across @ (rotated / (positive + penalty)) for penalty in PENALTIES])
        gains.append(scores[held_out] ** 2 - (scores[held_out] - predicted) ** 2)
    return np.concatenate(gains, axis=1)
