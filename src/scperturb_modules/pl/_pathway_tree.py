"""The pathways of one gene, from the most general to the most specific, as an indented tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_LETTERS = 80
"""Longer names of pathways are cut."""

_COLORS = {1: _style.PALETTE[1], 2: _style.PALETTE[0], 3: _style.PALETTE[5], 0: _style.BASELINE_COLOR}
_LABELS = {1: "most specific (level 1)", 2: "level 2", 3: "level 3"}
_INDENT, _ROW, _LETTER = 0.24, 0.19, 0.068
"""Inches from a level to the next, from a row to the next, and of a letter."""


class Pathways(Protocol):
    """What is drawn, as :class:`scperturb_modules.priors.PathwayHierarchy` has it."""

    @property
    def name(self) -> str:
        """As the user knows it."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene symbols."""

    def pathways(self, genes: str | list[str], level: int | str) -> pd.DataFrame:
        """Columns gene, id, name and n_genes."""

    def parents(self, pathway: str) -> pd.DataFrame:
        """Column id."""


@dataclass(frozen=True)
class _Row:
    """A line of the picture; ``parent`` is the number of its parent's row."""

    pathway: str
    indent: int
    parent: int | None
    is_repeated: bool


def pathway_tree(hierarchy: Pathways, gene: str, *, max_pathways: int = 60, ax: Axes | None = None) -> Axes:
    """Draw the pathways that hold a gene: general ones on the left, the parts of each below it and further right.

    Levels are those of :class:`scperturb_modules.priors.PathwayHierarchy`, seen from the gene; pathways above level 3
    have grey dots. Behind each name stands the number of its genes; long names are cut. A pathway with several parents
    stands below each, and its parts below the first one only: further down it is in grey italics.

    Parameters
    ----------
    hierarchy
        ``spm.priors.reactome(...)``.
    gene
        One of its genes.
    max_pathways
        Of a gene in more pathways, some of its most specific ones are drawn with all that hold them, small ones first,
        as many as fit (one at least); the figure says so.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in; no numbers stand on its axes.

    Raises
    ------
    DataError
        The gene is not in the hierarchy.
    ValueError
        ``max_pathways`` is less than one.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> sets = {"Immunity": ["STAT1", "IRF1", "TLR4"], "Interferon": ["STAT1", "IRF1"]}
    >>> relations = pd.DataFrame({"parent": ["Immunity"], "child": ["Interferon"]})
    >>> ax = spm.pl.pathway_tree(spm.priors.reactome(None, sets, relations), "STAT1")
    >>> [text.get_text() for text in ax.texts[:2]]
    ['Immunity (3)', 'Interferon (2)']
    """
    if max_pathways < 1:
        raise ValueError(f"max_pathways={max_pathways} shows no pathway; give a positive number")
    table = hierarchy.pathways(gene, "all").set_index("id").sort_values("name", kind="stable")
    levels = {level: list(hierarchy.pathways(gene, level)["id"]) for level in (3, 2, 1)}
    lowest = {pathway: level for level, pathways in levels.items() for pathway in pathways}
    parents = {pathway: list(hierarchy.parents(pathway)["id"]) for pathway in table.index}
    shown, n_leaves = _shown(table.loc[levels[1], "n_genes"], parents, max_pathways)
    rows = _rows([pathway for pathway in table.index if pathway in shown], parents)
    names, sizes = table["name"].to_dict(), table["n_genes"].to_dict()
    labels = [f"{_style.cut(names[row.pathway], MOST_LETTERS)} ({sizes[row.pathway]:,})" for row in rows]
    note = f"In brackets: genes, of the {len(hierarchy.genes):,} in {hierarchy.name}"
    repeated = "In grey italics: parts are shown above" if any(row.is_repeated for row in rows) else ""
    is_cut = n_leaves < len(levels[1])
    warning = f"{n_leaves} of {len(levels[1])} most specific pathways, small ones first" if is_cut else ""
    right = max(row.indent + (2 + len(label) * _LETTER / _INDENT) for row, label in zip(rows, labels, strict=True))
    ax = _style.axes_or_new(ax, width=0.4 + max(right * _INDENT, 6.0), height=1.2 + _ROW * len(rows))
    _draw(ax, rows, labels, [lowest.get(row.pathway, 0) for row in rows])
    ax.set(xlim=(-0.5, max(right, 6.0 / _INDENT)), ylim=(len(rows) - 0.4, -0.6), xticks=[], yticks=[])
    _style.write_above(ax, [gene, note, repeated], warning=warning)
    ax.spines[:].set_visible(False)
    return ax


def _shown(leaves: pd.Series, parents: dict[str, list[str]], most: int) -> tuple[set[str], int]:
    """Pathways to draw, and how many of the most specific ones are among them: small ones first, one at least."""
    shown: set[str] = set()
    n_shown = 0
    for leaf in leaves.sort_values(kind="stable").index:
        with_ancestors = {leaf}
        last = [leaf]
        while last:
            last = [parent for pathway in last for parent in parents[pathway] if parent not in with_ancestors]
            with_ancestors.update(last)
        if not shown or len(shown | with_ancestors) <= most:
            shown |= with_ancestors
            n_shown += 1
    return shown, n_shown


def _rows(pathways: list[str], parents: dict[str, list[str]]) -> list[_Row]:
    """Each pathway below its parents, in the order given; with its own parts only the first time."""
    children: dict[str, list[str]] = {}
    for pathway in pathways:
        for parent in parents[pathway]:
            children.setdefault(parent, []).append(pathway)
    rows: list[_Row] = []
    seen: set[str] = set()

    def add(pathway: str, indent: int, parent: int | None) -> None:
        rows.append(_Row(pathway, indent, parent, pathway in seen))
        number = len(rows) - 1
        if pathway not in seen:
            seen.add(pathway)
            for child in children.get(pathway, ()):
                add(child, indent + 1, number)

    for pathway in pathways:
        if not parents[pathway]:
            add(pathway, 0, None)
    return rows


def _draw(ax: Axes, rows: list[_Row], labels: list[str], levels: list[int]) -> None:
    from matplotlib.lines import Line2D

    for number, row in enumerate(rows):
        if row.parent is not None:
            left = rows[row.parent].indent
            ax.plot([left, left, row.indent], [row.parent, number, number], color=_style.FAINT_COLOR, lw=1, zorder=1)
    colors = [_COLORS[level] for level in levels]
    ax.scatter([row.indent for row in rows], range(len(rows)), s=26, color=colors, zorder=2)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        look: dict[str, Any] = {"weight": "bold"} if levels[number] == 1 else {}
        if row.is_repeated:
            look = {"color": _style.BASELINE_COLOR, "style": "italic"}
        ax.text(row.indent + 0.45, number, label, fontsize="small", va="center", **look)
    handles: list[Artist] = [
        Line2D([], [], ls="none", marker="o", ms=5, color=_COLORS[level], label=_LABELS[level])
        for level in _LABELS
        if level in levels
    ]
    _style.legend_above(ax, handles)
