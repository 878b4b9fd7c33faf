"""Whether predicted cells show the same genes as changed: the score of the Virtual Cell Challenge."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics._de import FALSE_DISCOVERY_RATE
from scperturb_modules.metrics._populations import MIN_POPULATION
from scperturb_modules.metrics._status import FEW_CELLS, FEW_GENES, MIN_GENES, NO_TRUE_DE, OK, Score

Mask = NDArray[np.bool_]
Vector = NDArray[np.float64]


def changed_genes(cells: ArrayLike, controls: ArrayLike, q: float = FALSE_DISCOVERY_RATE) -> tuple[Mask, Vector]:
    """The genes in which two populations differ: Wilcoxon's rank-sum test, Benjamini and Hochberg's correction.

    Parameters
    ----------
    cells, controls
        (n, G) and (m, G) expression (log1p CP10k).
    q
        False discovery rate, over all G genes.

    Returns
    -------
    changed
        (G,) mask. The test is two-sided, by the normal approximation with corrections for ties and continuity; a gene
        that is the same in all cells is not changed.
    log_fold_change
        (G,) difference of the means of the log expression (natural log).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> controls = rng.normal(size=(50, 4))
    >>> changed_genes(controls[::-1] + [0, 3, 0, -3], controls)[0].tolist()
    [False, True, False, True]
    """
    from scipy.stats import false_discovery_control, mannwhitneyu

    left, right = np.asarray(cells, dtype=np.float64), np.asarray(controls, dtype=np.float64)
    p = np.ones(left.shape[1])
    varies = np.ptp(np.vstack([left, right]), axis=0) > 0
    if varies.any():
        p[varies] = mannwhitneyu(left[:, varies], right[:, varies], method="asymptotic", axis=0).pvalue
    return false_discovery_control(p) < q, left.mean(axis=0) - right.mean(axis=0)


def des_overlap(truth: ArrayLike, prediction: ArrayLike, log_fold_change: ArrayLike) -> Score:
    """Share of the truly changed genes that are called, ``|T and H| / |T|``.

    Where more genes are called than truly changed, only the ``|T|`` called ones with the largest absolute log fold
    change count, or calling everything would win. ``overlap_at_N`` of cell-eval, which also gives 0 where nothing is
    truly changed; here that is undefined.

    Parameters
    ----------
    truth, prediction
        (G,) masks of truly and of predictedly changed genes, T and H.
    log_fold_change
        (G,) predicted; ties by position.

    Returns
    -------
    value, status
        The share and ``ok``; NaN with ``no_true_de``, or ``few_genes`` (fewer than 5 genes in all).

    Examples
    --------
    >>> des_overlap([True, True, False, False, False], [True, False, True, True, False], [1.0, 0, 3, 0.5, 0])
    (0.5, 'ok')
    """
    true, called = np.asarray(truth, dtype=bool), np.asarray(prediction, dtype=bool)
    if true.size < MIN_GENES:
        return float("nan"), FEW_GENES
    n_true = int(true.sum())
    if not n_true:
        return float("nan"), NO_TRUE_DE
    candidates = np.flatnonzero(called)
    size = np.abs(np.asarray(log_fold_change, dtype=np.float64))[candidates]
    kept = candidates[np.argsort(-size, kind="stable")[:n_true]]
    return float(true[kept].sum() / n_true), OK


def des(truth: ArrayLike, prediction: ArrayLike, true_controls: ArrayLike, predicted_controls: ArrayLike) -> Score:
    """Differential-expression score of predicted cells: :func:`des_overlap` of :func:`changed_genes` on both sides.

    For a predictor of means the score depends on how its cells were made, and it rises with the number of calls.

    Parameters
    ----------
    truth, prediction
        (n, G) and (m, G) true and predicted cells (log1p CP10k).
    true_controls, predicted_controls
        Control cells that each side is tested against. Different cells under the strict protocol: noise of shared
        controls makes the same genes look changed on both sides.

    Returns
    -------
    value, status
        As :func:`des_overlap`, and NaN with ``few_cells`` (fewer than 10 in any of the four).

    Raises
    ------
    ValueError
        The numbers of genes differ.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(4, 40, 6))
    >>> moved = np.array([3, -3, 0, 0, 0, 0])
    >>> des(cells[0] + moved, cells[1] + moved * [1, 0, 0, 0, 0, 0], cells[2], cells[3])
    (0.5, 'ok')
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (truth, prediction, true_controls, predicted_controls)]
    if len({side.shape[1:] for side in sides}) > 1 or sides[0].ndim != 2:
        raise ValueError(f"shapes {[side.shape for side in sides]}; all four are cells x genes with the same genes.")
    if min(map(len, sides)) < MIN_POPULATION:
        return float("nan"), FEW_CELLS
    true, _ = changed_genes(sides[0], sides[2])
    called, change = changed_genes(sides[1], sides[3])
    return des_overlap(true, called, change)
