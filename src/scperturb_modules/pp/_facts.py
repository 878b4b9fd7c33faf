"""What the guards of a screen look at; each fact is looked up once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules._conditions import genes_of
from scperturb_modules._keys import TEST, ScreenKeys
from scperturb_modules.pp._labels import label_codes
from scperturb_modules.pp._matrix import Moments, computed, group_moments

if TYPE_CHECKING:
    from anndata import AnnData

ERROR, WARNING, NOTE, OK = "error", "warning", "note", "ok"

# the sample of 2000 cells: enough controls and cells per condition to see effects, and cells at random
_N_SAMPLE = 2000
_N_CONTROLS = 500
_N_CONDITIONS = 40
_CELLS_PER_CONDITION = 30
_FEWEST_PER_CONDITION = 10


class Finding(NamedTuple):
    """What a guard found: ``n`` things, what is wrong, and what mends it."""

    level: str
    n: int
    message: str
    mend: str = ""


@dataclass(frozen=True)
class Facts:
    """A screen as the guards see it; nothing here writes to ``adata``."""

    adata: AnnData
    keys: ScreenKeys
    pooled_controls: bool = False

    @property
    def where(self) -> str:
        """The expression matrix, for messages."""
        return "X" if self.keys.layer is None else f"layers[{self.keys.layer!r}]"

    @property
    def label_column(self) -> str:
        return f"obs[{self.keys.perturbation_key!r}]"

    @cached_property
    def matrix(self) -> Any:
        return self.adata.X if self.keys.layer is None else self.adata.layers[self.keys.layer]

    @cached_property
    def _coded(self) -> tuple[np.ndarray, list[str]]:
        return label_codes(self.adata.obs[self.keys.perturbation_key])

    @property
    def codes(self) -> np.ndarray:
        """(N,) index into ``names``, -1 for cells without a label."""
        return self._coded[0]

    @property
    def names(self) -> list[str]:
        """Distinct labels."""
        return self._coded[1]

    @cached_property
    def n_cells(self) -> dict[str, int]:
        """Cells of each label."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    @cached_property
    def is_control(self) -> np.ndarray:
        """(N,) bool."""
        is_control_name = np.array([name == self.keys.control for name in self.names] + [False])  # -1 is no label
        return is_control_name[self.codes]

    @cached_property
    def conditions(self) -> list[str]:
        """Perturbed labels, sorted."""
        return sorted(set(self.names) - {self.keys.control})

    @cached_property
    def contexts(self) -> pd.Series | None:
        key = self.keys.cell_type_key
        return None if key is None else self.adata.obs[key].astype(str)

    @cached_property
    def is_training(self) -> np.ndarray:
        key = self.keys.split_key
        if key not in self.adata.obs:
            return np.ones(self.adata.n_obs, bool)
        return (self.adata.obs[key].astype(str) != TEST).to_numpy()

    @cached_property
    def is_for_effects(self) -> np.ndarray:
        """(N,) bool; training cells, of the largest context only: between contexts controls differ."""
        if self.contexts is None:
            return self.is_training
        return self.is_training & (self.contexts == self.contexts.mode()[0]).to_numpy()

    def targets(self, condition: str) -> tuple[str, ...]:
        return genes_of(condition, control=self.keys.control)

    @cached_property
    def sampled_rows(self) -> np.ndarray:
        """Sorted rows of at most 2000 cells, always the same for the same labels."""
        n = self.adata.n_obs
        if n <= _N_SAMPLE:
            return np.arange(n)
        rng = np.random.default_rng(0)
        order = rng.permutation(n)
        chosen = (
            [order[:0]] if self.keys.perturbation_key not in self.adata.obs else list(self._rows_for_effects(order))
        )
        rows = pd.unique(np.concatenate([*chosen, order]))[:_N_SAMPLE]
        return np.sort(rows)

    def _rows_for_effects(self, order: np.ndarray) -> Iterator[np.ndarray]:
        usable = order[self.is_for_effects[order]]
        yield usable[self.is_control[usable]][:_N_CONTROLS]
        measured = set(self.adata.var_names)
        by_use = sorted(self.conditions, key=lambda name: (not measured.issuperset(self.targets(name)), name))
        code_of = {name: code for code, name in enumerate(self.names)}
        for name in by_use[:_N_CONDITIONS]:
            yield usable[self.codes[usable] == code_of[name]][:_CELLS_PER_CONDITION]

    @cached_property
    def values(self) -> sparse.csr_matrix:
        """Expression of the sampled cells, float64."""
        rows = self.sampled_rows
        if getattr(self.matrix, "format", None) == "csc" and not sparse.issparse(self.matrix):
            block = self.matrix.to_memory()[rows]  # a backed CSC file has no cheap rows
        else:
            block = self.matrix[rows]
        return sparse.csr_matrix(computed(block), dtype=np.float64)

    @cached_property
    def finite(self) -> np.ndarray:
        """The stored finite values of the sampled cells."""
        return self.values.data[np.isfinite(self.values.data)]

    @cached_property
    def largest(self) -> float:
        return float(self.finite.max(initial=0.0))

    @cached_property
    def is_whole(self) -> bool:
        """Whether every value is a whole number from 0 and some are above one, as counts are."""
        return self.largest > 1 and self.is_positive and bool((self.finite == np.floor(self.finite)).all())

    @cached_property
    def is_positive(self) -> bool:
        return bool(self.finite.min(initial=0.0) >= 0)

    @cached_property
    def totals(self) -> np.ndarray:
        """Row sums of the sampled cells that hold anything."""
        totals = np.asarray(self.values.sum(1)).ravel()
        return totals[totals > 0]

    @cached_property
    def effects(self) -> tuple[list[str], Moments]:
        """Conditions with enough usable cells in the sample, and the moments of the controls (first) and of these."""
        codes, usable = self.codes[self.sampled_rows], self.is_for_effects[self.sampled_rows]
        code_of = {name: code for code, name in enumerate(self.names)}
        counts = np.bincount(codes[usable & (codes >= 0)], minlength=len(self.names))
        conditions = [name for name in self.conditions if counts[code_of[name]] >= _FEWEST_PER_CONDITION]
        group_of = np.full(len(self.names) + 1, -1)
        group_of[[code_of[name] for name in (self.keys.control, *conditions)]] = np.arange(len(conditions) + 1)
        groups = np.where(usable, group_of[codes], -1)
        return conditions, group_moments(self.values, groups, len(conditions) + 1)


Guard = Callable[[Facts], Finding | None]
"""Returns what is wrong, or None."""
