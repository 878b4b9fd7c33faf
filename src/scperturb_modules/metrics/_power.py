"""How small a gain a number of test conditions can show."""

from __future__ import annotations

import math


def plan_power(n_conditions: int, sd: float, gain: float, *, alpha: float = 0.05) -> float:
    """Chance that a true gain is detected with ``n_conditions`` test conditions.

    Parameters
    ----------
    n_conditions
        Test conditions, at least 2.
    sd
        Relative standard deviation of one predictor's error around the level of its condition: :attr:`Gain.scatter`
        of a pilot, or .12, which is typical of L2 over 1000 genes. Model and baseline scatter independently, so their
        difference has ``sqrt(2)`` times this.
    gain
        True gain, .05 for 5 % less error.
    alpha
        Two-sided level.

    Returns
    -------
    float
        The power between 0 and 1, from the shifted t distribution with ``n_conditions - 1`` degrees of freedom.

    Raises
    ------
    ValueError
        Fewer than 2 conditions, or ``sd`` is not positive.

    Examples
    --------
    >>> round(plan_power(62, 0.12, 0.05), 2), round(plan_power(31, 0.12, 0.05), 2)
    (0.63, 0.35)
    """
    from scipy.stats import t

    error, df = _standard_error(n_conditions, sd), n_conditions - 1
    return float(t.sf(t.ppf(1 - alpha / 2, df) - gain / error, df))


def plan(n_conditions: int, sd: float, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest gain that ``n_conditions`` test conditions detect with the given power; undoes :func:`plan_power`.

    Returns
    -------
    float
        The gain as a share: .06 is 6 % less error.

    Examples
    --------
    >>> round(plan(62, 0.12), 3), round(plan(310, 0.12), 3)
    (0.061, 0.027)
    """
    from scipy.stats import t

    error, df = _standard_error(n_conditions, sd), n_conditions - 1
    return float(error * (t.ppf(1 - alpha / 2, df) + t.ppf(power, df)))


def _standard_error(n_conditions: int, sd: float) -> float:
    if n_conditions < 2 or not sd > 0:
        raise ValueError(f"need at least 2 conditions and a positive sd; got n_conditions={n_conditions}, sd={sd}.")
    return sd * math.sqrt(2.0 / n_conditions)
