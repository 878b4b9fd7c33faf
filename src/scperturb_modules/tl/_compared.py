"""What a metric compares: which form of truth and prediction, on which genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules.metrics import Metric, de_score
from scperturb_modules.tl._yardstick import Array, Index, Yardstick

if TYPE_CHECKING:
    from scperturb_modules.tl._evaluate import Answer

Mask = NDArray[np.bool_]


def sides_of(against: Yardstick, said: Answer, metric: Metric) -> tuple[Array, Array]:
    """(P, G) truth and prediction in the form that the metric compares."""
    if metric.target in ("significance", "direction"):
        return _calls(against, said, metric)
    if metric.target == "correlation":
        return against.change, said.change
    if metric.target == "mean":
        return against.mean, said.difference + (against.mean - against.difference)
    center = against.center if metric.reference == "pert" else 0.0
    return against.difference - center, said.difference - center


def _calls(against: Yardstick, said: Answer, metric: Metric) -> tuple[Array, Array]:
    """(P, G) which genes change significantly, and how strongly the predictor calls each; with signs where asked."""
    called = np.array([mask for mask, _ in _tested(against, metric)], dtype=np.float64)
    change = said.difference - against.center if metric.reference == "others" else said.change
    scores = np.array([de_score(row, noise) for row, noise in zip(change, against.se2_pooled, strict=True)])
    if metric.target == "direction":
        return called * np.sign(against.change), scores * np.sign(change)
    return called, scores


def _tested(against: Yardstick, metric: Metric) -> tuple[tuple[Mask, Mask], ...]:
    return against.significant_others if metric.reference == "others" else against.significant


def aside_of(against: Yardstick, metric: Metric) -> tuple[Array, ...]:
    """(P, G) what the metric gets beside truth and prediction; empty for most."""
    if metric.aside is None:
        return ()
    return (against.noise if metric.aside == "noise" else against.weights,)


def gene_set(against: Yardstick, metric: Metric, p: int) -> Index:
    """Columns that the metric compares for a row."""
    if metric.gene_set == "top1000":
        return against.top[p]
    if metric.gene_set == "de20":
        return against.de[p]
    if metric.gene_set == "tested":
        return np.flatnonzero(_tested(against, metric)[p][1])
    if metric.gene_set == "significant":
        return np.flatnonzero(_tested(against, metric)[p][0])
    return np.arange(len(against.var_names))
