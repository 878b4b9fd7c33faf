"""Budget curves: how much sooner one ranking finds what is to be found than another, paired over repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics._bootstrap import FIRM_CLUSTERS, MIN_CLUSTERS, Interval, ratio_interval

Array = NDArray[np.float64]
Word = Literal["beats", "no better", "worse", "cannot tell"]
N_SAVED = 2000

BEATS = (
    "{method} finds {ratio:.2f} times as many strong interactions as {other} at half the budget "
    "(95 % CI {low:.2f} to {high:.2f}, {n} seeds)."
)
NO_BETTER = (
    "{method} finds no more strong interactions than {other} at half the budget "
    "({ratio:.2f} times as many, 95 % CI {low:.2f} to {high:.2f}, {n} seeds)."
)
WORSE = (
    "{method} finds fewer strong interactions than {other} at half the budget "
    "({ratio:.2f} times as many, 95 % CI {low:.2f} to {high:.2f}, {n} seeds)."
)
CANNOT_TELL = "Cannot tell {method} from {other}: {n} seeds."
SAVES = " It saves about {saved:.0f} % of the experiments (CI {low:.0f} to {high:.0f})."
PROVISIONAL = " Provisional: fewer than 20 seeds."


@dataclass(frozen=True)
class BudgetGain:
    """How a ranking compares with a reference; all intervals are over seeds, 95 %, NaN below 10 seeds.

    Attributes
    ----------
    area
        Area between the curves of the ranking and the reference over that between an oracle's and the reference's.
    ratio
        Found at half the budget, as a multiple of what the reference found.
    saved
        Share of the reference's experiments that are not needed to find as many as it found with the whole budget.
    word, text
        The verdict, on ``ratio``.
    """

    area: Interval
    ratio: Interval
    saved: tuple[float, float, float]
    word: Word
    text: str


def budget_gain(
    n_tested: ArrayLike,
    found: ArrayLike,
    reference: ArrayLike,
    n_true: ArrayLike,
    *,
    method: str = "the ranking",
    other: str = "random",
    seed: int = 0,
) -> BudgetGain:
    """Compare the budget curves of a ranking with those of a reference.

    Parameters
    ----------
    n_tested
        (T,) experiments done, from 0 to the budget, increasing.
    found, reference
        (S, T) how many were found by then, a row per seed; both start from the same conditions.
    n_true
        (S,) how many there are to be found.
    method, other
        Names, for the text.
    seed
        Of the bootstrap.

    Returns
    -------
    BudgetGain
        Areas, ratios and the verdict.

    Raises
    ------
    ValueError
        Shapes that do not agree, or a budget without an experiment.

    Examples
    --------
    >>> import numpy as np
    >>> gain = budget_gain([0, 5, 10], np.tile([0, 4, 6], (20, 1)), np.tile([0, 2, 4], (20, 1)), np.full(20, 8))
    >>> gain.text
    'the ranking finds 2.00 times as many strong interactions as random at half the budget (95 % CI 2.00 to 2.00, \
20 seeds). It saves about 50 % of the experiments (CI 50 to 50).'
    """
    tested = np.asarray(n_tested, dtype=np.float64)
    mine, theirs = (np.asarray(values, dtype=np.float64) for values in (found, reference))
    true = np.asarray(n_true, dtype=np.float64)
    if mine.shape != theirs.shape or mine.shape != (len(true), len(tested)) or not tested[-1] > tested[0]:
        raise ValueError(
            f"curves have the shapes {mine.shape} and {theirs.shape}; expected both ({len(true)}, {len(tested)})."
        )
    best = np.minimum(tested, true[:, None])
    area = ratio_interval(_area(tested, mine - theirs), _area(tested, best - theirs), seed=seed)
    half = tested[-1] / 2
    ratio = ratio_interval(_at(half, tested, mine), _at(half, tested, theirs), seed=seed)
    saved = saved_share(tested, mine, theirs, seed=seed)
    word, text = _say(ratio, saved, method, other)
    return BudgetGain(area, ratio, saved, word, text)


def saved_share(tested: Array, found: Array, reference: Array, *, seed: int = 0) -> tuple[float, float, float]:
    """Share of the experiments of a reference that a ranking saves, with its percentile interval over seeds.

    Parameters
    ----------
    tested
        (T,) experiments done.
    found, reference
        (S, T) curves.

    Returns
    -------
    tuple
        Value, low, high: 1 minus the experiments after which the mean curve reaches what the reference's mean curve
        reaches with the whole budget, over that budget. Not below 0, where the ranking never gets there.
    """
    value = _saved(tested, found.mean(axis=0), reference.mean(axis=0))
    n = len(found)
    if n < MIN_CLUSTERS:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, n, (N_SAVED, n))
    draws = [_saved(tested, found[rows].mean(axis=0), reference[rows].mean(axis=0)) for rows in drawn]
    low, high = np.quantile(draws, [0.025, 0.975])
    return value, float(low), float(high)


def _saved(tested: Array, mine: Array, theirs: Array) -> float:
    goal = theirs[-1]
    if mine[-1] < goal or goal <= mine[0]:
        return 0.0
    at = int(np.argmax(mine >= goal))
    step = (goal - mine[at - 1]) / (mine[at] - mine[at - 1])
    needed = tested[at - 1] + step * (tested[at] - tested[at - 1])
    return float(1 - (needed - tested[0]) / (tested[-1] - tested[0]))


def _area(tested: Array, curves: Array) -> Array:
    return np.asarray(np.trapezoid(curves, tested, axis=1), dtype=np.float64)


def _at(place: float, tested: Array, curves: Array) -> Array:
    """(S,) value of each curve between its points."""
    return np.array([np.interp(place, tested, curve) for curve in curves])


def _say(ratio: Interval, saved: tuple[float, float, float], method: str, other: str) -> tuple[Word, str]:
    if not (np.isfinite(ratio.low) and np.isfinite(ratio.high)):
        return "cannot tell", CANNOT_TELL.format(method=method, other=other, n=ratio.n)
    word: Word = "beats" if ratio.low > 1 else "worse" if ratio.high < 1 else "no better"
    template = {"beats": BEATS, "no better": NO_BETTER, "worse": WORSE}[word]
    text = template.format(method=method, other=other, ratio=ratio.value, low=ratio.low, high=ratio.high, n=ratio.n)
    if word == "beats" and saved[1] > 0:
        value, low, high = (100 * share for share in saved)
        text += SAVES.format(saved=value, low=low, high=high)
    return word, text + (PROVISIONAL if ratio.n < FIRM_CLUSTERS else "")
