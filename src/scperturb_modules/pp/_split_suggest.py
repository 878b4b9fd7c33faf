"""Which schemes a screen is large enough for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from scperturb_modules import _keys
from scperturb_modules._conditions import Row
from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._split_schemes import Request, held_out_rows
from scperturb_modules.pp._split_table import CellRows, view_without_split

if TYPE_CHECKING:
    from anndata import AnnData

_ENOUGH_TEST = 10


def suggest_schemes(
    adata: AnnData,
    *,
    n_folds: int = 5,
    seed: int = 0,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    cell_type_key: str | None = None,
) -> list[str]:
    """Schemes with which the screen has at least ten test conditions over the folds.

    Looks at ``combination``, ``unseen_single`` and, where conditions are shared between contexts, ``unseen_context``
    (a fold for each context), in this order. An empty list: the screen is too small for a verdict.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"perturbation": ["control", *"ABCDEFGHIJ"]}, index=map(str, range(11)))
    >>> suggest_schemes(anndata.AnnData(np.ones((11, 2), dtype=np.float32), obs=obs))
    ['unseen_single']
    """
    keys = ScreenKeys(perturbation_key, control, cell_type_key=cell_type_key)
    cells = CellRows.of(view_without_split(adata, keys))
    return suggested(Request(frozenset(cells.rows), seed, n_folds, control=control))


def suggested(request: Request) -> list[str]:
    """The pure core of :func:`suggest_schemes`."""
    folds_of = {
        "combination": request.n_folds,
        "unseen_single": request.n_folds,
        "unseen_context": len(request.contexts),
    }
    return [
        scheme
        for scheme, n_folds in folds_of.items()
        if len(_tested_over_folds(scheme, replace(request, n_folds=n_folds))) >= _ENOUGH_TEST
    ]


def _tested_over_folds(scheme: str, request: Request) -> set[Row]:
    tested: set[Row] = set()
    try:
        for fold in range(request.n_folds):
            tested |= held_out_rows(scheme, replace(request, fold=fold))
    except DataError:
        return set()
    if scheme != "unseen_context":
        return tested
    n_contexts = Counter(condition for condition, _ in request.rows)
    return {row for row in tested if n_contexts[row[0]] > 1}


def first_suggested(request: Request) -> str:
    """The scheme that ``"auto"`` stands for; DataError where there is none."""
    schemes = suggested(request)
    if not schemes:
        raise DataError(
            f"No scheme gives {_ENOUGH_TEST} test conditions over {request.n_folds} folds: the screen has "
            f"{len(request.rows)} perturbed conditions. Name a scheme to split it all the same."
        )
    return schemes[0]
