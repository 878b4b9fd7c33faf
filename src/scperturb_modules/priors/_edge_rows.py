"""What builders of networks share: the columns of an edge table, its rows among the user's genes, their scale."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._edge_columns import SOURCE, TARGET, WEIGHT, gene_columns
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._read import Table, first_line, read_table

logger = logging.getLogger(__name__)

Pairs: TypeAlias = Iterable[tuple[str, str]]
"""Names, in lower case, that the two columns of genes may have; the first pair that a table has counts."""

SIGN_OF_MODE = {"activation": 1.0, "repression": -1.0, "unknown": 0.0}


def table_name(name: str | None, edges: Table, otherwise: str) -> str:
    """The name given, else that of the table or file."""
    if name is not None:
        return name
    if isinstance(edges, pd.DataFrame):
        return str(edges.attrs.get("name", otherwise))
    return Path(edges).name.partition(".")[0]


def provenance(table: pd.DataFrame, edges: Table, *, version: str, derived_from: str) -> dict[str, Any]:
    """What ``attrs`` of a table say, the name of its file, and its version where one is given."""
    said: dict[str, Any] = {"derived_from": derived_from}
    if not isinstance(edges, pd.DataFrame):
        said["source"] = Path(edges).name
    said.update((str(key), value) for key, value in table.attrs.items())
    if version:
        said["version"] = version
    return said


def read_edges(edges: Table, pairs: Pairs, *, score: str | None = None, what: str) -> pd.DataFrame:
    """Read an edge table; a file is read without a header where its first line is certainly an edge.

    It is one where it names none of the columns, and its third field is a number (hu.MAP) or says how a factor acts
    (TRRUST), or it has two fields and a later line has one of them again.
    """
    needed: dict[str, Sequence[str]] = {} if score is None else {score: ()}
    if isinstance(edges, pd.DataFrame):
        return read_table(edges, needed, what=what)
    fields = first_line(edges, what=what)
    header = [] if _ends(fields, pairs) else _header_for(fields)
    if header:
        table = read_table(edges, {}, what=what, header=header)
        if len(header) > 2 or table[1:].astype(str).isin(fields).any(axis=None):
            logger.info("%s: the first line is an edge, so the columns are taken for %s", what, name_some(header))
            return read_table(table, needed, what=what)
    return read_table(edges, needed, what=what)


def find_column(columns: Iterable[Any], wanted: Iterable[str]) -> str | None:
    """The first of the names wanted that is among the columns (of a table), in any letter case."""
    there = {str(column).lower(): column for column in columns}
    return next((there[one] for one in wanted if one in there), None)


def numbers_of(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as float64; nan where a field is no number, which the network then names."""
    return pd.to_numeric(table[column].astype(object), errors="coerce").to_numpy(dtype=np.float64)


def edge_rows(table: pd.DataFrame, pairs: Pairs, weight: NDArray[np.float64], *, what: str) -> pd.DataFrame:
    """Both genes of each row, from the first pair of columns that the table has, and its weight."""
    ends = _ends(table, pairs)
    if ends is None:
        raise DataError(
            f"{what}: no two columns with the ends of an edge; the columns are {name_some(table.columns, most=12)}. "
            'Rename: table.rename(columns={"your name": "source", "your other name": "target"}). If they are an edge, '
            'the file has no header: pd.read_csv(file, sep="\\t", names=["source", "target", ...]).'
        )
    rows = pd.DataFrame({SOURCE: table[ends[0]], TARGET: table[ends[1]], WEIGHT: weight}, index=table.index)
    rows[SOURCE], rows[TARGET] = gene_columns(rows, what)
    return rows


def rows_among(
    rows: pd.DataFrame,
    genes: Iterable[str] | None,
    isolated: Iterable[str],
    names: GeneNames | None,
    *,
    keep_others: bool,
    what: str,
) -> tuple[pd.DataFrame, list[str]]:
    """Rows with both ends among the genes, under the user's names; and all genes that the table knows."""
    number, symbols = pd.factorize(np.concatenate([rows[SOURCE], rows[TARGET]]))
    found = find_genes(genes, {*symbols, *isolated}, what=what, names=names, keep_others=keep_others)
    users = {symbol: gene for gene, symbol in found.items()}
    ends = np.array([users.get(symbol, "") for symbol in symbols], dtype=object)[number].reshape(2, len(rows))
    inside = (ends != "").all(axis=0)
    return rows.assign(source=ends[0], target=ends[1])[inside], list(found)


def network_of(
    rows: pd.DataFrame,
    genes: Iterable[str],
    strength: NDArray[np.float64],
    attrs: dict[str, Any],
    *,
    name: str,
    directed: bool | None,
    signed: bool | None = None,
) -> GeneGraph:
    """Network of the rows; where strengths of the table exceed 1, all are divided by the next power of ten."""
    greatest = np.max(np.abs(strength), initial=0, where=np.isfinite(strength))
    if greatest > 1:
        attrs["score_of_one"] = float(10 ** np.ceil(np.log10(greatest)))
        rows = rows.assign(weight=rows[WEIGHT] / attrs["score_of_one"])
    ends = {*rows[SOURCE], *rows[TARGET]}
    attrs["isolated"] = [gene for gene in genes if gene not in ends]
    rows.attrs.update(attrs)
    return GeneGraph.from_table(rows, name=name, directed=directed, signed=signed)


def _ends(columns: Iterable[Any], pairs: Pairs) -> tuple[str, str] | None:
    there = list(columns)
    found = ([find_column(there, [one]) for one in pair] for pair in pairs)
    return next(((source, target) for source, target in found if source is not None and target is not None), None)


def _header_for(fields: list[str]) -> list[str]:
    """Names for the columns of a file whose first line looks like an edge; none where it does not."""
    if len(fields) == 2:
        return [SOURCE, TARGET]
    if len(fields) == 3 and np.isfinite(pd.to_numeric(fields[2], errors="coerce")):
        return [SOURCE, TARGET, WEIGHT]
    if len(fields) in (3, 4) and fields[2].lower() in SIGN_OF_MODE:
        return [SOURCE, TARGET, "mode", "references"][: len(fields)]
    return []
