"""Whether predictors know how far they may be off: coverage of their intervals, and errors of what they are sure of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import require_key
from scperturb_modules.metrics import mean_interval, spearman
from scperturb_modules.metrics._bootstrap import MIN_CLUSTERS
from scperturb_modules.metrics._conformal import LEVEL
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_UNIT = ["split_kind", "regime", "stratum", "condition"]
_MARKERS = "os^Dv"
_APART = 0.006
"""Between the bars of two predictors, which are at one level."""
_FEWEST = 5
"""Conditions; a mean of fewer is mostly chance and not drawn."""


@runtime_checkable
class Board(Protocol):
    """What is read of a ``Benchmark``."""

    @property
    def calibration(self) -> pd.DataFrame: ...


def calibration(
    board_or_table: Board | pd.DataFrame, *, models: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the share of measured changes that lie inside of predicted intervals against the promised share.

    A line per predictor is the mean over conditions; on the diagonal intervals hold what they promise, above they are
    wider than need be, below too narrow. The bar at 90 % is the 95 % bootstrap interval over conditions, none below ten
    conditions. Legend: coverage at 90 %.

    Parameters
    ----------
    board_or_table
        A ``Benchmark``, or its ``calibration``: a row per condition, predictor and level. To see one regime, pass its
        rows.
    models
        Predictors in the order in which they are drawn; None draws all with intervals, by name.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        The table lacks a column.
    ValueError
        There is no row, or none of a predictor.

    Examples
    --------
    >>> import pandas as pd
    >>> import scperturb_modules as spm
    >>> rows = [(name, level, level - 0.02) for name in ("A+B", "A+C") for level in (0.5, 0.9)]
    >>> table = pd.DataFrame(rows, columns=["condition", "level", "coverage"])
    >>> ax = spm.pl.calibration(
    ...     table.assign(model="Additive", split_kind="combination", regime="pair_2of2", stratum="")
    ... )
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['as promised', 'Additive, 88 %']
    """
    rows, shown = _rows(board_or_table, models, "coverage")
    ax = _style.axes_or_new(ax, width=5.0, height=4.6)
    ends = [rows["level"].min() - 0.05, 1.0]
    promised = ax.plot(ends, ends, color=_style.BASELINE_COLOR, lw=1.0, ls="--", label="as promised", zorder=1)
    handles = [_line(ax, rows[rows["model"] == name], number, len(shown)) for number, name in enumerate(shown)]
    ticks = sorted(set(rows["level"]))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    lowest = min([ends[0], *(line.get_ydata().min() - 0.02 for line in handles)])
    ax.set(xlim=ends, ylim=(lowest, 1.0))
    ax.set_xlabel("Promised: level of the interval (%)")
    ax.set_ylabel("Measured changes inside the interval (%)")
    has_bars = _conditions(rows).min() >= MIN_CLUSTERS
    bars = "bars are 95 % intervals" if has_bars else f"no bars: fewer than {MIN_CLUSTERS} conditions"
    _style.head(ax, [*promised, *handles], ["", f"{_numbers(rows)}; legend: coverage at 90 %, {bars}"])
    _style.quiet(ax)
    return ax


