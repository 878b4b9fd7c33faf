"""Where results go: the folder of a benchmark, its pictures, and the table on the screen."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from scperturb_modules._files import whole_file
from scperturb_modules.cli._output import InputError, console

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def check_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder with content, or that cannot be written, before anything is computed."""
    require_writable(out)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty; choose another --out, or pass --overwrite to replace earlier results")


def require_writable(folder: Path) -> None:
    """Refuse a folder that could not be made or written in."""
    nearest = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not nearest.is_dir():
        raise InputError(f"{nearest} is a file, not a folder; choose another --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into {nearest}; choose another --out")


def write_results(board: Any, out: Path) -> None:
    """Tables and predictions (``board.save``), the pictures and the page, in ``out``."""
    import matplotlib

    from scperturb_modules import pl

    matplotlib.use("Agg")  # a command opens no windows
    board.save(out, overwrite=True)
    _write_picture(pl.leaderboard(board), out / "figures" / "leaderboard.png")
    _write_picture(pl.error_by_effect(board.frame), out / "figures" / "error_by_effect.png")
    _write_picture(pl.metric_quality(board.quality()), out / "figures" / "metric_quality.png")
    write_page(board, out / "report.html")


def write_page(board: Any, path: Path, next_conditions: Path | None = None) -> None:
    """The page about a benchmark, or about the folder where it was saved."""
    import matplotlib

    from scperturb_modules.report import write_report

    matplotlib.use("Agg")  # a command opens no windows
    write_report(board, path, next_conditions=next_conditions)


def _write_picture(ax: Axes, path: Path) -> None:
    from matplotlib import pyplot

    figure: Any = ax.figure
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def show_results(board: Any, out: Path) -> None:
    """The leaderboard of the primary metric, what was left out, the verdict in words, and where the files are."""
    from scperturb_modules.metrics import PRIMARY

    summary = board.summary()
    primary = summary[summary["metric"].astype(str) == PRIMARY]
    for (split, regime), rows in primary.groupby(["split_kind", "regime"], observed=True, sort=False):
        console.print(_table(rows, f"{regime} (split: {split}), n = {rows['n'].max()} conditions"), "")
    for name, reasons in board.skipped.groupby("predictor", sort=False)["reason"]:
        typer.echo(f"Left out in {len(reasons)} of {len(board.truths)} splits: {name} ({reasons.iloc[0]})")
    typer.echo(f"\n{board.verdict()}\n")
    typer.echo(f"Tables, predictions and figures: {out}")
    typer.echo(f"All of it as one page: {out / 'report.html'}")


def _table(rows: pd.DataFrame, title: str) -> Table:
    """At most 80 columns wide, the width of a narrow terminal and of a file."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for name in ("Predictor", "L2 (95 % CI)", "Gain % (95 % CI)", "over"):
        table.add_column(name, overflow="fold")
    for _, row in rows.sort_values(["mean", "model"]).iterrows():
        error = _interval(row["mean"], row["ci_low"], row["ci_high"], digits=2)
        gain = _interval(100 * row["gain"], 100 * row["gain_low"], 100 * row["gain_high"], digits=1)
        table.add_row(str(row["model"]), error, gain, str(row["gain_vs"]) if gain else "")
    return table


def _interval(value: float, low: float, high: float, *, digits: int) -> str:
    if math.isnan(value):
        return ""
    text = f"{value:z.{digits}f}"
    # with too few conditions there is no interval
    return text if math.isnan(low) else f"{text} ({low:z.{digits}f}, {high:z.{digits}f})"
