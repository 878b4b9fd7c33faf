"""Whether the predictions of different conditions differ as much as the truths do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._status import (
    CONSTANT_TRUTH,
    FEW_CONDITIONS,
    FEW_GENES,
    MIN_CONDITIONS,
    MIN_GENES,
    OK,
    ZERO,
    Score,
    checked_pair,
)


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
