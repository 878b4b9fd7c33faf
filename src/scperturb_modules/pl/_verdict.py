"""Forest plot of verdicts: the gain of each predictor over the baseline that is hardest to beat, and the word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = -50.0
"""Losses (%) beyond this would squeeze what matters, next to 0; they stand at the edge as an arrow."""


@runtime_checkable
class Board(Protocol):
    """What :func:`verdict` reads of a ``Benchmark``."""

    def verdicts(self) -> pd.DataFrame: ...


def verdict(board: Board | pd.DataFrame, *, regime: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw how much less error than the hardest baseline each predictor makes, with its 95 % interval and its verdict.

    Right of the line at 0 the predictor is better. Regimes (how much of a condition was seen in training) are blocks
    one below the other; baselines are grey, models coloured. The words stand at the right with the baseline they are
    about: an interval right of 0 does not make a *beats* where several models were compared or the data cannot tell.

    Parameters
    ----------
    board
        A ``Benchmark``, or its ``verdicts()``.
    regime
        One regime, for example ``"pair_2of2"``; None draws all.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in. A loss of more than 50 % is an arrow at the left edge.

    Raises
    ------
    ValueError
        The table has no row of this regime, or no row at all.

    Examples
    --------
    >>> import pandas as pd
    >>> import scperturb_modules as spm
    >>> table = pd.DataFrame({"model": ["SCBIG", "Linear"], "gain": [0.05, -0.1], "gain_low": [0.01, -0.2]})
    >>> table = table.assign(gain_high=[0.09, -0.02], word=["beats", "worse"], gain_vs="Additive")
    >>> ax = spm.pl.verdict(table.assign(is_baseline=[False, True], split_kind="combination", regime="pair_2of2"))
    >>> [text.get_text() for text in ax.texts[1:]]
    ['beats (Additive)', 'worse (Additive)']
    """
    table = board if isinstance(board, pd.DataFrame) else board.verdicts()
    if table.empty:
        raise ValueError("there is no verdict to draw: no mandatory baseline was run; add spm.baselines.ALL.")
    table = _style.of_regime(table, regime)
    table = table.assign(**{name: 100.0 * table[name] for name in ("gain", "gain_low", "gain_high")})
    blocks = list(table.groupby(["split_kind", "regime"], observed=True, sort=False))
    ax = _style.axes_or_new(ax, width=7.4, height=1.2 + 0.23 * (len(table) + len(blocks)))
    models = sorted(set(table.loc[~table["is_baseline"].astype(bool), "model"].astype(str)))
    colors = {name: _style.PALETTE[i % len(_style.PALETTE)] for i, name in enumerate(models)}
    several_splits = table["split_kind"].nunique() > 1
    names: dict[int, str] = {}
    line = 0
    for (split, name), rows in blocks:
        title = _style.REGIME_LABELS.get(str(name), str(name))
        _head(ax, line, f"{title} (split: {split})" if several_splits else title)
        for y, (_, row) in enumerate(rows.iterrows(), start=line + 1):
            _draw_row(ax, y, row, colors.get(str(row["model"]), _style.BASELINE_COLOR))
            names[y] = str(row["model"])
        line += len(rows) + 1
    ax.axvline(0, color="black", lw=0.8, zorder=1)
    ax.set_xlim(left=max(FARTHEST, ax.get_xlim()[0]))
    ax.set_ylim(line - 0.5, -0.5)
    ax.set_yticks(list(names), list(names.values()), fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("Gain over the hardest baseline (% lower L2, 95 % interval)\nright of 0 is better")
    _legend(ax, colors, has_baseline=bool(table["is_baseline"].any()))
    _style.quiet(ax)
    return ax


def _head(ax: Axes, line: int, title: str) -> None:
    # over the line at 0, which would run through the title
    ax.axhspan(line - 0.5, line + 0.5, color=_style.BAND_COLOR, lw=0, zorder=1.5)
    ax.text(0.01, line, title, fontsize="small", weight="bold", va="center", transform=ax.get_yaxis_transform())


def _draw_row(ax: Axes, y: int, row: pd.Series, color: str) -> None:
    """The interval, the point (an arrow where it is too far), and the word right of the axes."""
    low, high = np.maximum([row["gain_low"], row["gain_high"]], FARTHEST)
    ax.plot([low, high], [y, y], color=color, lw=1.6, solid_capstyle="butt")
    is_far = row["gain"] < FARTHEST
    # not clipped: an arrow at the edge is whole
    style: dict[str, Any] = {"color": color, "ms": 5.5, "ls": "none", "clip_on": False, "zorder": 3}
    ax.plot(max(row["gain"], FARTHEST), y, marker="<" if is_far else "o", **style)
    weight = "bold" if row["word"] == "beats" else "normal"
    place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
    ax.text(1.01, y, f"{row['word']} ({row['gain_vs']})", weight=weight, **place)


def _legend(ax: Axes, colors: dict[str, str], *, has_baseline: bool) -> None:
    """Colours of models are named by the lines themselves."""
    from matplotlib.lines import Line2D

    handles = []
    if colors:
        handles.append(Line2D([], [], marker="o", color=next(iter(colors.values())), label="model"))
    if has_baseline:
        handles.append(Line2D([], [], marker="o", color=_style.BASELINE_COLOR, label="baseline"))
    if any(line.get_marker() == "<" for line in ax.get_lines()):
        handles.append(Line2D([], [], marker="<", color="black", ls="none", label=f"more than {-FARTHEST:.0f} % worse"))
    _style.legend_above(ax, handles)
