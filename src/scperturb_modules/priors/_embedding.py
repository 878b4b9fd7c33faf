"""Vectors of genes that someone else computed (ESM2, GenePT, ...): checked, and laid out for the user's genes."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._read import Table, read_table
from scperturb_modules.priors._stored import common_from_uns, common_to_uns, text_array, texts

logger = logging.getLogger(__name__)

_MISSING_TEXT = ("", "NA", "NaN", "nan")
"""How files write that a number is missing."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneEmbedding:
    """One vector per gene, with genes that have none; made by :func:`gene_embedding` or :meth:`from_frame`.

    Attributes
    ----------
    name
        As the user knows it.
    genes
        The n genes, sorted. For rows in another order: ``embedding.to_frame().reindex(adata.var_names)``.
    values
        (n, F) float64, finite; NaN in the whole row of a gene without a vector.
    features
        (F,) names of the columns, at least one.
    attrs
        Provenance: ``source``, ``version``, ``licence``, ``derived_from`` and whatever else the table's ``attrs``
        said.
    """

    name: str
    genes: tuple[str, ...]
    values: NDArray[np.float64]
    features: tuple[str, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "attrs", copy.deepcopy(dict(self.attrs)))
        in_order = list(self.genes) == sorted(set(self.genes))
        in_shape = values.shape == (len(self.genes), len(self.features)) and len(self.features) > 0
        missing = np.isnan(values)
        whole_rows = in_shape and bool(np.all(missing == missing[:, :1]))
        if not (in_order and whole_rows) or np.isinf(values).any():
            raise DataError(f"embedding {self.name!r} is not in order; make it by GeneEmbedding.from_frame(table).")

    @classmethod
    def from_frame(cls, table: pd.DataFrame, *, name: str | None = None) -> GeneEmbedding:
        """Read a gene x feature table, all of its rows.

        Parameters
        ----------
        table
            Genes in the index, numbers in the columns. Its ``attrs`` may hold ``name`` and provenance.
        name
            Goes before what ``attrs`` say. Default: ``"embedding"``.

        Raises
        ------
        DataError
            A gene without a name or in more than one row; columns that are not numbers, or none; infinite values.

        Notes
        -----
        A row in which a number is missing is no vector; :attr:`known` says which, and the repr how many.

        Examples
        --------
        >>> import pandas as pd
        >>> table = pd.DataFrame({"x": [0.5, 1.0, 2.0], "y": [1.0, None, 3.0]}, index=["B", "C", "A"])
        >>> embedding = GeneEmbedding.from_frame(table, name="ESM2")
        >>> embedding, embedding.genes, embedding.known
        (GeneEmbedding('ESM2', 3 genes, 1 without a vector, 2 features), ('A', 'B', 'C'), array([ True,  True, False]))
        """
        attrs = {str(key): value for key, value in table.attrs.items() if key != "name"}
        label = _label(table, name)
        genes = _gene_index(table, label)
        values = _numbers(table, label)
        incomplete = np.flatnonzero(~np.isfinite(values).all(axis=1))
        infinite = incomplete[np.isinf(values[incomplete]).any(axis=1)]
        if len(infinite):
            raise DataError(
                f"embedding {label!r} has infinite values for {len(infinite)} genes: {name_some(genes[infinite])}. "
                "Fill them, or make them missing: table.replace([np.inf, -np.inf], np.nan)."
            )
        values[incomplete] = np.nan
        order = sorted(range(len(genes)), key=genes.__getitem__)
        features = tuple(str(column) for column in table.columns)
        return cls(label, tuple(genes[order]), values[order], features, attrs)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """(n,) bool: the gene has a vector."""
        return ~np.isnan(self.values[:, 0])

    def to_frame(self) -> pd.DataFrame:
        """The vectors as a table of genes x features, float64; genes without one are left out.

        ``attrs`` are those of the embedding, with its name.
        """
        genes = np.array(self.genes, dtype=object)
        table = pd.DataFrame(self.values[self.known], index=genes[self.known], columns=list(self.features))
        table.attrs.update({**copy.deepcopy(self.attrs), "name": self.name})
        return table

    def to_uns(self) -> dict[str, Any]:
        """The plain form that h5ad and zarr keep."""
        return common_to_uns(self) | {"values": self.values, "features": text_array(self.features)}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> GeneEmbedding:
        """Undo :meth:`to_uns`."""
        return cls(**common_from_uns(stored), values=stored["values"], features=texts(stored["features"]))

    def __repr__(self) -> str:
        n_missing = len(self.genes) - int(self.known.sum())
        missing = f", {n_missing} without a vector" if n_missing else ""
        return f"GeneEmbedding({self.name!r}, {len(self.genes)} genes{missing}, {len(self.features)} features)"


