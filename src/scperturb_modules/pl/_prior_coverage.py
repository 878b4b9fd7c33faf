"""Which perturbed genes the priors cover: a dot per gene and prior, and the shares of perturbed and measured genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_GENES = 60
"""Genes that have a column each; of more, only shares are drawn."""

_BLUE, _ORANGE, _GREY = _style.PALETTE[0], _style.PALETTE[4], _style.FAINT_COLOR
_COLORS = {"covered": _BLUE, "isolated": _ORANGE, "unknown": _GREY}
_LABELS = {"covered": "covered", "isolated": "known, but without edge or set", "unknown": "not known"}
_MARKS: dict[str, dict[str, Any]] = {
    # told apart by form too, for print in grey
    "covered": {"marker": "o", "s": 48, "facecolor": _BLUE, "edgecolor": _BLUE},
    "isolated": {"marker": "o", "s": 40, "facecolor": "white", "edgecolor": _ORANGE, "lw": 2},
    "unknown": {"marker": "o", "s": 6, "facecolor": _GREY, "edgecolor": _GREY},
    "measured": {"marker": "s", "s": 30, "facecolor": "black", "edgecolor": "black"},
}
_MEASURED_LINE = "measured gene"
_SHARE_COLUMNS = 8
"""How many columns of genes the bars of a matrix are wide."""
_BARS = {"perturbed": (-0.17, 0.34), "measured": (0.23, 0.22)}
"""Where the bar of a group of genes stands on the line of its prior, and its height."""


class Covered(Protocol):
    """What :func:`prior_coverage` reads of ``spm.priors.coverage(adata, priors)``."""

    @property
    def genes(self) -> pd.DataFrame: ...

    @property
    def states(self) -> pd.DataFrame: ...

    @property
    def sources(self) -> pd.DataFrame: ...


def prior_coverage(coverage: Covered, *, ax: Axes | None = None) -> Axes:
    """Draw which perturbed genes each prior covers, and the shares of perturbed and measured genes.

    Priors are lines, the one that covers most perturbed genes on top. Up to 60 perturbed genes have a column each, the
    best covered first, and the shares stand at the right; of more genes the shares alone are drawn. Genes that no
    prior covers are named above.

    Parameters
    ----------
    coverage
        The result of ``spm.priors.coverage(adata, priors)``.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    DataError
        The coverage is of no prior.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, scperturb_modules as spm
    >>> obs = pd.DataFrame({"perturbation": ["control", "KLF1", "BAK1"]}, index=list("xyz"))
    >>> screen = anndata.AnnData(np.zeros((3, 2)), obs=obs, var=pd.DataFrame(index=["KLF1", "HBG1"]))
    >>> edges = pd.DataFrame({"source": ["KLF1"], "target": ["HBG1"]})
    >>> ax = spm.pl.prior_coverage(spm.priors.coverage(screen, {"my network": edges}))
    >>> [label.get_text() for label in ax.get_xticklabels()]
    ['KLF1', 'BAK1']
    """
    sources = coverage.sources
    if sources.empty:
        raise DataError("The coverage is of no prior; pass some: spm.priors.coverage(adata, priors).")
    sources = sources.sort_values(["perturbed_covered", "measured_covered"], ascending=False, kind="stable")
    above = _lines_above(coverage.genes)
    if len(coverage.genes) > MOST_GENES:
        return _draw_shares_alone(sources, above, ax)
    return _draw_matrix(coverage, sources, above, ax)


def _lines_above(genes: pd.DataFrame) -> list[str]:
    bare = genes.index[genes["status"] != "covered"]
    title = f"{len(genes) - len(bare):,} of {len(genes):,} perturbed genes are covered by a prior"
    return [title, f"Not covered: {name_some(bare, most=6).replace(chr(39), '')}"] if len(bare) else [title]


def _draw_shares_alone(sources: pd.DataFrame, above: list[str], ax: Axes | None) -> Axes:
    from matplotlib.patches import Patch

    width = 1.4 + _style.width_for(sources.index, body=4.2, above=above)
    ax = _style.axes_or_new(ax, width=width, height=1.7 + 0.5 * len(sources))
    _draw_shares(ax, sources, left=0.0, width=1.0)
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set_xlabel("Share of genes")
    _label_lines(ax, list(sources.index))
    _style.legend_above(ax, [Patch(color=color, label=_LABELS[state]) for state, color in _COLORS.items()])
    _style.write_above(ax, above)
    return ax


def _draw_matrix(coverage: Covered, sources: pd.DataFrame, above: list[str], ax: Axes | None) -> Axes:
    order = (coverage.states != "covered").sum(axis=1).sort_values(kind="stable").index
    lines = [*sources.index, _MEASURED_LINE]
    n_columns = len(order) + 0.3 + _SHARE_COLUMNS
    width = 1.4 + _style.width_for(lines, body=0.2 * n_columns, above=above)
    ax = _style.axes_or_new(ax, width=width, height=1.5 + 0.42 * len(lines) + 0.08 * _style.longest(order))
    handles = _draw_dots(ax, coverage.states.loc[order, sources.index], coverage.genes.loc[order, "measured"])
    left = len(order) - 0.2
    _draw_shares(ax, sources, left=left, width=_SHARE_COLUMNS)
    ax.text(left, len(sources), "share of genes", va="center", fontsize="small")
    ax.set_xticks(range(len(order)), list(order), rotation=90, fontsize="small")
    ax.set_xlim(-0.6, left + _SHARE_COLUMNS)
    _label_lines(ax, lines)
    ax.spines["bottom"].set_visible(False)
    ax.tick_params(axis="x", length=0)
    _style.legend_above(ax, handles)
    _style.write_above(ax, above)
    return ax


def _draw_dots(ax: Axes, states: pd.DataFrame, measured: pd.Series) -> list[Artist]:
    """A dot per gene and prior, and a line of marks of measured genes below; returns the entries of a legend."""
    handles: list[Artist] = []
    for state, label in _LABELS.items():
        column, line = np.nonzero(states.to_numpy() == state)
        if len(column):
            handles.append(ax.scatter(column, line, label=label, **_MARKS[state]))
    column = np.flatnonzero(measured.to_numpy(dtype=bool))
    ax.scatter(column, np.full(len(column), states.shape[1]), **_MARKS["measured"])
    ax.hlines(states.shape[1] - 0.5, -0.5, len(states) - 0.5, color=_style.FAINT_COLOR, lw=0.8)
    return handles


def _draw_shares(ax: Axes, sources: pd.DataFrame, *, left: float, width: float) -> None:
    """On the line of each prior a bar of the perturbed genes and one of the measured genes, with their numbers."""
    for group, (offset, height) in _BARS.items():
        counts = sources[[f"{group}_{state}" for state in _COLORS]].to_numpy(dtype=np.float64)
        total = counts.sum(axis=1)
        length = width * counts / np.maximum(total, 1)[:, None]
        start = left + np.cumsum(length, axis=1) - length
        place = np.arange(len(sources)) + offset
        for number, color in enumerate(_COLORS.values()):
            ax.barh(place, length[:, number], height, left=start[:, number], color=color)
        for y, covered, of in zip(place, counts[:, 0], total, strict=True):
            text = f"{covered:,.0f} of {of:,.0f} {group}"
            ax.annotate(text, (left + width, y), (4, 0), textcoords="offset points", va="center", fontsize="x-small")
    ax.set_xlim(left, left + width)


def _label_lines(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.spines[["top", "right", "left"]].set_visible(False)
