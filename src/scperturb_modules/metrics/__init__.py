"""Metrics, statistics and verdicts: arrays in, numbers out.

:data:`METRICS`, :data:`CELL_METRICS` and :data:`INTERACTION_METRICS` hold the facts about every metric; the functions
that they name know nothing of AnnData.
"""

from scperturb_modules.metrics._bootstrap import Interval, ratio_interval
from scperturb_modules.metrics._centroid import (
    cosine,
    l2,
    l2_noise_free,
    mae,
    mse,
    norm_ratio,
    pearson,
    rmse,
    sign_agreement,
    slope,
    spearman,
    within_5_percent,
)
from scperturb_modules.metrics._de import average_precision, de_genes, de_score, significant_genes, top_genes
from scperturb_modules.metrics._des import changed_genes, des, des_overlap
from scperturb_modules.metrics._distance_correlation import distance_correlation
from scperturb_modules.metrics._found import lift, lift_reached, signed_average_precision, top_overlap
from scperturb_modules.metrics._interaction import gi_mse_gain, true_positive_rate
from scperturb_modules.metrics._populations import edist, edist_v, in_range, mmd
from scperturb_modules.metrics._quality import Quality, gaming_warnings, metric_quality
from scperturb_modules.metrics._ranking import pds_cos, pds_l1, pds_l2, rank_t, top1, top10pct
from scperturb_modules.metrics._spread import collapse, effect_size, gene_correlation
from scperturb_modules.metrics._statistics import (
    Gain,
    compare,
    holm,
    mean_interval,
    sign_flip_test,
    wilcoxon_test,
)
from scperturb_modules.metrics._status import STATUSES, settle
from scperturb_modules.metrics._table import CELL_METRICS, CORE, INTERACTION_METRICS, METRICS, PRIMARY, Metric
from scperturb_modules.metrics._theil_sen import theil_sen
from scperturb_modules.metrics._verdict import MANDATORY, Verdict, cannot_tell, plan, plan_power, verdict
from scperturb_modules.metrics._weighted import effect_weights, weighted_mse, weighted_r2

__all__ = [
    "CELL_METRICS",
    "CORE",
    "INTERACTION_METRICS",
    "MANDATORY",
    "METRICS",
    "PRIMARY",
    "STATUSES",
    "Gain",
    "Interval",
    "Metric",
    "Quality",
    "Verdict",
    "average_precision",
    "cannot_tell",
    "changed_genes",
    "collapse",
    "compare",
    "cosine",
    "de_genes",
    "de_score",
    "des",
    "des_overlap",
    "distance_correlation",
    "edist",
    "edist_v",
    "effect_size",
    "effect_weights",
    "gaming_warnings",
    "gene_correlation",
    "gi_mse_gain",
    "holm",
    "in_range",
    "l2",
    "l2_noise_free",
    "lift",
    "lift_reached",
    "mae",
    "mean_interval",
    "metric_quality",
    "mmd",
    "mse",
    "norm_ratio",
    "pds_cos",
    "pds_l1",
    "pds_l2",
    "pearson",
    "plan",
    "plan_power",
    "rank_t",
    "ratio_interval",
    "rmse",
    "settle",
    "sign_agreement",
    "sign_flip_test",
    "signed_average_precision",
    "significant_genes",
    "slope",
    "spearman",
    "theil_sen",
    "top1",
    "top10pct",
    "top_genes",
    "top_overlap",
    "true_positive_rate",
    "verdict",
    "weighted_mse",
    "weighted_r2",
    "wilcoxon_test",
    "within_5_percent",
]
