"""Metrics, statistics and verdicts: arrays in, numbers out.

:data:`METRICS` holds the facts about every metric; the functions it names know nothing of AnnData.
"""

from scperturb_modules.metrics._bootstrap import Interval, ratio_interval
from scperturb_modules.metrics._centroid import l2, mse, norm_ratio, pearson, sign_agreement, slope, within_5_percent
from scperturb_modules.metrics._de import average_precision, de_genes, de_score, significant_genes, top_genes
from scperturb_modules.metrics._distance_correlation import distance_correlation
from scperturb_modules.metrics._quality import Quality, gaming_warnings, metric_quality
from scperturb_modules.metrics._ranking import pds_cos, pds_l1, pds_l2
from scperturb_modules.metrics._spread import collapse
from scperturb_modules.metrics._statistics import (
    Gain,
    compare,
    holm,
    mean_interval,
    sign_flip_test,
    wilcoxon_test,
)
from scperturb_modules.metrics._status import STATUSES, settle
from scperturb_modules.metrics._table import CORE, METRICS, PRIMARY, Metric
from scperturb_modules.metrics._theil_sen import theil_sen
from scperturb_modules.metrics._verdict import MANDATORY, Verdict, cannot_tell, plan, plan_power, verdict

__all__ = [
    "CORE",
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
    "collapse",
    "compare",
    "de_genes",
    "de_score",
    "distance_correlation",
    "gaming_warnings",
    "holm",
    "l2",
    "mean_interval",
    "metric_quality",
    "mse",
    "norm_ratio",
    "pds_cos",
    "pds_l1",
    "pds_l2",
    "pearson",
    "plan",
    "plan_power",
    "ratio_interval",
    "settle",
    "sign_agreement",
    "sign_flip_test",
    "significant_genes",
    "slope",
    "theil_sen",
    "top_genes",
    "verdict",
    "wilcoxon_test",
    "within_5_percent",
]
