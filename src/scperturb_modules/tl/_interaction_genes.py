"""Over which genes the changes of two single perturbations and of both together are compared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules import metrics
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.metrics._status import MIN_GENES
from scperturb_modules.pp._matrix import group_moments
from scperturb_modules.pp._screen import resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

MIN_COUNT = 0.5
"""Genes with a larger mean count in the training controls are compared."""


def choose_genes(
    data: AnnData,
    genes: Iterable[str] | None,
    singles: AnnData | None,
    cells: AnnData | None,
    setup: keys.ScreenKeys,
) -> list[str]:
    """Those asked for; else the well expressed ones that are perturbed in no condition, in the order of ``data``.

    Raises
    ------
    DataError
        A gene asked for twice or not there, or too few genes.
    """
    sides = (
        {"data": data} | ({} if singles is None else {"singles": singles}) | ({} if cells is None else {"cells": cells})
    )
    for side, given in sides.items():
        if not given.var_names.is_unique:
            raise DataError(f"{side} has several columns of one name; call {side}.var_names_make_unique() first.")
    chosen = _default_genes(data, sides, setup) if genes is None else _checked(genes, sides)
    if len(chosen) < MIN_GENES:
        raise DataError(
            f"{len(chosen)} genes are left to compare changes over, and {MIN_GENES} are needed: the perturbed genes "
            "themselves are left out. Name the genes as genes=."
        )
    return chosen


def _checked(genes: Iterable[str], sides: dict[str, AnnData]) -> list[str]:
    names = pd.Index([genes] if isinstance(genes, str) else list(genes), dtype=object)
    if not names.is_unique:
        raise DataError(f"genes names some twice: {name_some(names[names.duplicated()].unique())}.")
    for side, given in sides.items():
        absent = names.difference(given.var_names)
        if len(absent):
            raise DataError(f"{len(absent)} of {len(names)} genes are not in {side}: {name_some(absent)}.")
    return [str(name) for name in names]


def _default_genes(data: AnnData, sides: dict[str, AnnData], setup: keys.ScreenKeys) -> list[str]:
    perturbed = {gene for side in ("data", "singles") if side in sides for gene in _perturbed(sides[side])}
    allowed = ~data.var_names.isin(perturbed)
    for given in sides.values():
        allowed &= data.var_names.isin(given.var_names)
    shared = data.var_names[allowed]
    cells = sides.get("cells")
    if cells is not None and keys.COUNTS in cells.layers:
        expressed = _mean_count(cells, setup).loc[shared] > MIN_COUNT
        return [str(gene) for gene in shared[expressed]]
    if keys.CONTROL_MEAN not in data.var:
        return [str(gene) for gene in shared]
    top = metrics.top_genes(data.var[keys.CONTROL_MEAN].to_numpy(dtype=np.float64)[allowed], list(shared))
    return [str(gene) for gene in shared[np.sort(top)]]


def _perturbed(conditions: AnnData) -> set[str]:
    return {gene for name in conditions.obs_names for gene in genes_of_row(str(name))}


def _mean_count(cells: AnnData, setup: keys.ScreenKeys) -> pd.Series:
    view = resolve_screen(cells, setup)
    codes = np.where(view.is_control & view.is_training, 0, -1)
    return pd.Series(group_moments(cells.layers[keys.COUNTS], codes, 1).mean[0], index=cells.var_names)
