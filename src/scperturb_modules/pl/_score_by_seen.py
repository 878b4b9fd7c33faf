"""A metric by how much of a condition was seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _conditions
from scperturb_modules.metrics import METRICS, mean_interval
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_LEVELS = {
    _conditions.PAIR_2OF2: "pairs,\n2/2 seen",
    _conditions.PAIR_1OF2: "pairs,\n1/2 seen",
    _conditions.PAIR_0OF2: "pairs,\n0/2 seen",
    _conditions.SINGLE_UNSEEN: "single,\nunseen",
    _conditions.HIGHER_ORDER: "3 or more\ngenes",
    _conditions.CONTEXT_UNSEEN: "new\ncell type",
    _conditions.MEASURED: "measured",
}
"""Groups from left to right, and what stands below them."""
_MARKERS = "os^Dv"
_SPREAD = 0.7
"""Width of a group; the next one starts 1 further."""


def score_by_seen(
    frame: pd.DataFrame, *, metric: str = "mse_de20", models: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a metric's mean per predictor by how much of the conditions was seen in training.

    A group per level: pairs of which both, one or neither gene was measured alone, and single genes not measured; bars
    are 95 % bootstrap intervals over conditions, none below ten conditions. A condition that a predictor did not
    predict is scored as unchanged, one without a score is left out, and the figure counts both.

    Parameters
    ----------
    frame
        The table of ``spm.tl.evaluate`` or ``Benchmark.frame``, of one or several predictors. Values of a condition are
        averaged over training seeds, then over splits.
    metric
        Id in :data:`scperturb_modules.metrics.METRICS`, for example ``"mse_de20"``, ``"pearson_delta"`` or
        ``"within5_de20"``.
    models
        Predictors in the order in which they are drawn; None draws all, by name.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        The table has no row of this metric or of a predictor.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> rows = [("A+B", "pair_2of2", 0.1), ("A+C", "pair_2of2", 0.3), ("C+D", "pair_0of2", 0.6)]
    >>> frame = pd.DataFrame(rows, columns=["condition", "regime", "value"])
    >>> frame = frame.assign(metric="mse_de20", model="Additive", stratum="", split_kind="", status="ok")
    >>> ax = spm.pl.score_by_seen(frame.assign(split_seed=0, fold=0, model_seed=0))
    >>> [label.get_text().splitlines()[1:] for label in ax.get_xticklabels()]
    [['2/2 seen', 'n = 2'], ['0/2 seen', 'n = 1']]
    """
    _style.require_metric(metric, frame["metric"])
    rows = frame[frame["metric"].astype(str) == metric]
    text = ["split_kind", "regime", "stratum", "condition", "model", "status"]
    rows = rows.astype(dict.fromkeys(text, object))
    shown = _style.chosen(models, rows["model"])
    rows = rows[rows["model"].isin(shown)]
    groups = _groups(rows)
    intervals = pd.DataFrame({place: _intervals(values, shown) for place, values in enumerate(groups.values())})
    ax = _style.axes_or_new(ax, width=max(4.5, 1.2 + 1.3 * len(groups)), height=3.8)
    handles = [_draw(ax, number, len(shown), name, intervals.T[name]) for number, name in enumerate(shown)]
    handles += _chance(ax, metric)
    for place in range(1, len(groups)):
        ax.axvline(place - 0.5, color=_style.FAINT_COLOR, lw=0.8, zorder=0)
    ax.set_xticks(range(len(groups)), list(groups), fontsize="small")
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.5, len(groups) - 0.5)
    ax.set_ylabel(_style.wrapped(_style.metric_axis(metric), 0.8 * _style.inches_up(ax)), fontsize="small")
    has_bars = all(np.isfinite(one.low) for one in intervals.to_numpy().ravel() if one.n)
    _style.head(ax, handles, ["", *_missing(rows), "" if has_bars else "No bar: fewer than 10 conditions"])
    _style.quiet(ax)
    return ax


def _groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """What stands below each group, and its values: a row per condition in its context and predictor."""
    unit = ["split_kind", "regime", "model", "stratum", "condition"]
    over_seeds = rows.groupby([*unit, "split_seed", "fold"])["value"].mean()
    table = over_seeds.groupby(unit).mean().reset_index()
    groups = {}
    for regime in sorted(set(table["regime"]), key=list(_LEVELS).index):
        by_split = table[table["regime"] == regime].groupby("split_kind")
        for split, values in by_split:
            known = values.dropna(subset="value").groupby("model")["condition"].nunique()
            n = f"n = {known.min()}" if known.nunique() == 1 else f"n = {known.min()} to {known.max()}"
            where = f"\n({split})" if by_split.ngroups > 1 else ""
            groups[f"{_LEVELS[regime]}{where}\n{n if len(known) else 'n = 0'}"] = values
    return groups


def _intervals(values: pd.DataFrame, models: list[str]) -> pd.Series:
    """The mean of each predictor with its interval, in one group."""
    parts = [values[values["model"] == name] for name in models]
    return pd.Series([mean_interval(part["value"], part["condition"]) for part in parts], index=models)


def _draw(ax: Axes, number: int, n_models: int, name: str, intervals: pd.Series) -> Artist:
    """Points and intervals of one predictor, in all groups."""
    look: dict[str, Any] = {"color": _style.PALETTE[number % len(_style.PALETTE)]}
    marker = _MARKERS[number // len(_style.PALETTE) % len(_MARKERS)]
    places = intervals.index.to_numpy(dtype=float) + _SPREAD * ((number + 0.5) / n_models - 0.5)
    value, low, high = (np.array([getattr(one, what) for one in intervals]) for what in ("value", "low", "high"))
    ax.vlines(places, low, high, lw=1.4, **look)
    return ax.plot(places, value, ls="none", marker=marker, ms=5.5, label=name, **look)[0]


def _chance(ax: Axes, metric: str) -> list[Artist]:
    chance = METRICS[metric].chance
    return [] if chance is None else [ax.axhline(chance, color="black", lw=0.8, ls=":", zorder=1, label="chance")]


def _missing(rows: pd.DataFrame) -> list[str]:
    """What the picture does not show, in words."""
    undefined = rows[rows["value"].isna()]
    absent = rows[rows["value"].notna() & rows["status"].isin(["missing", "error"])]
    facts = []
    if len(undefined):
        why = ", ".join(sorted(set(undefined["status"])))
        facts.append(f"{len(undefined):,} of {len(rows):,} scores are undefined ({why}) and left out")
    if len(absent):
        facts.append(f"{len(absent):,} of {len(rows):,} were not predicted and count as no change")
    return facts
