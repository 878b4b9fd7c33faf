"""What a page is made of: a benchmark and what its run recorded."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules._conditions import REGIMES
from scperturb_modules.metrics import PRIMARY
from scperturb_modules.report._table import records
from scperturb_modules.tl._ceilings import replicate_wins
from scperturb_modules.tl._store import PACKAGES, RUN
from scperturb_modules.tl._summary import losses

if TYPE_CHECKING:
    from scperturb_modules.tl import Benchmark

NEXT = "next.csv"


@dataclass(frozen=True)
class Source:
    """A benchmark, the versions and the date of its run, and the table of what to test next (or None)."""

    board: Benchmark
    versions: Mapping[str, str]
    written: str
    next_conditions: pd.DataFrame | None

    @cached_property
    def primary(self) -> pd.DataFrame:
        """The summary of the primary metric."""
        summary = self.board.summary()
        return summary[summary["metric"] == PRIMARY]

    @cached_property
    def room(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The row of ``Benchmark.room`` by split kind and regime."""
        return {(row["split_kind"], row["regime"]): row for row in records(self.board.room())}

    @cached_property
    def wins(self) -> dict[tuple[str, str], tuple[float, int]]:
        """Share of conditions in which a replicate beats the mean, and their number, by split kind and regime."""
        return replicate_wins(self.board.replicates)

    @cached_property
    def regimes(self) -> list[tuple[str, str]]:
        """(split kind, regime), what is easier to predict first."""
        found = set(zip(self.primary["split_kind"], self.primary["regime"], strict=True))
        return sorted(found, key=lambda key: (REGIMES.index(key[1]), key[0]))

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        return self.board.verdicts()

    @cached_property
    def conditions(self) -> pd.DataFrame:
        return _conditions(self.board, self.room)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        return self.board.coverage()


def _conditions(board: Benchmark, room: Mapping[tuple[str, str], Mapping[str, Any]]) -> pd.DataFrame:
    """Every predictor on every condition; those that make the bar are not judged by it."""
    table = losses(board.frame[board.frame["metric"] == PRIMARY]).rename(columns={"value": "error"})
    bars = [room[key]["best_baseline"] for key in zip(table["split_kind"], table["regime"], strict=True)]
    table = table.assign(bar=bars)
    unit = ["split_kind", "regime", "stratum", "condition"]
    of_bar = table[table["model"] == table["bar"]].set_index(unit)["error"].rename("bar_error")
    judged = board.conditions().set_index([*unit, "model"])[["baseline", "baseline_error", "word"]]
    cells = board.frame.groupby(["stratum", "condition"], observed=True)["n_cells_test"].first().rename("n_cells")
    table = table.join(of_bar, on=unit).join(judged, on=[*unit, "model"]).join(cells, on=["stratum", "condition"])
    is_judged, is_bar = table["word"].notna(), table["model"] == table["bar"]
    table = table.assign(
        baseline=table["baseline"].where(is_judged, table["bar"]).mask(is_bar, ""),
        baseline_error=table["baseline_error"].astype(float).where(is_judged, table["bar_error"]).mask(is_bar),
        word=table["word"].where(is_judged, "baseline"),
    )
    return table.assign(gain=1 - table["error"] / table["baseline_error"])


def source_of(
    board: Benchmark | str | os.PathLike[str], next_conditions: pd.DataFrame | str | os.PathLike[str] | None
) -> Source:
    """A benchmark, or the folder where one was saved; versions and date are those of the run where it recorded them."""
    chosen = pd.read_csv(next_conditions) if isinstance(next_conditions, str | os.PathLike) else next_conditions
    if not isinstance(board, str | os.PathLike):
        versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
        return Source(board, versions, pd.Timestamp.now(tz="UTC").isoformat(timespec="seconds"), chosen)
    from scperturb_modules.tl import Benchmark

    folder = Path(board)
    found = Benchmark.read(folder)
    run = json.loads((folder / RUN).read_text())
    if chosen is None and (folder / NEXT).is_file():
        chosen = pd.read_csv(folder / NEXT)
    return Source(found, run["versions"], run["written"], chosen)
