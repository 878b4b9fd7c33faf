"""What is read from a screen to look for leaks, each thing once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import row_name
from scperturb_modules._keys import TEST, ScreenKeys
from scperturb_modules.pp._row_hash import hash_rows
from scperturb_modules.pp._screen import column_of, expression_of, parts_of

if TYPE_CHECKING:
    from anndata import AnnData

ENOUGH_DETECTED = 20
"""Cells with fewer detected genes may be equal by chance."""


@dataclass(frozen=True)
class Evidence:
    """What the checks look at; labels as they are written, because other spellings of a condition are a leak."""

    adata: AnnData
    keys: ScreenKeys
    priors: Any

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Per cell: ``name``, ``label``, ``context`` ("" without contexts), ``part``, ``is_control``."""
        context_key = self.keys.cell_type_key
        labels = column_of(self.adata, self.keys.perturbation_key)
        return pd.DataFrame(
            {
                "name": self.adata.obs_names.to_numpy(dtype=object),
                "label": labels,
                "context": "" if context_key is None else column_of(self.adata, context_key),
                "part": parts_of(self.adata, self.keys.split_key),
                "is_control": labels == self.keys.control,
            }
        )

    @cached_property
    def content(self) -> pd.Series:
        """Hash of each cell's counts (or values), without the cells that have too few detected genes to tell."""
        layer = _keys.COUNTS if _keys.COUNTS in self.adata.layers else self.keys.layer
        hashes, n_detected = hash_rows(expression_of(self.adata, layer))
        return pd.Series(hashes)[n_detected >= ENOUGH_DETECTED]

    @cached_property
    def test_rows(self) -> set[str]:
        """Names of the perturbed test rows."""
        cells = self.cells[(self.cells["part"] == TEST) & ~self.cells["is_control"]]
        pairs = cells[["label", "context"]].drop_duplicates()
        return {row_name(label, context or None) for label, context in pairs.itertuples(index=False)}

    @cached_property
    def untrained_conditions(self) -> set[str]:
        """Perturbed labels that are tested in some context and train in none."""
        cells = self.cells[~self.cells["is_control"]]
        is_test = cells["part"] == TEST
        return set(cells["label"][is_test]) - set(cells["label"][~is_test])

    @cached_property
    def training_sha256(self) -> str:
        names = sorted(self.cells.loc[self.cells["part"] != TEST, "name"])
        return hashlib.sha256("\n".join(names).encode()).hexdigest()

    def torn(self, keys: pd.Series) -> np.ndarray:
        """Positions of cells whose key occurs in several parts; cells without a key are left out."""
        parts = self.cells["part"].loc[keys.index]
        n_parts = parts.groupby(keys).transform("nunique")
        return n_parts.index[n_parts > 1].to_numpy()
