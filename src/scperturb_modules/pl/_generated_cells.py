"""Generated cells among real ones: control, perturbed and generated cells in one plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import parse_row_name, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.pl import _programs, _style
from scperturb_modules.pl._plane import PCA, places_of
from scperturb_modules.pl._rows import resolve_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Index = NDArray[np.intp]

MOST_PANELS = 6
"""Conditions drawn where the caller names none."""

CONTROL, REAL, GENERATED = "control", "real", "generated"
COLORS = {CONTROL: _style.FAINT_COLOR, REAL: _style.PALETTE[0], GENERATED: _style.PALETTE[1]}


def generated_cells(
    generated: AnnData,
    real: AnnData | None = None,
    *,
    control: str | None = None,
    conditions: str | Sequence[str] | None = None,
    basis: str = PCA,
    max_cells: int = 1000,
    seed: int = 0,
    ax: Axes | None = None,
    show: bool | None = None,
) -> dict[str, Axes]:
    """Draw generated cells with the real cells of the same condition and with control cells, a panel per condition.

    All panels show one plane. Crosses are the means of real and of generated cells. Clouds in the same place and of
    the same width are necessary for a good model, but prove little: two components hide most genes.

    Parameters
    ----------
    generated
        Cells x genes (log1p CP10k), as ``predict_cells()`` of a model returns them: ``obs["perturbation"]``, and
        ``obs["cell_type"]`` where there are several.
    real
        The screen; which columns hold what is read from the keys that ``setup_anndata`` recorded, in it or in
        ``generated``. None draws generated cells alone.
    control
        Label of control cells; None: the one recorded.
    conditions
        ``A+B`` or ``A+B|context``, genes in any order; None: all, of more than 6 the first 6.
    basis
        ``"pca"``: the first two principal components of the real cells drawn (1,000 most variable genes), into which
        the generated ones are projected. Else a key of ``obsm`` that both have, for example ``"X_umap"`` of an
        embedding made of both together; its first two columns are drawn.
    max_cells
        Most cells of each kind in a panel; of more, so many are drawn at random.
    seed
        Of the draws, and of the order in which points cover each other.
    ax
        Where to draw, as a place in a grid; None makes a figure of fitting size.
    show
        True: call ``plt.show()``.

    Returns
    -------
    dict
        The axes of each condition.

    Raises
    ------
    MissingKeyError
        A column of ``obs``, a layer or a key of ``obsm`` is absent.
    DataError
        No real cell is a control, the real cells lack genes of the generated ones, or the cells span no plane.
    ValueError
        There is no such condition (the message names near matches), or ``max_cells`` is less than one.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> from scperturb_modules.pl._generated_cells import generated_cells
    >>> screen = spm.datasets.simulate("tiny", seed=0)
    >>> spm.baselines.NoChange.setup_anndata(screen)
    >>> condition = screen.obs["perturbation"][screen.obs["perturbation"] != "control"].iloc[0]
    >>> cells = screen[screen.obs["perturbation"] == condition].copy()  # in place of model.predict_cells()
    >>> list(generated_cells(cells, screen, max_cells=50)) == [condition]
    True
    """
    if max_cells < 1:
        raise ValueError(f"max_cells={max_cells} draws no cell; give a positive number")
    setup = _setup(generated, real, control)
    rows_made = _rows(generated, keys.PERTURBATION, keys.CELL_TYPE if setup.cell_type_key else None)
    rows_real = np.empty(0, dtype=object)
    if real is not None:
        rows_real = _rows(real, setup.perturbation_key, setup.cell_type_key)
        _require_controls(rows_real, setup.control)
    shown, note = _chosen(rows_made, conditions, setup.control)
    rng = np.random.default_rng(seed)
    every = {row: _cells(row, rows_made, rows_real, setup.control) for row in shown}
    cells = {row: {kind: rng.permutation(one)[:max_cells] for kind, one in all_.items()} for row, all_ in every.items()}
    drawn = np.unique(np.concatenate([one[GENERATED] for one in cells.values()]))
    drawn_real = np.unique(np.concatenate([one[kind] for one in cells.values() for kind in (CONTROL, REAL)]))
    made, there, names = places_of(generated, drawn, real, drawn_real, basis=basis, layer=setup.layer)
    n_columns = min(3, len(shown))
    n_rows = -(-len(shown) // n_columns)
    width, height = 1.9 + 2.5 * n_columns, 0.8 + 2.8 * n_rows
    grid = _programs.panels(ax, n_rows, n_columns, width=width, height=height, sharex=True, sharey=True).ravel()
    axes = dict(zip(shown, grid, strict=False))
    for row, one in axes.items():
        numbers = cells[row]
        places = {CONTROL: there[numbers[CONTROL]], REAL: there[numbers[REAL]], GENERATED: made[numbers[GENERATED]]}
        _draw(one, places, rng)
        title = _style.wrapped(row, _style.inches_across(one), letter=0.086)
        _style.write_above(one, [title, _counts(numbers, every[row], with_real=real is not None)])
    _frame(grid, len(shown), n_columns, names)
    _legend(grid[n_columns - 1], note, with_real=real is not None)
    _programs.finish(show)
    return axes


def _setup(generated: AnnData, real: AnnData | None, control: str | None) -> keys.ScreenKeys:
    """Which columns of the screen hold what, as recorded; the usual names where nothing is."""
    for adata in (real, generated):
        record = None if adata is None else adata.uns.get(keys.ROOT, {}).get(keys.SETUP)
        if record is not None:
            setup = keys.ScreenKeys.from_uns(record)
            break
    else:
        setup = keys.ScreenKeys()
    return setup if control is None else replace(setup, control=control)


def _rows(adata: AnnData, perturbation_key: str, context_key: str | None) -> NDArray[np.object_]:
    """(N,) name of each cell's row."""
    for key in filter(None, (perturbation_key, context_key)):
        require_key(key, adata.obs.columns, "obs")
    labels = adata.obs[perturbation_key].astype(str).to_numpy(dtype=object)
    if context_key is None:
        return labels
    contexts = adata.obs[context_key].astype(str)
    return np.array([row_name(*one) for one in zip(labels, contexts, strict=True)], dtype=object)


