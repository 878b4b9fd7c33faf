"""How many of the strong interactions a ranking finds with how many experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import require_key
from scperturb_modules.metrics import mean_interval
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_RANDOM, _EFFECT = "random", "effect"
_LABELS = {_RANDOM: "at random", _EFFECT: "by effect size"}
_COLOURED = ("interaction", "information", "uncertainty", _EFFECT, "diverse")
_NEEDED = ("method", "seed", "n_tested", "share_found", "n_true")


def budget_curve(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of strong interactions found against the experiments done.

    A line per ranking is the mean over seeds, the band its 95 % bootstrap interval (none below ten seeds). Random
    choice is grey; the dashed line is an oracle that picks the strongest first; the dotted one is half the budget.

    Parameters
    ----------
    frame
        The result of ``spm.tl.backtest``.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        A column is absent.

    Examples
    --------
    >>> import pandas as pd
    >>> import scperturb_modules as spm
    >>> rows = [(m, s, t, k * t / 4, 4) for m, k in (("effect", 1), ("random", 0.5)) for s in (0, 1) for t in (0, 2, 4)]
    >>> columns = ["method", "seed", "n_tested", "share_found", "n_true"]
    >>> ax = spm.pl.budget_curve(pd.DataFrame(rows, columns=columns))
    >>> [line.get_label() for line in ax.get_lines()][:3]
    ['by effect size', 'at random', 'oracle']
    """
    for column in _NEEDED:
        require_key(column, frame.columns, "frame", mend="Pass the result of spm.tl.backtest.")
    ax = _style.axes_or_new(ax, width=5.4, height=4.2)
    names = [str(name) for name in dict.fromkeys(frame["method"])]
    ordered = sorted(names, key=[*(name for name in names if name != _RANDOM), _RANDOM].index)
    handles = [_draw(ax, frame[frame["method"] == name], **_look(name)) for name in ordered]
    handles.append(_oracle(ax, frame))
    budget = float(frame["n_tested"].max())
    ax.axvline(budget / 2, color=_style.FAINT_COLOR, lw=0.8, ls=":", zorder=0)
    ax.set_xlim(0, budget)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("Experiments done")
    ax.set_ylabel("Share of strong interactions found")
    n_seeds = frame["seed"].nunique()
    few = "" if n_seeds >= 10 else "; no band: fewer than 10 seeds"
    true = sorted(set(frame["n_true"].astype(int)))
    to_find = f"{true[0]}" if len(true) == 1 else f"{true[0]} to {true[-1]}"
    _style.head(ax, handles, ["", f"{to_find} strong interactions to be found, {n_seeds} seeds{few}"])
    _style.quiet(ax)
    return ax


def _look(name: str) -> dict[str, Any]:
    """The same colour in every picture, so that two of them can be compared."""
    place = _COLOURED.index(name) if name in _COLOURED else len(_COLOURED)
    color = _style.BASELINE_COLOR if name == _RANDOM else _style.PALETTE[place]
    return {"color": color, "label": _LABELS.get(name, name)}


def _draw(ax: Axes, rows: pd.DataFrame, *, color: str, label: str) -> Artist:
    """A mean curve with its band."""
    places = np.unique(rows["n_tested"].to_numpy(dtype=float))
    parts = [rows[rows["n_tested"] == place] for place in places]
    intervals = [mean_interval(part["share_found"], part["seed"]) for part in parts]
    mean, low, high = (np.array([getattr(one, what) for one in intervals]) for what in ("value", "low", "high"))
    ax.fill_between(places, low, high, color=color, alpha=0.15, lw=0, where=np.isfinite(low))
    return ax.plot(places, mean, color=color, lw=1.8, marker="o", ms=3.5, label=label, clip_on=False)[0]


def _oracle(ax: Axes, frame: pd.DataFrame) -> Artist:
    """What can be found at most: an interaction per experiment."""
    true = frame.groupby("seed")["n_true"].first().to_numpy(dtype=float)
    # the corner of the curve lies between two rounds
    places = np.unique(np.concatenate([frame["n_tested"].to_numpy(dtype=float), true]))
    places = places[places <= frame["n_tested"].max()]
    share = np.minimum(places[:, None] / true, 1.0).mean(axis=1)
    return ax.plot(places, share, color="black", lw=1.0, ls="--", label="oracle", zorder=1)[0]
