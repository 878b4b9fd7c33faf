"""From counts to log1p of counts per 10,000."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules import _keys
from scperturb_modules._errors import DataError, ScreenWarning, name_some, require_key
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._labels import refuse_view
from scperturb_modules.pp._variable_genes import mark_highly_variable

if TYPE_CHECKING:
    from anndata import AnnData


def normalize(
    adata: AnnData,
    *,
    layer: str | None = None,
    target_sum: float = 1e4,
    library_size_key: str | None = None,
    n_top_genes: int | None = None,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
) -> None:
    """Keep the counts in a layer and set ``X`` to log1p of the counts scaled to a common library size.

    Writes ``layers["counts"]`` (the counts as given) and ``X`` (float32 CSR); with ``n_top_genes`` also
    ``var["highly_variable"]`` and the record of the cells that it was chosen from,
    ``uns["scperturb_modules"]["provenance"]["highly_variable"]``. A second call gives the same again, because it
    starts from ``layers["counts"]``. No cell or gene is dropped; on an error nothing is changed.

    Parameters
    ----------
    adata
        Cells x genes.
    layer
        Layer with the counts. None: ``layers["counts"]`` if it exists, else ``X``.
    target_sum
        Library size after scaling.
    library_size_key
        Column of ``obs`` with the number of counts of each cell over *all* genes. Needed where genes were removed
        before: the sum over a subset depends on the perturbation when the subset was chosen for its response.
    n_top_genes
        Mark this many highly variable genes (dispersion of Satija et al. 2015, by scanpy), from cells outside the
        test part only. Measured genes that are perturbed in any condition are marked in addition.
    perturbation_key, control, cell_type_key, split_key
        Columns of ``obs`` and the control label, used for ``n_top_genes`` only.

    Raises
    ------
    MissingKeyError
        A named layer or column does not exist.
    DataError
        Values that are not counts (negative, not whole, not finite: then they are already normalised, logged or
        scaled); another layer than ``layer`` is called
        "counts"; library sizes that are missing, not positive, or smaller than the counts of the cell; a view or a
        backed object.

    Warns
    -----
    ScreenWarning
        Cells without any count (they stay 0), or highly variable genes chosen without a split.

    Examples
    --------
    >>> import numpy as np, anndata
    >>> from scperturb_modules.pp import normalize
    >>> screen = anndata.AnnData(np.array([[1.0, 3.0], [2.0, 0.0]]))
    >>> normalize(screen, target_sum=4)
    >>> np.expm1(screen.X.toarray()).round(3)
    array([[1., 3.],
           [4., 0.]], dtype=float32)
    """
    _check_arguments(adata, target_sum, n_top_genes)
    counts, where = _find_counts(adata, layer)
    scaled = sparse.csr_matrix(counts, dtype=np.float64, copy=True)
    scaled.sum_duplicates()
    _check_counts(scaled, adata, where)
    _check_kept_counts(scaled, adata, where)
    library = _library_size(scaled, adata, library_size_key)
    scaled.data *= np.repeat(target_sum / library, np.diff(scaled.indptr))
    logged = scaled.log1p().astype(np.float32)
    if n_top_genes is not None:
        keys = ScreenKeys(perturbation_key, control, None, None, cell_type_key, split_key)
        mark_highly_variable(adata, logged, n_top_genes, keys)
    if where != f"layers[{_keys.COUNTS!r}]":
        adata.layers[_keys.COUNTS] = counts.copy()
    adata.X = logged


def _check_arguments(adata: AnnData, target_sum: float, n_top_genes: int | None) -> None:
    if not (np.isfinite(target_sum) and target_sum > 0):
        raise ValueError(f"target_sum={target_sum!r} must be a positive number, for example 1e4.")
    if n_top_genes is not None and n_top_genes < 1:
        raise ValueError(f"n_top_genes={n_top_genes!r} must be at least 1, or None to mark no genes.")
    refuse_view(adata, "spm.pp.normalize")
    if adata.isbacked:
        raise DataError("adata is backed by a file; call adata = adata.to_memory() before spm.pp.normalize.")


def _find_counts(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    if layer is None and _keys.COUNTS in adata.layers:
        layer = _keys.COUNTS
    if layer is not None:
        require_key(layer, adata.layers, "layers")
        return adata.layers[layer], f"layers[{layer!r}]"
    if adata.X is None:
        raise DataError("adata.X is None; pass the layer that holds the counts as layer=.")
    return adata.X, "X"


def _check_counts(counts: sparse.csr_matrix, adata: AnnData, where: str) -> None:
    values = counts.data
    for wrong, problem in (
        (~np.isfinite(values), "that are not finite"),
        (values < 0, "below zero: it looks scaled"),
        (values != np.rint(values), "that are not whole numbers: it looks " + _guess_scale(values)),
    ):
        if wrong.any():
            cells = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))[wrong]
            raise DataError(
                f"{where} has {wrong.sum()} values {problem} (cells {name_some(adata.obs_names[np.unique(cells)])}). "
                "spm.pp.normalize starts from raw counts: pass the layer that holds them as layer=, or leave this call "
                "out if the data are log1p of counts per 10,000 already. Nothing was changed."
            )


def _check_kept_counts(counts: sparse.csr_matrix, adata: AnnData, where: str) -> None:
    if _keys.COUNTS in adata.layers and (counts != sparse.csr_matrix(adata.layers[_keys.COUNTS])).nnz:
        raise DataError(
            f"layers[{_keys.COUNTS!r}] exists and differs from {where}; it is not overwritten. Leave out layer= to "
            f"start from it, or delete it first: del adata.layers[{_keys.COUNTS!r}]."
        )


def _guess_scale(values: np.ndarray) -> str:
    # log1p of 10,000 is 9.2; normalised counts reach hundreds
    return "log-transformed" if np.max(values, initial=0) < 20 else "normalised already"


def _library_size(counts: sparse.csr_matrix, adata: AnnData, key: str | None) -> np.ndarray:
    """(N,) float64, above zero."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    if key is None:
        empty = total == 0
        if empty.any():
            warnings.warn(
                f"{empty.sum()} cells have no count and stay 0: {name_some(adata.obs_names[empty])}.",
                ScreenWarning,
                stacklevel=3,
            )
        return np.where(empty, 1.0, total)
    require_key(key, adata.obs.columns, "obs")
    library = pd.to_numeric(adata.obs[key], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    for wrong, problem in (
        (~np.isfinite(library), "is missing or not a number"),
        (library <= 0, "is not above zero"),
        (library < total * (1 - 1e-6), "is smaller than the counts of the cell"),  # 1e-6: sizes stored as float32
    ):
        if wrong.any():
            raise DataError(
                f"obs[{key!r}] {problem} in {wrong.sum()} cells: {name_some(adata.obs_names[wrong])}. It must hold the "
                "counts of each cell over all genes; leave out library_size_key= if all genes are here."
            )
    return library
