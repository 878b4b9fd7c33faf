"""Over which genes the changes of two single perturbations and of both together are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules import metrics
from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.metrics._status import MIN_GENES

if TYPE_CHECKING:
    from anndata import AnnData


def choose_genes(genes: Iterable[str] | None, *, cells: AnnData | None = None, **tables: AnnData | None) -> list[str]:
    """Those asked for; else the well expressed ones that no row perturbs, in the order of the first table.

    Parameters
    ----------
    genes
        The names asked for.
    cells
        A screen that must have the genes too.
    **tables
        Conditions x features, by the name of the argument that gave each; None where not given.

    Raises
    ------
    DataError
        A gene asked for twice or not there, or too few genes.
    """
    given = {name: table for name, table in tables.items() if table is not None}
    sides = given if cells is None else given | {"cells": cells}
    for name, side in sides.items():
        if not side.var_names.is_unique:
            raise DataError(f"{name} has several columns of one name; call {name}.var_names_make_unique() first.")
    chosen = _default_genes(given, sides) if genes is None else _checked(genes, sides)
    if len(chosen) < MIN_GENES:
        raise DataError(
            f"{len(chosen)} genes are left to compare changes over, and {MIN_GENES} are needed: the perturbed genes "
            "themselves are left out. Name the genes as genes=."
        )
    return chosen


def _checked(genes: Iterable[str], sides: Mapping[str, AnnData]) -> list[str]:
    names = pd.Index([genes] if isinstance(genes, str) else list(genes), dtype=object)
    if not names.is_unique:
        raise DataError(f"genes names some twice: {name_some(names[names.duplicated()].unique())}.")
    for name, side in sides.items():
        absent = names.difference(side.var_names)
        if len(absent):
            raise DataError(f"{len(absent)} of {len(names)} genes are not in {name}: {name_some(absent)}.")
    return [str(gene) for gene in names]


def _default_genes(tables: Mapping[str, AnnData], sides: Mapping[str, AnnData]) -> list[str]:
    first = next(iter(tables.values())).var
    perturbed = {gene for table in tables.values() for row in table.obs_names for gene in genes_of_row(str(row))}
    allowed = ~first.index.isin(perturbed)
    for side in sides.values():
        allowed &= first.index.isin(side.var_names)
    shared = first.index[allowed]
    if keys.CONTROL_MEAN in first:
        mean = first[keys.CONTROL_MEAN].to_numpy(dtype=np.float64)[allowed]
        shared = shared[np.sort(metrics.top_genes(mean, list(shared)))]
    return [str(gene) for gene in shared]
