"""What a MuData must have to be a screen: the same cells in all modalities, and columns that do not contradict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scperturb_modules._errors import DataError, name_some, require_key

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def require_pairs(mdata: MuData) -> None:
    """Raise :class:`DataError` where a modality lacks cells; scvi-tools reads modalities side by side."""
    missing = {name: mdata.obs_names.difference(mod.obs_names) for name, mod in mdata.mod.items()}
    missing = {name: cells for name, cells in missing.items() if len(cells)}
    if missing:
        listed = "; ".join(f"{len(cells)} in {name!r} ({name_some(cells)})" for name, cells in missing.items())
        paired = " & ".join(f"(mdata.obsmap[{name!r}] > 0)" for name in missing)
        raise DataError(
            f"Of {mdata.n_obs} cells some are missing in a modality: {listed}. Keep those that all modalities have: "
            f"mdata = mdata[{paired}].copy()."
        )


def require_names(mdata: MuData, rna: AnnData, columns: Sequence[str], layer: str | None) -> None:
    """Raise :class:`MissingKeyError` for a column or layer that is nowhere, with the names of those that exist."""
    for key in columns:
        require_key(key, [*mdata.obs, *rna.obs], "obs", mend="Name the right column in setup_mudata(...).")
    if layer is not None:
        require_key(layer, rna.layers, "layers", mend="Name the right layer in setup_mudata(...).")


def column_in(mdata: MuData, rna: AnnData, key: str) -> pd.Series | None:
    """A column of the MuData, else of the modality ``rna``; None where neither has it.

    Its cells are named and may be in any order.

    Raises
    ------
    DataError
        Both have it, with different values.
    """
    column, own = mdata.obs.get(key), rna.obs.get(key)
    if column is None or own is None:
        return own if column is None else column
    one, other = column.reindex(own.index).astype(object), own.astype(object)
    differ = ~(one.eq(other) | (one.isna() & other.isna()))
    if differ.any():
        raise DataError(
            f"mdata.obs[{key!r}] and obs[{key!r}] of the modality with the expression differ in {differ.sum()} cells "
            f"({name_some(own.index[differ])}). Delete the wrong one, as in del mdata.obs[{key!r}]."
        )
    return column
