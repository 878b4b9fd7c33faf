"""What the pictures share: colours, the words on their axes, and new axes of the right size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from scperturb_modules import _conditions
from scperturb_modules.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by readers with any colour vision; yellow is left out, it fades on white."""

BASELINE_COLOR = "#7F7F7F"
FAINT_COLOR = "#C8C8C8"
BAND_COLOR = "#F0F0F0"

METRIC_LABELS = {
    "l2_top1000": "L2 distance (log1p CP10k, top 1000 genes)",
    "mse_de20": "Mean squared error (log1p CP10k squared, 20 most changed genes)",
    "pearson_delta": "Pearson correlation of the change (all genes)",
    "pearson_pert": "Pearson correlation beyond the mean (all genes)",
    "pds_l1": "Perturbation discrimination score (0.5 is chance)",
    "auprc_de": "Area under precision-recall (changed genes)",
    "sign_de20": "Share of right directions (20 most changed genes)",
    "collapse": "Spread of predictions / of truth",
    "slope": "Slope of truth on prediction",
}

REGIME_LABELS = {
    _conditions.MEASURED: "measured in training",
    _conditions.SINGLE_UNSEEN: "single gene, not measured",
    _conditions.PAIR_2OF2: "pair, both genes measured alone",
    _conditions.PAIR_1OF2: "pair, one gene measured alone",
    _conditions.PAIR_0OF2: "pair, neither gene measured",
    _conditions.CONTEXT_UNSEEN: "not measured in this cell type",
    _conditions.HIGHER_ORDER: "three or more genes",
}

_DIRECTIONS = {"lower": "lower is better", "higher": "higher is better", "one": "1 is best"}


def metric_label(metric: str) -> str:
    """The metric in words with its unit; its id where no words are kept."""
    return METRIC_LABELS.get(metric, metric)


def metric_name(metric: str) -> str:
    """:func:`metric_label` without the unit, for lists of metrics."""
    return metric_label(metric).partition(" (")[0]


def metric_axis(metric: str) -> str:
    """:func:`metric_label` and the direction, for the axis of a metric."""
    return f"{metric_label(metric)}\n{_DIRECTIONS[METRICS[metric].better]}"


def require_metric(metric: str, present: Iterable[str]) -> None:
    """Raise when the table holds no row of this metric."""
    found = sorted({str(name) for name in present})
    if metric not in found:
        raise ValueError(f"the table holds no metric {metric!r}; it holds {', '.join(found) or 'nothing'}")


def of_regime(table: pd.DataFrame, regime: str | None) -> pd.DataFrame:
    """The rows of one regime; all where it is None."""
    if regime is None:
        return table
    found = sorted(set(table["regime"].astype(str)))
    if regime not in found:
        raise ValueError(f"the table holds no regime {regime!r}; it holds {', '.join(found)}")
    return table[table["regime"].astype(str) == regime]


def axes_or_new(ax: Axes | None, *, width: float, height: float) -> Axes:
    """``ax`` itself, or the axes of a new figure of this size (inches) whose layout leaves room for all labels."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def legend_above(ax: Axes, handles: Sequence[Artist]) -> None:
    """A legend over the axes, where it can hide no point."""
    if handles:
        ax.legend(
            handles=list(handles),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=3,
            columnspacing=1.2,
            handletextpad=0.4,
            fontsize="small",
            frameon=False,
        )


def quiet(ax: Axes) -> None:
    """Only the axes that carry numbers keep their lines."""
    ax.spines[["top", "right"]].set_visible(False)


def log_where_wide(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    """Make an axis logarithmic, with plain numbers, where its values are positive and spread twentyfold or more."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for name, values, axis in (("xscale", x, ax.xaxis), ("yscale", y, ax.yaxis)):
        if values.min() > 0 and values.max() >= 20 * values.min():
            ax.set(**{name: "log"})
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
