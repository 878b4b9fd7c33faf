"""Which genes a model attends to: all perturbations as a heat map, or one perturbation as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._attention import stored_attention
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import DataError
from scperturb_modules.pl import _style
from scperturb_modules.pl._rows import resolve_row, resolve_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

MOST_GENES = 40
"""Columns of a heat map; more cannot be read."""
MOST_ROWS = 60
"""Rows drawn where the caller names no conditions."""

CAVEAT = "Attention weights are no proof of regulation."

_WHAT = "the attention of the prediction"
_WIDE = 10.0
"""Weights that spread by this factor or more are shown on a logarithmic scale."""


@dataclass(frozen=True)
class _Attention:
    """Weights in multiples of an even share, conditions x nodes; ``sd`` between members (None: one member)."""

    weights: pd.DataFrame
    sd: pd.DataFrame | None
    tv: float | None

    @property
    def warning(self) -> str:
        """What the figure must say where all perturbations have the same attention; else empty."""
        if self.tv is None or not self.tv < keys.LOW_ATTENTION_TV:
            return ""
        return f"Attention hardly depends on the perturbation\n(mean total variation {self.tv:.2g})"


def attention(
    prediction: AnnData,
    conditions: str | Sequence[str] | None = None,
    *,
    kind: Literal["heatmap", "bar"] = "heatmap",
    n_top: int = 20,
    ax: Axes | None = None,
) -> Axes:
    """Draw the genes that a model attends to most when it predicts a perturbation.

    Weights are shown in multiples of an even share (1 / number of genes in the network), so 10 means ten times as much
    attention as if all genes had the same. Where the attention is nearly the same for all perturbations, the figure
    says so. Attention weights are no proof of regulation, and the figure says that too;
    :func:`scperturb_modules.tl.attention_enrichment` tests them against models of permuted networks.

    Parameters
    ----------
    prediction
        Prediction of a model with attention: ``obsm["attention"]``, conditions x network genes, whose names are in
        ``uns["scperturb_modules"]["attention_nodes"]``.
    conditions
        ``A+B`` or ``A+B|context``, genes in any order; None draws all, of more than 60 the first 60. ``"bar"`` draws
        one.
    kind
        ``"heatmap"``: perturbations x genes, similar perturbations side by side, a dot where a gene is the perturbed
        one. ``"bar"``: one condition, perturbed genes in another colour, whiskers of one standard deviation between
        ensemble members.
    n_top
        Genes shown per condition. A heat map shows the union, but at most 40: first places before second ones, the
        largest weights first.
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        The prediction holds no attention.
    DataError
        None of its conditions has attention, or it names more or fewer nodes than it has weights.
    ValueError
        An unknown condition or kind, or several conditions where one is drawn.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, scperturb_modules as spm
    >>> pred = anndata.AnnData(np.zeros((1, 4)), obs=pd.DataFrame(index=["KLF1"]))
    >>> pred.obsm["attention"] = np.array([[0.5, 0.3, 0.1, 0.1]], dtype=np.float32)
    >>> pred.uns["scperturb_modules"] = {"attention_nodes": np.array(["KLF1", "HBG1", "HBZ", "ACTB"])}
    >>> ax = spm.pl.attention(pred, "KLF1", kind="bar", n_top=2)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['KLF1', 'HBG1']
    """
    if kind not in ("heatmap", "bar"):
        raise ValueError(f"kind={kind!r} is unknown; use 'heatmap' or 'bar'")
    if n_top < 1:
        raise ValueError(f"n_top={n_top} shows no gene; give a positive number")
    stored = _stored(prediction)
    if kind == "bar":
        return _bar(stored, _only(stored, conditions), n_top, ax)
    rows = list(map(str, stored.weights.index))
    shown = rows[:MOST_ROWS] if conditions is None else resolve_rows(conditions, stored.weights.index, _WHAT)
    note = "" if conditions is not None or len(shown) == len(rows) else f"First {len(shown)} of {len(rows)} conditions"
    return _heatmap(stored, shown, note, n_top, ax)


def _stored(prediction: AnnData) -> _Attention:
    table = stored_attention(prediction, "the prediction")
    table = table[table.any(axis=1)]
    if table.empty:
        raise DataError("The prediction has no condition with attention: it is empty, or its genes are known nowhere.")
    has_sd = keys.ATTENTION_SD in prediction.obsm
    sd = stored_attention(prediction, "the prediction", key=keys.ATTENTION_SD) if has_sd else None
    tv = prediction.uns[keys.ROOT].get(keys.ATTENTION_TV)
    n_nodes = table.shape[1]
    return _Attention(table * n_nodes, None if sd is None else sd * n_nodes, None if tv is None else float(tv))


def _only(stored: _Attention, conditions: str | Sequence[str] | None) -> str:
    rows = stored.weights.index
    asked = list(map(str, rows)) if conditions is None else [conditions] if isinstance(conditions, str) else conditions
    if len(asked) != 1:
        raise ValueError(f"kind='bar' draws one condition, not {len(asked)}: attention(prediction, 'A+B', kind='bar')")
    return resolve_row(asked[0], rows, _WHAT)


def _bar(stored: _Attention, row: str, n_top: int, ax: Axes | None) -> Axes:
    top = stored.weights.loc[[row]].iloc[0].sort_values(ascending=False, kind="stable").iloc[:n_top]
    top = top[top > 0]
    width = _style.width_for(top.index, body=4.8, above=[row, stored.warning])
    ax = _style.axes_or_new(ax, width=width, height=2.0 + 0.22 * len(top))
    is_wide = top.min() > 0 and top.max() >= _WIDE * top.min()
    # on a logarithmic axis a bar has no natural foot; there it starts at the even share
    foot = 1.0 if is_wide else 0.0
    handles = _style.gene_bars(ax, top, genes_of_row(row), foot=foot, label="attention")
    if stored.sd is not None:
        sd = stored.sd.loc[[row], top.index].to_numpy(dtype=float)[0]
        # a whisker that reaches 0 has no end on a logarithmic axis
        below = np.minimum(sd, (0.8 if is_wide else 1.0) * top)
        whiskers = ax.hlines(
            range(len(top)), top - below, top + sd, color="black", lw=1.2, label="SD between ensemble members"
        )
        handles.append(whiskers)
    if is_wide:
        _style.log_scale(ax, "x")
    ax.axvline(1, color="black", lw=0.8, ls=":")
    n_nodes = stored.weights.shape[1]
    ax.set_xlabel(f"Attention (1 = even share over {n_nodes:,} genes)\n{CAVEAT}")
    _style.legend_above(ax, handles)
    _style.write_above(ax, [row], warning=stored.warning)
    _style.quiet(ax)
    return ax


def _heatmap(stored: _Attention, rows: list[str], note: str, n_top: int, ax: Axes | None) -> Axes:
    values = stored.weights.loc[rows]
    chosen, which = _columns(values.to_numpy(), n_top)
    values = _arranged(values.iloc[:, chosen])
    n_rows, n_genes = values.shape
    width = 1.2 + _style.width_for(values.index, body=0.2 * n_genes, above=[note, stored.warning])
    height = 2.2 + 0.2 * max(n_rows, 4) + 0.08 * _style.longest(values.columns)
    ax = _style.axes_or_new(ax, width=max(width, 5.5), height=height)
    norm = _norm(float(values.to_numpy().max()))
    mesh = ax.pcolormesh(values.to_numpy(), norm=norm, cmap="Blues", edgecolors="white", linewidth=0.4)
    ax.set_xticks(np.arange(n_genes) + 0.5, list(map(str, values.columns)), rotation=90, fontsize="small")
    ax.set_yticks(np.arange(n_rows) + 0.5, list(map(str, values.index)), fontsize="small")
    ax.tick_params(length=0)
    ax.invert_yaxis()
    ax.set_xlabel(f"{which}\n{CAVEAT}")
    _mark_own(ax, values)
    _color_bar(ax, mesh, norm)
    _style.write_above(ax, [note], warning=stored.warning)
    ax.spines[:].set_visible(False)
    return ax


def _columns(values: NDArray[np.float64], n_top: int) -> tuple[list[int], str]:
    """The genes to show (column numbers), and in words how they were chosen."""
    n_top = min(n_top, values.shape[1])
    order = np.argsort(-values, axis=1, kind="stable")[:, :n_top]
    first = np.full(values.shape[1], n_top)
    for place in range(n_top - 1, -1, -1):
        first[order[:, place]] = place
    union = np.flatnonzero(first < n_top)
    each = "for each perturbation" if len(values) > 1 else "for the perturbation"
    if len(union) <= MOST_GENES:
        return union.tolist(), f"Top {n_top} of {values.shape[1]:,} genes {each}"
    # first places before second ones: each perturbation keeps its most important gene as long as there is room
    best = union[np.lexsort((-values[:, union].max(axis=0), first[union]))]
    return best[:MOST_GENES].tolist(), f"{MOST_GENES} of the {len(union)} genes among the top {n_top} {each}"


def _arranged(values: pd.DataFrame) -> pd.DataFrame:
    """Similar perturbations side by side, and genes in the order of the perturbations that attend to them."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    logged = np.log2(np.maximum(values.to_numpy(), 1.0))
    if len(values) > 2:
        tree = linkage(logged, "average", optimal_ordering=True)
        values = values.iloc[leaves_list(tree)]
        logged = np.log2(np.maximum(values.to_numpy(), 1.0))
    total = np.maximum(logged.sum(axis=0), 1e-12)
    center = (np.arange(len(values))[:, None] * logged).sum(axis=0) / total
    return values.iloc[:, np.lexsort((-total, center))]


