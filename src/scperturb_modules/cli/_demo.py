"""``spm demo``: a benchmark on a simulated screen whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from scperturb_modules.cli import _options as option
from scperturb_modules.cli._output import working
from scperturb_modules.cli._results import check_folder, show_results, write_results


def demo(out: option.Out = Path("results"), seed: option.Seed = 0, overwrite: option.Overwrite = False) -> None:
    """Compare all baselines on a simulated screen: no download, the same tables for the same seed."""
    check_folder(out, overwrite=overwrite)
    board = demo_benchmark(seed=seed)
    write_results(board, out)
    show_results(board, out)
    typer.echo("With your own screen:  spm benchmark SCREEN.h5ad --perturbation-key COLUMN --out DIR")


def demo_benchmark(*, seed: int, preset: str = "default", **settings: Any) -> Any:
    """Pairs of measured genes, then genes never measured, with a prior that lacks some of them.

    ``settings`` go to ``spm.tl.benchmark``.
    """
    from scperturb_modules import datasets, tl

    with working("Simulating a screen"):
        adata = datasets.simulate(preset, seed=seed)
        prior = datasets.simulated_prior(adata, "partial")
    return tl.benchmark(
        adata, scheme=["combination", "unseen_single"], priors={"network": prior}, seed=seed, **settings
    )
