"""The neighbourhood of perturbed genes in a network, as a picture of nodes and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.pl import _style
from scperturb_modules.pl._neighbourhood import Array, Neighbourhood, Network, neighbourhood
from scperturb_modules.pl._node_layout import place_boxes

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_FONT_SIZES = {True: 9.0, False: 7.5}
"""Points; of perturbed genes (True) and of their neighbours."""
_TEXT_STYLES: dict[bool, dict[str, Any]] = {True: {"color": "white", "weight": "bold"}, False: {"color": "black"}}
_BOX_STYLES: dict[bool, dict[str, Any]] = {
    True: {"facecolor": _style.OWN_COLOR, "edgecolor": _style.OWN_COLOR},
    False: {"facecolor": _style.BAND_COLOR, "edgecolor": _style.FAINT_COLOR},
}
_EDGE_COLORS = {"plain": _style.BASELINE_COLOR, "positive": _style.PALETTE[0], "negative": _style.PALETTE[3]}
_ARROWS: dict[str, dict[str, Any]] = {
    "plain": {"arrowstyle": "-|>"},
    "positive": {"arrowstyle": "-|>"},
    # ends in a bar, as in drawings of pathways
    "negative": {"arrowstyle": "|-|,widthA=0,widthB=0.5"},
}
_LINES: dict[str, dict[str, Any]] = {
    "plain": {"arrowstyle": "-"},
    "positive": {"arrowstyle": "-"},
    "negative": {"arrowstyle": "-", "ls": "--"},
}
_SIGNS = {
    True: {"positive": "activates", "negative": "represses"},
    False: {"positive": "positive weight", "negative": "negative weight"},
}
"""Words for the signs in a directed (True) and an undirected network."""
_MARGIN = 0.1
"""Inches around the nodes."""
_LEGEND_WIDTH = 4.0
_WIDTHS = (0.6, 2.6)
"""Points; of the weakest and of the strongest edge shown."""


def gene_graph(
    graph: Network,
    genes: Sequence[str],
    *,
    n_neighbours: int = 5,
    max_nodes: int = 80,
    ax: Axes | None = None,
) -> Axes:
    """Draw perturbed genes and their strongest neighbours in a network.

    Perturbed genes are dark, their neighbours light. Only edges with a perturbed gene at one end are drawn, thicker
    where their weight is larger; arrows in a directed network; in a signed one activation and repression differ by
    colour and by the end of the line. Groups of genes without a link between them stand side by side.

    Parameters
    ----------
    graph
        A :class:`scperturb_modules.priors.GeneGraph`.
    genes
        The perturbed genes. Those that the network does not have are named in the picture.
    n_neighbours
        The strongest neighbours of each perturbed gene (of equal weights those joined to more perturbed genes, then by
        name); 0 draws the perturbed genes alone.
    max_nodes
        Most nodes to draw: perturbed genes (of too many those with most links to each other), then the strongest
        neighbour of each, then the second one, and so on. What is left out is counted in the picture.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    DataError
        None of the genes is in the network.
    TypeError
        The network is something else, for example an edge table; the message says how to read it.
    ValueError
        ``n_neighbours`` is negative, or ``max_nodes`` is not positive.

    Notes
    -----
    Distances on the page follow those along edges, by stress majorization (Gansner, Koren and North, Graph Drawing
    2004), which is the same at every call; nodes are then pushed apart until no two overlap.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> edges = pd.DataFrame({"source": ["KLF1", "KLF1", "BAK1"], "target": ["GATA1", "HBB", "BCL2"]})
    >>> network = spm.priors.GeneGraph.from_table(edges, name="my network")
    >>> ax = spm.pl.gene_graph(network, ["KLF1", "SPI1"])
    >>> [text.get_text() for text in ax.texts][:3]
    ['KLF1', 'GATA1', 'HBB']
    """
    if n_neighbours < 0 or max_nodes < 1:
        raise ValueError(f"n_neighbours={n_neighbours}, max_nodes={max_nodes}; at least 0 and 1 are needed.")
    if not hasattr(graph, "weight") or not hasattr(graph, "genes"):
        raise TypeError(
            f"the network is a {type(graph).__name__}; make a GeneGraph of it, for example "
            "spm.priors.GeneGraph.from_table(table)."
        )
    wanted = list(dict.fromkeys(str(gene) for gene in ([genes] if isinstance(genes, str) else genes)))
    absent = sorted(set(wanted).difference(graph.genes))
    if len(absent) == len(wanted):
        raise DataError(
            f"0 of {len(wanted)} genes found in the network {graph.name!r}; first names: {name_some(wanted, most=3)} / "
            f"{name_some(graph.genes, most=3) or 'none'}. Use the same kind of gene names on both sides."
        )
    near = neighbourhood(graph, [gene for gene in wanted if gene not in absent], n_neighbours, max_nodes)
    size = np.array([_box_size(name, is_perturbed=i < near.n_perturbed) for i, name in enumerate(near.names)])
    place = place_boxes(size, near.source, near.target)
    above = _lines_above(graph, near, absent, n_neighbours, max_nodes)
    ax = _page(ax, (place + size / 2).max(axis=0), above)
    handles = _draw_nodes(ax, near, place) + _draw_edges(ax, near, place, size, directed=graph.directed)
    _style.legend_above(ax, handles)
    _style.write_above(ax, above)
    return ax


def _lines_above(
    graph: Network, near: Neighbourhood, absent: list[str], n_neighbours: int, max_nodes: int
) -> list[str]:
    counts = [(near.n_perturbed, "perturbed gene"), (near.n_neighbours, "neighbour")]
    said = " and ".join(f"{n} {what}{'s' if n != 1 else ''}" for n, what in counts if n)
    lines = [f"{graph.name}: {said}"]
    if near.n_neighbours < near.n_neighbours_found:
        limits = f"n_neighbours={n_neighbours}, max_nodes={max_nodes}"
        lines.append(f"{near.n_neighbours:,} of {near.n_neighbours_found:,} neighbours are drawn ({limits})")
    if near.n_perturbed < near.n_perturbed_found:
        left_out = near.n_perturbed_found - near.n_perturbed
        lines.append(f"{left_out} perturbed genes with the fewest links to others are left out")
    if absent:
        lines.append(f"Not in the network: {name_some(absent, most=6)}".replace("'", ""))
    if _has_widths(near):
        low, high = np.abs(near.weight).min(), np.abs(near.weight).max()
        lines.append(f"Thicker lines: larger weight ({low:.3g} to {high:.3g})")
    return lines


def _page(ax: Axes | None, extent: Array, above: list[str]) -> Axes:
    """Axes in inches, as wide as the nodes or as the lines above, with the nodes in the middle; y runs down."""
    width = max(extent[0] + 2 * _MARGIN, _style.width_for([], body=_LEGEND_WIDTH, above=above))
    height = extent[1] + 2 * _MARGIN
    ax = _style.axes_or_new(ax, width=width + 0.2, height=height + 0.7 + 0.22 * len(above))
    left = (width - extent[0]) / 2
    ax.set_xlim(-left, width - left)
    ax.set_ylim(height - _MARGIN, -_MARGIN)
    ax.set_aspect("equal", anchor="NW")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _box_size(name: str, *, is_perturbed: bool) -> tuple[float, float]:
    """Width and height (inches) of a node with its name."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    points = _FONT_SIZES[is_perturbed]
    font = FontProperties(weight="bold" if is_perturbed else "normal")
    width = np.ptp(TextPath((0, 0), name, size=points, prop=font).vertices[:, 0])
    return float(width) / 72 + 0.14, points / 72 + 0.12


