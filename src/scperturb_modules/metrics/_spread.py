"""Whether the predictions of different conditions differ as the truths do, and as much."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._centroid import spearman
from scperturb_modules.metrics._status import (
    CONSTANT_PREDICTION,
    CONSTANT_TRUTH,
    FEW_CONDITIONS,
    FEW_GENES,
    MIN_CONDITIONS,
    MIN_GENES,
    OK,
    ZERO,
    Score,
    checked_pair,
    is_constant,
)

N_VARIABLE = 1000
"""Genes whose correlation over conditions enters :func:`gene_correlation`."""


def collapse(truth: ArrayLike, prediction: ArrayLike, noise: ArrayLike) -> Score:
    """Spread of the predictions over the noise-free spread of the truth, summed over genes.

    ``sum_g var_p(h) / sum_g max(0, var_p(t) - mean_p noise)``, variances over conditions with ddof 1. 0: the same
    prediction for every condition (mode collapse); 1: the right spread; above 1: the predictor invents differences.

    Parameters
    ----------
    truth, prediction
        (P, G) changes; the truth in its difference form (mean minus training controls), whose control does not vary.
    noise
        (P, G) squared standard error of the perturbed cells' mean (``se2 - se2_control`` of a pseudobulk).

    Returns
    -------
    value, status
        The ratio and ``ok``, or NaN with ``few_conditions`` (below 10), ``few_genes`` or ``constant_truth`` (no spread
        beyond noise).

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.random.default_rng(0).normal(size=(20, 50))
    >>> ratio, status = collapse(truth, 0.5 * truth, np.zeros_like(truth))
    >>> round(ratio, 12), status
    (0.25, 'ok')
    """
    true, predicted = checked_pair(truth, prediction)
    true, noise2 = checked_pair(true, noise)
    if true.ndim != 2 or true.shape[0] < MIN_CONDITIONS:
        return float("nan"), FEW_CONDITIONS
    if true.shape[1] < MIN_GENES:
        return float("nan"), FEW_GENES
    signal = np.maximum(0.0, true.var(axis=0, ddof=1) - noise2.mean(axis=0)).sum()
    if signal <= ZERO**2:
        return float("nan"), CONSTANT_TRUTH
    return float(predicted.var(axis=0, ddof=1).sum() / signal), OK


def gene_correlation(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Median over genes of the Pearson correlation over conditions, of the 1000 genes with the most variable truth.

    What other metrics ask along the genes of a condition, this one asks along the conditions of a gene: is the gene's
    change large where it is predicted to be? A gene that is predicted alike for all conditions counts 0.

    Parameters
    ----------
    truth, prediction
        (P, G) changes.

    Returns
    -------
    value, status
        The median and ``ok``; 0 and ``constant_prediction`` where no gene's prediction varies; NaN with
        ``few_conditions`` (below 10), ``few_genes`` or ``constant_truth`` (fewer than 5 genes vary).

    Raises
    ------
    ValueError
        The shapes differ or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.random.default_rng(0).normal(size=(20, 50))
    >>> round(gene_correlation(truth, 2 * truth)[0], 12)
    1.0
    """
    true, predicted = checked_pair(truth, prediction)
    if true.ndim != 2 or true.shape[0] < MIN_CONDITIONS:
        return float("nan"), FEW_CONDITIONS
    if true.shape[1] < MIN_GENES:
        return float("nan"), FEW_GENES
    chosen = np.argsort(-true.var(axis=0, ddof=1), kind="stable")[:N_VARIABLE]
    chosen = np.array([gene for gene in chosen if not is_constant(true[:, gene])], dtype=np.intp)
    if len(chosen) < MIN_GENES:
        return float("nan"), CONSTANT_TRUTH
    true, predicted = (side[:, chosen] - side[:, chosen].mean(axis=0) for side in (true, predicted))
    varies = np.array([not is_constant(column) for column in predicted.T])
    norms = np.sqrt((true**2).sum(axis=0) * (predicted**2).sum(axis=0))
    r = np.divide((true * predicted).sum(axis=0), norms, out=np.zeros(len(chosen)), where=varies)
    return float(np.median(r)), OK if varies.any() else CONSTANT_PREDICTION


def effect_size(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Spearman correlation over conditions of the norms of the predicted and of the true change.

    Does the predictor know which perturbations do much? Needs neither the right genes nor the right scale; noise makes
    conditions of few cells look strong. Arguments and errors as :func:`gene_correlation`.

    Returns
    -------
    value, status
        The correlation and ``ok``; 0 and ``constant_prediction`` where all are predicted equally strong; NaN with
        ``few_conditions`` (below 10), ``few_genes`` or ``constant_truth``.
    """
    true, predicted = checked_pair(truth, prediction)
    if true.ndim != 2 or true.shape[0] < MIN_CONDITIONS:
        return float("nan"), FEW_CONDITIONS
    if true.shape[1] < MIN_GENES:
        return float("nan"), FEW_GENES
    return spearman(np.linalg.norm(true, axis=1), np.linalg.norm(predicted, axis=1))
