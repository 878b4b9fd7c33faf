"""What pictures of gene programs share: what is stored of them, their order, panels and the colours of changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, require_key
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.gridspec import GridSpecBase

Array = NDArray[np.float64]

MANY = 12
"""From more programs on, rows are narrow and letters small."""

_COLORS = "RdBu_r"
_NOTHING = "#BDBDBD"
"""Where there is no value; the middle of the colour scale is white."""

_MEND = {
    keys.PROGRAMS: "model.gene_programs()",
    keys.PROGRAM_RELATIONS: "model.gene_programs()",
    keys.PROGRAM_CHANGES: "model.program_changes()",
    keys.PROGRAM_CORRELATION: "model.module_correlation()",
    keys.FLOW_PATHS: "model.flow_paths(condition)",
}


def stored(adata: AnnData, key: str) -> Any:
    """What a trained SCBIG stored under a sub-key of ``uns["scperturb_modules"]["scbig"]``.

    Raises
    ------
    MissingKeyError
        It is not there; the message names the call that stores it.
    """
    scbig = adata.uns.get(keys.ROOT, {}).get(keys.SCBIG, {})
    where = f"uns[{keys.ROOT!r}][{keys.SCBIG!r}]"
    require_key(
        key, scbig, where, mend=f"Call {_MEND[key]} of a trained spm.SCBIG; it stores the result in the AnnData."
    )
    return scbig[key]


def labels_of(adata: AnnData, programs: Sequence[str], *, most: int = 28) -> list[str]:
    """``"P3 Interferon response"`` where the program has a name, else ``"P3"``."""
    scbig = adata.uns.get(keys.ROOT, {}).get(keys.SCBIG, {})
    table = scbig.get(keys.PROGRAMS, pd.DataFrame({"name": []}))
    names = dict(zip(table.index.astype(str), map(readable, table["name"]), strict=True))
    return [_style.cut(f"{program} {names.get(program, '')}".rstrip(), most) for program in programs]


def readable(name: str) -> str:
    """A name in capitals with underscores, as those of MSigDB, without its collection and underscores.

    >>> readable("HALLMARK_TNFA_SIGNALING_VIA_NFKB"), readable("Cell Cycle")
    ('TNFA SIGNALING VIA NFKB', 'Cell Cycle')
    """
    is_msigdb = "_" in name and name == name.upper() and " " not in name
    return name.partition("_")[2].replace("_", " ") if is_msigdb else str(name)


def inches_of(texts: Iterable[str], size: str, **font: Any) -> float:
    """Width of the longest text when it is drawn in letters of this size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    letters = FontProperties(size=size, **font)
    points = (text_to_path.get_text_width_height_descent(str(text), letters, ismath=False)[0] for text in texts)
    return float(max(points, default=0.0)) / 72


def letters_for(n: int) -> str:
    """Size of letters where so many programs are named."""
    return "small" if n <= MANY else "x-small"


def order_of(matrix: Array) -> NDArray[np.intp]:
    """(K,) order in which similar rows of a (K, ...) matrix stand side by side; missing values count as 0."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    if len(matrix) < 3:
        return np.arange(len(matrix))
    tree = linkage(pdist(np.nan_to_num(np.asarray(matrix, dtype=np.float64))), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), dtype=np.intp)


def limit_of(values: Array, *, share: float = 1.0, least: float = 1e-3) -> float:
    """The end of a colour scale around 0: so large a share of the sizes lies below it, ends in a round number."""
    sizes = np.abs(values[np.isfinite(values)])
    highest = max(float(np.quantile(sizes, share)) if len(sizes) else 0.0, least)
    step = 10.0 ** np.floor(np.log10(highest)) / 2
    return float(np.ceil(highest / step - 1e-9) * step)


def panels(
    ax: Axes | None,
    n_rows: int,
    n_columns: int,
    *,
    width: float,
    height: float,
    width_ratios: Sequence[float] | None = None,
    **shared: Any,
) -> NDArray[np.object_]:
    """(n_rows, n_columns) axes of a new figure of this size (inches), or in the place of ``ax``, which is emptied.

    ``shared`` may have ``sharex`` and ``sharey`` of :func:`matplotlib.pyplot.subplots`.

    Raises
    ------
    ValueError
        ``ax`` is not part of a grid, so that it cannot be divided.
    """
    import matplotlib.pyplot as plt

    grid: GridSpecBase
    if ax is None:
        figure = plt.figure(figsize=(width, height), layout="constrained")
        grid = figure.add_gridspec(n_rows, n_columns, width_ratios=width_ratios)
    else:
        place = ax.get_subplotspec()
        if place is None:
            raise ValueError("ax is no part of a grid and cannot be divided into panels; make it by plt.subplots(...)")
        ax.axis("off")
        grid = place.subgridspec(n_rows, n_columns, width_ratios=width_ratios)
    return np.asarray(grid.subplots(squeeze=False, **shared), dtype=object)


def change_map(ax: Axes, values: Array, limit: float) -> QuadMesh:
    """A heat map around 0, first row on top, grey where a value is missing."""
    ax.set_facecolor(_NOTHING)
    shown = np.ma.masked_invalid(values)
    line = 0.4 if max(values.shape) <= MANY else 0.15
    mesh = ax.pcolormesh(shown, cmap=_COLORS, vmin=-limit, vmax=limit, edgecolors="white", linewidth=line)
    ax.set_ylim(values.shape[0], 0)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return mesh


def name_cells(ax: Axes, *, rows: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> None:
    """Names at the rows and columns of a heat map; None: nothing is written."""
    for axis, names, turn in ((ax.yaxis, rows, 0), (ax.xaxis, columns, 90)):
        places = np.arange(len(names or ())) + 0.5
        axis.set_ticks(places, list(names or ()), rotation=turn, fontsize=letters_for(len(places)))


def color_bar(axes: Sequence[Axes], mesh: QuadMesh, label: str, *, location: str, extend: str = "neither") -> None:
    """A narrow colour bar right of the axes, at their top, or below them, at their left; 2 inches long at most."""
    is_upright = location == "right"
    long = _style.inches_up(axes[0]) if is_upright else _style.inches_across(axes[0])
    place: dict[str, Any] = {"location": location, "anchor": (0.0, 1.0), "pad": 0.02, "fraction": 0.05, "aspect": 15}
    shrink = min(1.0, 2.0 / max(long, 0.1))
    bar = axes[0].figure.colorbar(mesh, ax=list(axes), extend=extend, shrink=shrink, **place)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="small")
    bar.ax.locator_params(nbins=4)
    bar.set_label(label, fontsize="small")


def require_finite(values: Array, what: str) -> None:
    """Raise where there is nothing to draw."""
    if not np.isfinite(values).any():
        raise DataError(f"{what} holds no number: all {values.size} values are missing.")


def agreement(predicted: Array, observed: Array, what: str) -> str:
    """``"Pearson 0.91 over 88 changes"`` over the values known in both; empty where there is no correlation."""
    x, y = np.ravel(predicted), np.ravel(observed)
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 3 or not (np.ptp(x[known]) and np.ptp(y[known])):
        return ""
    return f"Pearson {np.corrcoef(x[known], y[known])[0, 1]:.2f} over {known.sum():,} {what}"


def finish(show: bool | None) -> None:
    """Show the figure at once where the caller asks for it."""
    if show:
        import matplotlib.pyplot as plt

        plt.show()
