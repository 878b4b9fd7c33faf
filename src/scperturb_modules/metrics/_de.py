"""Which genes are scored, and how well the predicted changes find the significant ones.

Gene sets made from test cells serve scoring only: no predictor may see them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics._status import (
    ALL_DE,
    CONSTANT_PREDICTION,
    FEW_GENES,
    MIN_GENES,
    NO_TRUE_DE,
    OK,
    Score,
    checked_pair,
    is_constant,
)

Indices = NDArray[np.intp]
Mask = NDArray[np.bool_]

N_TOP, N_DE = 1000, 20
MIN_DETECTION = 0.05
"""A gene seen in a smaller share of the perturbed and of the control cells is not called changed."""
FALSE_DISCOVERY_RATE = 0.05


def top_genes(control_mean: ArrayLike, names: Sequence[str], n: int = N_TOP) -> Indices:
    """The genes highest in training controls, ties by name (Ahlmann-Eltze et al. 2025 take 1000).

    Parameters
    ----------
    control_mean
        (G,) mean over the training controls of the context.
    names
        (G,) gene names.
    n
        How many; all genes where there are fewer.

    Returns
    -------
    ndarray of int
        Column indices, highest mean first.

    Examples
    --------
    >>> top_genes([1.0, 2.0, 2.0], ["a", "c", "b"], n=2).tolist()
    [2, 1]
    """
    mean = np.asarray(control_mean, dtype=np.float64)
    return np.lexsort((np.asarray(names, dtype=str), -mean))[:n]


def de_genes(t: ArrayLike, detection: ArrayLike, exclude: Sequence[int] | Indices = (), n: int = N_DE) -> Indices:
    """The genes with the largest absolute t statistic of a condition, ties by position.

    Parameters
    ----------
    t
        (G,) Welch t of the perturbed cells against their controls; NaN where there is none.
    detection
        (G,) larger of the shares of perturbed and of control cells in which the gene is seen; at least .05 is needed.
    exclude
        Column indices never chosen: the perturbed genes themselves.
    n
        How many; fewer where not as many genes qualify.

    Returns
    -------
    ndarray of int
        Column indices, largest first.

    Examples
    --------
    >>> de_genes([1.0, -5.0, 3.0, 9.0], [1, 1, 1, 0.01], exclude=[2], n=2).tolist()
    [1, 0]
    """
    statistic = np.abs(np.asarray(t, dtype=np.float64))
    candidates = np.flatnonzero(_testable(statistic, detection, exclude))
    order = np.argsort(-statistic[candidates], kind="stable")
    return candidates[order[:n]]


def significant_genes(
    p_values: ArrayLike, detection: ArrayLike, exclude: Sequence[int] | Indices = (), q: float = FALSE_DISCOVERY_RATE
) -> tuple[Mask, Mask]:
    """The genes changed at a false discovery rate, and the genes that were tested at all.

    Parameters
    ----------
    p_values
        (G,) of the Welch test; NaN where there is none.
    detection, exclude
        As in :func:`de_genes`. Benjamini and Hochberg's correction counts the tested genes only.
    q
        False discovery rate.

    Returns
    -------
    significant, tested : (G,) masks.

    Examples
    --------
    >>> significant, tested = significant_genes([1e-6, 0.5, 0.9, 1e-9], [1, 1, 1, 0])
    >>> significant.tolist(), tested.tolist()
    ([True, False, False, False], [True, True, True, False])
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p_values, dtype=np.float64)
    tested = _testable(p, detection, exclude)
    significant = np.zeros(p.shape, dtype=bool)
    if tested.any():
        significant[tested] = false_discovery_control(p[tested]) < q
    return significant, tested


def _testable(statistic: NDArray[np.float64], detection: ArrayLike, exclude: Sequence[int] | Indices) -> Mask:
    mask = ~np.isnan(statistic) & (np.asarray(detection, dtype=np.float64) >= MIN_DETECTION)
    mask[np.asarray(exclude, dtype=np.intp)] = False
    return mask


def de_score(prediction: ArrayLike, se2_pooled: ArrayLike) -> NDArray[np.float64]:
    """How strongly a predicted change calls its gene: ``|h| / sqrt(se2_pooled + s0)``.

    The same change means more in a quiet gene. ``s0`` keeps genes that are almost never seen, whose variance is
    almost 0, from coming first (the idea of Tusher et al. 2001).

    Parameters
    ----------
    prediction
        (..., G) predicted change.
    se2_pooled
        (G,) mean over the *training* conditions of the squared standard error of the change. ``s0`` is its median over
        genes with a positive one; where there is none, every gene counts alike.

    Returns
    -------
    ndarray
        (..., G) scores, not negative.

    Examples
    --------
    >>> de_score([1.0, -1.0, 0.0], [1.0, 3.0, 3.0]).round(3).tolist()
    [0.5, 0.408, 0.0]
    """
    noise = np.asarray(se2_pooled, dtype=np.float64)
    positive = noise[noise > 0]
    s0 = float(np.median(positive)) if positive.size else 1.0
    return np.abs(np.asarray(prediction, dtype=np.float64)) / np.sqrt(noise + s0)


def average_precision(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Average precision of a ranking of genes: the area under the precision-recall curve as a step function.

    Genes of equal score enter together, so their order does not matter (as in scikit-learn).

    Parameters
    ----------
    truth
        (G,) mask of significantly changed genes among the tested ones.
    prediction
        (G,) score of each tested gene, from :func:`de_score`.

    Returns
    -------
    value, status
        The area and ``ok``; the share of changed genes and ``constant_prediction`` for a score that ranks nothing; NaN
        with ``no_true_de``, ``all_de`` or ``few_genes``.

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> average_precision([True, False, True, False, False], [5, 4, 3, 2, 1])
    (0.8333333333333333, 'ok')
    """
    label, score = checked_pair(truth, prediction)
    n, n_changed = label.size, label.sum()
    if n < MIN_GENES:
        return float("nan"), FEW_GENES
    if n_changed in (0, n):
        return float("nan"), NO_TRUE_DE if n_changed == 0 else ALL_DE
    if is_constant(score):
        return float(n_changed / n), CONSTANT_PREDICTION
    order = np.argsort(-score, kind="stable")
    last_of_tie = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found = np.cumsum(label[order])[last_of_tie]
    precision = found / (last_of_tie + 1)
    return float(np.diff(found, prepend=0.0) @ precision / n_changed), OK
