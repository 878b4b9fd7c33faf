"""Scores of a genetic interaction, from the changes of two single perturbations and of both together."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules.metrics._distance_correlation import distance_correlation
from scperturb_modules.metrics._theil_sen import theil_sen

Array = NDArray[np.float64]
Fit = Literal["distance", "pearson"]

SCORES = (
    "c1",
    "c2",
    "magnitude",
    "model_fit",
    "similarity",
    "singles_similarity",
    "equality",
    "dominance",
    "residual",
)
BOUNDS = np.array([[-np.inf, -np.inf, 0, -1, 0, 0, 0, 0, 0], [np.inf, np.inf, np.inf, 1, 1, 1, 1, np.inf, np.inf]])
"""(2, S) smallest and largest possible value of each score."""


def interaction_scores(
    changes: Array, *, fit: Fit = "distance", max_gene_pairs: int | None = None, seed: int = 0
) -> Array:
    """Scores of D pairs.

    Parameters
    ----------
    changes
        (D, 3, m): changes of A, of B and of A+B over m genes; a pair with a value that is not finite has NaN scores.
    fit
        How ``model_fit`` compares the fitted with the observed change.
    max_gene_pairs
        Pairs of genes that the slopes come from at most; see :func:`scperturb_modules.metrics.theil_sen`.
    seed
        Of that sample.

    Returns
    -------
    ndarray
        (D, S) in the order of :data:`SCORES`.
    """
    scores = np.full((len(changes), len(SCORES)), np.nan)
    usable = np.isfinite(changes).all(axis=(1, 2))
    if usable.any():
        a, b, y = np.moveaxis(changes[usable], 1, 0)
        scores[usable] = _scores(a, b, y, fit, max_gene_pairs, seed)
    return scores


def _scores(a: Array, b: Array, y: Array, fit: Fit, max_gene_pairs: int | None, seed: int) -> Array:
    c1, c2 = theil_sen(a, b, y, max_pairs=max_gene_pairs, seed=seed).T
    fitted = c1[:, None] * a + c2[:, None] * b
    model_fit = distance_correlation(fitted, y) if fit == "distance" else _pearson(fitted, y)
    contributions = np.stack([distance_correlation(a, y), distance_correlation(b, y)])
    with np.errstate(divide="ignore", invalid="ignore"):
        equality = contributions.min(axis=0) / contributions.max(axis=0)
        dominance = np.abs(np.log10(np.abs(c1) / np.abs(c2)))
    columns = {
        "c1": c1,
        "c2": c2,
        "magnitude": np.hypot(c1, c2),
        "model_fit": model_fit,
        "similarity": distance_correlation(np.stack([a, b], axis=-1), y),
        "singles_similarity": distance_correlation(a, b),
        "equality": equality,
        "dominance": dominance,
        "residual": np.linalg.norm(y - a - b, axis=1),
    }
    return np.column_stack([columns[name] for name in SCORES])


def _pearson(fitted: Array, observed: Array) -> Array:
    left, right = (values - values.mean(axis=1, keepdims=True) for values in (fitted, observed))
    with np.errstate(invalid="ignore"):
        return np.sum(left * right, axis=1) / np.sqrt(np.sum(left**2, axis=1) * np.sum(right**2, axis=1))


def as_table(scores: Array, index: pd.Index) -> pd.DataFrame:
    """Name the rows and columns of (D, S) scores."""
    return pd.DataFrame(scores, index=index, columns=list(SCORES))
