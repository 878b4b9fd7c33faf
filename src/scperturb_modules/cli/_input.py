"""Reading what the command line names, with a readable line where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scperturb_modules._errors import name_some
from scperturb_modules.cli._output import InputError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scperturb_modules.priors import GeneSets


def read_screen(path: Path) -> AnnData:
    """Read a screen; the file itself is never written to."""
    require_file(path)
    import anndata  # slow: a wrong path is answered before

    return _read(anndata.read_h5ad, path, "an AnnData file (.h5ad)")


def read_guide_table(path: Path) -> dict[str, str]:
    """Guide -> target, from the first two columns of a table (CSV, or TSV by its name) with a header."""
    table = _read_table(path)
    if table.shape[1] < 2:
        raise InputError(f"{path} needs two columns, guide and target; it has {table.shape[1]}")
    return dict(zip(table.iloc[:, 0].astype(str), table.iloc[:, 1].astype(str), strict=True))


def read_conditions(path: Path) -> list[str]:
    """One condition per line; empty lines do not count."""
    require_file(path)
    lines = _read(lambda text: text.read_text(encoding="utf-8-sig").splitlines(), path, "a text file")
    return [line.strip() for line in lines if line.strip()]


def read_priors(paths: list[Path]) -> dict[str, Any]:
    """What is known of genes, by the name of the file: gene sets (GMT), or a table (CSV, or TSV by its name).

    A table with the columns source and target (and weight) holds the edges of a network; any other has genes in its
    first column and numbers in the rest.
    """
    priors: dict[str, Any] = {}
    for path in paths:
        name = path.name.partition(".")[0] if _is_gmt(path) else path.stem
        if name in priors:
            raise InputError(f"two priors are named {name!r}; rename one of the files")
        priors[name] = _sets(path) if _is_gmt(path) else _table_prior(path)
    return priors


def _is_gmt(path: Path) -> bool:
    return ".gmt" in path.suffixes


def _sets(path: Path) -> GeneSets:
    from scperturb_modules.priors import gene_sets

    require_file(path)
    sets = gene_sets(path)  # its errors name lines and the mend
    typer.echo(f"{path}: {len(sets.sets)} sets of {len(sets.genes)} genes")
    return sets


def _table_prior(path: Path) -> pd.DataFrame:
    from scperturb_modules.priors import is_edge_table

    table = _read_table(path)
    return _edges(table, path) if is_edge_table(table) else _features(table, path)


def _edges(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """An edge table, checked; a column that looks like a weight under another name is told."""
    from scperturb_modules.priors import as_graph

    network = as_graph(table, path.stem)  # its errors name rows and the mend
    typer.echo(f"{path}: a network of {len(network.genes)} genes and {network.n_edges} edges")
    others = [str(name) for name in table.columns if name not in ("source", "target", "weight")]
    if others:
        typer.echo(f"spm: note: {path}: not read: {name_some(others)}; a column of weights is named weight", err=True)
    return table


def _features(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    import pandas as pd

    table = table.set_index(table.columns[0])
    text = [str(name) for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    if text or table.empty:
        found = f"columns that are not numbers: {name_some(text)}" if text else "no number"
        raise InputError(
            f"{path} must hold genes in its first column and numbers in the others, or edges in the columns source, "
            f"target and weight; it has {found}"
        )
    return table


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    require_file(path)

    def read(path: Path) -> pd.DataFrame:
        separator = "\t" if ".tsv" in path.suffixes else ","
        # "NA" and "nan" are gene symbols too: only an empty field is missing
        table = pd.read_csv(path, sep=separator, keep_default_na=False, na_values=[""])
        # a header that is one name short, as R writes it, leaves the first column in the index
        return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()

    return _read(read, path, "a table (.csv or .tsv)")


def require_file(path: Path) -> None:
    """Refuse what is no file, before anything slow is done."""
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
