"""Which gene has which term of the Gene Ontology: tables, GAF, gene2go and GMT files, read to one form."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._gmt import GENE_COLUMNS, listed, read_sets
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._read import Table, read_file, read_table

AnnotationSource: TypeAlias = Table | Mapping[str, Iterable[str]]
"""Path of a GAF, gene2go or GMT file or of a table; a table; or a dictionary from genes to terms."""

_ASPECTS = {
    **{"P": "BP", "F": "MF", "C": "CC"},
    **{"Process": "BP", "Function": "MF", "Component": "CC"},
    **{"biological_process": "BP", "molecular_function": "MF", "cellular_component": "CC"},
    **{"BP": "BP", "MF": "MF", "CC": "CC"},
}
"""How files write the aspects."""
_GO_COLUMNS = ("GO_ID", "go", "term", "GO term accession")
_OTHER = {"Aspect": "aspect", "Category": "aspect", "Evidence": "evidence", "Qualifier": "qualifier"}
_COLUMNS = ("gene", "go_id", "aspect", "evidence", "qualifier")
_GAF = ["database", "object", "gene", "qualifier", "go_id", "reference", "evidence", "with_from", "aspect"]
_GENE2GO = ["#tax_id", "GeneID", "GO_ID", "Evidence", "Qualifier", "Category"]
_HUMAN = "9606"
_ROWS = 1_000_000
_AS_WRITTEN: dict[str, Any] = {"dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}


def as_aspects(column: pd.Series, *, what: str) -> pd.Series:
    """Aspects as BP, MF and CC; :class:`DataError` where one is written in no known way."""
    unknown = [str(aspect) for aspect in column.unique() if aspect not in _ASPECTS]
    if unknown:
        raise DataError(f"{what}: unknown aspects {name_some(unknown)}. Write BP, MF or CC.")
    return column.map(_ASPECTS)


@dataclass
class Annotations:
    """Annotations as read.

    ``table`` has a row per annotation, the columns ``gene`` and ``go_id`` and, where the source has them, ``aspect``,
    ``evidence`` and ``qualifier``, all text. ``descriptions`` is what a GMT file says of each of its sets; None for
    other sources.
    """

    table: pd.DataFrame
    descriptions: dict[str, str] | None = None
    left_out: dict[str, int] = field(default_factory=dict)


def read_annotations(source: AnnotationSource, names: GeneNames | None, *, what: str) -> Annotations:
    """Read annotations of any form; rows without gene or term are dropped and counted.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged or cut short; columns are absent; Entrez ids cannot be turned into symbols.
    """
    if isinstance(source, Mapping):
        pairs = [(str(gene), term) for gene, terms in source.items() for term in listed(gene, terms)]
        return _complete(_table_of(pairs))
    if isinstance(source, pd.DataFrame):
        return _complete(_plain_table(source, what))
    path = Path(source)
    if ".gmt" in path.suffixes:
        raw = read_sets(path, what=what)
        pairs = [(gene, term) for term, genes in raw.members.items() for gene in genes]
        told = dict(zip(raw.members, raw.descriptions, strict=True))
        return Annotations(_table_of(pairs), told, raw.mended)
    first = read_file(path, _first_line, what=what)
    if ".gaf" in path.suffixes or first.startswith("!"):
        return _complete(read_file(path, _read_gaf, what=what))
    if first.startswith("#tax_id"):
        return _complete(_with_symbols(read_file(path, _read_gene2go, what=what), names, what))
    return _complete(_plain_table(path, what))


def _table_of(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["gene", "go_id"], dtype=object)


def _plain_table(source: Table, what: str) -> pd.DataFrame:
    return read_table(source, {"gene": GENE_COLUMNS, "go_id": _GO_COLUMNS}, what=what).rename(columns=_OTHER)


def _complete(table: pd.DataFrame) -> Annotations:
    """The columns that are used, as text; without rows that lack gene or term."""
    table = table[[column for column in _COLUMNS if column in table.columns]].astype(object)
    text = table.apply(lambda column: column.map({value: _as_text(value) for value in column.unique()}))
    blank = (text["gene"] == "") | (text["go_id"] == "")
    return Annotations(text[~blank], left_out={"annotations without gene or term": int(blank.sum())})


def _as_text(value: Any) -> str:
    return "" if pd.isna(value) else str(value).strip()


def _first_line(path: Path) -> str:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as file:
        return file.readline()


def _read_gaf(path: Path) -> pd.DataFrame:
    """Rows of a GAF file (version 2, 17 columns); lines of comment start with an exclamation mark."""
    table = pd.read_csv(path, sep="\t", header=None, names=_GAF, usecols=range(len(_GAF)), **_AS_WRITTEN)
    table = table[~table["database"].str.startswith("!")]
    short = table["aspect"].isna() | (table["aspect"] == "")
    if short.any():
        raise DataError(
            f"{os.fspath(path)!r}: {short.sum()} of {len(table)} rows end before the aspect (column 9), in lines "
            f"{name_some(table.index[short] + 1)}. It is no GAF file, or it is cut short: fetch it again."
        )
    return table


def _read_gene2go(path: Path) -> pd.DataFrame:
    """Human rows of NCBI's gene2go, which holds all species."""
    parts = pd.read_csv(path, sep="\t", chunksize=_ROWS, usecols=_GENE2GO, **_AS_WRITTEN)
    human = pd.concat([part[part["#tax_id"] == _HUMAN] for part in parts])
    return human.rename(columns={"GeneID": "gene", "GO_ID": "go_id", **_OTHER})


def _with_symbols(table: pd.DataFrame, names: GeneNames | None, what: str) -> pd.DataFrame:
    """Entrez ids replaced by symbols; blank where an id has none, or several."""
    if names is None or not names.entrez:
        raise DataError(
            f"{what}: gene2go has Entrez ids. Pass names=spm.priors.GeneNames.from_tables(ids) with a table of the "
            "columns symbol and entrez."
        )
    symbols = {entrez: found[0] for entrez, found in names.entrez.items() if len(found) == 1}
    return table.assign(gene=table["gene"].map(symbols))
