"""Tables of names of genes, as users and public databases have them, read to pairs of a name and a symbol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._read import Table, read_table

_SYMBOL = ("gene_symbol", "hgnc_symbol", "gene_name", "Gene name", "preferred_name")
_ID_COLUMNS = {
    "ensembl": (
        *("ensembl", "ensembl_gene_id", "ensembl_id", "gene_ids", "gene_id", "Gene stable ID"),
        *("#string_protein_id", "string_protein_id"),
    ),
    "entrez": ("entrez", "entrez_id", "entrezgene_id", "NCBI gene (formerly Entrezgene) ID"),
    "aliases": ("alias_symbol", "prev_symbol"),
}
"""Columns of a table of ids that give other names, several of them joined by a bar."""


@dataclass(frozen=True)
class NameTable:
    """All symbols of a table; and of each kind of name (aliases, ensembl, entrez) the pairs of a name and a symbol."""

    symbols: frozenset[str]
    pairs: dict[str, list[tuple[str, str]]]


def read_ids(ids: Table) -> NameTable:
    """Read a table with a row per gene; :class:`DataError` where it has no column of other names."""
    table = read_table(ids, {"symbol": _SYMBOL}, what="gene ids")
    there = {kind: [one for one in columns if one in table.columns] for kind, columns in _ID_COLUMNS.items()}
    if not any(there.values()):
        raise DataError(
            "gene ids: no column 'ensembl', 'entrez', 'alias_symbol' or 'prev_symbol'; the columns are "
            f"{name_some(table.columns, most=12)}."
        )
    return NameTable(_symbols(table), {kind: _pairs(table, columns) for kind, columns in there.items()})


def read_aliases(aliases: Table) -> NameTable:
    """Read a table with a row per alias."""
    table = read_table(aliases, {"alias": (), "symbol": _SYMBOL}, what="gene aliases")
    return NameTable(_symbols(table), {"aliases": _pairs(table, ["alias"])})


def without_version(name: str) -> str:
    """An Ensembl id without its version; other names as they are."""
    return name.partition(".")[0] if name.startswith("ENS") else name


def _symbols(table: pd.DataFrame) -> frozenset[str]:
    return frozenset(table["symbol"].dropna().astype(str))


def _pairs(table: pd.DataFrame, columns: Iterable[str]) -> list[tuple[str, str]]:
    """Names of some columns with the symbols of their rows; names in one field are joined by a bar."""
    pairs = []
    for column in columns:
        # whole numbers with gaps are read as floats: 5788.0 is the id 5788
        rows = table[[column, "symbol"]].dropna().convert_dtypes().astype(str)
        for joined, symbol in zip(rows[column], rows["symbol"], strict=True):
            pairs += [(without_version(name), symbol) for name in map(str.strip, joined.split("|")) if name]
    return pairs
