"""``spm benchmark``: all baselines, and models that are asked for, on the user's own screen."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from scperturb_modules._keys import ScreenKeys
from scperturb_modules.cli import _options as option
from scperturb_modules.cli._input import read_priors
from scperturb_modules.cli._models import find_model
from scperturb_modules.cli._prepare import prepared_screen
from scperturb_modules.cli._results import check_folder, show_results, write_results


class Scheme(StrEnum):
    """Ways to hold out conditions that need nothing but the screen."""

    combination = "combination"
    unseen_gene = "unseen_gene"
    unseen_single = "unseen_single"
    unseen_context = "unseen_context"


class Protocol(StrEnum):
    """Whether the truth has controls of its own."""

    strict = "strict"
    published = "published"


def benchmark(
    screen: option.Screen,
    perturbation_key: option.PerturbationKey,
    out: option.Out,
    control: option.Control = None,
    sep: option.Sep = None,
    guide_table: option.GuideTable = None,
    layer: option.Layer = None,
    batch_key: option.BatchKey = None,
    cell_type_key: option.CellTypeKey = None,
    library_size_key: Annotated[
        str | None, typer.Option(help="Column of obs with each cell's total count, where genes were left out.")
    ] = None,
    target_sum: Annotated[
        float | None, typer.Option(min=1, help="Counts per cell after normalisation; by default 10,000.")
    ] = None,
    n_top_genes: Annotated[
        int | None, typer.Option(min=1, help="Keep so many variable genes (of training cells).")
    ] = None,
    prior: option.Prior = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A model beside the baselines: app, biodsnn, scbig. Repeatable; slower."),
    ] = None,
    scheme: Annotated[
        list[Scheme] | None,
        typer.Option(metavar="NAME", help=f"What is held out: {', '.join(Scheme)}; else what suits. Repeatable."),
    ] = None,
    n_folds: Annotated[int, typer.Option(min=1, help="Each condition is tested in one of so many folds.")] = 5,
    protocol: Annotated[Protocol, typer.Option(help="strict: the truth has controls of its own.")] = Protocol.strict,
    min_cells: Annotated[int, typer.Option(min=2, help="Conditions with fewer cells are not scored.")] = 30,
    n_boot: Annotated[int, typer.Option(min=100, help="Bootstrap draws for the intervals.")] = 10_000,
    seed: option.Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Folds computed at the same time.")] = 1,
    overwrite: option.Overwrite = False,
) -> None:
    """Compare all baselines, and models, on your screen: a table with intervals, figures, and a verdict in words.

    Raw counts are normalised to log1p counts per 10,000 first. A column "split" of obs (train, val, test) is used.
    """
    check_folder(out, overwrite=overwrite)
    priors = read_priors(prior or [])
    models = {cls.name: cls for cls in map(find_model, model or [])}
    columns: dict[str, Any] = {"batch_key": batch_key, "cell_type_key": cell_type_key}
    adata, used = prepared_screen(
        screen, perturbation_key, ScreenKeys(layer=layer, **columns), control=control, sep=sep,
        guide_table=guide_table, target_sum=target_sum, library_size_key=library_size_key,
    )  # fmt: skip
    from scperturb_modules import baselines, tl  # slow to import: wrong input is answered before

    if models:
        typer.echo(
            f"{', '.join(models)}: trained anew in every split, seconds to minutes each; --jobs N trains N at once."
        )
    board = tl.benchmark(
        adata,
        {one.name: one for one in baselines.ALL} | models,
        scheme="auto" if scheme is None else [name.value for name in scheme],
        n_folds=n_folds,
        seed=seed,
        protocol=protocol.value,
        priors=priors or None,
        min_cells=min_cells,
        n_boot=n_boot,
        n_top_genes=n_top_genes,
        n_jobs=jobs,
        layer=used,
        **columns,
    )
    write_results(board, out)
    show_results(board, out)
