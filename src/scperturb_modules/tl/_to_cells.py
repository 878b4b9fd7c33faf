"""Make cells of a Prediction, for metrics that compare populations of cells."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, parse_row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.pp._pseudobulk import pseudobulk
from scperturb_modules.pp._screen import ScreenView, expression_of, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]
How = Literal["shift", "residual"]

GENERATOR = "generator"
"""Where ``uns["scperturb_modules"]["prediction"]`` says how cells were made."""


def to_cells(pred: AnnData, adata: AnnData, n: int = 200, *, how: How = "shift", seed: int = 0) -> AnnData:
    """Turn a Prediction into cells.

    A predictor of means says nothing about the cells around them, so the way that these are made is part of every
    score of cells, and of the metric's name: ``des[shift]``.

    Parameters
    ----------
    pred
        Prediction of any predictor, P rows, with ``layers["delta"]`` (log1p CP10k).
    adata
        The screen, with every gene of ``pred``; its columns are those that ``pred`` was made with. Only training cells
        are drawn. A row's shares of batches are those of its cells where it has any, else of the context's training
        conditions. Is not changed.
    n
        Cells per row.
    how
        ``"shift"``: training controls, drawn with replacement from the row's batches, plus the predicted change: the
        spread is that of control cells. ``"residual"``: the predicted mean plus what cells of the nearest training
        condition (by Euclidean distance of the changes, in the same context) deviate from their mean: the spread is
        that of perturbed cells.
    seed
        Of the draws. A row's draw depends on its name and on this alone.

    Returns
    -------
    AnnData
        P * n cells x genes, float32, cut off at 0. ``obs``: ``perturbation``, ``cell_type`` (if any) and
        ``source_cell``, whose values were moved.

    Raises
    ------
    DataError
        ``adata`` lacks genes of ``pred``, or a context has no training control (or condition, for residuals).
    MissingKeyError
        ``pred`` is no Prediction.
    ValueError
        An unknown ``how``, or ``n`` below 1.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.pp.split(adata, "combination", seed=0)
    >>> spm.baselines.Additive.setup_anndata(adata)
    >>> model = spm.baselines.Additive(adata)
    >>> model.train()
    >>> spm.tl.to_cells(model.predict(), adata, n=5).shape[0] == 5 * model.predict().n_obs
    True
    """
    from anndata import AnnData

    if how not in ("shift", "residual") or n < 1:
        raise ValueError(f"how={how!r} and n={n}: use 'shift' or 'residual', and at least one cell.")
    require_key(keys.DELTA, pred.layers, "layers of the prediction")
    require_key(keys.ROOT, pred.uns, "uns of the prediction", mend="Take the result of predict().")
    setup = keys.ScreenKeys.from_uns(pred.uns[keys.ROOT][keys.SETUP])
    columns = columns_of(adata, pred.var_names, "The screen")
    make = _shifted if how == "shift" else _with_residuals
    blocks, sources = zip(*make(pred, adata, setup, columns, n, seed), strict=True)
    values = np.maximum(np.concatenate(blocks), 0.0).astype(np.float32)
    obs = pd.DataFrame(index=[f"{name}-{i}" for name in pred.obs_names for i in range(n)])
    for key in (keys.PERTURBATION, keys.CELL_TYPE):
        if key in pred.obs:
            obs[key] = np.repeat(pred.obs[key].to_numpy(dtype=object), n)
    obs["source_cell"] = adata.obs_names.to_numpy(dtype=object)[np.concatenate(sources)]
    cells = AnnData(values, obs=obs, var=pd.DataFrame(index=pred.var_names))
    record = dict(pred.uns[keys.ROOT].get(keys.PREDICTION, {}))
    cells.uns[keys.ROOT] = {keys.SETUP: setup.to_uns(), keys.PREDICTION: record | {GENERATOR: how}}
    return cells


def columns_of(adata: AnnData, genes: pd.Index, what: str) -> Index:
    """Positions of genes by name; a DataError where ``adata`` lacks some."""
    columns = adata.var_names.get_indexer(genes)
    if (columns < 0).any():
        absent = genes[columns < 0]
        raise DataError(f"{what} lacks {len(absent)} of {len(genes)} genes: {name_some(absent)}.")
    return columns.astype(np.intp)


def dense_rows(matrix: Any, rows: Index, columns: Index) -> Array:
    """(n, m) float64 of rows in any order and with repeats, of a dense, sparse or backed matrix."""
    distinct, at = np.unique(rows, return_inverse=True)
    block = matrix[distinct]
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)[np.ix_(at, columns)]


def rows_of(pred: AnnData) -> list[Row]:
    """Condition and context of each row of a Prediction."""
    return [parse_row_name(str(name)) for name in pred.obs_names]


def _shifted(
    pred: AnnData, screen: AnnData, setup: keys.ScreenKeys, columns: Index, n: int, seed: int
) -> Iterator[tuple[Array, Index]]:
    matrix, view = expression_of(screen, setup.layer), resolve_screen(screen, setup)
    for row, delta in zip(rows_of(pred), _deltas(pred), strict=True):
        pool, shares = _controls(view, row)
        drawn = _rng(row, seed).choice(pool, n, p=shares)
        yield dense_rows(matrix, drawn, columns) + delta, drawn


def _with_residuals(
    pred: AnnData, screen: AnnData, setup: keys.ScreenKeys, columns: Index, n: int, seed: int
) -> Iterator[tuple[Array, Index]]:
    matrix, view = expression_of(screen, setup.layer), resolve_screen(screen, setup)
    trained = pseudobulk(screen, **vars(setup), cells="training")
    changes, means = (values[:, columns] for values in (trained.layers[keys.DELTA], trained.X))
    trained_rows = rows_of(trained)
    for row, delta in zip(rows_of(pred), _deltas(pred), strict=True):
        near = [i for i, other in enumerate(trained_rows) if other[1] == row[1]]
        if not near:
            raise DataError(f"No training condition in the context of {row[0]!r}; use how='shift'.")
        distance = np.linalg.norm(changes[near] - delta, axis=1)
        model = near[int(np.argmin(distance))]
        cells = np.flatnonzero((view.row_names == trained.obs_names[model]) & view.is_training)
        drawn = _rng(row, seed).choice(cells, n)
        pool, shares = _controls(view, row)
        mean = shares @ dense_rows(matrix, pool, columns) + delta
        yield mean + dense_rows(matrix, drawn, columns) - means[model], drawn


def _controls(view: ScreenView, row: Row) -> tuple[Index, Array]:
    """The training controls of a row's context, and how likely each is drawn so that batches are matched."""
    condition, context = row
    here = np.ones(len(view.labels), dtype=bool) if context is None else view.contexts == context
    pool = np.flatnonzero(here & view.is_control & view.is_training)
    if not len(pool):
        raise DataError(f"No training control in context {context or 'of the screen'!r}; cells are made of controls.")
    own = here & (view.labels == condition)
    seen = view.batches[own if own.any() else here & ~view.is_control & view.is_training]
    in_batch = {batch: np.sum(view.batches[pool] == batch) for batch in np.unique(view.batches[pool].astype(str))}
    weights = np.array([np.sum(seen == batch) / in_batch[batch] for batch in view.batches[pool]], dtype=np.float64)
    # batches without controls leave their share to the others; without any match all controls count alike
    return pool, weights / weights.sum() if weights.sum() else np.full(len(pool), 1 / len(pool))


def _deltas(pred: AnnData) -> Array:
    return pred.to_df(layer=keys.DELTA).to_numpy(dtype=np.float64)


def _rng(row: Row, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("|".join(part or "" for part in row).encode())])
