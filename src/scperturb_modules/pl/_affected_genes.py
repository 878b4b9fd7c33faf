"""The most changed genes of one condition: the change in each cell, and what predictors said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of, parse_row_name, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.metrics import de_genes
from scperturb_modules.pl import _style
from scperturb_modules.pl._rows import resolve_row

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

_MARKERS = "os^vP*"
_SETUP = "Call setup_anndata of a model first, for example spm.baselines.Additive.setup_anndata(adata)."


def affected_genes(
    adata: AnnData,
    predictions: AnnData | Mapping[str, AnnData],
    condition: str,
    *,
    n_top: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Draw the change of the most changed genes in every cell of a condition, and the change that was predicted.

    Boxes are quartiles of the cells' expression minus the mean of the controls, whiskers reach the last cell within 1.5
    box lengths, a diamond marks the mean: what a prediction should hit. Genes are those of the largest Welch t, as in
    the metrics, the perturbed genes left out; upward ones stand on top.

    Parameters
    ----------
    adata
        Cells x genes, log1p of counts per 10,000, with the keys that a ``setup_anndata`` recorded. May be backed.
        Controls are those of the condition's cell type, of the test part where the condition is tested and controls
        were held out; they are not matched by batch.
    predictions
        A Prediction, or several by name. The figure says which of them lack the condition or genes.
    condition
        ``A+B`` or ``A+B|context``, genes in any order.
    n_top
        How many genes.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        No recorded keys, or a prediction without ``layers["delta"]``.
    DataError
        Fewer than two cells or controls, or no gene in 5 % of them.
    ValueError
        There is no such condition (the message names near matches), or ``n_top`` is less than one.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.baselines.NoChange.setup_anndata(adata)
    >>> model = spm.baselines.NoChange(adata)
    >>> model.train()
    >>> condition = adata.obs["perturbation"][adata.obs["perturbation"] != "control"].iloc[0]
    >>> ax = spm.pl.affected_genes(adata, {"NoChange": model.predict([condition])}, condition, n_top=5)
    >>> len(ax.get_yticks())
    5
    """
    if n_top < 1:
        raise ValueError(f"n_top={n_top} shows no gene; give a positive number")
    named = dict(predictions) if isinstance(predictions, Mapping) else {"predicted": predictions}
    row, cells, controls = _cells(adata, condition)
    change = _changes(adata, row, cells, controls, n_top)
    said = {name: _said(name, one, row, change.columns) for name, one in named.items()}
    ax = _style.axes_or_new(ax, width=4.8, height=2.0 + 0.26 * change.shape[1])
    handles = _boxes(ax, change)
    for number, (name, values) in enumerate(said.items()):
        if values is not None and values.notna().any():
            handles.append(_markers(ax, values, name, number, len(said)))
    ax.axvline(0, color="black", lw=0.8, zorder=1)
    ax.set_yticks(range(change.shape[1]), list(map(str, change.columns)), fontsize="small")
    ax.set_ylim(change.shape[1] - 0.5, -0.5)
    ax.set_xlabel("Change against the mean of controls\n(log1p CP10k)")
    cells_fact = f"{cells.sum():,} cells, {controls.sum():,} controls"
    _style.head(ax, handles, [row, cells_fact, *_lacking(said)])
    _style.quiet(ax)
    return ax


def _cells(adata: AnnData, condition: str) -> tuple[str, NDArray[np.bool_], NDArray[np.bool_]]:
    """The name of the row meant, (N,) its cells, and (N,) its controls."""
    require_key(keys.ROOT, adata.uns, "uns", mend=_SETUP)
    require_key(keys.SETUP, adata.uns[keys.ROOT], f"uns[{keys.ROOT!r}]", mend=_SETUP)
    setup = keys.ScreenKeys.from_uns(adata.uns[keys.ROOT][keys.SETUP])
    require_key(setup.perturbation_key, adata.obs.columns, "obs")
    labels = adata.obs[setup.perturbation_key].astype(str).to_numpy()
    contexts = np.full(adata.n_obs, None, dtype=object)
    if setup.cell_type_key is not None:
        require_key(setup.cell_type_key, adata.obs.columns, "obs")
        contexts = adata.obs[setup.cell_type_key].astype(str).to_numpy(dtype=object)
    perturbed = pd.Series(list(zip(labels, contexts, strict=True)))[labels != setup.control].unique()
    row = resolve_row(condition, pd.Index([row_name(*one) for one in perturbed]), "adata")
    label, context = parse_row_name(row)
    here = np.array([one == context for one in contexts])
    cells, controls = (labels == label) & here, (labels == setup.control) & here
    if setup.split_key in adata.obs:
        is_test = (adata.obs[setup.split_key].astype(str) == keys.TEST).to_numpy()
        same_part = controls & (is_test == is_test[cells].all())
        controls = same_part if same_part.any() else controls
    for what, mask in (("cells", cells), ("controls", controls)):
        if mask.sum() < 2:
            raise DataError(f"{row!r} has {mask.sum()} {what}; boxes and tests need two at least.")
    return row, cells, controls


