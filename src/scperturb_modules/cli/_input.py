"""Reading what the command line names, with a readable line where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scperturb_modules._errors import name_some
from scperturb_modules.cli._output import InputError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def read_screen(path: Path) -> AnnData:
    """Read a screen; the file itself is never written to."""
    _require_file(path)
    import anndata  # slow: a wrong path is answered before

    return _read(anndata.read_h5ad, path, "an AnnData file (.h5ad)")


def read_guide_table(path: Path) -> dict[str, str]:
    """Guide -> target, from the first two columns of a table (CSV, or TSV by its name) with a header."""
    table = _read_table(path).reset_index()
    if table.shape[1] < 2:
        raise InputError(f"{path} needs two columns, guide and target; it has {table.shape[1]}")
    return dict(zip(table.iloc[:, 0].astype(str), table.iloc[:, 1].astype(str), strict=True))


def read_priors(paths: list[Path]) -> dict[str, pd.DataFrame]:
    """Gene x feature tables (CSV, or TSV by its name; first column: gene symbols) by the name of their file."""
    import pandas as pd

    priors = {}
    for path in paths:
        table = _read_table(path)
        text = [str(name) for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
        if text or table.empty:
            found = f"columns that are not numbers: {name_some(text)}" if text else "no number"
            raise InputError(f"{path} must hold genes in its first column and numbers in the others; it has {found}")
        if path.stem in priors:
            raise InputError(f"two priors are named {path.stem!r}; rename one of the files")
        priors[path.stem] = table
    return priors


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    _require_file(path)

    def read(path: Path) -> pd.DataFrame:
        separator = "\t" if ".tsv" in path.suffixes else ","
        # "NA" and "nan" are gene symbols too: only an empty field is missing
        return pd.read_csv(path, sep=separator, index_col=0, keep_default_na=False, na_values=[""])

    table: pd.DataFrame = _read(read, path, "a table (.csv or .tsv)")
    return table


def _require_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if not path.is_file():
        raise InputError(f"{path} is a folder, not a file")


def _read(read: Any, path: Path, kind: str) -> Any:
    try:
        return read(path)
    except PermissionError:
        raise
    except Exception as error:  # readers raise whatever their parsers do when a file is not what its name says
        reason = str(error).strip().splitlines()
        raise InputError(f"{path} cannot be read as {kind}: {reason[0] if reason else type(error).__name__}") from error
