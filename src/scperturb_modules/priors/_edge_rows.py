"""What builders of networks share: the columns of an edge table, its rows among the user's genes, their scale."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._edge_columns import SOURCE, TARGET, WEIGHT, gene_columns
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._read import Table


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


def find_column(table: pd.DataFrame, wanted: Iterable[str]) -> str | None:
    """The first of the columns wanted that a table has, in any letter case."""
    there = {str(column).lower(): column for column in table.columns}
    return next((there[one] for one in wanted if one in there), None)


def numbers_of(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as float64; nan where a field is no number, which the network then names."""
    return pd.to_numeric(table[column].astype(object), errors="coerce").to_numpy(dtype=np.float64)


def edge_rows(
    table: pd.DataFrame, pairs: Iterable[tuple[str, str]], weight: NDArray[np.float64], *, what: str
) -> pd.DataFrame:
    """Both genes of each row, from the first pair of columns that the table has, and its weight."""
    for pair in pairs:
        source, target = (find_column(table, [one]) for one in pair)
        if source is not None and target is not None:
            rows = pd.DataFrame({SOURCE: table[source], TARGET: table[target], WEIGHT: weight}, index=table.index)
            rows[SOURCE], rows[TARGET] = gene_columns(rows, what)
            return rows
    raise DataError(
        f"{what}: no two columns with the ends of an edge; the columns are {name_some(table.columns, most=12)}. "
        'Rename: table.rename(columns={"your name": "source", "your other name": "target"}).'
    )


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
