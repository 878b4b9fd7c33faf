"""Error of a model against that of the baselines, a point per condition, coloured by who is closer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pandas as pd

from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLORS = {"beats": _style.PALETTE[0], "ties": _style.BASELINE_COLOR, "loses": _style.PALETTE[1]}
MARKERS = {"beats": "o", "ties": "s", "loses": "^"}
_UNIT = ["split_kind", "regime", "stratum", "condition"]


@runtime_checkable
class Board(Protocol):
    """What :func:`conditions` reads of a ``Benchmark``."""

    def conditions(self) -> pd.DataFrame: ...

    def ceilings(self) -> pd.DataFrame: ...


def conditions(
    board: Board | pd.DataFrame, *, model: str | None = None, regime: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the L2 error of a model in each condition against that of the best baseline.

    Below the diagonal the model is closer to the truth. Colour and shape say whether the cells of the condition suffice
    to tell: it *beats* the baseline, *loses* to it, or *ties*. A dash under a point is the noise floor:
    the error that a perfect prediction would still have. A point on its dash cannot be improved.

    Parameters
    ----------
    board
        A ``Benchmark``, or its ``conditions()`` (a table alone holds no noise floor).
    model
        The predictor; may be left out where there is one.
    regime
        One regime, for example ``"pair_2of2"``; None draws all.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        The table has no row of this model or regime, or ``model`` must be named.

    Examples
    --------
    >>> import pandas as pd
    >>> import scperturb_modules as spm
    >>> table = pd.DataFrame({"condition": ["A", "B"], "error": [2.0, 3.0], "baseline_error": [3.0, 2.9]})
    >>> table = table.assign(word=["beats", "ties"], model="SCBIG", baseline="MeanShift", regime="single_unseen")
    >>> " ".join(spm.pl.conditions(table).texts[0].get_text().split())
    'SCBIG: beats the baselines in 1, ties in 1, loses in 0 of 2 conditions'
    """
    table, floors = _tables(board)
    rows = _style.of_regime(_of_model(table, model), regime)
    ax = _style.axes_or_new(ax, width=5.6, height=5.0)
    handles: list[Artist] = []
    if floors is not None:
        rows = rows.merge(floors[[*_UNIT, "floor"]], on=_UNIT, how="left")
        style: dict[str, Any] = {"color": "black", "lw": 1, "marker": "_", "s": 20, "zorder": 2}
        handles.append(ax.scatter(rows["baseline_error"], rows["floor"], label="noise floor", **style))
    n = {word: int((rows["word"] == word).sum()) for word in COLORS}
    for word, color in COLORS.items():
        own = rows[rows["word"] == word]
        style = {"color": color, "marker": MARKERS[word], "edgecolor": "white", "lw": 0.4, "s": 26, "zorder": 3}
        handles.append(ax.scatter(own["baseline_error"], own["error"], label=f"{word} ({n[word]})", **style))
    _style.log_where_wide(ax, rows["baseline_error"], rows["error"])
    _diagonal(ax, rows)
    ax.set_xlabel(f"Error of {_baseline(rows)}\n(L2, log1p CP10k, top 1000 genes)")
    ax.set_ylabel(f"Error of {rows['model'].iloc[0]} (L2); lower is better")
    counts = f"beats the baselines in {n['beats']}, ties in {n['ties']}, loses in {n['loses']}"
    _style.head(ax, handles, [f"{rows['model'].iloc[0]}: {counts} of {len(rows)} conditions"])
    _style.quiet(ax)
    return ax


def _tables(board: Board | pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    if isinstance(board, pd.DataFrame):
        return board, None
    return board.conditions(), board.ceilings()


def _of_model(table: pd.DataFrame, model: str | None) -> pd.DataFrame:
    found = sorted(set(table["model"].astype(str)))
    if model is None and len(found) == 1:
        return table
    if model not in found:
        what = "name one of its predictors as model=" if model is None else f"the table holds no predictor {model!r}"
        raise ValueError(f"{what}; it holds {', '.join(found) or 'none'}")
    return table[table["model"].astype(str) == model]


def _baseline(rows: pd.DataFrame) -> str:
    """The best baseline, which may differ between regimes."""
    names = sorted(set(rows["baseline"].astype(str)))
    return names[0] if len(names) == 1 else "the best baseline of each regime"


def _diagonal(ax: Axes, rows: pd.DataFrame) -> None:
    both = pd.concat([rows["error"], rows["baseline_error"]])
    ends = [both.min(), both.max()]
    ax.plot(ends, ends, color="black", lw=0.8, zorder=1)
