"""The columns of a screen, looked up and checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules._conditions import is_canonical, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules._keys import PARTS, SPLIT, TEST, ScreenKeys

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class ScreenView:
    """What the cells are, as (N,) arrays of str; ``""`` throughout where the screen has no such column."""

    labels: np.ndarray
    contexts: np.ndarray
    batches: np.ndarray
    parts: np.ndarray
    control: str

    @property
    def row_names(self) -> np.ndarray:
        """(N,) str, name of the pseudobulk row that a cell belongs to; controls are named by their label too."""
        pairs = zip(self.labels, self.contexts, strict=True)
        return np.array([row_name(label, context or None) for label, context in pairs], dtype=object)

    @property
    def is_control(self) -> np.ndarray:
        """(N,) bool."""
        return self.labels == self.control

    @property
    def is_training(self) -> np.ndarray:
        """(N,) bool; cells that a model may use, all of them where there is no split."""
        return self.parts != TEST

    @property
    def is_evaluation_control(self) -> np.ndarray:
        """(N,) bool; controls held out for the truth, none in the published protocol."""
        return self.is_control & ~self.is_training


def resolve_screen(adata: AnnData, keys: ScreenKeys) -> ScreenView:
    """Look up the columns named by ``keys`` and check their content.

    Raises
    ------
    MissingKeyError
        A named column or layer does not exist. Only the split column may be absent, under its default name.
    DataError
        Missing values, labels that are not canonical, or a part other than train, val and test.
    """
    if keys.layer is not None:
        require_key(keys.layer, adata.layers, "layers")
    n_cells = adata.n_obs
    labels = column_of(
        adata, keys.perturbation_key, mend="Call spm.pp.standardize_perturbations(adata, ...) to make it first."
    )
    _check_canonical(labels, keys)
    none = np.full(n_cells, "", dtype=object)
    return ScreenView(
        labels=labels,
        contexts=none if keys.cell_type_key is None else column_of(adata, keys.cell_type_key),
        batches=none if keys.batch_key is None else column_of(adata, keys.batch_key),
        parts=parts_of(adata, keys.split_key),
        control=keys.control,
    )


def expression_of(adata: AnnData, layer: str | None) -> Any:
    """``X`` or a layer, (N, G) of any format; a DataError where ``X`` is None."""
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise DataError("adata.X is empty (None); pass the layer with the expression as layer=.")
    return matrix


def column_of(adata: AnnData, key: str, *, mend: str = "") -> np.ndarray:
    """(N,) str of a column of ``obs``; a missing value is a DataError."""
    require_key(key, adata.obs.columns, "obs", mend=mend)
    column = adata.obs[key]
    text = column.astype(str).to_numpy(dtype=object)
    missing = column.isna().to_numpy() | (text == "")
    if missing.any():
        raise DataError(
            f"obs[{key!r}] is missing in {missing.sum()} cells ({name_some(adata.obs_names[missing])}); fill it, or "
            f"drop them with adata[adata.obs[{key!r}].notna()].copy()."
        )
    return text


def _check_canonical(labels: np.ndarray, keys: ScreenKeys) -> None:
    wrong = [label for label in pd.unique(labels) if not is_canonical(label, control=keys.control)]
    if wrong:
        key = keys.perturbation_key
        raise DataError(
            f"obs[{key!r}] has {len(wrong)} labels that are not canonical: {name_some(sorted(wrong))}. "
            f"Call spm.pp.standardize_perturbations(adata, {key!r}) first: it writes sorted, distinct "
            f"genes joined by '+', and {keys.control!r} for cells without one."
        )


def parts_of(adata: AnnData, split_key: str) -> np.ndarray:
    """(N,) train, val or test; ``""`` where there is no split column of the default name."""
    if split_key == SPLIT and SPLIT not in adata.obs:
        return np.full(adata.n_obs, "", dtype=object)
    parts = column_of(adata, split_key, mend="Call spm.pp.split(adata, ...) first.")
    unknown = sorted(set(pd.unique(parts)) - set(PARTS))
    if unknown:
        raise DataError(
            f"obs[{split_key!r}] has the values {name_some(unknown)}; a split has {', '.join(PARTS)}. Call "
            "spm.pp.split(adata, ..., overwrite=True); if that column is not a split, rename it, or pass the name of "
            "the one that is as split_key=."
        )
    return parts
