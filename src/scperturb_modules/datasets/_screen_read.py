"""From the file of a published screen to canonical labels."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from scipy import sparse

from scperturb_modules import _keys
from scperturb_modules._conditions import CONTROL
from scperturb_modules._download import fetch, verify
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.pp import standardize_perturbations

from ._screen_sources import ScreenSource

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

_LABELS = (_keys.PERTURBATION, "gene")  # scPerturb, the studies' own files
_SYMBOLS = ("gene_name", "gene_symbol")
_ENSEMBL = ("ensembl_id", "ensemble_id")


def load_screen(
    source: ScreenSource,
    *,
    path: str | os.PathLike[str] | None,
    folder: str | os.PathLike[str] | None,
    sha256: str | None,
) -> AnnData:
    """Download or read a screen, and give its cells canonical labels."""
    if path is None:
        file = fetch(source.remote(sha256), folder=folder)
    else:
        file = Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"path={os.fspath(path)!r}: no file is there.")
        if sha256 is not None:
            verify(file, sha256)
    adata = _read(file)
    label_key = next((key for key in _LABELS if key in adata.obs), _LABELS[0])
    require_key(label_key, adata.obs.columns, "obs", mend=f"{file} is not laid out as in scPerturb.")
    repairs = [_name_cells(adata), _name_genes(adata)]
    missing = adata.obs[label_key].isna() | adata.obs[label_key].isin(source.unlabelled)
    if missing.any():
        adata = adata[~missing.to_numpy()].copy()
        repairs.append(f"{missing.sum()} cells without a guide left out")
    if any(repairs):
        logger.warning("%s: %s.", source.call, "; ".join(filter(None, repairs)))
    labels = adata.obs[label_key].unique().astype(str)
    standardize_perturbations(
        adata, label_key, sep=source.sep, guide_to_target=_targets(labels, source), overwrite=True
    )
    return adata


def _read(file: Path) -> AnnData:
    import h5py
    from anndata import read_h5ad

    try:
        with h5py.File(file) as opened:
            dense = isinstance(opened["X"], h5py.Dataset)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* names are not unique", UserWarning)  # mended and told below
            adata = read_h5ad(file, as_sparse=["X"] if dense else [])  # 10 GB of mostly zeros otherwise
    except (OSError, KeyError) as error:
        raise DataError(f"{file} cannot be read as h5ad; is it cut short? ({error})") from error
    adata.X = sparse.csr_matrix(adata.X)
    return adata


def _name_cells(adata: AnnData) -> str:
    """Barcodes of several lanes coincide."""
    n = int(adata.obs_names.duplicated().sum())
    if n:
        adata.obs_names_make_unique()
    return f"{n} repeated cell names numbered" if n else ""


def _name_genes(adata: AnnData) -> str:
    """Symbols as names, Ensembl ids in ``var["ensembl"]``, repeated symbols numbered."""
    if adata.var_names.str.startswith("ENSG").mean() > 0.5:
        symbols = next((column for column in _SYMBOLS if column in adata.var), _SYMBOLS[0])
        require_key(symbols, adata.var.columns, "var", mend="The genes are named by Ensembl ids only.")
        adata.var["ensembl"] = adata.var_names.to_numpy()
        adata.var_names = adata.var[symbols].astype(str).to_numpy()
    adata.var = adata.var.rename(columns=dict.fromkeys(_ENSEMBL, "ensembl"))
    repeated = adata.var_names[adata.var_names.duplicated()].unique()
    if len(repeated):
        adata.var_names_make_unique()
    return f"{len(repeated)} repeated gene names numbered ({name_some(repeated)})" if len(repeated) else ""


def _targets(labels: Iterable[str], source: ScreenSource) -> dict[str, str] | None:
    """Target of each guide by the rule of this file; a guide of another form keeps its name."""
    if source.guide_suffix is None:
        return None
    suffix = re.compile(f"{source.guide_suffix}$")
    return {label: CONTROL if label in source.controls else suffix.sub("", label) for label in labels}
