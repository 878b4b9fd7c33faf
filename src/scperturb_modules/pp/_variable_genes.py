"""Genes that vary most, chosen by the training cells alone."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd
from scipy import sparse

from scperturb_modules import _keys
from scperturb_modules._conditions import genes_of
from scperturb_modules._errors import ScreenWarning
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._provenance import record_provenance
from scperturb_modules.pp._screen import resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData


def mark_highly_variable(adata: AnnData, values: sparse.csr_matrix, n_top_genes: int, keys: ScreenKeys) -> None:
    """Write ``var["highly_variable"]`` and a record of the cells that chose.

    Parameters
    ----------
    adata
        The screen.
    values
        (N, G) log1p CP10k.
    n_top_genes
        Genes to choose by scanpy's ``seurat`` flavour; measured targets are marked in addition.
    keys
        Which columns hold what.
    """
    import scanpy as sc
    from anndata import AnnData

    view = resolve_screen(adata, keys)
    if not view.parts.any():
        warnings.warn(
            "There is no split: all cells choose the highly variable genes. Call spm.pp.split(adata, ...) before if "
            "predictions for held-out conditions are to be scored.",
            ScreenWarning,
            stacklevel=3,
        )
    training = AnnData(values[view.is_training], var=pd.DataFrame(index=adata.var_names))
    n_top = min(n_top_genes, adata.n_vars)
    marked = sc.pp.highly_variable_genes(training, n_top_genes=n_top, flavor="seurat", inplace=False)["highly_variable"]
    perturbed = {gene for label in pd.unique(view.labels) for gene in genes_of(label, control=keys.control)}
    adata.var[_keys.HIGHLY_VARIABLE] = marked.to_numpy() | adata.var_names.isin(perturbed)
    record_provenance(adata, _keys.HIGHLY_VARIABLE, view.is_training, keys)
