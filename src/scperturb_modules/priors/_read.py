"""Tables and files that hold prior knowledge, with one clear error where one cannot be read."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pandas as pd

from scperturb_modules._errors import DataError, name_some

T = TypeVar("T")
Table: TypeAlias = pd.DataFrame | str | os.PathLike[str]
"""A table, or the path of one: CSV, or separated by tabs or blanks; may be compressed."""


def read_file(path: str | os.PathLike[str], read: Callable[[Path], T], *, what: str) -> T:
    """Apply a reader to a file.

    Raises
    ------
    FileNotFoundError
        No file is there.
    DataError
        The file is cut short, damaged, or not of its format.
    """
    file = Path(path)
    if not file.is_file():
        found = "is a folder" if file.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"{what}: {os.fspath(path)!r} {found}. Give the path of a local file; spm.priors.download(name) fetches "
            "public ones once."
        )
    try:
        return read(file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{what}: {os.fspath(path)!r} is cut short or damaged ({error}). Fetch it again.") from error
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{what}: {os.fspath(path)!r} cannot be read as a table ({error}).") from error


def read_table(
    table: Table, columns: Mapping[str, Sequence[str]], *, what: str, header: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table and give its columns their names here.

    Parameters
    ----------
    table
        A DataFrame, which is not changed, or a path.
    columns
        The names needed, each with the names it may have in the table, the first found counts.
    what
        For messages, for example ``"GO annotations"``.
    header
        Names of all columns of a file whose first line has none.

    Returns
    -------
    DataFrame
        All columns, those needed renamed. Text is as written: a gene may be called NA.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged, or a column is absent.
    """
    named: dict[str, Any] = {} if header is None else {"header": None, "names": list(header)}
    frame = table if isinstance(table, pd.DataFrame) else read_file(table, partial(_read, **named), what=what)
    found = {
        name: next((one for one in (name, *others) if one in frame.columns), None) for name, others in columns.items()
    }
    absent = [name for name, column in found.items() if column is None]
    if absent:
        raise DataError(
            f"{what}: no column {name_some(absent)}; the columns are {name_some(frame.columns, most=12)}. Rename: "
            f'table.rename(columns={{"your name": "{absent[0]}"}}).'
        )
    return frame.rename(columns={column: name for name, column in found.items() if column is not None})


def first_line(path: str | os.PathLike[str], *, what: str) -> list[str]:
    """The fields of the first line of a file, whether they are names of columns or not; errors of `read_table`."""
    line = read_file(path, partial(_read, header=None, nrows=1, dtype=str), what=what)
    return [str(text) for text in line.iloc[0]]


def _read(path: Path, **how: Any) -> pd.DataFrame:
    # "NA" and "nan" are gene symbols too
    return pd.read_csv(path, sep=_separator(path), keep_default_na=False, na_values=[""], low_memory=False, **how)


def _separator(path: Path) -> str:
    """Comma where the name says CSV; else what stands in the first line: tabs, or commas, or blanks alone."""
    if ".csv" in path.suffixes:
        return ","
    fields = pd.read_csv(path, sep="\t", nrows=0).columns
    line = str(fields[0]).strip()
    if len(fields) > 1 or not {",", " "} & set(line):
        return "\t"
    return "," if "," in line else r"\s+"
