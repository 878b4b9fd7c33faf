"""What a planned experiment can detect, and how many cells a reliable one needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules._errors import DataError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """What so many cells can show; changes are in the unit of the data (log1p CP10k).

    Attributes
    ----------
    smallest_change
        (G,) smallest change of each gene that is detected with the power asked for, one gene tested.
    smallest_l2
        Smallest L2 size of the whole change that is told from no change, spread over genes as their noise is.
    smallest_e_distance
        The same as pseudobulk E-distance, ``2 L2**2`` (squared Euclidean distances).
    noise_l2
        L2 size that the noise alone has on average (root of the mean square).
    detected
        (G,) chance that the given effect of each gene is detected; NaN without an effect.
    reliability
        Expected correlation of two such experiments, from the effect or as given; NaN without either.
    cells_needed
        Cells per condition for the target reliability; NaN without a reliability.
    """

    smallest_change: Array
    smallest_l2: float
    smallest_e_distance: float
    noise_l2: float
    detected: Array
    reliability: float
    cells_needed: float


def power(
    n_cells: int,
    n_controls: int,
    effect: ArrayLike | None = None,
    variance: ArrayLike = 1.0,
    *,
    reliability: float | None = None,
    target: float = 0.8,
    chance: float = 0.8,
    alpha: float = 0.05,
) -> Power:
    """Say what ``n_cells`` cells of a condition against ``n_controls`` controls can detect.

    Parameters
    ----------
    n_cells, n_controls
        Cells, at least 2 each.
    effect
        (G,) or one number: expected change of each gene. None: unknown.
    variance
        (G,) or one number: variance between cells of each gene, as in ``X.var(axis=0)`` of control cells.
    reliability
        Split-half correlation measured at ``n_cells``; None: that of ``effect`` under this noise.
    target
        Reliability that is wanted.
    chance
        Power: how often a change of the smallest size is to be detected.
    alpha
        Two-sided level of a test.

    Returns
    -------
    Power
        The numbers.

    Raises
    ------
    DataError
        Fewer than 2 cells, a variance that is not positive, shapes that do not agree, or a share outside (0, 1).

    Notes
    -----
    With ``s = variance (1 / n_cells + 1 / n_controls)``, a gene is detected from ``(z_{1-alpha/2} + z_chance) sqrt(s)``
    on (normal approximation). The squared L2 size of noise alone is a sum of ``s_g`` times chi-square variables; its
    upper ``alpha`` point is taken by Satterthwaite's scaled chi-square, and the size of the change from the scaled
    non-central one. Cells needed are ``n r / (1 - r) (1 - r_n) / r_n`` (Spearman and Brown), as when the
    controls grow with the cells. Genes count as independent; correlated ones make the smallest L2 larger.

    Examples
    --------
    >>> found = power(100, 600, effect=0.2, variance=0.5)
    >>> round(float(found.smallest_change[0]), 2), round(float(found.detected[0]), 2)
    (0.21, 0.74)
    >>> power(100, 100, reliability=0.5).cells_needed
    400.0
    """
    spread = np.atleast_1d(np.asarray(variance, dtype=np.float64))
    change = np.full(spread.shape, np.nan) if effect is None else np.asarray(effect, dtype=np.float64)
    _check(n_cells, n_controls, spread, reliability, target, chance, alpha)
    try:
        spread, change = np.broadcast_arrays(spread, change)
    except ValueError:
        raise DataError(
            f"effect and variance have the shapes {change.shape} and {spread.shape}; pass one number or one per gene."
        ) from None
    noise = spread * (1 / n_cells + 1 / n_controls)
    smallest = smallest_l2(noise, chance=chance, alpha=alpha)
    found = _reliability(change, noise) if reliability is None else float(reliability)
    return Power(
        smallest_change=_quantiles(chance, alpha) * np.sqrt(noise),
        smallest_l2=smallest,
        smallest_e_distance=2 * smallest**2,
        noise_l2=float(np.sqrt(noise.sum())),
        detected=_detected(change, noise, alpha),
        reliability=found,
        cells_needed=cells_needed(n_cells, found, target),
    )


def cells_needed(n_cells: float, reliability: float, target: float) -> float:
    """Cells per condition at which the reliability reaches a target; ``inf`` where it is 0 or less, NaN where NaN.

    >>> cells_needed(50, 0.4, 0.8)
    300.0
    """
    if reliability <= 0:
        return float("inf")
    return float(np.round(n_cells * target / (1 - target) * (1 - reliability) / reliability, 9))


def smallest_l2(noise: ArrayLike, *, chance: float = 0.8, alpha: float = 0.05) -> float:
    """L2 size of a change that is told from none, given the variance (G,) of the measured change of each gene."""
    from scipy.optimize import brentq
    from scipy.stats import chi2, ncx2

    variance = np.asarray(noise, dtype=np.float64).ravel()
    # sum(variance_g chi2_1) has about the distribution of scale * chi2_df
    scale = float(np.sum(variance**2) / np.sum(variance))
    df = float(np.sum(variance) ** 2 / np.sum(variance**2))
    limit = float(chi2.isf(alpha, df))
    most = 1.0
    while ncx2.sf(limit, df, most) < chance:
        most *= 2
    shift = brentq(lambda size: float(ncx2.sf(limit, df, size)) - chance, 0.0, most)
    return float(np.sqrt(shift * scale))


def _quantiles(chance: float, alpha: float) -> float:
    from scipy.stats import norm

    return float(norm.isf(alpha / 2) + norm.ppf(chance))


def _detected(change: Array, noise: Array, alpha: float) -> Array:
    """Chance that a two-sided z test calls each gene changed."""
    from scipy.stats import norm

    limit, shift = norm.isf(alpha / 2), np.abs(change) / np.sqrt(noise)
    return np.asarray(norm.sf(limit - shift) + norm.cdf(-limit - shift), dtype=np.float64)


def _reliability(change: Array, noise: Array) -> float:
    signal = float(np.sum(change**2))
    return signal / (signal + float(np.sum(noise)))


def _check(
    n_cells: int,
    n_controls: int,
    variance: Array,
    reliability: float | None,
    target: float,
    chance: float,
    alpha: float,
) -> None:
    if n_cells < 2 or n_controls < 2:
        raise DataError(f"n_cells={n_cells}, n_controls={n_controls}; at least 2 cells are needed on either side.")
    if not (np.isfinite(variance) & (variance > 0)).all():
        wrong = int((~(np.isfinite(variance) & (variance > 0))).sum())
        raise DataError(f"{wrong} of {variance.size} variances are not positive numbers; leave genes without one out.")
    for name, share in (("target", target), ("chance", chance), ("alpha", alpha)):
        if not 0 < share < 1:
            raise DataError(f"{name}={share}, but it lies between 0 and 1.")
    if reliability is not None and not (isfinite(reliability) and reliability < 1):
        raise DataError(f"reliability={reliability}, but it is a correlation below 1.")
