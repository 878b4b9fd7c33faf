"""Gene programs at a glance: how they go together in control cells, how large they are and which genes they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.pl import _programs, _style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

Columns = tuple[tuple[list[str], dict[str, Any]], ...]
"""Texts, and the font they are written in."""

COHERENT_Z = 2.0
"""Programs below are hardly more coherent than random genes."""

_MOST_NAME = 36
_MOST_GENES = 44
_ITALIC: dict[str, Any] = {"style": "italic"}
"""Symbols of genes."""
_GAP = 0.15
"""Inches between columns of text."""
_TEXT_SHARE = 0.4
"""Of the width of given axes; names and genes are cut to it."""


def gene_programs(adata: AnnData, *, top: int = 5, ax: Axes | None = None, show: bool | None = None) -> dict[str, Axes]:
    """Draw how gene programs are related, with their sizes, their names and their first genes.

    The heat map is the correlation of the programs' activities over training control cells, similar programs side by
    side; its diagonal is left out. Bars count genes; pale ones are programs whose genes go together hardly more than
    random genes do (``z`` below 2).

    Parameters
    ----------
    adata
        With the programs that ``gene_programs()`` of a trained ``spm.SCBIG`` stores. Names are those of
        :func:`scperturb_modules.tl.program_enrichment`.
    top
        How many genes are written for each program, those of the largest loading.
    ax
        Where to draw, as a place in a grid; None makes a figure of fitting size.
    show
        True: call ``plt.show()``.

    Returns
    -------
    dict
        The axes ``"relations"`` and ``"sizes"``, with the same rows.

    Raises
    ------
    MissingKeyError
        No programs are stored.
    DataError
        The relations do not fit the programs.
    ValueError
        ``top`` is negative.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from scperturb_modules.pl._gene_programs import gene_programs
    >>> table = pd.DataFrame({"n_genes": [40, 20], "top_genes": ["A;B", "C;D"]}, index=["P1", "P2"])
    >>> table = table.assign(within=0.5, z=9.0, name=["", "Heme"])
    >>> adata = anndata.AnnData(np.zeros((1, 1), dtype=np.float32))
    >>> relations = np.array([[1.0, 0.3], [0.3, 1.0]])
    >>> adata.uns["scperturb_modules"] = {"scbig": {"programs": table, "program_relations": relations}}
    >>> axes = gene_programs(adata)
    >>> [text.get_text() for text in axes["sizes"].texts]
    ['40', '20', 'Heme', 'A, B', 'C, D']
    """
    if top < 0:
        raise ValueError(f"top={top} genes cannot be written; give 0 or more")
    table: pd.DataFrame = _programs.stored(adata, keys.PROGRAMS)
    relations = np.array(_programs.stored(adata, keys.PROGRAM_RELATIONS), dtype=np.float64)
    n = len(table)
    if relations.shape != (n, n):
        raise DataError(f"{n} programs are stored, but relations of the shape {relations.shape}: store both again.")
    order = _programs.order_of(relations)
    table, relations = table.iloc[order], relations[np.ix_(order, order)]
    names = [_programs.readable(name) for name in table["name"]]
    genes = [", ".join(filter(None, str(listed).split(";")[:top])) for listed in table["top_genes"]]
    names, genes = _cut(ax, names, genes)
    texts: Columns = ((names, {}), (genes, _ITALIC))
    text = sum(_programs.inches_of(column, _programs.letters_for(n), **font) + _GAP for column, font in texts)
    side = max(0.28 * n, 2.2) if n <= _programs.MANY else 0.165 * n
    across = min(side, 4.6)
    width, height = across + 1.7 + text, side + 1.9
    left, right = _programs.panels(ax, 1, 2, width=width, height=height, width_ratios=[across, 0.9])[0]
    _relations(left, relations, list(map(str, table.index)))
    is_pale = _sizes(right, table)
    _write(right, names, genes)
    facts = [f"{int(table['n_genes'].sum()):,} genes"]
    facts.append("" if any(names) else "No program has a name (spm.tl.program_enrichment gives them)")
    facts.append(f"Pale bars: hardly more coherent than random genes (z < {COHERENT_Z:g})" if is_pale else "")
    _style.head(left, [], [f"{n} gene programs", *facts])
    _programs.finish(show)
    return {"relations": left, "sizes": right}


def _cut(ax: Axes | None, names: list[str], genes: list[str]) -> tuple[list[str], list[str]]:
    """Names and genes of a length that can be read, in given axes of one that leaves room for the panels."""
    n_name, n_gene = min(_style.longest(names), _MOST_NAME), min(_style.longest(genes), _MOST_GENES)
    if ax is not None:
        share = _TEXT_SHARE * _style.inches_across(ax) / (0.075 * max(n_name + n_gene, 1))
        n_name, n_gene = (int(min(share, 1.0) * most) for most in (n_name, n_gene))
    return [_style.cut(name, n_name) for name in names], [_style.cut(one, n_gene) for one in genes]


def _relations(ax: Axes, relations: NDArray[np.float64], programs: list[str]) -> None:
    others = np.where(np.eye(len(programs), dtype=bool), np.nan, relations)
    mesh = _programs.change_map(ax, others, _programs.limit_of(others, least=0.1))
    _programs.name_cells(ax, rows=programs, columns=programs)
    _programs.color_bar([ax], mesh, "Correlation of activity\nin control cells", location="bottom")


def _sizes(ax: Axes, table: pd.DataFrame) -> bool:
    """A bar per program with its number of genes; returns whether some are pale."""
    sizes, lines = table["n_genes"].to_numpy(), np.arange(len(table)) + 0.5
    is_pale = table["z"].to_numpy(dtype=float) < COHERENT_Z
    ax.barh(lines, sizes, height=0.7, color=np.where(is_pale, _style.FAINT_COLOR, _style.OTHER_COLOR))
    for line, n_genes in zip(lines, sizes, strict=True):
        look: dict[str, Any] = {"va": "center", "fontsize": _programs.letters_for(len(table))}
        ax.annotate(f"{n_genes:,}", (n_genes, line), (2, 0), textcoords="offset points", **look)
    ax.set_xlim(0, 1.7 * sizes.max())
    ax.set_ylim(len(table), 0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.set_xlabel("Genes", fontsize="small")
    return bool(is_pale.any())


def _write(ax: Axes, names: list[str], genes: list[str]) -> None:
    """Right of the bars the names, then the genes, each in a column."""
    size, start = _programs.letters_for(len(names)), 0.0
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    columns: Columns = ((names, {}), (genes, _ITALIC))
    for texts, font in columns:
        for line, text in enumerate(texts):
            if text:
                ax.annotate(text, (1, line + 0.5), (72 * start, 0), fontsize=size, **place, **font)
        start += _programs.inches_of(texts, size, **font) + _GAP if any(texts) else 0.0
