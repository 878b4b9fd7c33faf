"""The result table: which columns, of which type, and how it is written and read without loss."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, MissingKeyError, name_some
from scperturb_modules._files import whole_file

ALL_CONDITIONS = "__all__"
"""``condition`` of a metric that is measured over all conditions of a context and regime at once."""

TEXT, NUMBER, COUNT, FLAG = "category", "float64", "int64", "bool"

COLUMNS: Mapping[str, str] = {
    "dataset": TEXT,
    "organism": TEXT,
    "modality": TEXT,
    "protocol": TEXT,
    "split_kind": TEXT,
    "split_version": TEXT,
    "split_seed": COUNT,
    "fold": COUNT,
    "regime": TEXT,
    "stratum": TEXT,
    "condition": TEXT,
    "genes": TEXT,
    "n_genes_perturbed": COUNT,
    "model": TEXT,
    "model_version": TEXT,
    "preset": TEXT,
    "model_seed": COUNT,
    "is_baseline": FLAG,
    "uses_perturbation_prior": FLAG,
    "metric": TEXT,
    "gene_set": TEXT,
    "n_genes": COUNT,
    "reference": TEXT,
    "provider": TEXT,
    "value": NUMBER,
    "better": TEXT,
    "perfect": NUMBER,
    "status": TEXT,
    "n_cells_test": COUNT,
    "n_cells_control": COUNT,
    "effect_norm": NUMBER,
    "snr": NUMBER,
    "replicate_value": NUMBER,
    "floor": NUMBER,
    "leak_status": TEXT,
    "package_version": TEXT,
}
"""Columns of the result table in their order. Unknown text is ``""``, an unknown count -1, an unknown number NaN."""

_UNKNOWN: Mapping[str, Any] = {TEXT: "", NUMBER: float("nan"), COUNT: -1, FLAG: False}

ORDER = ["split_kind", "split_seed", "fold", "regime", "stratum", "condition", "metric", "model", "model_seed"]
"""The rows are sorted by these, so that a table does not depend on what was finished first."""


def as_results(table: pd.DataFrame, **constants: Any) -> pd.DataFrame:
    """Give a table all columns of the result table, their order and types, and sort it.

    Parameters
    ----------
    table
        Some of the columns of :data:`COLUMNS`, and no other.
    **constants
        Columns that hold one value.

    Returns
    -------
    DataFrame
        A new table; categories are sorted text, so that a CSV file gives the same ones back.
    """
    wide = table.assign(**constants)
    unknown = sorted(set(wide.columns) - set(COLUMNS))
    if unknown:
        raise MissingKeyError(f"{len(unknown)} columns are not of a result table: {name_some(unknown)}.")
    columns = {}
    for name, kind in COLUMNS.items():
        values = wide[name] if name in wide else pd.Series(_UNKNOWN[kind], index=wide.index)
        columns[name] = _text(values) if kind == TEXT else values.fillna(_UNKNOWN[kind]).astype(np.dtype(kind))
    result = pd.DataFrame(columns, index=wide.index)
    return result.sort_values(ORDER, kind="stable").reset_index(drop=True)


def _text(values: pd.Series) -> pd.Series:
    text = values.astype(object).where(values.notna(), "").map(str)
    return text.astype(pd.CategoricalDtype(sorted(set(text))))


def join_results(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Put result tables one below the other; categories are joined, rows sorted."""
    plain = [table.astype({name: object for name, kind in COLUMNS.items() if kind == TEXT}) for table in tables]
    return as_results(pd.concat(plain, ignore_index=True) if plain else pd.DataFrame())


def write_table(table: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table whole or not at all, as CSV or, when the name ends in ``.parquet``, as Parquet.

    Numbers in CSV have as many digits as are needed to read the same float64 back.
    """
    with whole_file(path) as temporary:
        if Path(path).suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)


def read_results(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a result table back exactly as it was: values, types, categories and order.

    Parameters
    ----------
    path
        ``results.csv`` of a folder that ``Benchmark.save`` wrote, or the same table as ``.parquet`` (needs pyarrow).

    Returns
    -------
    DataFrame
        The table, with the columns of ``Benchmark.frame``.

    Raises
    ------
    DataError
        The file is no result table.

    Examples
    --------
    >>> import tempfile, scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> board = spm.tl.benchmark(adata, [spm.baselines.NoChange], n_folds=2, n_boot=100)
    >>> folder = tempfile.mkdtemp()
    >>> board.save(folder, overwrite=True)
    >>> spm.tl.read_results(f"{folder}/results.csv").equals(board.frame)
    True
    """
    if Path(path).suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        # "NA" and "nan" are names of genes and conditions here; an empty field is a missing number
        table = pd.read_csv(path, keep_default_na=False, float_precision="round_trip", dtype=str)
    absent = [name for name in COLUMNS if name not in table]
    if absent:
        raise DataError(f"{os.fspath(path)!r} is no result table: it lacks the columns {name_some(absent)}.")
    table = table[list(COLUMNS)]
    for name, kind in COLUMNS.items():
        if kind == FLAG and not pd.api.types.is_bool_dtype(table[name]):
            table = table.assign(**{name: table[name] == "True"})
        elif kind == NUMBER and not pd.api.types.is_float_dtype(table[name]):
            table = table.assign(**{name: table[name].replace("", "nan").map(float)})
    return as_results(table)
