"""The ways that generated cells take from control to perturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.pl import _programs, _style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

MOST_PATHS = 100
"""More lines hide each other."""

CONTROL_COLOR, OBSERVED_COLOR, PATH_COLOR = _style.BASELINE_COLOR, _style.PALETTE[0], _style.PALETTE[1]


def flow_paths(adata: AnnData, *, ax: Axes | None = None, show: bool | None = None) -> Axes:
    """Draw the paths of generated cells from control to perturbed, over the real cells.

    Each thin line is a cell that the flow moves, from a control shifted by the mean change of the condition to its end
    (dot); the arrow is their mean. The plane is that of the first two principal components of the model's latent space.

    Parameters
    ----------
    adata
        With the paths that ``flow_paths()`` of a trained ``spm.SCBIG`` stores.
    ax
        Where to draw; None makes a figure.
    show
        True: call ``plt.show()``.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        No paths are stored.
    DataError
        The positions are not n paths x T times x 2.

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from scperturb_modules.pl._flow_paths import flow_paths
    >>> path = np.linspace([[0, 0], [0, 1]], [[2, 0], [2, 1]], 5, axis=1)
    >>> stored = {"condition": "KLF1", "time": np.linspace(0, 1, 5), "position": path}
    >>> stored = stored | {"control": path[:, 0], "observed": np.zeros((0, 2))}
    >>> adata = anndata.AnnData(np.zeros((1, 1), dtype=np.float32))
    >>> adata.uns["scperturb_modules"] = {"scbig": {"flow_paths": stored}}
    >>> [text.get_text() for text in flow_paths(adata).texts]
    ['No real cells of this condition', 'KLF1']
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patches import FancyArrowPatch

    found = _programs.stored(adata, keys.FLOW_PATHS)
    position = np.asarray(found["position"], dtype=np.float64)
    if position.ndim != 3 or position.shape[1:] != (len(found["time"]), 2) or not len(position):
        raise DataError(
            f"Paths are n x {len(found['time'])} times x 2, these have the shape {position.shape}. "
            "Store them again by flow_paths(condition) of a trained spm.SCBIG."
        )
    control, observed = (np.asarray(found[name], dtype=np.float64).reshape(-1, 2) for name in ("control", "observed"))
    ax = _style.axes_or_new(ax, width=4.8, height=5.4)
    clouds = {"control": (control, CONTROL_COLOR), "observed": (observed, OBSERVED_COLOR)}
    handles = [_cloud(ax, *cloud, label) for label, cloud in clouds.items() if len(cloud[0])]
    drawn = position[:MOST_PATHS]
    ax.add_collection(LineCollection(list(drawn), colors=PATH_COLOR, lw=0.6, alpha=0.35, zorder=2), autolim=True)
    ends: dict[str, Any] = {"s": 10, "color": PATH_COLOR, "edgecolor": "white", "lw": 0.3, "zorder": 3}
    ax.scatter(*drawn[:, -1].T, **ends)
    handles.append(_dot(PATH_COLOR, "generated"))
    mean = position.mean(axis=0)
    handles += ax.plot(*mean.T, color="black", lw=1.8, zorder=4, label="mean path")
    look: dict[str, Any] = {"arrowstyle": "-|>", "color": "black", "mutation_scale": 18, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(mean[-2], mean[-1], zorder=5, **look))
    ax.autoscale_view()
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("Latent component 1")
    ax.set_ylabel("Latent component 2")
    few = f"{len(drawn)} of {len(position):,} paths" if len(drawn) < len(position) else ""
    absent = "" if len(observed) else "No real cells of this condition"
    _style.head(ax, handles, [str(found["condition"]), few, absent])
    _style.quiet(ax)
    _programs.finish(show)
    return ax


def _cloud(ax: Axes, cells: NDArray[np.float64], color: str, label: str) -> Line2D:
    ax.scatter(cells[:, 0], cells[:, 1], color=color, s=7, alpha=0.6, lw=0, rasterized=True, zorder=1)
    return _dot(color, label)


def _dot(color: str, label: str) -> Line2D:
    """Entry of a legend: cells are drawn too small for one."""
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="none", marker="o", ms=5, color=color, label=label)