def _norm(highest: float) -> Normalize:
    """Colours from an even share up; below it nothing is to be seen."""
    from matplotlib.colors import LogNorm, Normalize

    return LogNorm(1, highest) if highest >= _WIDE else Normalize(1, max(highest, 2.0))


def _mark_own(ax: Axes, values: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    column = {str(gene): j for j, gene in enumerate(values.columns)}
    own = [(column[gene], i) for i, row in enumerate(values.index) for gene in genes_of_row(row) if gene in column]
    if own:
        x, y = np.array(own).T + 0.5
        style: dict[str, Any] = {
            "marker": "o",
            "color": _style.OWN_COLOR,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
        }
        ax.plot(x, y, ls="none", ms=5.5, **style)
        _style.legend_above(ax, [Line2D([], [], ls="none", ms=6, label="the perturbed gene itself", **style)])


def _color_bar(ax: Axes, mesh: QuadMesh, norm: Normalize) -> None:
    from matplotlib.colors import LogNorm

    bar = ax.figure.colorbar(mesh, ax=ax, fraction=0.05, aspect=15, pad=0.02, shrink=0.8, anchor=(0, 1))
    if isinstance(norm, LogNorm):
        _style.plain_log_ticks(bar.ax.yaxis)
    bar.outline.set_visible(False)
    bar.set_label("Attention\n(1 = even share)", fontsize="small")