def _require_controls(rows: NDArray[np.object_], control: str) -> None:
    labels = {parse_row_name(row)[0] for row in set(rows)}
    if control not in labels:
        raise DataError(
            f"No real cell is labelled {control!r}; labels are {name_some(sorted(labels))}. Pass control=..."
        )


def _chosen(rows: NDArray[np.object_], conditions: str | Sequence[str] | None, control: str) -> tuple[list[str], str]:
    """The rows to draw, and what the figure says of those left out."""
    made = [row for row in pd.unique(rows) if parse_row_name(row)[0] != control]
    if conditions is not None:
        return resolve_rows(conditions, pd.Index(made), "generated"), ""
    if not made:
        raise DataError("generated holds no perturbed cell; make some by model.predict_cells([...]).")
    return made[:MOST_PANELS], f"{MOST_PANELS} of {len(made):,}\nconditions" if len(made) > MOST_PANELS else ""


def _cells(row: str, made: NDArray[np.object_], there: NDArray[np.object_], control: str) -> dict[str, Index]:
    """Numbers of the cells of each kind; controls are those of the same context."""
    of_control = row_name(control, parse_row_name(row)[1])
    masks = {CONTROL: there == of_control, REAL: there == row, GENERATED: made == row}
    return {kind: np.flatnonzero(mask) for kind, mask in masks.items()}


def _counts(drawn: dict[str, Index], every: dict[str, Index], *, with_real: bool) -> str:
    """How many cells of a panel are drawn, and of how many."""
    texts = ["not measured"] if with_real and not len(every[REAL]) else []
    for kind in (REAL, GENERATED):
        n, n_all = len(drawn[kind]), len(every[kind])
        if n_all:
            texts.append(f"{n:,} {kind}" if n == n_all else f"{n:,} of {n_all:,} {kind}")
    return ", ".join(texts)


def _draw(ax: Axes, places: dict[str, Array], rng: np.random.Generator) -> None:
    """Controls below; real and generated cells in random order, so that neither hides the other."""
    n = sum(map(len, places.values()))
    look: dict[str, Any] = {"s": float(np.clip(8000 / n, 4, 20)), "lw": 0, "rasterized": True}
    ax.scatter(*places[CONTROL].T, color=COLORS[CONTROL], alpha=0.6, zorder=1, **look)
    both = np.concatenate([places[REAL], places[GENERATED]])
    colors = np.repeat([COLORS[REAL], COLORS[GENERATED]], [len(places[REAL]), len(places[GENERATED])])
    order = rng.permutation(len(both))
    ax.scatter(both[order, 0], both[order, 1], c=colors[order], alpha=0.55, zorder=2, **look)
    for kind, size in ((REAL, 150), (GENERATED, 60)):  # the larger one shows where both fall together
        if len(places[kind]):
            cross: dict[str, Any] = {"marker": "X", "s": size, "edgecolor": "white", "lw": 0.9, "zorder": 3}
            ax.scatter(*places[kind].mean(axis=0), color=COLORS[kind], **cross)


def _frame(grid: NDArray[np.object_], n: int, n_columns: int, names: tuple[str, str]) -> None:
    """Names of axes at the edges; places without a panel stay empty."""
    for place, ax in enumerate(grid):
        if place >= n:
            ax.axis("off")
            continue
        ax.set_xticks([])
        ax.set_yticks([])
        _style.quiet(ax)
        if place + n_columns >= n:
            ax.set_xlabel(names[0], fontsize="small")
        if place % n_columns == 0:
            ax.set_ylabel(names[1], fontsize="small")


def _legend(ax: Axes, title: str, *, with_real: bool) -> None:
    """Right of the first line of panels."""
    from matplotlib.lines import Line2D

    kinds = COLORS if with_real else {GENERATED: COLORS[GENERATED]}
    handles = [Line2D([], [], ls="none", marker="o", ms=5, color=color, label=kind) for kind, color in kinds.items()]
    cross: dict[str, Any] = {"ls": "none", "marker": "X", "ms": 8, "color": "white", "markeredgecolor": "black"}
    handles.append(Line2D([], [], label="mean", **cross))
    look: dict[str, Any] = {"fontsize": "small", "title_fontsize": "small", "alignment": "left", "handletextpad": 0.3}
    ax.legend(handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, **look)
