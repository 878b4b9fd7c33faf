"""What the pictures share: colours, the words on their axes, and new axes of the right size."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules import _conditions
from scperturb_modules._errors import name_some
from scperturb_modules.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by readers with any colour vision; yellow is left out, it fades on white."""

OTHER_COLOR, OWN_COLOR = PALETTE[:2]
"""Bars of any gene, and of the genes that the condition perturbs."""

BASELINE_COLOR = "#7F7F7F"
FAINT_COLOR = "#C8C8C8"
BAND_COLOR = "#F0F0F0"

LEGEND_COLUMNS = 3
_NARROW = 3.2
"""Inches; legends of narrower axes have smaller letters."""

METRIC_LABELS = {
    "l2_top1000": "L2 distance (log1p CP10k, top 1000 genes)",
    "mse_de20": "Mean squared error (log1p CP10k squared, 20 most changed genes)",
    "pearson_delta": "Pearson correlation of the change (all genes)",
    "pearson_pert": "Pearson correlation beyond the mean (all genes)",
    "pds_l1": "Perturbation discrimination score (0.5 is chance)",
    "auprc_de": "Area under precision-recall (changed genes)",
    "sign_de20": "Share of right directions (20 most changed genes)",
    "within5_de20": "Share of means within 5 % (20 most changed genes)",
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


def chosen(models: Sequence[str] | None, present: Iterable[object]) -> list[str]:
    """Names of predictors in the order asked for, all by name where that is None; raise for one that is absent."""
    found = sorted({str(name) for name in present})
    if models is None:
        return found
    unknown = [name for name in models if name not in found]
    if unknown:
        raise ValueError(f"the table holds no predictor {name_some(unknown)}; it holds {', '.join(found)}")
    return list(models)


def axes_or_new(ax: Axes | None, *, width: float, height: float) -> Axes:
    """``ax`` itself, or the axes of a new figure of this size (inches) whose layout leaves room for all labels."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def width_for(labels: Iterable[object], *, body: float, above: Iterable[str] = ()) -> float:
    """Width (inches) of a figure whose labels stand left of axes ``body`` wide, or as wide as the lines above need."""
    lines = [line for text in above for line in text.splitlines()]
    return 0.6 + 0.08 * longest(labels) + max(body, 0.1 * longest(lines))


def longest(names: Iterable[object]) -> int:
    """Letters of the longest name."""
    return max((len(str(name)) for name in names), default=0)


def cut(name: str, most: int) -> str:
    """A name of at most so many letters; an ellipsis says that there were more."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def inches_across(ax: Axes) -> float:
    """Width of the axes."""
    return float(ax.bbox.width / ax.figure.dpi)


def inches_up(ax: Axes) -> float:
    """Height of the axes."""
    return float(ax.bbox.height / ax.figure.dpi)


def wrapped(text: str, inches: float, *, letter: float = 0.066) -> str:
    """A text in lines that are no longer than so many inches; ``letter`` is the width of one."""
    most = max(16, int(inches / letter))
    return "\n".join(textwrap.fill(line, most) for line in text.splitlines())


def legend_above(
    ax: Axes, handles: Sequence[Artist], *, n_columns: int = LEGEND_COLUMNS, fontsize: str = "small"
) -> None:
    """A legend over the axes, where it can hide no point."""
    if handles:
        ax.legend(
            handles=list(handles),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=n_columns,
            columnspacing=1.2,
            handletextpad=0.4,
            fontsize=fontsize,
            frameon=False,
        )


def gene_bars(ax: Axes, values: pd.Series, own: Sequence[str], *, foot: float, label: str) -> list[Artist]:
    """A bar per gene, the first on top, perturbed genes in their own colour; returns the entries of a legend."""
    from matplotlib.patches import Patch

    lines = range(len(values))
    names = [str(gene) for gene in values.index]
    colors = [OWN_COLOR if name in own else OTHER_COLOR for name in names]
    ax.barh(lines, values - foot, left=foot, height=0.7, color=colors)
    ax.set_yticks(lines, names, fontsize="small")
    ax.set_ylim(len(names) - 0.5, -0.5)
    kinds = {OTHER_COLOR: label, OWN_COLOR: "of the perturbed gene"}
    return [Patch(color=color, label=text) for color, text in kinds.items() if color in colors]


def write_above(ax: Axes, lines: Sequence[str], *, warning: str = "", n_columns: int = LEGEND_COLUMNS) -> None:
    """A bold title, plain lines and a warning over the axes, above the legend of ``n_columns`` where there is one.

    Empty texts take no room.
    """
    legend = ax.get_legend()
    n_rows = 0 if legend is None else -(-len(legend.get_texts()) // n_columns)
    height = 4 + 15 * n_rows + (2 if n_rows else 0)
    styled: list[tuple[str, dict[str, Any]]] = [(warning, {"fontsize": "small", "weight": "bold", "color": PALETTE[1]})]
    styled += [(line, {"fontsize": "small"}) for line in reversed(lines[1:])]
    styled += [(line, {"weight": "bold"}) for line in lines[:1]]
    for text, style in styled:
        if text:
            ax.annotate(text, (0, 1), (0, height), "axes fraction", textcoords="offset points", va="bottom", **style)
            height += 15 + 11 * text.count("\n")


def head(ax: Axes, handles: Sequence[Artist], lines: Sequence[str], *, warning: str = "") -> None:
    """A legend and texts over the axes, in as many columns and lines as its width asks for; after ticks and labels."""
    _lay_out(ax)
    inches = inches_across(ax)
    fontsize, letter = ("x-small", 0.055) if inches < _NARROW else ("small", 0.066)
    entry = 0.42 + letter * longest(handle.get_label() for handle in handles)
    n_columns = max(1, min(LEGEND_COLUMNS, int(inches / entry)))
    legend_above(ax, handles, n_columns=n_columns, fontsize=fontsize)
    title = [wrapped(line, inches, letter=0.086) for line in lines[:1]]
    rest = [wrapped(line, inches) for line in lines[1:]]
    write_above(ax, title + rest, warning=wrapped(warning, inches, letter=0.075), n_columns=n_columns)


def _lay_out(ax: Axes) -> None:
    """Give the axes the width that the figure's layout leaves beside its labels."""
    root = ax.figure.figure
    engine = root.get_layout_engine()
    if engine is not None:
        engine.execute(root)


def quiet(ax: Axes) -> None:
    """Only the axes that carry numbers keep their lines."""
    ax.spines[["top", "right"]].set_visible(False)


def log_where_wide(ax: Axes, x: pd.Series, y: pd.Series) -> None:
    """Make an axis logarithmic where its values are positive and spread twentyfold or more."""
    for name, values in (("x", x), ("y", y)):
        if values.min() > 0 and values.max() >= 20 * values.min():
            log_scale(ax, name)


def log_scale(ax: Axes, name: str) -> None:
    """Make the axis ``"x"`` or ``"y"`` logarithmic, with plain numbers."""
    ax.set(**{f"{name}scale": "log"})
    plain_log_ticks(ax.xaxis if name == "x" else ax.yaxis)


def plain_log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis with 1, 2, 5, 10, ... as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