def _changes(
    adata: AnnData, row: str, cells: NDArray[np.bool_], controls: NDArray[np.bool_], n_top: int
) -> pd.DataFrame:
    """Cells x most changed genes, the change of each cell; the largest mean first."""
    setup = keys.ScreenKeys.from_uns(adata.uns[keys.ROOT][keys.SETUP])
    ours, theirs = (_expression(adata[mask], setup.layer) for mask in (cells, controls))
    mean, variance, seen = _moments(ours)
    control_mean, control_variance, control_seen = _moments(theirs)
    noise = np.sqrt(variance / cells.sum() + control_variance / controls.sum())
    difference = mean - control_mean
    t = np.divide(difference, noise, out=np.full_like(noise, np.nan), where=noise > 0)
    own = adata.var_names.get_indexer(list(genes_of(parse_row_name(row)[0], control=setup.control)))
    chosen = de_genes(t, np.maximum(seen, control_seen), own[own >= 0], n=n_top)
    if not len(chosen):
        raise DataError(f"No gene is seen in 5 % of the cells of {row!r} or of its controls.")
    chosen = chosen[np.argsort(-difference[chosen], kind="stable")]
    part = ours[:, chosen]
    values = np.asarray(part if isinstance(part, np.ndarray) else part.toarray(), dtype=np.float64)
    return pd.DataFrame(values - control_mean[chosen], columns=adata.var_names[chosen])


def _expression(cells: AnnData, layer: str | None) -> Any:
    """(n, G) in memory, dense or CSC."""
    from scipy import sparse

    matrix = cells.X if layer is None else cells.layers[layer]
    return sparse.csc_array(matrix) if sparse.issparse(matrix) else np.asarray(matrix)


def _moments(matrix: Any) -> tuple[Array, Array, Array]:
    """(G,) mean, variance and share of values above zero."""
    n = matrix.shape[0]
    matrix = matrix.astype(np.float64)
    mean = np.asarray(matrix.sum(axis=0)).ravel() / n
    square = np.asarray((matrix * matrix).sum(axis=0)).ravel()
    seen = np.asarray((matrix > 0).sum(axis=0)).ravel() / n
    return mean, np.maximum(square - n * mean**2, 0.0) / (n - 1), seen


def _said(name: str, prediction: AnnData, row: str, genes: pd.Index) -> pd.Series | None:
    """The predicted change of the genes, NaN for those that it lacks; None where it lacks the condition."""
    require_key(keys.DELTA, prediction.layers, f"layers of the prediction {name!r}")
    if row not in prediction.obs_names:
        return None
    return prediction[[row]].to_df(layer=keys.DELTA).iloc[0].astype(np.float64).reindex(genes)


def _lacking(said: Mapping[str, pd.Series | None]) -> list[str]:
    without = [name for name, values in said.items() if values is None]
    facts = [f"Not predicted by {name_some(without)}"] if without else []
    for name, values in said.items():
        if values is not None and values.isna().any():
            facts.append(f"{name} lacks {values.isna().sum()} of {len(values)} genes")
    return facts


def _boxes(ax: Axes, change: pd.DataFrame) -> list[Any]:
    values = change.to_numpy()
    low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
    reach = 1.5 * (high - low)
    inside = np.where((values >= low - reach) & (values <= high + reach), values, np.nan)
    lines = np.arange(len(middle))
    ax.hlines(lines, np.nanmin(inside, axis=0), low, color=_style.BASELINE_COLOR, lw=1, zorder=1)
    ax.hlines(lines, high, np.nanmax(inside, axis=0), color=_style.BASELINE_COLOR, lw=1, zorder=1)
    look: dict[str, Any] = {"color": "#E4E4E4", "edgecolor": _style.BASELINE_COLOR, "lw": 0.8}
    ax.use_sticky_edges = False  # or a box at the end of the axis would lie on its edge
    boxes = ax.barh(lines, high - low, left=low, height=0.66, label="observed cells", zorder=2, **look)
    ax.vlines(middle, lines - 0.33, lines + 0.33, color="black", lw=1, zorder=3)
    point: dict[str, Any] = {"marker": "D", "s": 20, "color": "black", "edgecolor": "white", "lw": 0.6, "zorder": 4}
    return [boxes, ax.scatter(values.mean(axis=0), lines, label="observed mean", **point)]


def _markers(ax: Axes, values: pd.Series, name: str, number: int, n: int) -> Artist:
    """A point per gene; those of several predictors stand one below the other."""
    shift = 0.6 * ((number + 0.5) / n - 0.5)
    color = _style.PALETTE[number % len(_style.PALETTE)]
    look: dict[str, Any] = {"color": color, "edgecolor": "white", "lw": 0.4, "s": 24, "zorder": 5}
    return ax.scatter(values, np.arange(len(values)) + shift, marker=_MARKERS[number % 6], label=name, **look)
