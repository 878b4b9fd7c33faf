"""The pathways whose attention changes most under one perturbation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, require_key
from scperturb_modules.pl import _style
from scperturb_modules.pl._attention import CAVEAT
from scperturb_modules.pl._rows import resolve_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UP_COLOR, DOWN_COLOR = _style.PALETTE[1], _style.PALETTE[0]


def pathway_attention(table: pd.DataFrame, condition: str, *, n_top: int = 15, ax: Axes | None = None) -> Axes:
    """Draw the pathways whose attention a perturbation changes most, the largest rise on top.

    Names stand over their bars, with the number of genes in brackets; long ones are cut. Attention weights are no
    proof of regulation, and the figure says so.

    Parameters
    ----------
    table
        A row per condition and pathway: ``condition``, ``pathway`` (id), ``name``, ``n_genes``, ``attention`` and
        ``change`` (attention minus that of the unperturbed cell).
    condition
        ``A+B`` or ``A+B|context``, genes in any order.
    n_top
        How many pathways, by the size of the change.
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
    DataError
        The condition has no change of any pathway.
    ValueError
        The table has no such condition (the message names near matches), or ``n_top`` is less than one.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> table = pd.DataFrame({"condition": "KLF1", "pathway": ["R1", "R2"], "name": ["Heme", "Cell cycle"]})
    >>> table = table.assign(n_genes=[14, 640], attention=[0.3, 0.1], change=[0.2, -0.05])
    >>> [text.get_text() for text in spm.pl.pathway_attention(table, "KLF1").texts[:2]]
    ['Heme (14)', 'Cell cycle (640)']
    """
    if n_top < 1:
        raise ValueError(f"n_top={n_top} shows no pathway; give a positive number")
    for column in ("condition", "name", "n_genes", "change"):
        require_key(column, table.columns, "table")
    row = resolve_row(condition, pd.Index(table["condition"].astype(str).unique()), "the table")
    found = table[table["condition"].astype(str) == row]
    known = found[np.isfinite(found["change"])]
    if known.empty:
        raise DataError(f"{row!r} has no change of attention: all {len(found)} values are missing.")
    order = np.argsort(-known["change"].abs().to_numpy(), kind="stable")[:n_top]
    top = known.iloc[order].sort_values("change", ascending=False, kind="stable")
    ax = _style.axes_or_new(ax, width=5.0, height=1.6 + 0.36 * len(top))
    _draw(ax, top)
    facts = [f"{len(top)} of {len(known):,} pathways, the largest changes" if len(top) < len(known) else ""]
    facts.append(f"{len(found) - len(known)} pathways without a value are left out" if len(known) < len(found) else "")
    warning = "" if top["change"].any() else "The attention does not depend on the perturbation"
    ax.set_xlabel(f"Change of attention against the unperturbed cell\n{CAVEAT}", fontsize="small")
    _style.head(ax, [], [row, *facts], warning=warning)
    _style.quiet(ax)
    return ax


def _draw(ax: Axes, top: pd.DataFrame) -> None:
    change, lines = top["change"].to_numpy(dtype=float), np.arange(len(top))
    colors = [UP_COLOR if value > 0 else DOWN_COLOR for value in change]
    ax.barh(lines + 0.22, change, height=0.36, color=colors)
    ax.vlines(np.zeros(len(top)), lines, lines + 0.44, color="black", lw=0.8)
    most = int(_style.inches_across(ax) / 0.064) - 6
    for line, name, n_genes in zip(lines, top["name"], top["n_genes"], strict=True):
        # x in axes coordinates: a name starts at the left edge whatever the values are
        place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": "small"}
        ax.text(0.01, line - 0.2, f"{_style.cut(str(name), most)} ({n_genes:,})", **place)
    ax.set_ylim(len(top) - 0.4, -0.6)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.margins(x=0.03)
    ax.locator_params(axis="x", nbins=5)
