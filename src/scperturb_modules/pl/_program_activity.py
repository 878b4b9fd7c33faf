"""What perturbations do to gene programs: predicted and observed changes of activity side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.pl import _programs, _style
from scperturb_modules.pl._rows import resolve_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

MOST_ROWS = 60
"""Rows drawn where the caller names no conditions."""
MOST_PROGRAMS = 40

_SHARE = 0.99
"""So many of the changes lie inside the colour scale; a few strong ones must not make all others pale."""


def program_activity(
    adata: AnnData | pd.DataFrame,
    conditions: str | Sequence[str] | None = None,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
) -> dict[str, Axes]:
    """Draw how perturbations change the activity of gene programs, predicted and observed.

    Rows are perturbations, columns programs, similar ones side by side; both panels have the same order and colours. A
    dot marks a predicted change whose 90 % interval excludes 0; grey is not measured. The title has the correlation of
    predicted and observed changes.

    Parameters
    ----------
    adata
        With the changes that ``program_changes()`` of a trained ``spm.SCBIG`` stores, or the table itself: a row per
        ``condition`` and ``program`` with ``change``, ``lower``, ``upper`` and ``observed``, in standard deviations of
        control cells. The AnnData knows the names of the programs too.
    conditions
        ``A+B`` or ``A+B|context``, genes in any order; None: all, of more than 60 those of the largest changes.
    ax
        Where to draw, as a place in a grid; None makes a figure of fitting size.
    show
        True: call ``plt.show()``.

    Returns
    -------
    dict
        The axes ``"predicted"`` and, where something is measured, ``"observed"``.

    Raises
    ------
    MissingKeyError
        No changes are stored, or the table lacks a column.
    DataError
        A condition has a program twice, or no change is known.
    ValueError
        There is no such condition (the message names near matches).

    Examples
    --------
    >>> import pandas as pd
    >>> from scperturb_modules.pl._program_activity import program_activity
    >>> table = pd.DataFrame({"condition": ["A", "A", "B", "B"], "program": ["P1", "P2"] * 2})
    >>> table = table.assign(
    ...     change=[1, 0, 0, -1], lower=[0.5, -1, -1, -2], upper=[2, 1, 1, 1], observed=[0.9, 0, 0, -1]
    ... )
    >>> axes = program_activity(table)
    >>> list(axes), axes["predicted"].get_lines()[0].get_xydata().tolist()
    (['predicted', 'observed'], [[0.5, 0.5]])
    """
    table = adata if isinstance(adata, pd.DataFrame) else _programs.stored(adata, keys.PROGRAM_CHANGES)
    values = _pivoted(table)
    rows, notes = _chosen(values["change"], conditions)
    values = {name: one.loc[rows] for name, one in values.items()}
    change = values["change"]
    if change.shape[1] > MOST_PROGRAMS:
        notes.append(f"{MOST_PROGRAMS} of {change.shape[1]} programs, the largest changes")
        order = np.argsort(-change.abs().max(axis=0).to_numpy(), kind="stable")[:MOST_PROGRAMS]
        values = {name: one.iloc[:, order] for name, one in values.items()}
    columns = _programs.order_of(values["change"].to_numpy().T)
    across = _programs.order_of(values["change"].to_numpy())
    values = {name: one.iloc[across, columns] for name, one in values.items()}
    change, observed = values["change"], values["observed"]
    programs = list(map(str, change.columns))
    names = programs if isinstance(adata, pd.DataFrame) else _programs.labels_of(adata, programs)
    is_measured = bool(np.isfinite(observed.to_numpy()).any())
    n_panels = 2 if is_measured else 1
    size = _programs.letters_for(len(names))
    body = max((0.26 if len(names) <= _programs.MANY else 0.15) * len(names), 2.2)
    width = 1.3 + n_panels * (body + 0.1) + _programs.inches_of(change.index, _programs.letters_for(len(change)))
    height = 1.9 + 0.17 * max(len(change), 4) + _programs.inches_of(names, size)
    axes = _programs.panels(ax, 1, n_panels, width=width, height=height)[0]
    _draw(axes, values, names)
    facts = [_programs.agreement(change.to_numpy(), observed.to_numpy(), "changes"), *notes]
    _style.head(axes[0], [], ["Program activity", *facts, "predicted"])
    if is_measured:
        _style.write_above(axes[1], ["", "observed"])
    _programs.finish(show)
    return dict(zip(("predicted", "observed"), axes, strict=False))


def _pivoted(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Conditions x programs of each column, in the order of the table."""
    for column in ("condition", "program", "change", "lower", "upper", "observed"):
        require_key(column, table.columns, "table", mend="Make the table by program_changes() of a trained spm.SCBIG.")
    pairs = table["condition"].astype(str), table["program"].astype(str)
    at = pd.MultiIndex.from_arrays(pairs)
    if at.has_duplicates:
        twice = at[at.duplicated()].unique()
        raise DataError(f"{len(twice)} pairs of condition and program stand twice: {name_some(map(' '.join, twice))}.")
    rows, columns = (pd.Index(one.unique()) for one in pairs)
    values = {}
    for name in ("change", "lower", "upper", "observed"):
        long = pd.Series(table[name].to_numpy(dtype=np.float64), index=at)
        values[name] = long.unstack().reindex(index=rows, columns=columns)
    _programs.require_finite(values["change"].to_numpy(), "The column 'change'")
    return values


def _chosen(change: pd.DataFrame, conditions: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The rows to draw, and what the figure says of those left out."""
    rows = list(map(str, change.index))
    if conditions is not None:
        return resolve_rows(conditions, change.index, "the table"), []
    if len(rows) <= MOST_ROWS:
        return rows, []
    order = np.argsort(-change.abs().max(axis=1).to_numpy(), kind="stable")[:MOST_ROWS]
    return [rows[i] for i in order], [f"{MOST_ROWS} of {len(rows):,} perturbations, the largest changes"]


def _draw(axes: Sequence[Axes], values: dict[str, pd.DataFrame], names: list[str]) -> None:
    change, observed = values["change"].to_numpy(), values["observed"].to_numpy()
    both = np.concatenate([change, observed])
    limit = _programs.limit_of(both, share=_SHARE)
    beyond = "both" if np.nanmax(np.abs(both)) > limit else "neither"
    rows = list(map(str, values["change"].index))
    for ax, shown, named in zip(axes, (change, observed), (rows, None), strict=False):
        mesh = _programs.change_map(ax, shown, limit)
        _programs.name_cells(ax, rows=named, columns=names)
    line, column = np.nonzero((values["lower"].to_numpy() > 0) | (values["upper"].to_numpy() < 0))
    if len(line):
        look: dict[str, Any] = {"ls": "none", "marker": "o", "color": "black", "markeredgecolor": "white"}
        axes[0].plot(column + 0.5, line + 0.5, ms=4, markeredgewidth=0.6, **look)
        axes[0].set_xlabel("dot: 90 % interval excludes 0", fontsize="small")
    if len(axes) > 1 and not np.isfinite(observed).all():
        axes[1].set_xlabel("grey: not measured", fontsize="small")
    _programs.color_bar(list(axes), mesh, "Change of activity\n(SD of control cells)", location="right", extend=beyond)
