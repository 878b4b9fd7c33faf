"""The conditions of a split, whoever made it: their part, their number of cells and how much of them was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import Row, regimes_of, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules._keys import TEST, ScreenKeys
from scperturb_modules.pp._screen import ScreenView, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData


def read_split(
    adata: AnnData,
    *,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
) -> pd.DataFrame:
    """Conditions of any split column, also one that the user made, with the regime of each.

    Returns
    -------
    DataFrame
        Index: names of the rows (``A+B`` or ``A+B|context``), sorted. Columns: ``perturbation``, ``cell_type`` (with a
        ``cell_type_key``), ``split``, ``regime`` and ``n_cells``. The regime is how much of the condition is on the
        training side (train and val); ``measured`` for those conditions themselves.

    Raises
    ------
    MissingKeyError
        There is no split column.
    DataError
        A condition has cells in several parts.
    """
    require_key(split_key, adata.obs.columns, "obs", mend="Call spm.pp.split(adata, ...) first.")
    view = resolve_screen(adata, ScreenKeys(perturbation_key, control, None, None, cell_type_key, split_key))
    cells = CellRows.of(view)
    return cells.table(cells.part_of_row(view.parts, split_key), control)


def view_without_split(adata: AnnData, keys: ScreenKeys) -> ScreenView:
    """The screen as if there were no split yet: an old column may hold anything."""
    from anndata import AnnData

    obs = adata.obs.drop(columns=[_keys.SPLIT, keys.split_key], errors="ignore")
    return resolve_screen(AnnData(obs=obs), replace(keys, split_key=_keys.SPLIT))


@dataclass(frozen=True)
class CellRows:
    """The R perturbed rows of a screen, sorted by name, and (N,) the row of each cell, -1 for controls."""

    rows: tuple[Row, ...]
    code: np.ndarray

    @classmethod
    def of(cls, view: ScreenView) -> CellRows:
        """Raise DataError where every cell is a control."""
        cells = pd.DataFrame({"label": view.labels, "context": view.contexts})[~view.is_control]
        if cells.empty:
            raise DataError(f"There is no perturbed cell: every label is {view.control!r}.")
        number = cells.groupby(["label", "context"], sort=False).ngroup().to_numpy()
        found = [(label, context or None) for label, context in cells.drop_duplicates().itertuples(index=False)]
        order = sorted(range(len(found)), key=lambda i: row_name(*found[i]))
        code = np.full(len(view.labels), -1)
        code[~view.is_control] = np.argsort(order)[number]
        return cls(tuple(found[i] for i in order), code)

    def part_of_row(self, parts: np.ndarray, key: str) -> dict[Row, str]:
        """The part of each row from the (N,) parts of cells, whose column is called ``key`` in the message.

        Raises
        ------
        DataError
            A row has cells in several parts.
        """
        pairs = pd.DataFrame({"code": self.code, "part": parts})[self.code >= 0].drop_duplicates()
        torn = sorted(set(pairs.loc[pairs["code"].duplicated(), "code"]))
        if torn:
            raise DataError(
                f"{len(torn)} conditions have cells in more than one part of obs[{key!r}]: "
                f"{name_some(row_name(*self.rows[i]) for i in torn)}. All cells of a condition in a context belong to "
                "one part; spm.pp.split(adata, ...) makes such a split."
            )
        return {self.rows[i]: part for i, part in zip(pairs["code"], pairs["part"], strict=True)}

    def part_of_cell(self, part_of_row: Mapping[Row, str], part_of_control: np.ndarray) -> pd.Categorical:
        """(N,) parts; those of controls are given per cell. Only the parts that occur are categories."""
        of_row = np.array([part_of_row[row] for row in self.rows], dtype=object)
        parts = np.where(self.code >= 0, of_row[self.code], part_of_control)
        return pd.Categorical(parts, categories=[part for part in _keys.PARTS if (parts == part).any()])

    def table(self, part_of_row: Mapping[Row, str], control: str) -> pd.DataFrame:
        """What :func:`read_split` returns; the regimes follow from the final training side."""
        training = {row for row, part in part_of_row.items() if part != TEST}
        table = pd.DataFrame(
            {
                _keys.PERTURBATION: [condition for condition, _ in self.rows],
                _keys.CELL_TYPE: [context or "" for _, context in self.rows],
                _keys.SPLIT: [part_of_row[row] for row in self.rows],
                "regime": regimes_of(self.rows, training, control=control),
                _keys.N_CELLS: np.bincount(self.code[self.code >= 0], minlength=len(self.rows)),
            },
            index=[row_name(*row) for row in self.rows],
        )
        return table if any(table[_keys.CELL_TYPE]) else table.drop(columns=_keys.CELL_TYPE)


def sha256_of(conditions: pd.DataFrame) -> str:
    """Hash of the parts of the conditions: equal for equal splits, whatever the cells."""
    lines = sorted(f"{name}\t{part}" for name, part in conditions[_keys.SPLIT].items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
