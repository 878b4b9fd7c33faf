"""Two coordinates for real and generated cells: principal components of the real ones, or a stored embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some, require_key

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]

PCA = "pca"
N_GENES = 1000
"""Most variable genes, of which principal components are made."""


def places_of(
    generated: AnnData, drawn: Index, real: AnnData | None, drawn_real: Index, *, basis: str, layer: str | None
) -> tuple[Array, Array, tuple[str, str]]:
    """(n, 2) places of all generated and all real cells, NaN for those not drawn, and the names of the axes.

    Parameters
    ----------
    generated, real
        Cells x genes.
    drawn, drawn_real
        Sorted numbers of the cells that need a place.
    basis
        ``"pca"`` or a key of ``obsm``.
    layer
        Of the expression of real cells; None: ``X``.
    """
    cells = [(generated, drawn, None)] + ([] if real is None else [(real, drawn_real, layer)])
    if basis == PCA:
        found, names = _projected(cells)
    else:
        found, names = [_embedded(adata, rows, basis) for adata, rows, _ in cells], _axis_names(basis)
    places = [np.full((adata.n_obs, 2), np.nan) for adata, *_ in cells]
    for place, (_, rows, _), values in zip(places, cells, found, strict=True):
        place[rows] = values
    return places[0], places[1] if len(places) > 1 else np.zeros((0, 2)), names


def _projected(cells: list[tuple[AnnData, Index, str | None]]) -> tuple[list[Array], tuple[str, str]]:
    """Principal components of the last cells; all are projected into them."""
    genes = cells[0][0].var_names
    columns = [adata.var_names.get_indexer(genes) for adata, *_ in cells]
    lost = genes[columns[-1] < 0]
    if len(lost):
        raise DataError(f"real lacks {len(lost)} of {len(genes)} genes of the generated cells: {name_some(lost)}.")
    values = [_expression(adata, rows, layer)[:, at] for (adata, rows, layer), at in zip(cells, columns, strict=True)]
    mean, variance = _moments(values[-1])
    most = np.sort(np.argsort(-variance, kind="stable")[:N_GENES])
    centered = [_dense(one[:, most]) - mean[most] for one in values]
    size, axes = np.linalg.eigh(centered[-1].T @ centered[-1])
    if len(centered[-1]) < 3 or len(size) < 2 or size[-2] <= 1e-9 * max(size[-1], 1e-9):
        raise DataError(f"{len(centered[-1])} cells of {len(size)} genes span no plane; draw more cells.")
    two = axes[:, [-1, -2]]
    two = two * np.sign(two[np.abs(two).argmax(axis=0), [0, 1]])
    share = 100 * size[[-1, -2]] / (variance.sum() * len(centered[-1]))
    return [one @ two for one in centered], (f"PC 1 ({share[0]:.1f} %)", f"PC 2 ({share[1]:.1f} %)")


def _embedded(adata: AnnData, rows: Index, basis: str) -> Array:
    mend = "Embed generated and real cells together, for example by scanpy after anndata.concat(...), or use 'pca'."
    require_key(basis, adata.obsm, "obsm", mend=mend)
    values = np.asarray(adata.obsm[basis])
    if values.shape[1] < 2:
        raise DataError(f"obsm[{basis!r}] has {values.shape[1]} columns; a plane needs two.")
    return np.asarray(values[rows, :2], dtype=np.float64)


def _axis_names(basis: str) -> tuple[str, str]:
    name = basis.removeprefix("X_").upper()
    return f"{name} 1", f"{name} 2"


def _expression(adata: AnnData, rows: Index, layer: str | None) -> Any:
    """(n, G) in memory, dense or CSR."""
    from scipy import sparse

    if layer is not None:
        require_key(layer, adata.layers, "layers")
    cells = adata[rows]
    matrix = cells.X if layer is None else cells.layers[layer]
    return sparse.csr_array(matrix) if sparse.issparse(matrix) else np.asarray(matrix)


def _moments(matrix: Any) -> tuple[Array, Array]:
    """(G,) mean and variance of each gene."""
    n = matrix.shape[0]
    wide = matrix.astype(np.float64)
    mean = np.asarray(wide.sum(axis=0)).ravel() / n
    return mean, np.maximum(np.asarray((wide * wide).sum(axis=0)).ravel() / n - mean**2, 0.0)


def _dense(matrix: Any) -> Array:
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray(), dtype=np.float64)
