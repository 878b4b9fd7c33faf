"""Predicted cells: matched control cells, moved by the predicted change of their condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, parse_row_name, row_name
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.dataloaders._cells import identity_hash
from scperturb_modules.dataloaders._rows import RowReader
from scperturb_modules.models._setup import require_genes
from scperturb_modules.pp._screen import expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

CONTROL_CELL = "control_cell"


def cells_of(
    prediction: AnnData,
    screen: AnnData,
    *,
    n_cells: int,
    seed: int,
    model: str,
    move: Callable[[AnnData, NDArray[np.float32]], NDArray],
) -> AnnData:
    """Move control cells of each row's context by what is predicted of the row.

    Parameters
    ----------
    prediction
        P rows.
    screen
        The cells, as one AnnData after setup; the genes may be in another order.
    n_cells
        Cells per row; fewer controls than that are drawn with replacement.
    seed
        Of the draws. A row's draw depends on its name and on this alone.
    model
        For messages.
    move
        From the prediction and (P, n, G) control cells to the same cells, perturbed.

    Raises
    ------
    DataError
        A context has no training control cell.
    """
    from anndata import AnnData

    if n_cells < 1:
        raise ValueError(f"n_cells={n_cells}; a condition needs at least one cell.")
    setup = keys.ScreenKeys.from_uns(screen.uns[keys.ROOT][keys.SETUP])
    rows = [parse_row_name(str(name)) for name in prediction.obs_names]
    pools = _control_pools(screen, setup, rows)
    drawn = np.array([_draw(pools[context], (condition, context), n_cells, seed) for condition, context in rows])
    drawn = drawn.reshape(len(rows), n_cells).astype(np.intp)
    cells = RowReader(expression_of(screen, setup.layer)).read(drawn)
    order = require_genes(screen.var_names, prediction.var_names, model)
    cells = cells if order is None else cells[..., order]
    values = np.maximum(move(prediction, cells), 0.0).astype(np.float32)
    obs = _obs(prediction, screen, drawn)
    moved = AnnData(values.reshape(len(obs), prediction.n_vars), obs=obs, var=prediction.var.copy())
    moved.uns[keys.ROOT] = {name: dict(prediction.uns[keys.ROOT][name]) for name in (keys.SETUP, keys.PREDICTION)}
    return moved


def _control_pools(screen: AnnData, setup: keys.ScreenKeys, rows: Sequence[Row]) -> dict[str | None, NDArray[np.intp]]:
    """Row numbers of the training controls of each context, in the order of the cells' names."""
    view = resolve_screen(screen, setup)
    by_name = np.argsort(screen.obs_names.to_numpy().astype(str), kind="stable")
    usable = by_name[(view.is_control & view.is_training)[by_name]]
    contexts = {context for _, context in rows}
    pools = {one: usable if one is None else usable[view.contexts[usable] == one] for one in contexts}
    empty = sorted(str(context or "the whole screen") for context, pool in pools.items() if not len(pool))
    if empty:
        raise DataError(
            f"{len(empty)} contexts have no training control cell: {name_some(empty)}. Give the cells that the model "
            "was trained on: spm.load(path, adata)."
        )
    return pools


def _draw(pool: NDArray[np.intp], row: Row, n_cells: int, seed: int) -> NDArray[np.intp]:
    rng = np.random.default_rng([seed, identity_hash([row_name(*row)])])
    return rng.choice(pool, n_cells, replace=len(pool) < n_cells)


def _obs(prediction: AnnData, screen: AnnData, drawn: NDArray[np.intp]) -> pd.DataFrame:
    n_rows, n_cells = drawn.shape
    names = [f"{name}-{i}" for name in prediction.obs_names for i in range(n_cells)]
    kept = [key for key in (keys.PERTURBATION, keys.CELL_TYPE) if key in prediction.obs]
    columns = {key: np.repeat(prediction.obs[key].to_numpy(dtype=object), n_cells) for key in kept}
    columns[CONTROL_CELL] = screen.obs_names.to_numpy(dtype=object)[drawn.ravel()]
    return pd.DataFrame(columns, index=names)
