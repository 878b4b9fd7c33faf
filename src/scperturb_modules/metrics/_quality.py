"""Which metrics can be trusted on these data, and who improves one of them by a trick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from scperturb_modules.metrics._table import METRICS, PRIMARY

SLOPE_RANGE = (0.5, 2.0)
COLLAPSE_RANGE = (0.3, 3.0)
ENOUGH_WINS = 0.8
"""A metric where the replicate wins less often cannot rank models on these data."""


@dataclass(frozen=True)
class Quality:
    """What a metric makes of a replicate and of the training mean.

    Parameters
    ----------
    dynamic_range
        ``(positive - negative) / (perfect - negative)`` of the means, in the better direction, from -1 to 1.
    replicate_wins
        Share of conditions in which the replicate scores better, ties counting half.
    n
        Conditions with a value on both sides.
    """

    dynamic_range: float
    replicate_wins: float
    n: int


def metric_quality(metric: str, positive: ArrayLike, negative: ArrayLike) -> Quality:
    """Whether a metric can tell a replicate of the experiment from a prediction without information.

    Parameters
    ----------
    metric
        Id in :data:`METRICS`.
    positive, negative
        (P,) its values for the positive control (half of the cells scored against the other half) and the negative one
        (the training mean), per condition. NaN on either side leaves the condition out.

    Returns
    -------
    Quality
        Dynamic range fraction and share of wins (after Miller et al. 2025); NaN without a common condition.

    Examples
    --------
    >>> metric_quality("l2_top1000", [1.0, 1.0], [4.0, 2.0])
    Quality(dynamic_range=0.6666666666666667, replicate_wins=1.0, n=2)
    """
    losses = np.column_stack([METRICS[metric].loss(positive), METRICS[metric].loss(negative)])
    losses = losses[~np.isnan(losses).any(axis=1)]
    if not len(losses):
        return Quality(float("nan"), float("nan"), 0)
    replicate, mean = losses.T
    wins = np.mean((replicate < mean) + 0.5 * (replicate == mean))
    if mean.sum() == 0:
        return Quality(float("nan"), float(wins), len(losses))
    return Quality(float(np.clip(1.0 - replicate.sum() / mean.sum(), -1.0, 1.0)), float(wins), len(losses))


def gaming_warnings(model: str, improved: Iterable[str], *, slope: float, collapse: float) -> list[str]:
    """Warnings about secondary metrics that a model improves while its predictions have the wrong size.

    Perturbation discrimination rises when a timid prediction is multiplied by ten, correlations do not notice, and
    counting metrics reward many calls: none of them is a gain while ``slope`` or ``collapse`` is off.

    Parameters
    ----------
    model
        Its name.
    improved
        Ids of the metrics on which it is better than the baselines.
    slope, collapse
        Its mean slope and its collapse ratio; NaN warns of nothing.

    Returns
    -------
    list of str
        One sentence for each of the two that is out of range; empty when none is, or when only
        the primary metric improved.

    Examples
    --------
    >>> gaming_warnings("X10", ["pds_l1"], slope=0.1, collapse=1.0)
    ['X10 improves pds_l1, but its slope is 0.10 (trusted from 0.5 to 2): the size of its changes is wrong.']
    """
    secondary = [metric for metric in improved if metric not in (PRIMARY, "slope", "collapse", "norm_ratio")]
    if not secondary:
        return []
    found = []
    if slope < SLOPE_RANGE[0] or slope > SLOPE_RANGE[1]:
        found.append(_out_of("slope", slope, SLOPE_RANGE) + "the size of its changes is wrong.")
    if collapse < COLLAPSE_RANGE[0] or collapse > COLLAPSE_RANGE[1]:
        found.append(_out_of("collapse", collapse, COLLAPSE_RANGE) + "the spread of its predictions is wrong.")
    return [f"{model} improves {', '.join(secondary)}, but {text}" for text in found]


def _out_of(name: str, value: float, trusted: tuple[float, float]) -> str:
    return f"its {name} is {value:.2f} (trusted from {trusted[0]:g} to {trusted[1]:g}): "
