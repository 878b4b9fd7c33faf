"""``spm demo``: a benchmark on a simulated screen whose truth is known."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import typer

from scperturb_modules import _keys as keys
from scperturb_modules.cli import _options as option
from scperturb_modules.cli._models import find_model
from scperturb_modules.cli._output import working
from scperturb_modules.cli._results import check_folder, show_results, write_results


def demo(out: option.Out = Path("results"), seed: option.Seed = 0, overwrite: option.Overwrite = False) -> None:
    """Compare all baselines and APP on a simulated screen: no download, the same tables for the same seed."""
    check_folder(out, overwrite=overwrite)
    board = demo_benchmark(seed=seed)
    write_results(board, out)
    show_results(board, out)
    typer.echo("With your own screen:  spm benchmark SCREEN.h5ad --perturbation-key COLUMN --out DIR")


def demo_benchmark(*, seed: int, preset: str = "default", **settings: Any) -> Any:
    """Pairs of measured genes, then genes never measured, with a network that lacks some of them.

    ``settings`` go to ``spm.tl.benchmark``.
    """
    from scperturb_modules import baselines, datasets, tl

    model = find_model("APP")
    predictors: dict[str, Any] = {one.name: one for one in baselines.ALL}
    predictors |= {"APP": model, "APP (gate off)": functools.partial(model, gate=False)}
    with working("Simulating a screen"):
        adata = datasets.simulate(preset, seed=seed)
    network = adata.uns[keys.ROOT][keys.SIMULATION]["graph_partial"].copy()
    network.attrs["derived_from"] = "simulator graph"
    schemes = ["combination", "unseen_single"]
    return tl.benchmark(adata, predictors, scheme=schemes, priors={"network": network}, seed=seed, **settings)
