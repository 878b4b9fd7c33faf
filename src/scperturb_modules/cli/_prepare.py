"""From a file to a screen that can be used: labels, scale, checks. Each step is a public function of ``spm.pp``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scperturb_modules._keys import ScreenKeys
from scperturb_modules.cli._input import read_guide_table, read_screen
from scperturb_modules.cli._output import InputError, working

if TYPE_CHECKING:
    from anndata import AnnData


def prepared_screen(
    path: Path,
    perturbation_key: str,
    keys: ScreenKeys,
    *,
    control: list[str] | None,
    sep: str | None,
    guide_table: Path | None,
    **normalize: Any,
) -> tuple[AnnData, str | None]:
    """A screen that can be used, and the layer with its log1p values (None: X); a screen that cannot ends the command.

    ``keys`` says which columns and layer of the file hold what, ``normalize`` goes to :func:`log_layer`.
    """
    adata = labelled_screen(path, perturbation_key, control=control, sep=sep, guide_table=guide_table)
    used = log_layer(adata, keys, **normalize)
    _show_checks(adata, replace(keys, layer=used))
    return adata, used


def labelled_screen(
    path: Path, perturbation_key: str, *, control: list[str] | None, sep: str | None, guide_table: Path | None
) -> AnnData:
    """Read a screen and write canonical labels into the copy in memory."""
    guides = None if guide_table is None else read_guide_table(guide_table)
    with working(f"Reading {path}"):
        adata = read_screen(path)
    from scperturb_modules import pp  # slow to import: a wrong path is answered before

    pp.standardize_perturbations(
        adata, perturbation_key, sep=sep, control=control or None, guide_to_target=guides, overwrite=True
    )
    return adata


def log_layer(adata: AnnData, keys: ScreenKeys, **normalize: Any) -> str | None:
    """The layer with log1p values (None: X), after counts, if that is what is there, were normalised.

    ``normalize`` are the arguments of ``spm.pp.normalize``; those that the user gave are refused where there are no
    counts, because they would have no effect.
    """
    from scperturb_modules import pp

    given = {name: value for name, value in normalize.items() if value is not None}
    checks = pp.check_screen(adata, keys).set_index("check")["level"]
    if checks.get("raw_counts") != "error":
        if given:
            where = "X" if keys.layer is None else f"layer {keys.layer!r}"
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            raise InputError(f"{options} would have no effect: {where} does not hold raw counts")
        return keys.layer
    pp.normalize(adata, layer=keys.layer, **given)
    where = "X holds" if keys.layer is None else f"Layer {keys.layer!r} holds"
    typer.echo(f"{where} raw counts: normalised to log1p of counts per {given.get('target_sum', 1e4):,.0f}.")
    return None


def _show_checks(adata: AnnData, keys: ScreenKeys) -> None:
    """Print what ``spm.pp.validate`` finds; its errors end the command."""
    from scperturb_modules import pp

    with working("Checking"):
        checks = pp.validate(adata, **vars(keys))
    typer.echo(pp.format_checks(checks))