def gene_embedding(
    table: Table | Mapping[str, ArrayLike],
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    names: GeneNames | None = None,
) -> GeneEmbedding:
    """Lay vectors of genes out for the user's genes.

    Parameters
    ----------
    table
        A gene x feature DataFrame with genes in the index; the path of a table with genes in the first column and
        names of features in the first line (CSV where its name says so, else tab-separated; may be compressed); or a
        mapping from genes to vectors of one length, as GenePT's and ESM2's files hold.
    genes
        Genes wanted, for example ``adata.var_names``; None: all of the table.
    name
        Default: the table's ``attrs["name"]``, else the name of the file, else ``"embedding"``.
    names
        Other names of genes, to find the user's genes under the table's symbols.

    Returns
    -------
    GeneEmbedding
        All genes wanted, by the user's names, sorted. A gene that the table does not have, or whose row lacks a
        number, is there without a vector; a log line counts them.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        None of the genes is in the table; the table cannot be read (:meth:`GeneEmbedding.from_frame`); vectors of
        several lengths.

    Notes
    -----
    What the vectors were made from cannot be seen from them. Say it, so that a leak is found:
    ``table.attrs["derived_from"] = "protein sequence"``, or ``"same_screen"``.

    Examples
    --------
    >>> vectors = {"TP53": [0.1, 0.9], "MDM2": [0.2, 0.8]}
    >>> embedding = gene_embedding(vectors, ["MDM2", "KLF1"], name="GenePT")
    >>> embedding
    GeneEmbedding('GenePT', 2 genes, 1 without a vector, 2 features)
    """
    frame = _frame(table)
    label = _label(frame, name)
    symbols = _gene_index(frame, label)
    found = find_genes(genes, symbols.tolist(), what=f"embedding {label!r}", names=names)
    wanted = sorted(found if genes is None else {str(gene) for gene in genes})
    here = [gene for gene in wanted if gene in found]
    rows = pd.Index(symbols).get_indexer(pd.Index([found[gene] for gene in here], dtype=object))
    embedding = GeneEmbedding.from_frame(frame.iloc[rows].set_axis(here).reindex(wanted), name=label)
    n_absent, n_missing = len(wanted) - len(here), int((~embedding.known).sum())
    if n_missing:
        message = "embedding %r: of %d genes, %d are not in the table and %d lack a number; they have no vector"
        logger.info(message, label, len(wanted), n_absent, n_missing - n_absent)
    return embedding


def _label(table: pd.DataFrame, name: str | None) -> str:
    return str(name if name is not None else table.attrs.get("name") or "embedding")


def _frame(table: Table | Mapping[str, ArrayLike]) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table
    if isinstance(table, Mapping):
        return _stacked(table)
    file = os.fspath(table)
    frame = read_table(file, {}, what="embedding")
    if isinstance(frame.index, pd.RangeIndex):  # else the first line has no name for the column of genes, as R writes
        frame = frame.set_index(frame.columns[0])
    frame.attrs["name"] = Path(file).name.split(".")[0]
    return frame


def _stacked(vectors: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Vectors below each other; features are numbered."""
    if not vectors:
        return pd.DataFrame()
    arrays = {gene: np.asarray(vector) for gene, vector in vectors.items()}
    shapes = pd.Series([str(array.shape) for array in arrays.values()], index=list(arrays), dtype=object)
    if shapes.nunique() > 1 or any(array.ndim != 1 for array in arrays.values()):
        usual = shapes.mode()[0]
        odd = shapes[shapes != usual].index
        raise DataError(
            f"vectors of genes must be one-dimensional and of one length; {len(shapes) - len(odd)} have the shape "
            f"{usual}, {len(odd)} another: {name_some(odd) or 'none'}. Leave these out, or reshape them."
        )
    values = np.array(list(arrays.values())).reshape(len(arrays), -1)
    columns = [f"feature{number + 1}" for number in range(values.shape[1])]
    return pd.DataFrame(values, index=list(arrays), columns=columns)


def _gene_index(table: pd.DataFrame, label: str) -> NDArray[np.object_]:
    """(n,) names of the rows as text."""
    genes = table.index.astype(str).to_numpy(dtype=object)
    nameless = table.index.isna() | np.array([gene.strip() == "" for gene in genes], dtype=bool)
    if nameless.any():
        raise DataError(
            f"embedding {label!r} has {nameless.sum()} rows without a gene name. Drop them: "
            "table[table.index.notna()]; pandas reads a gene called NA as missing unless read_csv is given "
            "keep_default_na=False."
        )
    index = pd.Index(genes)
    if index.has_duplicates:
        repeated = index[index.duplicated()].unique()
        raise DataError(
            f"embedding {label!r} has {len(repeated)} genes in more than one row: {name_some(repeated)}. Keep one row "
            "per gene, for example table.groupby(level=0).mean()."
        )
    return genes


def _numbers(table: pd.DataFrame, label: str) -> NDArray[np.float64]:
    """(n, F) values; missing ones are NaN."""
    if table.shape[1] == 0:
        raise DataError(f"embedding {label!r} has no columns; genes belong in the index, numbers in the columns.")
    text = [i for i, dtype in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    read = {i: pd.to_numeric(table.iloc[:, i], errors="coerce") for i in text}
    wrong = [
        table.columns[i]
        for i, numbers in read.items()
        if not table.iloc[:, i][numbers.isna()].dropna().isin(_MISSING_TEXT).all()
    ]
    if wrong:
        raise DataError(
            f"embedding {label!r} has {len(wrong)} columns that are not numbers: {name_some(wrong)}. Drop or encode "
            'them; genes belong in the index: table.set_index("the column of genes").'
        )
    if read:
        table = table.set_axis(range(table.shape[1]), axis=1)  # names of columns may repeat
        for i, numbers in read.items():
            table[i] = numbers
    return table.to_numpy(dtype=np.float64, copy=True, na_value=np.nan)
