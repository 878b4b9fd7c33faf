"""Genetic interactions: what a pair does beyond the sum of its singles, observed and predicted.

Both sides are ``AB - A - B`` (+ control, once) per gene, the predicted one with the singles measured in training; an
additive prediction is exactly 0. The correlation, ``gi_pearson``, is :func:`pearson`: an additive prediction is
constant and scores 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._status import (
    ALL_DE,
    CONSTANT_PREDICTION,
    CONSTANT_TRUTH,
    FEW_GENES,
    MIN_GENES,
    NO_TRUE_DE,
    OK,
    ZERO,
    Score,
    checked_pair,
    is_constant,
)


def gi_mse_gain(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """How much of the squared interaction is explained, ``1 - |g - g_hat|^2 / |g|^2``.

    1 is perfect, 0 is what the additive prediction reaches (exactly), negative is worse than additive. Noise of the
    observed interaction cannot be explained, so that the most that can be reached is below 1.

    Parameters
    ----------
    truth, prediction
        (G,) interaction of a pair per gene.

    Returns
    -------
    value, status
        The gain and ``ok``, or NaN with ``few_genes`` or ``constant_truth`` (no interaction).

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> gi_mse_gain([0, 0, 0, 0, 2], [0, 0, 0, 0, 1])
    (0.75, 'ok')
    >>> gi_mse_gain([0, 0, 0, 0, 2], [0, 0, 0, 0, 0])
    (0.0, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    if true.size < MIN_GENES:
        return float("nan"), FEW_GENES
    if np.abs(true).max() <= ZERO:
        return float("nan"), CONSTANT_TRUTH
    return float(1.0 - np.sum((true - predicted) ** 2) / np.sum(true**2)), OK


def true_positive_rate(truth: ArrayLike, prediction: ArrayLike, false_discovery: float = 0.1) -> Score:
    """Largest share of the called entries that a ranking finds at a false discovery proportion of at most so much.

    Over all cuts of the ranking where at most that share of the entries above the cut is not called; 0 where no cut
    is that clean. Entries of equal score enter together (Ahlmann-Eltze et al. 2025 draw the whole curve).

    Parameters
    ----------
    truth
        (n,) mask of called interactions: pairs x genes, flattened.
    prediction
        (n,) score of each, the size of the predicted interaction; for synergy and suppression apart, its sign as well.
    false_discovery
        Largest false discovery proportion, from 0 to 1; .1 and .3 are reported.

    Returns
    -------
    value, status
        The rate and ``ok``; 0 and ``constant_prediction`` for a score that ranks nothing; NaN with ``no_true_de``
        (nothing is called), ``all_de`` or ``few_genes`` (fewer than 5 entries).

    Raises
    ------
    ValueError
        The shapes differ, a value is not finite, or ``false_discovery`` is no proportion.

    Examples
    --------
    >>> true_positive_rate([1, 1, 0, 1, 0, 0], [6, 5, 4, 3, 2, 1], 0.1)
    (0.6666666666666666, 'ok')
    >>> true_positive_rate([1, 1, 0, 1, 0, 0], [6, 5, 4, 3, 2, 1], 0.3)
    (1.0, 'ok')
    """
    if not 0 <= false_discovery <= 1:
        raise ValueError(f"false_discovery={false_discovery} is no proportion; use a number from 0 to 1.")
    label, score = checked_pair(truth, prediction)
    n, n_called = label.size, label.sum()
    if n < MIN_GENES:
        return float("nan"), FEW_GENES
    if n_called in (0, n):
        return float("nan"), NO_TRUE_DE if n_called == 0 else ALL_DE
    if is_constant(score):
        return 0.0, CONSTANT_PREDICTION
    order = np.argsort(-score, kind="stable")
    cuts = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    found, above = np.cumsum(label[order])[cuts], cuts + 1
    # in counts, so that one false entry in ten is at most a tenth
    clean = above - found <= false_discovery * above * (1 + 1e-12)
    return float(found[clean].max(initial=0.0) / n_called), OK
