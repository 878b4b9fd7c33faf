"""The application: which commands there are, and what holds for all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from scperturb_modules.cli._benchmark import benchmark
from scperturb_modules.cli._demo import demo
from scperturb_modules.cli._fit import fit
from scperturb_modules.cli._output import WRONG_INPUT, Commands
from scperturb_modules.cli._predict import predict
from scperturb_modules.cli._report import report
from scperturb_modules.cli._validate import validate

app = typer.Typer(name="spm", cls=Commands, add_completion=False, rich_markup_mode="rich")
app.command()(demo)
app.command()(validate)
app.command()(benchmark)
app.command()(report)
app.command()(fit)
app.command()(predict)


def _print_version(wanted: bool) -> None:
    if wanted:
        from scperturb_modules import __version__

        typer.echo(f"scperturb_modules {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True, epilog="Each command tells more: [bold]spm benchmark --help[/bold]")
def spm(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
) -> None:
    """Predict what a genetic perturbation does to a cell, and know whether the prediction can be believed.

    To begin with:

      spm demo --out results

      spm validate screen.h5ad --perturbation-key guide_ids --control NT

      spm benchmark screen.h5ad --perturbation-key guide_ids --out results

      spm report results --out report.html

      spm fit screen.h5ad --perturbation-key guide_ids --prior network.csv --out model

      spm predict model --condition KLF1+GATA1 --out prediction.h5ad
    """
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(WRONG_INPUT)


def main() -> None:
    """Entry point of the command ``spm``."""
    app()
