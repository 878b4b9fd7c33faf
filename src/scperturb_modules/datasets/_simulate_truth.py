"""Read what a simulated screen holds of its truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._errors import DataError, MissingKeyError, name_some
from scperturb_modules.priors import spectral_embedding

if TYPE_CHECKING:
    from anndata import AnnData

GRAPHS = {"true": "graph", "partial": "graph_partial", "decoy": "graph_decoy"}
TABLES = ("delta_true", "log_rate")


def simulated_truth(adata: AnnData, table: str = "delta_true") -> pd.DataFrame:
    """The planted change of every row.

    Parameters
    ----------
    adata
        A screen of :func:`simulate`, with all or some of its genes.
    table
        ``"delta_true"`` (change of mean log1p CP10k) or ``"log_rate"`` (change of the log rate, natural log).

    Returns
    -------
    DataFrame
        Rows x genes of ``adata``, float64; rows are named and sorted as those of a pseudobulk.

    Raises
    ------
    MissingKeyError
        The screen was not simulated.
    DataError
        There is no such table, or a gene that was not simulated.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.datasets.simulated_truth(adata).shape
    (12, 80)
    """
    record = _record_of(adata)
    if table not in TABLES:
        raise DataError(f"There is no table {table!r}; choose one of {name_some(TABLES)}.")
    full = pd.DataFrame(record[table], index=list(record["rows"]), columns=list(record["genes"]))
    strange = adata.var_names.difference(full.columns)
    if len(strange):
        raise DataError(f"{len(strange)} genes were not simulated: {name_some(strange)}. Drop or rename them.")
    return full.loc[:, list(adata.var_names)]


def simulated_prior(adata: AnnData, kind: str = "true", *, n_features: int = 16) -> pd.DataFrame:
    """Spectral embedding of a simulated screen's gene graph, for use as prior knowledge.

    Parameters
    ----------
    adata
        A screen of :func:`simulate`.
    kind
        ``"true"``; ``"partial"``: 30 % of the genes are absent; ``"decoy"``: the true graph under permuted labels, a
        prior that must not help.
    n_features
        Number of eigenvectors.

    Returns
    -------
    DataFrame
        Genes x features, float64, genes sorted; genes without an edge are left out. ``attrs["name"]`` and
        ``attrs["derived_from"]`` say what it is.

    Raises
    ------
    MissingKeyError
        The screen was not simulated.
    DataError
        Unknown kind, or more features than the graph has.

    See Also
    --------
    scperturb_modules.priors.spectral_embedding : The mathematics.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.datasets.simulated_prior(adata, n_features=8).shape
    (80, 8)
    """
    if kind not in GRAPHS:
        raise DataError(f"There is no graph {kind!r}; choose one of {name_some(GRAPHS)}.")
    embedding = spectral_embedding(_record_of(adata)[GRAPHS[kind]], n_features=n_features)
    embedding.attrs = {"name": f"simulated graph ({kind})", "derived_from": "simulator graph"}
    return embedding


def _record_of(adata: AnnData) -> Mapping[str, Any]:
    record = adata.uns.get(_keys.ROOT, {}).get(_keys.SIMULATION)
    if record is None:
        raise MissingKeyError(
            f"uns[{_keys.ROOT!r}][{_keys.SIMULATION!r}] does not exist: this screen has no known truth. "
            "Make one with spm.datasets.simulate()."
        )
    return record
