"""Distances between populations of cells: true and predicted cells of one condition, (n, D) and (m, D) arrays.

Distances are Euclidean in the space given, which should be a few dozen principal components of training cells: in
thousands of genes all cells are equally far apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from scperturb_modules.metrics._status import DEGENERATE, FEW_CELLS, FEW_GENES, MIN_GENES, OK, Score

Matrix = NDArray[np.float64]

MIN_POPULATION = 10
"""Fewer cells than that on a side are no population."""
RANGE = (0.45, 0.55)
"""Quantiles of the true cells between which :func:`in_range` counts a predicted mean."""


def edist(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Energy distance, unbiased: ``2 E|X-Y| - E|X-X'| - E|Y-Y'|``, within terms over distinct cells.

    0 is expected for two samples of one distribution, of whatever size; a single value may be slightly negative and is
    reported as it is. ``energy_distance`` of scperteval.

    Parameters
    ----------
    truth, prediction
        (n, D) and (m, D) cells.

    Returns
    -------
    value, status
        The distance (units of the space) and ``ok``, or NaN and ``few_cells`` (fewer than 10 on a side).

    Raises
    ------
    ValueError
        The arrays are not two-dimensional with one D, or a value is not finite.

    References
    ----------
    Szekely and Rizzo (2013), Journal of Statistical Planning and Inference 143, 1249.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> near, far = edist(*cells)[0], edist(cells[0], cells[1] + 2)[0]
    >>> abs(near) < 0.05, far > 1
    (True, True)
    """
    return _energy(truth, prediction, unbiased=True)


def edist_v(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Energy distance over all pairs, a cell with itself among them, as in pertpy and cell-eval.

    Larger than :func:`edist` by ``E|X-X'| / n + E|Y-Y'| / m``: never negative, and larger the fewer cells there are,
    so that samples of different size cannot be compared. Arguments and errors as :func:`edist`.
    """
    return _energy(truth, prediction, unbiased=False)


def mmd(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Squared maximum mean discrepancy, unbiased, with the kernel ``exp(-d^2 / (2 s^2))``.

    ``s`` is the median distance between distinct cells of both sides together. Ranks predictions much as
    :func:`edist` does. ``unbiased_mmd_median`` of scperteval, which gives 0 where this gives NaN.

    Parameters
    ----------
    truth, prediction
        As in :func:`edist`, with the same errors.

    Returns
    -------
    value, status
        The discrepancy (from slightly below 0 to 2) and ``ok``; NaN with ``few_cells``, or ``degenerate`` where more
        than half of the distances are 0 and the kernel has no width.

    References
    ----------
    Gretton et al. (2012), Journal of Machine Learning Research 13, 723.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(2, 200, 3))
    >>> abs(mmd(*cells)[0]) < 0.01, mmd(cells[0], cells[1] + 9)[0] > 0.5
    (True, True)
    """
    first, second = _populations(truth, prediction)
    n, m = len(first), len(second)
    if min(n, m) < MIN_POPULATION:
        return float("nan"), FEW_CELLS
    pooled = np.vstack([first, second])
    distance = cdist(pooled, pooled)
    width = float(np.median(distance[np.triu_indices(n + m, k=1)]))
    if width == 0:
        return float("nan"), DEGENERATE
    kernel = np.exp(-(distance**2) / (2 * width**2))
    within = sum(
        (block.sum() - len(block)) / (len(block) * (len(block) - 1)) for block in (kernel[:n, :n], kernel[n:, n:])
    )
    return float(within - 2 * kernel[:n, n:].mean()), OK


def in_range(truth: ArrayLike, prediction: ArrayLike) -> Score:
    """Share of genes whose predicted mean lies between the 45th and the 55th percentile of the true cells.

    A second reading of "within 5 %", beside :func:`within_5_percent`. The mean of a skewed gene lies outside this
    range even when it is predicted exactly, and a gene that most cells do not show has a range of 0 to 0: a perfect
    prediction does not reach 1.

    Parameters
    ----------
    truth
        (n, G) true cells.
    prediction
        (m, G) predicted cells, one at least.

    Returns
    -------
    value, status
        The share and ``ok``, or NaN with ``few_cells`` (fewer than 10 true cells) or ``few_genes``.

    Raises
    ------
    ValueError
        As :func:`edist`.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.tile(np.arange(101.0)[:, None], 5)
    >>> in_range(cells, np.array([[50.0, 45, 44, 55, 60]]))
    (0.6, 'ok')
    """
    cells, predicted = _populations(truth, prediction)
    if len(cells) < MIN_POPULATION or not len(predicted):
        return float("nan"), FEW_CELLS
    if cells.shape[1] < MIN_GENES:
        return float("nan"), FEW_GENES
    low, high = np.quantile(cells, RANGE, axis=0)
    mean = predicted.mean(axis=0)
    return float(np.mean((mean >= low) & (mean <= high))), OK


def _energy(truth: ArrayLike, prediction: ArrayLike, *, unbiased: bool) -> Score:
    first, second = _populations(truth, prediction)
    if min(len(first), len(second)) < MIN_POPULATION:
        return float("nan"), FEW_CELLS
    within = sum(cdist(side, side).sum() / (len(side) * (len(side) - unbiased)) for side in (first, second))
    return float(2 * cdist(first, second).mean() - within), OK


def _populations(truth: ArrayLike, prediction: ArrayLike) -> tuple[Matrix, Matrix]:
    """Both sides as float64 with the same columns, or a ValueError that says what is wrong."""
    first, second = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"truth has shape {first.shape} and prediction {second.shape}; both are cells x dimensions.")
    for name, values in (("truth", first), ("prediction", second)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds NaN or infinite values; a metric needs numbers.")
    return first, second
