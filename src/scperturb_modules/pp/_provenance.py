"""Which cells a choice was made from, so that a leak can be found later."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from scperturb_modules import _keys
from scperturb_modules._conditions import row_name
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._screen import resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData


def record_provenance(adata: AnnData, name: str, used_mask: np.ndarray, keys: ScreenKeys) -> None:
    """Write ``uns["scperturb_modules"]["provenance"][name]``: the cells from which something was derived.

    Parameters
    ----------
    adata
        The screen.
    name
        What was derived, for example ``"highly_variable"``.
    used_mask
        (N,) bool.
    keys
        Columns of the screen.

    Notes
    -----
    Keys: ``conditions`` (names of the rows whose perturbed cells were used), ``n_cells``, ``n_evaluation_controls``
    among them, and ``cells_sha256`` of the sorted cell names.
    """
    view = resolve_screen(adata, keys)
    perturbed = used_mask & ~view.is_control
    rows = set(zip(view.labels[perturbed], view.contexts[perturbed], strict=True))
    cells = "\n".join(sorted(adata.obs_names[used_mask]))
    record = {
        "conditions": np.array(sorted(row_name(label, context or None) for label, context in rows), dtype=str),
        "n_evaluation_controls": int((used_mask & view.is_evaluation_control).sum()),
        "n_cells": int(used_mask.sum()),
        "cells_sha256": hashlib.sha256(cells.encode()).hexdigest(),
    }
    adata.uns.setdefault(_keys.ROOT, {}).setdefault(_keys.PROVENANCE, {})[name] = record