def _draw_nodes(ax: Axes, near: Neighbourhood, place: Array) -> list[Artist]:
    """Names in boxes; returns the entries of a legend."""
    from matplotlib.patches import Patch

    for number, (name, (x, y)) in enumerate(zip(near.names, place.tolist(), strict=True)):
        is_perturbed = number < near.n_perturbed
        style: dict[str, Any] = {"fontsize": _FONT_SIZES[is_perturbed], **_TEXT_STYLES[is_perturbed]}
        box = {"boxstyle": "round,pad=0.3", **_BOX_STYLES[is_perturbed]}
        ax.text(x, y, name, ha="center", va="center", bbox=box, zorder=3, **style)
    kinds = {True: "perturbed gene", **({False: "neighbour"} if near.n_neighbours else {})}
    return [Patch(label=label, **_BOX_STYLES[is_perturbed]) for is_perturbed, label in kinds.items()]


def _draw_edges(ax: Axes, near: Neighbourhood, place: Array, size: Array, *, directed: bool) -> list[Artist]:
    """Lines or arrows; returns the entries of a legend where edges have signs."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch

    is_signed = bool((near.weight < 0).any())
    kinds = np.where(near.weight < 0, "negative", "positive") if is_signed else np.full(len(near.weight), "plain")
    for source, target, kind, width in zip(near.source, near.target, kinds, _widths(near), strict=True):
        start = _edge_of_box(place[source], place[target], size[source])
        end = _edge_of_box(place[target], place[source], size[target])
        style: dict[str, Any] = {"color": _EDGE_COLORS[kind], "lw": width, "shrinkA": 0, "shrinkB": 2 * directed}
        style |= _ARROWS[kind] if directed else _LINES[kind]
        ax.add_artist(FancyArrowPatch(start, end, mutation_scale=9, zorder=1, **style))
    labels = _SIGNS[directed] if is_signed else {}
    return [Line2D([], [], color=_EDGE_COLORS[kind], lw=2, label=label) for kind, label in labels.items()]


def _widths(near: Neighbourhood) -> Array:
    strength = np.abs(near.weight)
    if not _has_widths(near):
        return np.full(len(strength), np.mean(_WIDTHS))
    return np.interp(strength, [strength.min(), strength.max()], _WIDTHS)


def _has_widths(near: Neighbourhood) -> bool:
    return len(np.unique(np.abs(near.weight))) > 1


def _edge_of_box(center: Array, other: Array, size: Array) -> tuple[float, float]:
    """Where the line from the centre of a box to another point leaves the box."""
    way = other - center
    x, y = center + way * np.min(size / 2 / np.maximum(np.abs(way), 1e-9))
    return float(x), float(y)
