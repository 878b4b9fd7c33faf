"""The intervals of a Prediction at another level, or for an experiment of another size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError, name_some
from scperturb_modules.baselines._intervals import interval_half_widths
from scperturb_modules.metrics._conformal import LEVEL, LEVELS

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def intervals(
    pred: AnnData, *, level: float = LEVEL, n_cells: float | Mapping[str, float] | pd.Series | None = None
) -> AnnData:
    """Give the intervals of predicted changes at another level, or for another number of cells.

    A Prediction comes with intervals that hold the change that an experiment with the median number of cells would
    measure in 90 of 100 genes. More cells measure with less noise, so that the interval is narrower.

    Parameters
    ----------
    pred
        A Prediction with intervals.
    level
        Share of measured changes that are to be inside: 0.5, 0.6, 0.7, 0.8, 0.9 or 0.95.
    n_cells
        Cells per condition of the experiment: one number for all rows, or one for each by name, such as
        ``spm.pp.pseudobulk(adata).obs["n_cells"]``. None: what the Prediction's intervals are for, the median of the
        training conditions. ``np.inf``: the interval of the underlying effect, which no experiment measures; it holds
        what it promises on simulated screens and cannot be checked on real ones.

    Returns
    -------
    AnnData
        A copy with other ``layers["lower"]`` and ``["upper"]`` (log1p CP10k; NaN where ``obs["interval"]`` is
        ``"none"``). ``obs["interval_cells"]`` is the number of cells, and the level stands in
        ``uns["scperturb_modules"]["prediction"]["level"]``. ``obs["error_bound"]`` stays as it was: of 90 % and the
        median number of cells.

    Raises
    ------
    MissingKeyError
        The prediction has no intervals.
    DataError
        Rows have no number of cells, or one that is not above 0.
    ValueError
        There are no intervals of this level.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0, n_perturbable=12)
    >>> spm.baselines.AdditiveShrunk.setup_anndata(adata)
    >>> model = spm.baselines.AdditiveShrunk(adata)
    >>> model.train()
    >>> pred = model.predict(["G01"], intervals=True)
    >>> wide, narrow = spm.tl.intervals(pred, level=0.95), spm.tl.intervals(pred, n_cells=500)
    >>> bool((wide.layers["upper"] > pred.layers["upper"]).all())
    True
    >>> bool((narrow.layers["upper"] < pred.layers["upper"]).all())
    True

    See Also
    --------
    Vovk et al. (2005), Algorithmic Learning in a Random World; Lei et al. (2018), J. Am. Stat. Assoc. 113:1094.
    """
    if keys.INTERVALS not in pred.uns.get(keys.ROOT, {}).get(keys.PREDICTION, {}):
        raise MissingKeyError(
            "the prediction has no intervals. Of a baseline, call predict(..., intervals=True); a model gives them "
            "with predict(...) when it was trained with n_folds of 2 or more, but not with gate=False."
        )
    if level not in LEVELS:
        raise ValueError(f"there are no intervals of level={level}; choose one of {', '.join(map(str, LEVELS))}")
    cells = _cells_of_rows(pred, n_cells)
    half = interval_half_widths(pred, level=level, n_cells=cells)
    other = pred.copy()
    change = other.layers[keys.DELTA]
    other.layers[keys.LOWER], other.layers[keys.UPPER] = change - half, change + half
    other.obs[keys.INTERVAL_CELLS] = cells
    other.uns[keys.ROOT][keys.PREDICTION][keys.INTERVAL_LEVEL] = level
    return other


def _cells_of_rows(pred: AnnData, n_cells: float | Mapping[str, float] | pd.Series | None) -> NDArray[np.float64]:
    """(P,) number of cells of each row."""
    if n_cells is None:
        return pred.obs[keys.INTERVAL_CELLS].to_numpy(dtype=np.float64)
    if not isinstance(n_cells, Mapping | pd.Series):
        n_cells = dict.fromkeys(pred.obs_names, n_cells)
    absent = [name for name in pred.obs_names if name not in n_cells]
    if absent:
        raise DataError(
            f"n_cells has no number for {len(absent)} rows: {name_some(absent)}. Give one for each row of the "
            "prediction, or one number for all."
        )
    cells = np.array([n_cells[name] for name in pred.obs_names], dtype=np.float64)
    strange = pred.obs_names[~(cells > 0)]
    if len(strange):
        raise DataError(f"n_cells is not above 0 for {len(strange)} rows: {name_some(strange)}.")
    return cells
