"""Weighted means over the steps of an epoch, and their history over epochs; both survive a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

# takes the same list of numbers from every rank and gives their sum over ranks
Reduce = Callable[[list[float]], list[float]]


class EpochMeans:
    """Weighted means of several numbers, gathered step by step, over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, values: Mapping[str, float], weight: float) -> None:
        """Take in one step; one without weight only makes the names known."""
        for name, value in values.items():
            # a step of padding alone may hold 0 / 0, which times 0 would still spoil the sum
            self._sums[name] = self._sums.get(name, 0.0) + (value * weight if weight else 0.0)
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def state(self, reduce: Reduce) -> dict[str, list[float]]:
        """Name to sum and weight over all ranks, without a change of this object."""
        names = sorted(self._sums)
        totals = reduce([number for name in names for number in (self._sums[name], self._weights[name])])
        return {name: [totals[2 * i], totals[2 * i + 1]] for i, name in enumerate(names)}

    def load(self, state: Mapping[str, Sequence[float]]) -> None:
        """Continue from :meth:`state`; only one rank may, or the sums count several times."""
        self._sums = {name: pair[0] for name, pair in state.items()}
        self._weights = {name: pair[1] for name, pair in state.items()}

    def close(self, reduce: Reduce) -> dict[str, float]:
        """Name to mean over all ranks (NaN without any weight); starts the next epoch."""
        totals = self.state(reduce)
        self._sums, self._weights = {}, {}
        return {name: total / weight if weight else float("nan") for name, (total, weight) in totals.items()}


class History:
    """One row of named numbers per epoch."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[str, float]] = {}

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Set numbers of one epoch, beside those that it has."""
        self._rows.setdefault(epoch, {}).update(values)

    def state(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [{"epoch": epoch, **row} for epoch, row in sorted(self._rows.items())]

    def load(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Continue from :meth:`state`."""
        self._rows = {int(row["epoch"]): {key: row[key] for key in row if key != "epoch"} for row in rows}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Metric to a table of one column of that name, indexed by ``epoch`` from 0: the form of scvi's history."""
        names = sorted({name for row in self._rows.values() for name in row})
        return {name: self._frame(name) for name in names}

    def _frame(self, name: str) -> pd.DataFrame:
        values = {epoch: row[name] for epoch, row in sorted(self._rows.items()) if name in row}
        index = pd.Index(list(values), name="epoch", dtype="int64")
        return pd.DataFrame({name: list(values.values())}, index=index, dtype="float64")
