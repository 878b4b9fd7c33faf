"""``spm validate``: every problem of a screen at once."""

from __future__ import annotations

import typer

from scperturb_modules._keys import ScreenKeys
from scperturb_modules.cli import _options as option
from scperturb_modules.cli._prepare import prepared_screen


def validate(
    screen: option.Screen,
    perturbation_key: option.PerturbationKey,
    control: option.Control = None,
    sep: option.Sep = None,
    guide_table: option.GuideTable = None,
    layer: option.Layer = None,
    batch_key: option.BatchKey = None,
    cell_type_key: option.CellTypeKey = None,
) -> None:
    """Check a screen: labels, controls, scale of the values, numbers of cells; each problem with what mends it.

    Nothing is written. Exit code 0: the screen can be used as it is; 2: it cannot, and the text says why.
    """
    keys = ScreenKeys(layer=layer, batch_key=batch_key, cell_type_key=cell_type_key)
    adata, _ = prepared_screen(screen, perturbation_key, keys, control=control, sep=sep, guide_table=guide_table)
    conditions = adata.obs["perturbation"].nunique() - 1
    typer.echo(f"{screen} can be used: {adata.n_obs} cells, {adata.n_vars} genes, {conditions} perturbed conditions.")
