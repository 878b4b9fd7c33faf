"""The facts about every metric: what it compares, on which genes, which way is better, what chance gives.

Whoever scores, sorts, plots or documents reads the facts here. A new metric is a function and an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics import _centroid, _de, _ranking, _spread
from scperturb_modules.metrics._status import STATUSES

Kind = Literal["condition", "across", "dataset"]
Target = Literal["difference", "correlation", "significance", "mean"]
GeneSet = Literal["all", "top1000", "de20", "tested"]
Better = Literal["lower", "higher", "one"]
Reference = Literal["ctrl", "pert"]


@dataclass(frozen=True)
class Metric:
    """What there is to know about a metric.

    Parameters
    ----------
    id
        Its name in every table.
    function
        By ``kind``:
        ``function(truth (G,), prediction (G,)) -> (value, status)``,
        ``function(truth (P, G), prediction (P, G), excluded) -> (values (P,), status)`` or
        ``function(truth (P, G), prediction (P, G), noise (P, G)) -> (value, status)``.
    kind
        ``"condition"``: one condition at a time. ``"across"``: a value per condition, computed from all conditions of
        a context together; ``excluded`` holds for each condition the indices of its target genes. ``"dataset"``: one
        value for all conditions of a context; ``noise`` is the squared standard error of the perturbed cells' mean.
    target
        What stands for the truth. ``"difference"``: mean minus *training* controls, so that the control cancels.
        ``"correlation"``: mean minus controls that no predictor has seen. ``"significance"``: a mask of significantly
        changed genes; the prediction is then turned into a ranking by :func:`de_score`. ``"mean"``: mean expression;
        the prediction is added to the *training* controls.
    gene_set
        ``"all"``, ``"top1000"`` (:func:`top_genes`), ``"de20"`` (:func:`de_genes`) or ``"tested"``
        (:func:`significant_genes`).
    better
        ``"lower"``, ``"higher"`` or ``"one"`` (the nearer to 1 the better).
    perfect
        Value of a perfect prediction.
    reference
        ``"ctrl"``: as it is. ``"pert"``: the mean of the training conditions is subtracted from both sides first.
    chance
        Value of a prediction without information; None where it depends on the data.
    note
        One line for tables and reports.
    """

    id: str
    function: Callable[..., tuple[Any, str]]
    kind: Kind
    target: Target
    gene_set: GeneSet
    better: Better
    perfect: float
    reference: Reference
    chance: float | None
    note: str

    def loss(self, values: ArrayLike) -> NDArray[np.float64]:
        """Distance to a perfect prediction; smaller is better for every metric, and gains are taken on it."""
        return np.abs(np.asarray(values, dtype=np.float64) - self.perfect)


_ENTRIES = (
    # id, function, kind, target, gene_set, better, perfect, reference, chance, note
    Metric("l2_top1000", _centroid.l2, "condition", "difference", "top1000", "lower", 0.0, "ctrl", None,
           "primary; Euclidean distance over the 1000 genes highest in controls (Ahlmann-Eltze et al. 2025)"),
    Metric("mse", _centroid.mse, "condition", "difference", "all", "lower", 0.0, "ctrl", None,
           "mean squared error"),
    Metric("mse_de20", _centroid.mse, "condition", "difference", "de20", "lower", 0.0, "ctrl", None,
           "mean squared error over the 20 most changed genes"),
    Metric("pearson_delta", _centroid.pearson, "condition", "correlation", "all", "higher", 1.0, "ctrl", 0.0,
           "ignores scale; high for any common shift, read it with pearson_pert"),
    Metric("pearson_delta_de20", _centroid.pearson, "condition", "correlation", "de20", "higher", 1.0, "ctrl", 0.0,
           "20 points: a wide error"),
    Metric("pearson_pert", _centroid.pearson, "condition", "difference", "all", "higher", 1.0, "pert", 0.0,
           "beyond the mean perturbation (Vinas Torne et al. 2025); the training mean scores 0"),
    Metric("pearson_pert_de20", _centroid.pearson, "condition", "difference", "de20", "higher", 1.0, "pert", 0.0,
           "beyond the mean perturbation; 20 points: a wide error"),
    Metric("pds_l1", _ranking.pds_l1, "across", "difference", "all", "higher", 1.0, "ctrl", 0.5,
           "perturbation discrimination; rises when a timid prediction is inflated, read it with slope"),
    Metric("pds_l2", _ranking.pds_l2, "across", "difference", "all", "higher", 1.0, "ctrl", 0.5,
           "perturbation discrimination; rises when a timid prediction is inflated, read it with slope"),
    Metric("pds_cos", _ranking.pds_cos, "across", "difference", "all", "higher", 1.0, "ctrl", 0.5,
           "perturbation discrimination by angle; ignores scale"),
    Metric("auprc_de", _de.average_precision, "condition", "significance", "tested", "higher", 1.0, "ctrl", None,
           "average precision of significantly changed genes; chance is their share"),
    Metric("sign_de20", _centroid.sign_agreement, "condition", "correlation", "de20", "higher", 1.0, "ctrl", 0.5,
           "share of right directions; a prediction of no change is wrong"),
    Metric("within5_de20", _centroid.within_5_percent, "condition", "mean", "de20", "higher", 1.0, "ctrl", None,
           "share of means within 5 %, on the log scale; high for no change where effects are small"),
    Metric("slope", _centroid.slope, "condition", "correlation", "all", "one", 1.0, "ctrl", None,
           "truth on prediction; above 1 the effects are predicted too small"),
    Metric("norm_ratio", _centroid.norm_ratio, "condition", "correlation", "top1000", "one", 1.0, "ctrl", None,
           "size of the predicted change over the true one; noise makes the true one look larger"),
    Metric("collapse", _spread.collapse, "dataset", "difference", "all", "one", 1.0, "ctrl", None,
           "spread of predictions over spread of truth; 0: the same prediction for every condition"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.id: metric for metric in _ENTRIES}
"""All metrics by id."""

CORE = (
    "l2_top1000",
    "mse_de20",
    "pearson_delta",
    "pearson_pert",
    "pds_l1",
    "auprc_de",
    "sign_de20",
    "collapse",
    "slope",
)
"""What ``metrics="core"`` means; the first one is the primary metric."""

PRIMARY = CORE[0]

__all__ = ["CORE", "METRICS", "PRIMARY", "STATUSES", "Metric"]
