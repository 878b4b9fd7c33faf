"""Which genes a perturbation changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import genes_of, parse_row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules._keys import ScreenKeys

if TYPE_CHECKING:
    from anndata import AnnData

_LAYERS = (_keys.DELTA, _keys.SE2, _keys.SE2_CONTROL, _keys.DETECTION)


def affected_genes(
    truth: AnnData,
    *,
    condition: str | Sequence[str] | None = None,
    n_top: int = 20,
    fdr: float = 0.05,
    min_detection: float = 0.05,
    exclude_targets: bool = True,
) -> pd.DataFrame:
    """Test every gene of every condition against matched controls and list the affected ones.

    Parameters
    ----------
    truth
        Result of :func:`pseudobulk`. To choose genes for training, make it with ``cells="training"``.
    condition
        Names such as ``A+B`` (in every context) or ``A+B|context``; None for all rows.
    n_top
        List this many genes with the largest ``|t|``, significant or not.
    fdr
        List all genes with ``q`` below this.
    min_detection
        Test genes above zero in at least this share of the condition's or of its control cells.
    exclude_targets
        Leave out the perturbed genes themselves: their change is the intervention and not a response.

    Returns
    -------
    DataFrame
        A row per condition and gene, by condition and rank: ``perturbation``, ``cell_type`` (if there are several),
        ``gene``, ``delta`` (natural log units), ``t`` and ``p`` of Welch's test, ``q`` (Benjamini-Hochberg over the
        tested genes of the condition) and ``rank`` by ``|t|`` from 1, ties by name. Conditions of one cell, which have
        no variance, have no row.

    Raises
    ------
    MissingKeyError
        ``truth`` is not a pseudobulk.
    DataError
        A condition is not in it.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> from scperturb_modules.pp import affected_genes, pseudobulk
    >>> obs = pd.DataFrame({"perturbation": ["control"] * 3 + ["A"] * 3}, index=list("uvwxyz"))
    >>> X = np.array([[0.0, 1], [1, 2], [2, 3], [8, 1], [9, 2], [10, 3]])
    >>> screen = anndata.AnnData(X, obs=obs, var=pd.DataFrame(index=["g", "h"]))
    >>> affected_genes(pseudobulk(screen), n_top=1)[["perturbation", "gene", "delta", "rank"]]
      perturbation gene  delta  rank
    0            A    g    8.0     1
    """
    for layer in _LAYERS:
        require_key(layer, truth.layers, "layers", mend="Pass the result of spm.pp.pseudobulk(adata).")
    tables = [
        _affected_in_row(truth, int(row), n_top, fdr, min_detection, exclude_targets)
        for row in _find_rows(truth, condition)
    ]
    return pd.concat(tables, ignore_index=True)


def welch(
    delta: np.ndarray, se2: np.ndarray, se2_control: np.ndarray, n_cells: np.ndarray, n_controls: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Welch's t test from the moments of a pseudobulk.

    Parameters
    ----------
    delta, se2, se2_control
        Difference of means, its squared standard error, and the control's part of that; any one shape.
    n_cells, n_controls
        Cells behind each side, at least one; must broadcast against ``delta``.

    Returns
    -------
    t, df, p
        Statistic, degrees of freedom of Welch and Satterthwaite, two-sided p; float64 of the shape of ``delta``. No
        difference and no variance give ``t = 0, p = 1``; NaN where a side is a single cell.
    """
    from scipy import stats

    se2_cells = np.maximum(se2 - se2_control, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = delta / np.sqrt(se2)
        df = se2**2 / (se2_cells**2 / (n_cells - 1.0) + se2_control**2 / (n_controls - 1.0))
        p = 2 * stats.t.sf(np.abs(t), df)
    constant = se2 == 0
    unchanged = constant & (delta == 0)
    return np.where(unchanged, 0.0, t), df, np.where(constant, np.where(unchanged, 1.0, 0.0), p)


def _find_rows(truth: AnnData, condition: str | Sequence[str] | None) -> np.ndarray:
    if condition is None:
        return np.arange(truth.n_obs)
    names = [condition] if isinstance(condition, str) else list(condition)
    labels = truth.obs[_keys.PERTURBATION].astype(str).to_numpy()
    # a name with a context is a row, one without is that condition in every context
    found = [(truth.obs_names == name) if parse_row_name(name)[1] is not None else (labels == name) for name in names]
    absent = [name for name, rows in zip(names, found, strict=True) if not rows.any()]
    if absent:
        raise DataError(f"{len(absent)} conditions are not in truth: {name_some(absent)}; see truth.obs_names.")
    return pd.unique(np.concatenate([np.flatnonzero(rows) for rows in found]))


def _affected_in_row(
    truth: AnnData, row: int, n_top: int, fdr: float, min_detection: float, exclude_targets: bool
) -> pd.DataFrame:
    from scipy.stats import false_discovery_control

    delta, se2, se2_control, detection = (np.asarray(truth.layers[name][row]) for name in _LAYERS)
    obs = truth.obs.iloc[row]
    t, _, p = welch(delta, se2, se2_control, obs[_keys.N_CELLS], obs[_keys.N_CONTROLS])
    condition = str(obs[_keys.PERTURBATION])
    tested = (detection >= min_detection) & np.isfinite(p)
    if exclude_targets:
        tested &= ~truth.var_names.isin(genes_of(condition, control=_control_label(truth)))
    table = pd.DataFrame({"gene": truth.var_names, "delta": delta, "t": t, "p": p})[tested]
    table.insert(0, _keys.PERTURBATION, condition)
    if _keys.CELL_TYPE in truth.obs:
        table.insert(1, _keys.CELL_TYPE, str(obs[_keys.CELL_TYPE]))
    table["q"] = false_discovery_control(table["p"]) if len(table) else table["p"]
    table = table.iloc[np.lexsort((table["gene"], -table["t"].abs()))]
    table["rank"] = np.arange(1, len(table) + 1)
    return table[(table["q"] < fdr) | (table["rank"] <= n_top)]


def _control_label(truth: AnnData) -> str:
    setup = truth.uns.get(_keys.ROOT, {}).get(_keys.SETUP, {})
    return ScreenKeys.from_uns(setup).control