def risk_coverage(
    board_or_table: Board | pd.DataFrame, *, models: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the mean error of the conditions that remain when the least certain predictions are left out.

    A predictor that knows when it is wrong has a line that falls to the left, from the mean over all conditions (the
    dotted line: left out at random) towards the thin dashed line (left out by the error itself, which only the
    measurement tells). Legend: Spearman correlation of expected and true error. Means of fewer than five conditions are
    not drawn.

    Parameters
    ----------
    board_or_table, models, ax
        As in :func:`calibration`. The order is that of ``expected_error``, the L2 width of the 90 % interval over the
        top 1000 genes; the error is the L2 distance over these.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        The table lacks a column.
    ValueError
        There is no row, or none of a predictor.

    References
    ----------
    Geifman and El-Yaniv (2017), Selective classification for deep neural networks.

    Examples
    --------
    >>> import pandas as pd
    >>> import scperturb_modules as spm
    >>> errors = [4.0, 2.0, 6.0, 8.0, 5.0, 7.0]
    >>> table = pd.DataFrame({"condition": list("ABCDEF"), "error": errors, "expected_error": [1, 2, 3, 4, 5, 6]})
    >>> ax = spm.pl.risk_coverage(
    ...     table.assign(model="Mean", level=0.9, split_kind="", regime="single_unseen", stratum="")
    ... )
    >>> ax.get_lines()[0].get_ydata().round(2).tolist()
    [5.0, 5.33]
    """
    rows, shown = _rows(board_or_table, models, "error", "expected_error")
    rows = rows[np.isclose(rows["level"], LEVEL)]
    ax = _style.axes_or_new(ax, width=5.4, height=4.2)
    handles: list[Artist] = []
    for number, name in enumerate(shown):
        own = rows[rows["model"] == name]
        error, expected = own["error"].to_numpy(dtype=np.float64), own["expected_error"].to_numpy(dtype=np.float64)
        look = _look(number)
        alike = spearman(expected, error)[0]
        label = f"{name}, {alike:.2f}" if np.isfinite(alike) else name
        share, mean = _kept(error, expected)
        handles += ax.plot(100 * share, mean, lw=1.8, ls=look["ls"], color=look["color"], label=label)
        ax.plot(100 * share, _kept(error, error)[1], lw=0.9, ls=(0, (4, 3)), color=look["color"], zorder=1)
        ax.hlines(error.mean(), 0, 100, lw=0.9, ls=":", color=look["color"], zorder=1)
    for style, label in (((0, (4, 3)), "by true error"), (":", "at random")):
        handles += ax.plot([], [], color=_style.BASELINE_COLOR, lw=0.9, ls=style, label=label)
    ax.set(xlim=(0, 100), ylim=(0, None))
    ax.set_xlabel("Conditions kept, the most certain ones (%)")
    ax.set_ylabel("Mean error of these\n(L2, log1p CP10k, top 1000 genes)")
    what = "rank correlation of expected and true error"
    _style.head(ax, handles, ["", f"{_numbers(rows)}; legend: {what}"])
    _style.quiet(ax)
    return ax


def _rows(
    board_or_table: Board | pd.DataFrame, models: Sequence[str] | None, *values: str
) -> tuple[pd.DataFrame, list[str]]:
    """A row per condition, predictor and level, means over splits and seeds; and the predictors to draw."""
    table = board_or_table if isinstance(board_or_table, pd.DataFrame) else board_or_table.calibration
    unit = [*_UNIT, "model"]
    for column in (*unit, "level", *values):
        require_key(column, table.columns, "the table", mend="Pass a Benchmark or its calibration.")
    if table.empty:
        raise ValueError("no predictor has intervals: fewer than ten conditions of each regime were left out")
    table = table.astype(dict.fromkeys(unit, object)).fillna(dict.fromkeys(unit, ""))
    shown = _style.chosen(models, table["model"])
    rows = table[table["model"].isin(shown)].astype(dict.fromkeys(["level", *values], float))
    return rows.groupby([*unit, "level"])[list(values)].mean().reset_index(), shown


def _look(number: int) -> dict[str, Any]:
    """Colour of a predictor; marker and line tell it from the one that has the same colour."""
    again = number // len(_style.PALETTE)
    return {
        "color": _style.PALETTE[number % len(_style.PALETTE)],
        "marker": _MARKERS[again % len(_MARKERS)],
        "ls": ("-", "--", "-.")[again % 3],
    }


def _line(ax: Axes, rows: pd.DataFrame, number: int, n_models: int) -> Any:
    """Coverage of one predictor at all levels, and its interval at 90 %."""
    name = str(rows["model"].iloc[0])
    mean = rows.groupby("level")["coverage"].mean()
    at = rows[np.isclose(rows["level"], LEVEL)]
    found = mean_interval(at["coverage"], at["condition"])
    look = _look(number)
    place = LEVEL + _APART * (number - (n_models - 1) / 2)
    ax.vlines(place, found.low, found.high, color=look["color"], lw=1.4, zorder=3)
    ax.plot(place, found.value, ms=3.5, ls="none", color=look["color"], marker=look["marker"], zorder=3)
    label = f"{name}, {100 * found.value:.0f} %"
    return ax.plot(mean.index, mean, ms=3.5, lw=1.4, label=label, **look)[0]


def _kept(error: NDArray[np.float64], order: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of conditions kept, and the mean error of these."""
    sizes = np.arange(1, len(error) + 1)
    mean = np.cumsum(error[np.argsort(order, kind="stable")]) / sizes
    first = min(_FEWEST, len(error)) - 1
    return (sizes / len(error))[first:], mean[first:]


def _conditions(rows: pd.DataFrame) -> pd.Series:
    """Different conditions of each predictor."""
    return rows[np.isclose(rows["level"], LEVEL)].groupby("model")["condition"].nunique()


def _numbers(rows: pd.DataFrame) -> str:
    """How many conditions the picture rests on."""
    sizes = _conditions(rows)
    return f"{sizes.min()} conditions" if sizes.nunique() == 1 else f"{sizes.min()} to {sizes.max()} conditions"
