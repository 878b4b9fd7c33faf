"""Which of many statistics stand out from the bulk: an empirical null and the local false discovery rate."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics._status import ZERO, is_constant

Array = NDArray[np.float64]

CENTRAL = (0.1, 0.9)
"""The null distribution is fitted between these quantiles."""
_REACH, _N_BINS = 12.0, 961  # densities are compared within so many standard deviations of the null, on so fine a grid


class Null(NamedTuple):
    """A normal null distribution, and the share of the statistics that belong to it; NaN where nothing was given."""

    mean: float
    sd: float
    share: float


def fit_null(statistics: ArrayLike) -> Null:
    """Fit a normal distribution to the central 80 % of the statistics by maximum likelihood.

    What lies outside counts by its number only, so that true effects do not widen the null.

    Parameters
    ----------
    statistics
        Any shape; values that are not finite are left out.

    Returns
    -------
    Null
        ``sd`` is 0 where the central statistics are all alike.

    References
    ----------
    Efron (2004), Journal of the American Statistical Association 99, 96.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.concatenate([np.random.default_rng(0).normal(0.5, 2, 100_000), np.full(2000, 30.0)])
    >>> [round(value, 1) for value in fit_null(z)]
    [0.5, 2.0, 1.0]
    """
    from scipy.optimize import minimize
    from scipy.stats import norm

    values = _finite(statistics)
    if not values.size:
        return Null(np.nan, np.nan, np.nan)
    ends = np.quantile(values, CENTRAL)
    central = values[(values >= ends[0]) & (values <= ends[1])]
    if is_constant(central):
        return Null(float(central.mean()), 0.0, central.size / values.size)
    # in units of the middle, so that the search starts near its end
    centre, scale = ends.mean(), (ends[1] - ends[0]) / 2
    first, second = np.mean((central - centre) / scale), np.mean(((central - centre) / scale) ** 2)

    def loss(parameters: Array) -> float:
        mean, log_sd = parameters
        sd = np.exp(log_sd)
        inside = norm.cdf((1 - mean) / sd) - norm.cdf((-1 - mean) / sd)
        with np.errstate(divide="ignore"):
            return float((second - 2 * mean * first + mean**2) / (2 * sd**2) + log_sd + np.log(inside))

    mean, log_sd = minimize(loss, [first, np.log(1 / norm.ppf(CENTRAL[1]))], method="Nelder-Mead").x
    sd = np.exp(log_sd)
    inside = norm.cdf((1 - mean) / sd) - norm.cdf((-1 - mean) / sd)
    share = min(1.0, central.size / values.size / inside)
    return Null(float(centre + scale * mean), float(scale * sd), float(share))


def local_fdr(statistics: ArrayLike, null: Null) -> Array:
    """Probability that a statistic of this size belongs to the null distribution.

    Parameters
    ----------
    statistics
        Any shape; NaN where not finite.
    null
        Of :func:`fit_null` on the same statistics.

    Returns
    -------
    ndarray of float64
        ``share * null density / density``, at most 1, and never rising away from the mean of the null. The density is
        a Gaussian kernel estimate.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.concatenate([np.random.default_rng(0).normal(size=10_000), np.full(200, 6.0)])
    >>> rate = local_fdr(z, fit_null(z))
    >>> bool(rate[-1] < 0.01), bool(rate[np.abs(z) < 1].min() > 0.5)
    (True, True)
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.stats import norm

    values = np.asarray(statistics, dtype=np.float64)
    rate = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    if null.sd == 0:
        rate[known] = np.abs(values[known] - null.mean) <= ZERO
    elif known.any():
        z = (values[known] - null.mean) / null.sd
        edges = np.linspace(-_REACH, _REACH, _N_BINS + 1)
        grid, width = (edges[:-1] + edges[1:]) / 2, edges[1] - edges[0]
        counts, _ = np.histogram(np.clip(z, edges[0], edges[-1]), edges)
        density = gaussian_filter1d(counts / (z.size * width), 1.06 * z.size**-0.2 / width)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_null = np.minimum(1.0, np.nan_to_num(null.share * norm.pdf(grid) / density, nan=1.0))
        rate[known] = np.interp(z, grid, _falling(of_null, _N_BINS // 2))
    return rate


def _falling(rate: Array, centre: int) -> Array:
    """Make a curve fall, or stay, on both sides of its centre."""
    right = np.minimum.accumulate(rate[centre:])
    left = np.minimum.accumulate(rate[centre::-1])
    return np.concatenate([left[:0:-1], right])


def _finite(statistics: ArrayLike) -> Array:
    values = np.asarray(statistics, dtype=np.float64).ravel()
    return values[np.isfinite(values)]
