"""Forest plot: every predictor's mean error with its interval, best first, a block per regime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from scperturb_modules.metrics import METRICS
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@runtime_checkable
class Board(Protocol):
    """What :func:`leaderboard` reads of a ``Benchmark``."""

    def summary(self) -> pd.DataFrame: ...

    def room(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class _Block:
    """The rows of one regime, best first, and the error that replicate noise alone would leave (NaN: unknown)."""

    title: str
    rows: pd.DataFrame
    floor: float


def leaderboard(
    board: Board | pd.DataFrame, *, metric: str = "l2_top1000", regime: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a metric's mean per predictor with its 95 % interval, best first.

    Baselines are grey, models coloured. Regimes (how much of a condition was seen in training) are blocks one below
    the other on one axis, so that they can be compared; a vertical line in a block marks the error that a perfect
    prediction would still have, because the truth is measured with noise. A dotted line marks 1 where 1 is best.

    Parameters
    ----------
    board
        A ``Benchmark``, or its ``summary()`` (a table alone holds no noise floor, so the line is left out).
    metric
        Id in :data:`scperturb_modules.metrics.METRICS`, which also says whether lower or higher is better.
    regime
        One regime, for example ``"pair_2of2"``; None draws all.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        The table has no row of this metric or regime.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> table = pd.DataFrame({"model": ["Additive", "NoChange"], "mean": [4.2, 7.7], "ci_low": [3.9, 7.1]})
    >>> table = table.assign(ci_high=[4.5, 8.3], metric="l2_top1000", regime="pair_2of2", split_kind="combination")
    >>> ax = spm.pl.leaderboard(table)
    >>> ax.get_xlabel().splitlines()[0]
    'L2 distance (log1p CP10k, top 1000 genes)'
    """
    blocks = _blocks(board, metric, regime)
    n_lines = sum(len(block.rows) + 1 for block in blocks)
    ax = _style.axes_or_new(ax, width=7.0, height=1.3 + 0.23 * n_lines)
    models = _models(blocks)
    colors = {name: _style.PALETTE[i % len(_style.PALETTE)] for i, name in enumerate(models)}
    line = 0
    for block in blocks:
        _draw_block(ax, block, line, colors)
        line += len(block.rows) + 1
    _label_lines(ax, blocks)
    if METRICS[metric].better == "one":
        ax.axvline(METRICS[metric].perfect, color="black", lw=0.8, ls=":", zorder=1)
    ax.set_xlabel(_style.metric_axis(metric))
    _draw_legend(ax, has_baseline=any(block.rows["is_baseline"].any() for block in blocks), colors=colors)
    _style.quiet(ax)
    return ax


def _blocks(board: Board | pd.DataFrame, metric: str, regime: str | None) -> list[_Block]:
    summary, floors = _tables(board)
    _style.require_metric(metric, summary["metric"])
    table = summary[summary["metric"].astype(str) == metric]
    table = _style.of_regime(table.assign(loss=METRICS[metric].loss(table["mean"])), regime)
    several_splits = table["split_kind"].nunique() > 1
    blocks = []
    for (split, name), rows in table.groupby(["split_kind", "regime"], observed=True, sort=False):
        title = _style.REGIME_LABELS.get(str(name), str(name))
        title = f"{title} (split: {split})" if several_splits else title
        floor = floors.get((str(split), str(name), metric), float("nan"))
        blocks.append(_Block(title, rows.sort_values(["loss", "model"]).reset_index(drop=True), floor))
    return blocks


def _tables(board: Board | pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple[str, str, str], float]]:
    """The summary, and the floor per (split kind, regime, metric)."""
    if isinstance(board, pd.DataFrame):
        summary, room = board, None
    else:
        summary, room = board.summary(), board.room()
    if "is_baseline" not in summary:
        summary = summary.assign(is_baseline=True)
    if room is None:
        return summary, {}
    keys = zip(room["split_kind"].astype(str), room["regime"].astype(str), room["metric"].astype(str), strict=True)
    return summary, dict(zip(keys, room["floor"].astype(float), strict=True))


def _models(blocks: list[_Block]) -> list[str]:
    """The predictors that are no baseline, by name: a model keeps its colour from picture to picture."""
    rows = pd.concat([block.rows for block in blocks])
    return sorted(set(rows.loc[~rows["is_baseline"].astype(bool), "model"].astype(str)))


def _draw_block(ax: Axes, block: _Block, first_line: int, colors: dict[str, str]) -> None:
    ax.axhspan(first_line - 0.5, first_line + 0.5, color=_style.BAND_COLOR, lw=0, zorder=0)
    for i, row in block.rows.iterrows():
        color = colors.get(str(row["model"]), _style.BASELINE_COLOR)
        y = first_line + 1 + int(str(i))
        ax.plot([row["ci_low"], row["ci_high"]], [y, y], color=color, lw=1.6, solid_capstyle="butt")
        ax.plot(row["mean"], y, marker="o", color=color, ms=5.5, ls="none")
    if pd.notna(block.floor):
        ends = [first_line + 0.5, first_line + len(block.rows) + 0.5]
        ax.plot([block.floor] * 2, ends, color="black", lw=1, ls="--", zorder=1)


def _label_lines(ax: Axes, blocks: list[_Block]) -> None:
    # x in axes coordinates, y in lines: a title stays at the left edge whatever the values are
    title_style: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "weight": "bold"}
    ticks: list[int] = []
    names: list[str] = []
    line = 0
    for block in blocks:
        ax.text(0.01, line, block.title, fontsize="small", **title_style)
        ticks += range(line + 1, line + 1 + len(block.rows))
        names += list(block.rows["model"].astype(str))
        line += len(block.rows) + 1
    ax.set_yticks(ticks, names, fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(line - 0.5, -0.5)


def _draw_legend(ax: Axes, *, has_baseline: bool, colors: dict[str, str]) -> None:
    """Colours of models are named by the lines themselves; the legend says what grey and dashes mean."""
    from matplotlib.lines import Line2D

    handles = []
    if colors:
        handles.append(Line2D([], [], marker="o", color=next(iter(colors.values())), label="model"))
    if has_baseline:
        handles.append(Line2D([], [], marker="o", color=_style.BASELINE_COLOR, label="baseline"))
    if any(line.get_linestyle() == "--" for line in ax.get_lines()):
        handles.append(Line2D([], [], color="black", ls="--", lw=1, label="noise floor (perfect prediction)"))
    _style.legend_above(ax, handles)
