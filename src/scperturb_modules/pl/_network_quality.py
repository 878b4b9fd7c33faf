"""Error of predictors under worse and worse copies of the network that they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules.metrics import METRICS
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIDE = {"remove": -1.0, "none": 0.0, "add": 1.0}
"""Where a change is drawn, times its amount."""
_GAP = 0.2
"""Between the largest share and the permuted labels, as a part of the axis."""
_DODGE = 0.012
"""Between the points of two predictors, so that intervals do not hide each other."""
_ROUNDING = 1e-12
"""Errors that the network makes no difference to differ by no more than this."""


def network_quality(
    frame: pd.DataFrame, *, metric: str = "l2_top1000", regime: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the error against the share of edges that a copy of the network lost or gained.

    A line per predictor that the network makes a difference to; the intact network stands in the middle, copies with
    fewer edges left of it, copies with wrong edges right of it, and the network under permuted labels, marked by a
    diamond, at the right end. Bars are 95 % intervals of the difference from the intact network, paired over
    conditions. A dashed line marks the best of the predictors that do not use the network: where a line meets it, the
    network is worth nothing.

    Parameters
    ----------
    frame
        The table of ``spm.tl.network_quality``: columns ``split_kind``, ``regime``, ``metric``, ``model``, ``change``,
        ``amount``, ``mean``, ``intact_gain``, ``intact_low``, ``intact_high``, ``n``.
    metric
        Id in :data:`scperturb_modules.metrics.METRICS`, one with a best end: lower or higher.
    regime
        One regime, for example ``"single_unseen"``; None takes the one with most conditions.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        The table has no row of this metric or regime; or the metric is best at 1.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> rows = [("none", 0.0, 4.0, 0.0, 0.0, 0.0), ("permute", 1.0, 5.0, 0.2, 0.1, 0.3)]
    >>> names = ["change", "amount", "mean", "intact_gain", "intact_low", "intact_high"]
    >>> frame = pd.DataFrame(rows, columns=names).assign(model="APP", metric="l2_top1000", n=40)
    >>> ax = spm.pl.network_quality(frame.assign(split_kind="unseen_single", regime="single_unseen"))
    >>> [label.get_text().split() for label in ax.get_xticklabels()]
    [['intact'], ['labels', 'permuted']]
    """
    table, title = _one_regime(frame, metric, regime)
    ax = _style.axes_or_new(ax, width=7.0, height=4.2)
    places = _places(table)
    uses_network = table.groupby("model")["intact_gain"].agg(lambda gain: gain.abs().max() > _ROUNDING)
    users = sorted(uses_network.index[uses_network])
    handles = []
    for number, model in enumerate(users):
        shift = (number - (len(users) - 1) / 2) * _DODGE * (places.max() - places.min())
        color = _style.PALETTE[number % len(_style.PALETTE)]
        handles.append(_line(ax, table[table["model"] == model], places + shift, metric, label=model, color=color))
    handles += _reference(ax, table[~table["model"].isin(users)], metric)
    _label_shares(ax, table, places)
    ax.set_ylabel(_style.metric_axis(metric))
    _style.legend_above(ax, handles)
    _style.write_above(ax, [title])
    _style.quiet(ax)
    return ax


def _one_regime(frame: pd.DataFrame, metric: str, regime: str | None) -> tuple[pd.DataFrame, str]:
    """The rows of one metric, regime and split, and their title."""
    _style.require_metric(metric, frame["metric"])
    if METRICS[metric].better == "one":
        raise ValueError(f"{metric!r} is best at 1, so that its mean is no error; choose another metric")
    table = _style.of_regime(frame[frame["metric"].astype(str) == metric], regime)
    sizes = table.groupby(["split_kind", "regime"], observed=True)["n"].max()
    split, name = sizes.index[int(np.argmax(sizes))]
    title = _style.REGIME_LABELS.get(str(name), str(name))
    if sizes.index.get_level_values("regime").duplicated().any():
        title = f"{title} (split: {split})"
    rows = table[(table["split_kind"] == split) & (table["regime"] == name)]
    return rows.assign(model=rows["model"].astype(str)), title


def _places(table: pd.DataFrame) -> pd.Series:
    """Where each row stands on the axis: shares removed are negative, permuted labels stand right of all."""
    place = table["change"].map(_SIDE) * table["amount"]
    span = max(place.max() - place.min(), 0.1)
    return place.fillna(place.max() + _GAP * span)


def _line(ax: Axes, rows: pd.DataFrame, places: pd.Series, metric: str, *, label: str, color: str) -> Any:
    """Points joined by a line, permuted labels by a dotted one, and their intervals."""
    rows = rows.assign(place=places[rows.index]).sort_values("place")
    low, high = (_value_at(rows, gain, metric) for gain in ("intact_low", "intact_high"))
    ax.vlines(rows["place"], low, high, color=color, lw=1.2)
    copies, permuted = rows[rows["change"] != "permute"], rows[rows["change"] == "permute"]
    last = pd.concat([copies.tail(1), permuted])
    ax.plot(last["place"], last["mean"], color=color, lw=1, ls=":")
    ax.plot(permuted["place"], permuted["mean"], color=color, marker="D", ms=6, ls="none")
    return ax.plot(copies["place"], copies["mean"], color=color, marker="o", ms=4.5, lw=1.4, label=label)[0]


def _value_at(rows: pd.DataFrame, gain: str, metric: str) -> pd.Series:
    """The mean that a copy would have if the intact network gained so much over it."""
    intact = float(rows.loc[rows["change"] == "none", "mean"].iloc[0])
    perfect = METRICS[metric].perfect
    return perfect + (intact - perfect) / (1 - rows[gain])


def _reference(ax: Axes, rows: pd.DataFrame, metric: str) -> list[Any]:
    """A level line of the best predictor that does not use the network."""
    level = rows[rows["change"] == "none"]
    if level.empty:
        return []
    best = level.iloc[int(np.argmin(METRICS[metric].loss(level["mean"])))]
    label = f"{best['model']} (no network)"
    return [ax.axhline(best["mean"], color=_style.BASELINE_COLOR, lw=1.2, ls="--", zorder=1, label=label)]


def _label_shares(ax: Axes, table: pd.DataFrame, places: pd.Series) -> None:
    words = {"none": "intact", "permute": "labels\npermuted"}
    names = {
        place: words.get(change, f"{100 * _SIDE.get(change, 1.0) * amount:+g} %")
        for place, change, amount in zip(places, table["change"], table["amount"], strict=True)
    }
    ax.set_xticks(list(names), list(names.values()), fontsize="small")
    ax.set_xlabel("Edges removed (-) or added (+), as a share of those of the intact network")
