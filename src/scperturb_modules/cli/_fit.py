"""``spm fit``: train a model on the user's own screen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scperturb_modules._keys import TEST, ScreenKeys
from scperturb_modules.cli import _options as option
from scperturb_modules.cli._input import read_priors, require_file
from scperturb_modules.cli._models import check_model_folder, find_model
from scperturb_modules.cli._output import InputError, working
from scperturb_modules.cli._prepare import prepared_screen

if TYPE_CHECKING:
    from anndata import AnnData


class Preset(StrEnum):
    """Sets of settings that every model has."""

    tool = "tool"
    paper = "paper"


def fit(
    screen: option.Screen,
    perturbation_key: option.PerturbationKey,
    out: Annotated[Path, typer.Option(help="Folder for the model: weights, settings, training pseudobulk.")],
    control: option.Control = None,
    sep: option.Sep = None,
    guide_table: option.GuideTable = None,
    layer: option.Layer = None,
    batch_key: option.BatchKey = None,
    cell_type_key: option.CellTypeKey = None,
    split_key: option.SplitKey = "split",
    prior: option.Prior = None,
    model: Annotated[str, typer.Option(help="Name of the model: app, biodsnn or scbig.")] = "app",
    preset: Annotated[Preset, typer.Option(help="tool: with all that helps; paper: as published.")] = Preset.tool,
    members: Annotated[int | None, typer.Option(min=1, help="Members of the ensemble; else what suits.")] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="The most epochs; training ends earlier where nothing improves.")
    ] = None,
    seed: option.Seed = 0,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, mps, as in Lightning.")] = "auto",
    devices: Annotated[str, typer.Option(help="auto, a number of devices, or their numbers: 0,1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older model in the folder.")] = False,
) -> None:
    """Train a model on your screen and save it: on its training side, or on all cells where there is no split.

    Raw counts are normalised to log1p counts per 10,000 first.
    """
    check_model_folder(out, overwrite=overwrite)
    require_file(screen)
    asked_devices = parsed_devices(devices)
    priors = read_priors(prior or [])
    cls = find_model(model)
    from scperturb_modules.train import is_first_process, require_device

    require_device(accelerator, asked_devices)
    columns: dict[str, Any] = {"batch_key": batch_key, "cell_type_key": cell_type_key, "split_key": split_key}
    keys = ScreenKeys(layer=layer, **columns)
    adata, used = prepared_screen(screen, perturbation_key, keys, control=control, sep=sep, guide_table=guide_table)
    _tell_split(adata, split_key)
    cls.setup_anndata(adata, layer=used, **columns)
    settings: dict[str, Any] = {} if members is None else {"n_members": members}
    with working("Preparing"):
        built = cls(adata, priors=priors or None, preset=preset.value, seed=seed, **settings)
    epochs = {} if max_epochs is None else {"max_epochs": max_epochs}
    built.train(accelerator=accelerator, devices=asked_devices, **epochs)
    if is_first_process():
        built.save(out, overwrite=True)  # looked at before: empty, or an older model that is to be replaced
        typer.echo(built.summary())
        typer.echo(f"Model: {out}\nPredict with it:  spm predict {out} --condition A+B --out prediction.h5ad")


def parsed_devices(text: str) -> str | int | list[int]:
    """``auto``, a number, or a list of numbers."""
    numbers = text.split(",")
    if text == "auto":
        return text
    if not all(number.strip().isdigit() for number in numbers):
        raise InputError(f"--devices {text}: give auto, a number of devices, or their numbers such as 0,1")
    return int(text) if len(numbers) == 1 else [int(number) for number in numbers]


def _tell_split(adata: AnnData, split_key: str) -> None:
    """Say which cells the model learns from."""
    if split_key not in adata.obs:
        typer.echo(
            f"No column {split_key!r} in obs: trains on all {adata.n_obs} cells, so none are left to judge it by."
        )
        return
    n_test = int((adata.obs[split_key].astype(str) == TEST).sum())
    typer.echo(f"Trains on {adata.n_obs - n_test} cells; {n_test} are {TEST} in {split_key!r} and are not looked at.")
