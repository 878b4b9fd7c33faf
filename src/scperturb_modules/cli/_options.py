"""Options that more than one command has; one description each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Screen = Annotated[Path, typer.Argument(metavar="SCREEN.h5ad", help="Your screen: cells x genes. Only read.")]
PerturbationKey = Annotated[
    str, typer.Option("--perturbation-key", help="Column of obs with the perturbation of each cell.")
]
Control = Annotated[
    list[str] | None, typer.Option("--control", help="Label of control cells, for example NT. Repeatable.")
]
Sep = Annotated[str | None, typer.Option("--sep", help="What joins two genes in a label, besides '+'.")]
GuideTable = Annotated[
    Path | None, typer.Option("--guide-table", help="CSV: guide, target gene (or the control's label).")
]
Layer = Annotated[str | None, typer.Option("--layer", help="Layer with log1p values; X otherwise.")]
BatchKey = Annotated[str | None, typer.Option("--batch-key", help="Column of obs; controls are matched within it.")]
CellTypeKey = Annotated[str | None, typer.Option("--cell-type-key", help="Column of obs with the cell type.")]
Prior = Annotated[
    list[Path] | None,
    typer.Option(
        "--prior",
        help="CSV, what is known of genes: edges (source, target, weight) or gene x feature; or gene sets, GMT.",
    ),
]
SplitKey = Annotated[str, typer.Option("--split-key", help="Column of obs with train, val, test, if there is one.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for tables, predictions and figures.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results in the folder.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same tables.")]
