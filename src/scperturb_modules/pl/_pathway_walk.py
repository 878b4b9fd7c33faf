"""From genes to the pathways that hold them, and on to the pathways that these are a part of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.pl import _style
from scperturb_modules.pl._pathway_tree import Pathways

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UP, _DOWN, _UNKNOWN = _style.PALETTE[1], _style.PALETTE[0], "black"
_HEADS = ("genes", "level 1", "level 2", "level 3")
_SWEEPS = 12
"""Times that each column is put in the order of its neighbours."""
_NARROW = 5.0
"""Inches; narrower axes have smaller letters."""
_GAP = 0.045
"""Inches between two columns, for the lines, per point of the letters."""
_BOLD = 1.4
"""Width of a bold capital, in letters."""
_LINES = 3
"""Most lines of a name."""


@dataclass(frozen=True)
class _Walk:
    """Columns of genes and of pathways from specific to general, ``edges[i]`` from column i to i + 1.

    ``found`` has the number of pathways of each level, shown or not.
    """

    columns: list[list[str]]
    edges: list[list[tuple[str, str]]]
    found: list[int]


@dataclass(frozen=True)
class _Look:
    """How names are written: size in points, and letters per line."""

    size: float
    most: int

    def text(self, name: str, n_genes: int) -> str:
        """A name and a number in the lines that there are; the name is cut until both fit."""
        for length in range(len(name), 0, -1):
            lines = textwrap.wrap(f"{_style.cut(name, length)} ({n_genes})", self.most)
            if len(lines) <= _LINES:
                break
        return "\n".join(lines)


def pathway_walk(
    hierarchy: Pathways,
    genes: Iterable[str],
    *,
    changes: pd.Series | None = None,
    max_pathways: int = 12,
    ax: Axes | None = None,
) -> Axes:
    """Draw the most specific pathways of some genes, such as the most changed ones, and the two levels above these.

    Columns from left to right: the genes, the most specific pathways that hold them (level 1), their parents (level 2)
    and the parents of those (level 3). Behind each name stands how many of the genes it holds; a line leads from each
    gene and pathway to what it is a part of. Long names are cut.

    Parameters
    ----------
    hierarchy
        Made by ``spm.priors.reactome``.
    genes
        Names of genes; about 20 can be read. Those without a pathway are named in the figure.
    changes
        Change of each gene, by name: genes that rise and fall are coloured.
    max_pathways
        Most in a column: those of most of the genes first, of equal ones the smallest. The figure counts the others.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in; no numbers stand on its axes.

    Raises
    ------
    DataError
        None of the genes has a pathway.
    ValueError
        ``max_pathways`` is less than one.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> sets = {"Immunity": ["STAT1", "IRF1", "TLR4"], "Interferon": ["STAT1", "IRF1"]}
    >>> relations = pd.DataFrame({"parent": ["Immunity"], "child": ["Interferon"]})
    >>> ax = spm.pl.pathway_walk(spm.priors.reactome(None, sets, relations), ["STAT1", "IRF1", "XYZ"])
    >>> [text.get_text() for text in ax.texts if "Level" not in text.get_text()]
    ['No pathway: XYZ', 'genes', 'STAT1', 'IRF1', 'level 1', 'Interferon (2)', 'level 2', 'Immunity (2)']
    """
    if max_pathways < 1:
        raise ValueError(f"max_pathways={max_pathways} shows no pathway; give a positive number")
    asked = list(dict.fromkeys(map(str, genes)))
    known = set(hierarchy.genes)
    table = hierarchy.pathways([gene for gene in asked if gene in known], "all")
    if table.empty:
        raise DataError(f"None of {len(asked)} genes has a pathway in {hierarchy.name}: {name_some(asked)}.")
    facts = table.groupby("id").agg(n=("gene", "nunique"), name=("name", "first"), size=("n_genes", "first"))
    with_pathway = list(dict.fromkeys(table["gene"]))
    walk = _walk(hierarchy, with_pathway, facts, max_pathways)
    ax = _style.axes_or_new(ax, width=7.2, height=1.6 + 0.4 * max(map(len, walk.columns)))
    colors = dict.fromkeys(with_pathway, _UNKNOWN)
    if changes is not None:
        colors |= {gene: _UP if value > 0 else _DOWN for gene, value in changes.items() if gene in colors and value}
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    _style.head(ax, _legend(colors), ["", *_words(walk, asked, with_pathway)])
    _draw(ax, walk, facts, colors)
    return ax


def _walk(hierarchy: Pathways, genes: list[str], facts: pd.DataFrame, most: int) -> _Walk:
    leaves = hierarchy.pathways(genes, 1)
    holds = {str(one): set(rows) for one, rows in leaves.groupby("id")["gene"]}
    shown = _leaves(holds, facts, most)
    columns, found = [shown], [len(holds)]
    edges = [[(gene, one) for gene, one in zip(leaves["gene"], leaves["id"], strict=True) if one in set(shown)]]
    for _ in _HEADS[2:]:
        pairs = [(one, parent) for one in columns[-1] for parent in hierarchy.parents(one)["id"]]
        above = facts.loc[list(dict.fromkeys(parent for _, parent in pairs))]
        order = above.sort_values(["n", "size", "name"], ascending=[False, True, True], kind="stable")
        columns.append(list(order.index[:most]))
        edges.append([pair for pair in pairs if pair[1] in set(columns[-1])])
        found.append(len(above))
    drawn = {gene for gene, _ in edges[0]}
    return _Walk(_ordered([[gene for gene in genes if gene in drawn], *columns], edges), edges, found)


def _leaves(holds: Mapping[str, set[str]], facts: pd.DataFrame, most: int) -> list[str]:
    """Pathways of most genes first; of equal ones those with a gene that has none yet, then small ones."""
    order = facts.loc[list(holds)].sort_values(["size", "name"], kind="stable").index
    left, shown = list(order), list[str]()
    reached = set[str]()
    while left and len(shown) < most:
        best = max(left, key=lambda one: (len(holds[one]), len(holds[one] - reached)))
        left.remove(best)
        shown.append(best)
        reached |= holds[best]
    return shown


def _ordered(columns: list[list[str]], edges: list[list[tuple[str, str]]]) -> list[list[str]]:
    """Each column in the order of the mean place of its neighbours, so that few lines cross."""
    columns = [list(column) for column in columns]
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        for number in range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1):
            place = _places(columns[number - 1 if forward else number + 1])
            pairs = edges[number - 1] if forward else [(right, left) for left, right in edges[number]]
            near: dict[str, list[float]] = {}
            for one, other in pairs:
                if one in place:
                    near.setdefault(other, []).append(place[one])
            now = _places(columns[number])
            mean = {name: float(np.mean(near.get(name, [now[name]]))) for name in now}
            columns[number].sort(key=mean.__getitem__)
    return columns


def _places(column: list[str], height: float = 1.0) -> dict[str, float]:
    """Names evenly over a height."""
    return {name: height * (number + 0.5) / len(column) for number, name in enumerate(column)}


def _draw(ax: Axes, walk: _Walk, facts: pd.DataFrame, colors: Mapping[str, str]) -> None:
    """Names in columns and lines between them; x in inches, y in rows."""
    width, height = _style.inches_across(ax), max(map(len, walk.columns))
    ax.set(xlim=(0, width), ylim=(height, -1.1))
    size = 6.0 if width < _NARROW else 7.5
    letter, gap = 0.53 * size / 72, _GAP * size
    columns = [column for column in walk.columns if column]
    of_genes = _BOLD * letter * _style.longest([_HEADS[0], *columns[0]])
    of_names = (width - of_genes) / (len(columns) - 1) - gap
    look = _Look(size, max(10, int(of_names / letter)))
    ends: dict[str, float] = {}
    places: dict[str, float] = {}
    for number, column in enumerate(columns):
        left = number and of_genes + gap + (number - 1) * (of_names + gap)
        ax.text(left, -0.7, _HEADS[number], fontsize=size, weight="bold", color=_style.BASELINE_COLOR, va="center")
        before, places = places, _places(column, height)
        for one, other in walk.edges[number - 1] if number else []:
            line = ([ends[one], left - 0.03], [before[one], places[other]])
            ax.plot(*line, color=colors.get(one, _style.BASELINE_COLOR), lw=0.8, alpha=0.6, zorder=1)
        for name, y in places.items():
            text = look.text(facts["name"][name], facts["n"][name]) if number else name
            style: dict[str, Any] = {} if number else {"color": colors[name], "weight": "bold"}
            # a white ground, since letters are a little wider at another resolution
            style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            drawn = ax.text(left, y, text, fontsize=size, va="center", linespacing=1.0, **style)
            ends[name] = ax.transData.inverted().transform(drawn.get_window_extent())[1, 0] + 0.06


def _legend(colors: Mapping[str, str]) -> list[Any]:
    from matplotlib.patches import Patch

    words = {_UP: "up", _DOWN: "down", _UNKNOWN: "change unknown or 0"}
    present = [color for color in words if color in colors.values()]
    return [] if present == [_UNKNOWN] else [Patch(color=color, label=words[color]) for color in present]


def _words(walk: _Walk, asked: list[str], with_pathway: list[str]) -> list[str]:
    """What the numbers mean, and what is not drawn."""
    facts = [f"Level 1: most specific pathways; in brackets: how many of {len(with_pathway)} genes"]
    levels = zip(_HEADS[1:], walk.columns[1:], walk.found, strict=True)
    less = [f"{len(column)} of {n:,} pathways of {head}" for head, column, n in levels if len(column) < n]
    if less:
        facts.append(f"Shown: {', '.join(less)}; those of most genes first")
    for what, names in (
        ("Only in pathways not shown", [gene for gene in with_pathway if gene not in walk.columns[0]]),
        ("No pathway", [gene for gene in asked if gene not in with_pathway]),
    ):
        if names:
            facts.append(f"{what}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}")
    return facts
