"""``spm report``: a benchmark as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scperturb_modules.cli._input import require_file
from scperturb_modules.cli._output import InputError
from scperturb_modules.cli._results import require_writable, write_page


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder of spm benchmark or spm demo.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
    next_conditions: Annotated[
        Path | None, typer.Option("--next", help="CSV of what to perturb next; else next.csv of the folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
) -> None:
    """Write one HTML page about a benchmark: the verdict first, then every prediction, and how to repeat it.

    The page needs no network and no other file, so that it can be sent by mail.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; name the page, for example --out {out / 'report.html'}")
    require_writable(out.parent)
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; choose another --out, or pass --overwrite to replace it")
    if next_conditions is not None:
        require_file(next_conditions)
    if not results.is_dir():
        raise InputError(f"{results} is no folder of results; spm benchmark SCREEN.h5ad --out {results} makes one")
    try:
        write_page(results, out, next_conditions)
    except FileNotFoundError as error:
        raise InputError(f"{results} holds no results of spm benchmark or spm demo") from error
    typer.echo(f"Page: {out}")
