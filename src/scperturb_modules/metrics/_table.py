"""The facts about every metric: what it compares, on which genes, which way is better, what chance gives.

Whoever scores, sorts, plots or documents reads the facts here. A new metric is a function and an entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scperturb_modules.metrics import (
    _centroid,
    _de,
    _des,
    _found,
    _interaction,
    _populations,
    _ranking,
    _spread,
    _weighted,
)
from scperturb_modules.metrics._status import STATUSES

Kind = Literal["condition", "across", "dataset", "cells", "interaction"]
Target = Literal["difference", "correlation", "significance", "direction", "mean", "cells", "interaction", "calls"]
GeneSet = Literal["all", "top1000", "de20", "tested", "significant", "components"]
Better = Literal["lower", "higher", "one"]
Reference = Literal["ctrl", "pert", "others"]
Aside = Literal["noise", "weights"]


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
        ``function(truth (P, G), prediction (P, G)) -> (value, status)``; with ``aside`` one argument more.
    kind
        ``"condition"``: one condition at a time. ``"across"``: a value per condition, computed from all conditions of
        a context together; ``excluded`` holds for each condition the indices of its target genes. ``"dataset"``: one
        value for all conditions of a context. ``"cells"``: true and predicted cells of a condition
        (:data:`CELL_METRICS`). ``"interaction"``: what a pair does beyond its singles (:data:`INTERACTION_METRICS`).
    target
        What stands for the truth. ``"difference"``: mean minus *training* controls, so that the control cancels.
        ``"correlation"``: mean minus controls that no predictor has seen. ``"significance"``: a mask of significantly
        changed genes; the prediction is then turned into a ranking by :func:`de_score`. ``"direction"``: the same
        with the signs of both sides. ``"mean"``: mean expression; the prediction is added to the *training* controls.
        ``"interaction"``: per gene of a pair; ``"calls"``: a mask of called interactions, the prediction by its size.
    gene_set
        ``"all"``, ``"top1000"`` (:func:`top_genes`), ``"de20"`` (:func:`de_genes`), ``"tested"`` or ``"significant"``
        (:func:`significant_genes`), or ``"components"`` (principal components of training cells).
    better
        ``"lower"``, ``"higher"`` or ``"one"`` (the nearer to 1 the better).
    perfect
        Value of a perfect prediction.
    reference
        ``"ctrl"``: as it is. ``"pert"``: the mean of the training conditions is subtracted from both sides first.
        ``"others"``: the truth is tested against all other perturbed cells of the context, and the mean of the
        training conditions is subtracted from the prediction.
    chance
        Value of a prediction without information; None where it depends on the data.
    note
        One line for tables and reports.
    aside
        Third argument of ``function``, of the shape of the truth. ``"noise"``: squared standard error of the perturbed
        cells' mean; ``"weights"``: :func:`effect_weights` of the Welch t against all other perturbed cells.
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
    aside: Aside | None = None

    def loss(self, values: ArrayLike) -> NDArray[np.float64]:
        """Distance to a perfect prediction; smaller is better for every metric, and gains are taken on it."""
        return np.abs(np.asarray(values, dtype=np.float64) - self.perfect)


_ENTRIES = (
    # id, function, kind, target, gene_set, better, perfect, reference, chance, note
    Metric("l2_top1000", _centroid.l2, "condition", "difference", "top1000", "lower", 0.0, "ctrl", None,
           "primary; Euclidean distance over the 1000 genes highest in controls (Ahlmann-Eltze et al. 2025)"),
    Metric("mse", _centroid.mse, "condition", "difference", "all", "lower", 0.0, "ctrl", None,
           "mean squared error"),
    Metric("mae", _centroid.mae, "condition", "difference", "all", "lower", 0.0, "ctrl", None,
           "mean absolute error"),
    Metric("rmse", _centroid.rmse, "condition", "difference", "all", "lower", 0.0, "ctrl", None,
           "root of the mean squared error"),
    Metric("l2_noise_free", _centroid.l2_noise_free, "condition", "difference", "top1000", "lower", 0.0, "ctrl", None,
           "l2_top1000 less what the noise of the truth adds to it; 0 where the error cannot be told from noise",
           aside="noise"),
    Metric("wmse", _weighted.weighted_mse, "condition", "difference", "all", "lower", 0.0, "ctrl", None,
           "mean squared error in which the genes that tell the condition from others count most (Mejia et al. 2025)",
           aside="weights"),
    Metric("wr2_delta", _weighted.weighted_r2, "condition", "correlation", "all", "higher", 1.0, "ctrl", None,
           "explained variance with the weights of wmse; sees the scale, and has no lower end",
           aside="weights"),
    Metric("mse_de20", _centroid.mse, "condition", "difference", "de20", "lower", 0.0, "ctrl", None,
           "mean squared error over the 20 most changed genes"),
    Metric("pearson_delta", _centroid.pearson, "condition", "correlation", "all", "higher", 1.0, "ctrl", 0.0,
           "ignores scale; high for any common shift, read it with pearson_pert"),
    Metric("pearson_delta_de20", _centroid.pearson, "condition", "correlation", "de20", "higher", 1.0, "ctrl", 0.0,
           "20 points: a wide error"),
    Metric("spearman_delta", _centroid.spearman, "condition", "correlation", "all", "higher", 1.0, "ctrl", 0.0,
           "rank correlation; ignores scale, and the many unchanged genes count as much as the changed ones"),
    Metric("cosine_delta", _centroid.cosine, "condition", "correlation", "all", "higher", 1.0, "ctrl", None,
           "angle between the changes; ignores scale, high for any common shift"),
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
    Metric("rank_t", _ranking.rank_t, "across", "difference", "all", "higher", 1.0, "ctrl", 0.5,
           "transposed discrimination: each truth ranks the predictions"),
    Metric("top1", _ranking.top1, "across", "difference", "all", "higher", 1.0, "ctrl", None,
           "share of conditions whose own truth is nearest; chance is one over their number"),
    Metric("top10pct", _ranking.top10pct, "across", "difference", "all", "higher", 1.0, "ctrl", None,
           "share of conditions whose own truth is among the nearest tenth; chance is about .1"),
    Metric("auprc_de", _de.average_precision, "condition", "significance", "tested", "higher", 1.0, "ctrl", None,
           "average precision of significantly changed genes; chance is their share"),
    Metric("auprc_de_lift", _found.lift_reached, "condition", "significance", "tested", "higher", 1.0, "ctrl", 0.0,
           "auprc_de above chance, as a share of what is possible; the plain ratio to chance is metrics.lift"),
    Metric("auprc_de_pert", _de.average_precision, "condition", "significance", "tested", "higher", 1.0, "others", None,
           "auprc_de of the genes that tell the condition from all other perturbed cells; chance is their share"),
    Metric("auprc_de_signed", _found.signed_average_precision, "condition", "direction", "tested", "higher", 1.0,
           "ctrl", None, "auprc_de of the genes that go up and of those that go down; a wrong direction comes last"),
    *(
        Metric(f"topk_overlap_{k}", partial(_found.top_overlap, k=k), "condition", "correlation", "tested", "higher",
               1.0, "ctrl", None, f"share of the {k} largest true changes among the {k} largest predicted ones")
        for k in (20, 50, 100, 200)
    ),
    Metric("sign_sig", _centroid.sign_agreement, "condition", "correlation", "significant", "higher", 1.0, "ctrl", 0.5,
           "share of right directions of all significantly changed genes"),
    Metric("sign_de20", _centroid.sign_agreement, "condition", "correlation", "de20", "higher", 1.0, "ctrl", 0.5,
           "share of right directions; a prediction of no change is wrong"),
    Metric("within5_de20", _centroid.within_5_percent, "condition", "mean", "de20", "higher", 1.0, "ctrl", None,
           "share of means within 5 %, on the log scale; high for no change where effects are small"),
    Metric("slope", _centroid.slope, "condition", "correlation", "all", "one", 1.0, "ctrl", None,
           "truth on prediction; above 1 the effects are predicted too small"),
    Metric("norm_ratio", _centroid.norm_ratio, "condition", "correlation", "top1000", "one", 1.0, "ctrl", None,
           "size of the predicted change over the true one; noise makes the true one look larger"),
    Metric("collapse", _spread.collapse, "dataset", "difference", "all", "one", 1.0, "ctrl", None,
           "spread of predictions over spread of truth; 0: the same prediction for every condition", aside="noise"),
    Metric("gene_r", _spread.gene_correlation, "dataset", "difference", "all", "higher", 1.0, "ctrl", 0.0,
           "correlation over conditions, median of the 1000 most variable genes"),
    Metric("effect_size", _spread.effect_size, "dataset", "correlation", "all", "higher", 1.0, "ctrl", 0.0,
           "rank correlation over conditions of the sizes of predicted and true change; ignores scale"),
)  # fmt: skip

_OF_CELLS = (
    Metric("edist", _populations.edist, "cells", "cells", "components", "lower", 0.0, "ctrl", None,
           "energy distance of true and predicted cells, unbiased; depends on how cells are made"),
    Metric("edist_v", _populations.edist_v, "cells", "cells", "components", "lower", 0.0, "ctrl", None,
           "energy distance over all pairs, as pertpy has it; larger the fewer cells there are"),
    Metric("mmd", _populations.mmd, "cells", "cells", "components", "lower", 0.0, "ctrl", None,
           "squared maximum mean discrepancy; ranks much as edist does"),
    Metric("des", _des.des, "cells", "cells", "all", "higher", 1.0, "ctrl", None,
           "share of truly changed genes that predicted cells show as changed; rewards many calls"),
    Metric("inrange_de20", _populations.in_range, "cells", "cells", "de20", "higher", 1.0, "ctrl", None,
           "share of predicted means within the 45th to 55th percentile of true cells; perfect means stay below 1"),
)  # fmt: skip

_OF_INTERACTIONS = (
    Metric("gi_pearson", _centroid.pearson, "interaction", "interaction", "top1000", "higher", 1.0, "ctrl", 0.0,
           "correlation of predicted and observed interaction; an additive prediction scores 0"),
    Metric("gi_mse_gain", _interaction.gi_mse_gain, "interaction", "interaction", "top1000", "higher", 1.0, "ctrl", 0.0,
           "explained share of the squared interaction; an additive prediction scores 0, a worse one less"),
    Metric("gi_auprc", _de.average_precision, "interaction", "calls", "top1000", "higher", 1.0, "ctrl", None,
           "average precision of called interactions; chance is their share"),
    Metric("gi_tpr_fdp10", partial(_interaction.true_positive_rate, false_discovery=0.1), "interaction", "calls",
           "top1000", "higher", 1.0, "ctrl", None, "called interactions found with at most a tenth of false ones"),
    Metric("gi_tpr_fdp30", partial(_interaction.true_positive_rate, false_discovery=0.3), "interaction", "calls",
           "top1000", "higher", 1.0, "ctrl", None, "called interactions found with at most three tenths of false ones"),
)  # fmt: skip


def _by_id(entries: tuple[Metric, ...]) -> dict[str, Metric]:
    return {metric.id: metric for metric in entries}


METRICS = _by_id(_ENTRIES)
"""All metrics of a Prediction against a pseudobulk, by id; ``tl.evaluate`` and ``tl.benchmark`` score them."""

CELL_METRICS = _by_id(_OF_CELLS)
"""Metrics of predicted cells, by id; ``tl.evaluate_cells`` scores them."""

INTERACTION_METRICS = _by_id(_OF_INTERACTIONS)
"""Metrics of predicted genetic interactions, by id: arrays per pair, or per pair and gene where they are called."""

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

__all__ = ["CELL_METRICS", "CORE", "INTERACTION_METRICS", "METRICS", "PRIMARY", "STATUSES", "Metric"]
