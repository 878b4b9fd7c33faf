"""The linear model of Ahlmann-Eltze et al. 2025: genes and perturbations in one space of principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._folds import N_FOLDS, gene_folds, split_rows
from scperturb_modules.baselines._prediction import NO_EMBEDDING, OK, Response
from scperturb_modules.baselines._training import Array, Source

N_COMPONENTS = (5, 10, 20, 50)
PENALTIES = (0.01, 0.1, 1.0, 10.0)
PUBLISHED = (10, 0.1)
"""Number of components and penalty of the published script; used where nothing can be cross-validated."""


class LinearFit(NamedTuple):
    """``change = offset + gene_scores @ weights @ (sum of the scores of the perturbed genes)``."""

    offset: Array
    gene_scores: Array
    weights: Array


def gene_scores(mean: Array, n_components: int) -> Array:
    """Principal component scores of genes over conditions.

    Parameters
    ----------
    mean
        (P, G) mean expression; genes are the observations, conditions the features.
    n_components
        At most this many; never more than P or G.

    Returns
    -------
    ndarray
        (G, K) float64, component with the largest variance first.
    """
    centred = mean - mean.mean(axis=1, keepdims=True)
    n = len(mean)
    kept = min(n_components, n, mean.shape[1])
    _, vectors = linalg.eigh(centred @ centred.T, subset_by_index=[n - kept, n - 1])
    return centred.T @ vectors[:, ::-1]


def solve_weights(change: Array, scores: Array, perturbed: Array, penalty: float) -> Array:
    """Ridge solution of ``change.T ~ scores @ W @ perturbed.T``.

    ``W = (G'G + l I)^-1 G' Y P (P'P + l I)^-1``, which is the ridge solution with the penalty matrix
    ``(P'P + l I) x (G'G + l I)`` in Kronecker form.

    Parameters
    ----------
    change
        (P, G) centred changes.
    scores
        (G, K) gene scores.
    perturbed
        (P, K) summed scores of the perturbed genes.
    penalty
        l, on the scale of the scores.

    Returns
    -------
    ndarray
        (K, K) float64.
    """
    ridge = penalty * np.eye(scores.shape[1])
    left = linalg.solve(scores.T @ scores + ridge, (scores.T @ change.T) @ perturbed, assume_a="pos")
    return linalg.solve(perturbed.T @ perturbed + ridge, left.T, assume_a="pos").T


class Linear(Baseline):
    """Bilinear model between principal components of genes and of perturbed genes.

    ``Y ~ G W P' + b``: b the mean over training conditions, G the principal component scores of genes in the training
    pseudobulk, P the rows of G of the perturbed genes (summed for combinations), W by ridge regression
    (Ahlmann-Eltze et al. 2025). The number of components (5, 10, 20, 50) and the penalty (.01, .1, 1, 10) are chosen
    by cross-validation over genes. A perturbed gene that is not measured has no row in G: the prediction is b where
    no perturbed gene has one, and the status ``"no_embedding"``.
    """

    def _fit(self) -> None:
        self._column = {gene: i for i, gene in enumerate(self._data.var_names)}
        chosen = self._fit_each_source(self._choose)
        self._models = {
            source: self._fit_rows(self._data.rows_of(source), *setting) for source, setting in chosen.items()
        }
        self._record("n_components", {source: setting[0] for source, setting in chosen.items()})
        self._record("penalty", {source: setting[1] for source, setting in chosen.items()})

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        model = self._models[self._data.source(context)]
        perturbed = perturbed_scores([genes], model.gene_scores, self._column)[0]
        delta = model.offset + model.gene_scores @ (model.weights @ perturbed)
        status = OK if all(gene in self._column for gene in genes) else NO_EMBEDDING
        return Response(delta, "linear" if any(gene in self._column for gene in genes) else "mean", status)

    def _fit_rows(self, rows: np.ndarray, n_components: int, penalty: float) -> LinearFit:
        data = self._data
        scores = gene_scores(data.mean[rows], n_components)
        perturbed = perturbed_scores([data.genes[row] for row in rows], scores, self._column)
        offset = data.delta[rows].mean(axis=0)
        return LinearFit(offset, scores, solve_weights(data.delta[rows] - offset, scores, perturbed, penalty))

    def _choose(self, source: Source) -> tuple[int, float]:
        rows = self._data.rows_of(source)
        genes = [self._data.genes[row] for row in rows]
        folds = gene_folds((gene for some in genes for gene in some), seed=self.seed)
        errors = np.zeros((len(N_COMPONENTS), len(PENALTIES)))
        for fold in range(N_FOLDS):
            train, held_out = split_rows(genes, folds, fold)
            if len(train) and len(held_out):
                errors += self._fold_errors(rows[train], rows[held_out])
        if not errors.any():
            return PUBLISHED
        best = np.unravel_index(np.argmin(errors), errors.shape)
        return N_COMPONENTS[best[0]], PENALTIES[best[1]]

    def _fold_errors(self, train: np.ndarray, held_out: np.ndarray) -> Array:
        """(n_components, n_penalties) squared errors on held-out rows, up to a constant."""
        data = self._data
        offset = data.delta[train].mean(axis=0)
        change, truth = data.delta[train] - offset, data.delta[held_out] - offset
        all_scores = gene_scores(data.mean[train], max(N_COMPONENTS))
        errors = np.empty((len(N_COMPONENTS), len(PENALTIES)))
        for i, n_components in enumerate(N_COMPONENTS):
            scores = all_scores[:, :n_components]
            perturbed = perturbed_scores([data.genes[row] for row in train], scores, self._column)
            asked = perturbed_scores([data.genes[row] for row in held_out], scores, self._column)
            gram, projected = scores.T @ scores, truth @ scores
            for j, penalty in enumerate(PENALTIES):
                steps = asked @ solve_weights(change, scores, perturbed, penalty).T
                # |truth - scores @ step|^2 without |truth|^2, in the small space
                errors[i, j] = np.sum((steps @ gram) * steps) - 2 * np.sum(steps * projected)
        return errors


def perturbed_scores(genes: Sequence[tuple[str, ...]], scores: Array, column: Mapping[str, int]) -> Array:
    """(P, K) sum over the perturbed genes of their rows of ``scores``; an unmeasured gene adds nothing."""
    summed = np.zeros((len(genes), scores.shape[1]))
    for row, some in enumerate(genes):
        for gene in some:
            if gene in column:
                summed[row] += scores[column[gene]]
    return summed
