"""The genes that one prediction says will change most, with its intervals and what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import require_key
from scperturb_modules.metrics._conformal import LEVEL
from scperturb_modules.pl import _style
from scperturb_modules.pl._rows import resolve_row

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Vector = NDArray[np.float64]


def top_genes(
    prediction: AnnData, condition: str, *, truth: AnnData | None = None, n_top: int = 20, ax: Axes | None = None
) -> Axes:
    """Draw the genes with the largest predicted change of one condition, up on top and down below.

    Parameters
    ----------
    prediction
        Prediction of any predictor: conditions x genes with ``layers["delta"]``; intervals (90 %, or as
        ``spm.tl.intervals`` gives them) are drawn where ``layers["lower"]`` and ``["upper"]`` are finite. Where
        ``obs["abstain_reason"]`` says why not to believe the prediction, the figure does too.
    condition
        ``A+B`` or ``A+B|context``, genes in any order.
    truth
        ``spm.pp.pseudobulk(adata)``: the measured change is drawn beside the predicted one. A condition or gene that it
        lacks has no point; where it lacks the condition, the figure says so.
    n_top
        How many genes, by the size of the predicted change.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        ``prediction`` or ``truth`` has no ``layers["delta"]``.
    ValueError
        The prediction has no such condition (the message names near matches), or has it in several contexts.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, scperturb_modules as spm
    >>> genes = pd.DataFrame(index=["KLF1", "HBG1", "ACTB"])
    >>> delta = np.array([[-2.0, 1.0, 0.1]])
    >>> pred = anndata.AnnData(delta, obs=pd.DataFrame(index=["KLF1"]), var=genes, layers={"delta": delta})
    >>> ax = spm.pl.top_genes(pred, "KLF1", n_top=2)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['HBG1', 'KLF1']
    """
    if n_top < 1:
        raise ValueError(f"n_top={n_top} shows no gene; give a positive number")
    require_key(keys.DELTA, prediction.layers, "layers of the prediction")
    row = resolve_row(condition, prediction.obs_names)
    delta = _values(prediction, row, keys.DELTA)
    top = delta.iloc[np.argsort(-np.abs(delta.to_numpy()), kind="stable")[:n_top]].sort_values(ascending=False)
    measured = None if truth is None else _measured(truth, row, top.index)
    facts = _facts(prediction, row, is_unmeasured=truth is not None and measured is None)
    width = _style.width_for(top.index, body=4.8, above=[row, facts])
    ax = _style.axes_or_new(ax, width=width, height=2.2 + 0.22 * len(top))
    handles = _style.gene_bars(ax, top, genes_of_row(row), foot=0.0, label="predicted change")
    handles += _draw_interval(ax, prediction, row, top)
    if measured is not None:
        style: dict[str, Any] = {"marker": "D", "s": 26, "color": "black", "edgecolor": "white", "lw": 0.6, "zorder": 4}
        handles.append(ax.scatter(measured, np.arange(len(top)), label="measured change", **style))
    ax.axvline(0, color="black", lw=0.8)
    ax.set_xlabel("Change of mean expression against control (log1p CP10k)")
    _style.head(ax, handles, [row, facts], warning=_warning(prediction, row))
    _style.quiet(ax)
    return ax


def _values(table: AnnData, row: str, layer: str) -> pd.Series:
    """One row of a layer, which may be sparse."""
    return table[[row]].to_df(layer=layer).iloc[0].astype(np.float64)


def _draw_interval(ax: Axes, prediction: AnnData, row: str, top: pd.Series) -> list[Artist]:
    if keys.LOWER not in prediction.layers or keys.UPPER not in prediction.layers:
        return []
    lower, upper = (_values(prediction, row, layer)[top.index].to_numpy() for layer in (keys.LOWER, keys.UPPER))
    known = np.isfinite(lower) & np.isfinite(upper)
    if not known.any():
        return []
    lines = np.flatnonzero(known)
    label = f"{100 * _level(prediction):.0f} % interval"
    return [ax.hlines(lines, lower[known], upper[known], color="black", lw=1.2, zorder=3, label=label)]


def _level(prediction: AnnData) -> float:
    """Of the intervals; other than 90 % where ``spm.tl.intervals`` was asked for another."""
    return float(prediction.uns.get(keys.ROOT, {}).get(keys.PREDICTION, {}).get(keys.INTERVAL_LEVEL, LEVEL))


def _measured(truth: AnnData, row: str, genes: pd.Index) -> Vector | None:
    """(n,) measured changes, NaN for genes that were not measured; None where the condition was not."""
    require_key(keys.DELTA, truth.layers, "layers of the truth", mend="Pass spm.pp.pseudobulk(adata).")
    if row not in truth.obs_names:
        return None
    return _values(truth, row, keys.DELTA).reindex(genes).to_numpy()


def _warning(prediction: AnnData, row: str) -> str:
    """Why the prediction is not to be believed; nothing where it is."""
    reason = str(prediction.obs.get(keys.ABSTAIN_REASON, pd.Series("", prediction.obs_names)).loc[row])
    return f"Do not believe it: {reason}" if reason else ""


def _facts(prediction: AnnData, row: str, *, is_unmeasured: bool) -> str:
    """How much of the condition was seen, how much the network says, and what was missing."""
    facts = []
    obs = prediction.obs.loc[row]
    if keys.SEEN in obs:
        facts.append(_style.REGIME_LABELS.get(str(obs[keys.SEEN]), str(obs[keys.SEEN])))
    if keys.GATE in obs and np.isfinite(float(obs[keys.GATE])):
        facts.append(f"gate {float(obs[keys.GATE]):.2f}")
    if keys.STATUS in obs:
        facts.append(f"status {obs[keys.STATUS]}")
    if is_unmeasured:
        facts.append("not in the truth")
    return "; ".join(facts)
