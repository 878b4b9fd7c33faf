"""How a perturbation changes which gene programs go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.pl import _programs, _style
from scperturb_modules.pl._rows import resolve_row

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


def program_correlation(
    adata: AnnData, condition: str, *, ax: Axes | None = None, show: bool | None = None
) -> dict[str, Axes]:
    """Draw the correlations between gene programs in control cells, under a perturbation, and their difference.

    Correlations are those of the programs' activities over cells. The first two panels have one colour scale, the
    differences another. Where the condition is measured, its observed difference is drawn too, and the title has the
    correlation of predicted and observed differences over all pairs of programs.

    Parameters
    ----------
    adata
        With the correlations that ``module_correlation()`` of a trained ``spm.SCBIG`` stores.
    condition
        ``A+B`` or ``A+B|context``, genes in any order.
    ax
        Where to draw, as a place in a grid; None makes a figure of fitting size.
    show
        True: call ``plt.show()``.

    Returns
    -------
    dict
        The axes ``"control"``, ``"predicted"``, ``"predicted_change"`` and, where it is measured,
        ``"observed_change"``.

    Raises
    ------
    MissingKeyError
        No correlations are stored.
    DataError
        Those of the condition are all missing.
    ValueError
        There is no such condition (the message names near matches).

    Examples
    --------
    >>> import anndata, numpy as np
    >>> from scperturb_modules.pl._program_correlation import program_correlation
    >>> control, said = np.eye(2)[None], np.array([[[1.0, 0.5], [0.5, 1.0]]])
    >>> stored = {"conditions": np.array(["KLF1"]), "programs": np.array(["P1", "P2"])}
    >>> stored = stored | {"control": control, "predicted": said, "observed": np.full((1, 2, 2), np.nan)}
    >>> adata = anndata.AnnData(np.zeros((1, 1), dtype=np.float32))
    >>> adata.uns["scperturb_modules"] = {"scbig": {"program_correlation": stored}}
    >>> list(program_correlation(adata, "KLF1"))
    ['control', 'predicted', 'predicted_change']
    """
    found = _programs.stored(adata, keys.PROGRAM_CORRELATION)
    conditions = pd.Index([str(name) for name in found["conditions"]])
    row = resolve_row(condition, conditions, "the stored correlations")
    number = conditions.get_loc(row)
    control, predicted, observed = (
        np.array(one, dtype=np.float64)
        for one in (found[name][number] for name in ("control", "predicted", "observed"))
    )
    _programs.require_finite(predicted, f"The predicted correlation of {row!r}")
    order = _programs.order_of(control)
    programs = _programs.labels_of(adata, [str(found["programs"][i]) for i in order])
    values = {
        "control": control,
        "predicted": predicted,
        "predicted_change": predicted - control,
        "observed_change": observed - control,
    }
    values = {name: _without_diagonal(one[np.ix_(order, order)]) for name, one in values.items()}
    is_measured = bool(np.isfinite(values["observed_change"]).any())
    body = float(np.clip((0.26 if len(order) <= _programs.MANY else 0.13) * len(order), 2.0, 5.2))
    label = _programs.inches_of(programs, _programs.letters_for(len(programs)))
    # four panels in two lines, or, without the observed one, three in one
    shape = (2, 2) if is_measured else (1, 3)
    width, height = shape[1] * (body + 0.2) + label + (1.2 if is_measured else 2.2), shape[0] * (body + 0.7) + label
    grid = _programs.panels(ax, *shape, width=width, height=height + 0.5)
    axes = dict(zip(values, grid.ravel(), strict=False))
    _draw(axes, values)
    for one in axes.values():
        low, left = one in grid[-1], one in grid[:, 0]
        _programs.name_cells(one, rows=programs if left else None, columns=programs if low else None)
    titles = {"control": "control cells", "predicted": "predicted"}
    titles |= {"predicted_change": "predicted minus control", "observed_change": "observed minus control"}
    pairs = np.triu_indices(len(order), 1)
    said, seen = (values[name][pairs] for name in ("predicted_change", "observed_change"))
    agreement = _programs.agreement(said, seen, "changes")
    _style.head(axes["control"], [], [row, agreement, titles["control"]])
    for name in list(axes)[1:]:
        _style.write_above(axes[name], ["", titles[name]])
    _programs.finish(show)
    return axes


def _without_diagonal(matrix: Array) -> Array:
    return np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)


def _draw(axes: dict[str, Axes], values: dict[str, Array]) -> None:
    """Each panel in the colours of its pair: correlations, and differences."""
    for names, label in (
        (("control", "predicted"), "Correlation"),
        (("predicted_change", "observed_change"), "Change"),
    ):
        drawn = {name: axes[name] for name in names if name in axes}
        limit = _programs.limit_of(np.array([values[name] for name in names]), least=0.1)
        for name, one in drawn.items():
            mesh = _programs.change_map(one, values[name], limit)
        _programs.color_bar(list(drawn.values()), mesh, label, location="right")
