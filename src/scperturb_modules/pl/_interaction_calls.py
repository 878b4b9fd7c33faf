"""The pairs called most synergistic and most suppressive, and which of the calls are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules.metrics._status import is_constant
from scperturb_modules.pl import _style
from scperturb_modules.pl._genetic_interactions import in_both

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RIGHT, _WRONG = _style.PALETTE[0], _style.PALETTE[1]


@dataclass(frozen=True)
class _Calls:
    """Pairs of one kind, the surest call first; columns ``predicted``, ``observed`` (magnitude) and ``is_right``."""

    kind: str
    pairs: pd.DataFrame

    def title(self, n_pairs: int) -> str:
        right, n = int(self.pairs["is_right"].sum()), len(self.pairs)
        return f"{self.kind}: {right} of {n} right ({100 * right / n:.0f} %, chance {100 * n / n_pairs:.0f} %)"


def interaction_calls(gi: pd.DataFrame, observed: pd.DataFrame, *, n_top: int = 20, ax: Axes | None = None) -> Axes:
    """Draw the pairs of the largest and of the smallest predicted magnitude, and whether the truth agrees.

    The largest are called synergy, the smallest suppression, the surest call on top. A call is right where the pair is
    among as many pairs of the largest (smallest) observed magnitude; the titles have the share of right calls and that
    of a random list. A line leads from the predicted magnitude to the observed one.

    Parameters
    ----------
    gi
        The table of ``spm.tl.genetic_interactions`` of a prediction.
    observed
        The same table of the truth. Pairs in one table only, and pairs without a magnitude, are counted in the figure.
    n_top
        Calls of each kind; with fewer than twice as many pairs half of the pairs, and the figure says so.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        A table lacks the magnitude.
    DataError
        The tables share no pair with a magnitude, or a pair stands in a table twice.
    ValueError
        ``n_top`` is less than one, or only one pair is left.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> truth = pd.DataFrame({"magnitude": [1.5, 1.3, 0.8, 0.6]}, ["A+B", "A+C", "B+C", "C+D"])
    >>> said = pd.DataFrame({"magnitude": [1.4, 0.9, 1.2, 0.7]}, truth.index)
    >>> [text.get_text() for text in spm.pl.interaction_calls(said, truth, n_top=2).texts[:2]]
    ['Synergy: 1 of 2 right (50 %, chance 50 %)', 'Suppression: 1 of 2 right (50 %, chance 50 %)']
    """
    if n_top < 1:
        raise ValueError(f"n_top={n_top} calls no pair; give a positive number")
    pairs, facts = in_both(gi, observed, "magnitude")
    n = min(n_top, len(pairs) // 2)
    if n < 1:
        raise ValueError("only one pair has a predicted and an observed magnitude; calls need two at least")
    blocks = [_Calls("Synergy", _called(pairs, n, -1.0)), _Calls("Suppression", _called(pairs, n, 1.0))]
    if n < n_top:
        facts.append(f"Top {n} in place of {n_top}: half of {len(pairs)} pairs")
    ax = _style.axes_or_new(ax, width=4.6, height=1.8 + 0.2 * (2 * n + 2))
    names = [str(name) for block in blocks for name in block.pairs.index]
    for number, block in enumerate(blocks):
        _draw(ax, block, number * (n + 1))
        _write(ax, block.title(len(pairs)), number * (n + 1), _style.longest(names))
    lines = [number * (n + 1) + 1 + line for number in range(2) for line in range(n)]
    ax.set_yticks(lines, names, fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(2 * n + 1.5, -0.5)
    ax.set_xlabel("magnitude")
    ax.locator_params(axis="x", nbins=5)
    warning = "All predicted magnitudes are equal: the calls are in the order of names" if _is_flat(pairs) else ""
    _style.head(ax, _legend(blocks), ["", *facts], warning=warning)
    _style.quiet(ax)
    ax.spines["left"].set_visible(False)
    return ax


def _called(pairs: pd.DataFrame, n: int, sign: float) -> pd.DataFrame:
    """The n pairs of the lowest ``sign`` times predicted magnitude; equal ones by name."""

    def lowest(column: str) -> pd.Index:
        return pairs.index[np.lexsort((pairs.index.astype(str), sign * pairs[column]))[:n]]

    called = pairs.loc[lowest("predicted")]
    return called.assign(is_right=called.index.isin(lowest("observed")))


def _is_flat(pairs: pd.DataFrame) -> bool:
    return is_constant(pairs["predicted"].to_numpy())


def _write(ax: Axes, title: str, line: int, letters: int) -> None:
    """A title that starts over the names of the pairs, ``letters`` long, and takes no room from the axes."""
    ax.axhspan(line - 0.5, line + 0.5, color=_style.BAND_COLOR, lw=0, zorder=0)
    place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    text = ax.annotate(title, (0, line), (-4.6 * letters, 0), va="center", fontsize=7.5, weight="bold", **place)
    text.set_in_layout(False)


def _draw(ax: Axes, block: _Calls, first_line: int) -> None:
    pairs, lines = block.pairs, first_line + 1 + np.arange(len(block.pairs))
    ax.hlines(lines, pairs["predicted"], pairs["observed"], color=_style.FAINT_COLOR, lw=1.2, zorder=1)
    ax.scatter(pairs["observed"], lines, marker="|", s=50, color="black", zorder=3)
    for is_right, color, marker in ((True, _RIGHT, "o"), (False, _WRONG, "x")):
        own = (pairs["is_right"] == is_right).to_numpy()
        ax.scatter(pairs["predicted"][own], lines[own], marker=marker, s=26, color=color, zorder=4)


def _legend(blocks: list[_Calls]) -> list[Any]:
    from matplotlib.lines import Line2D

    right = pd.concat([block.pairs["is_right"] for block in blocks])
    kinds = [(right.any(), "o", _RIGHT, "predicted, right"), (~right.all(), "x", _WRONG, "predicted, wrong")]
    kinds.append((True, "|", "black", "observed"))
    return [
        Line2D([], [], ls="none", marker=marker, ms=6, color=color, label=label)
        for present, marker, color, label in kinds
        if present
    ]
