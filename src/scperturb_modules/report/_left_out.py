"""Sections 7 and 8: what was dropped or unknown, and what to test next."""

from __future__ import annotations

import pandas as pd

from scperturb_modules.metrics import PRIMARY
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Column, Table, make_table, records
from scperturb_modules.report._words import STATUSES, some

RUNS = (
    Column("predictor", "Predictor", "A model or a baseline"),
    Column("what", "What happened", "Left out: it does not apply. Failed: it stopped with an error", "word"),
    Column("why", "Why", "The reason that it gave"),
    Column("n", "Splits", "In how many splits", "count"),
)

SPECIAL = (
    Column("status", "What", "Key of the status in the tables of the run"),
    Column("text", "In plain words", "What it means"),
    Column("n", "Conditions", "How many conditions it concerns", "count"),
    Column("models", "Predictors", "For whose predictions"),
    Column("names", "Names", "The first of the conditions"),
)

NEXT = {
    "rank": ("Rank", "count"),
    "condition": ("Condition", "text"),
    "score": ("Score", "number"),
    "reason": ("Why", "text"),
    "effect": ("Predicted effect", "number"),
    "interaction": ("Predicted interaction", "number"),
    "uncertainty": ("Uncertainty", "number"),
    "nearest": ("Nearest measured", "text"),
    "batch": ("Batch", "count"),
}


def failed_or_skipped(source: Source) -> Table | None:
    """Runs that were not made or not finished; None where all were."""
    rows = []
    for table, what, column in (
        (source.board.skipped, "left out", "reason"),
        (source.board.errors, "failed", "message"),
    ):
        if len(table):
            for (name, why), block in table.groupby(["predictor", column], sort=True):
                rows.append({"predictor": name, "what": what, "why": why, "n": block["split"].nunique()})
    return make_table("runs", "Predictors left out or failed", RUNS, rows) if rows else None


def special_conditions(source: Source) -> Table | None:
    """Conditions of which something is not known or not scored, by reason; None where there are none."""
    frame = source.board.frame
    primary = frame[frame["metric"] == PRIMARY].astype({"status": str, "model": str, "condition": str})
    every = set(primary["model"])
    rows = []
    exploded = primary.assign(status=primary["status"].str.split(";")).explode("status")
    for status, block in exploded[~exploded["status"].isin(["ok", "measured"])].groupby("status", sort=True):
        names, models = sorted(set(block["condition"])), sorted(set(block["model"]))
        rows.append(
            {
                "status": status, "text": STATUSES.get(str(status), "See the documentation of the predictor."),
                "n": len(names), "models": "all" if set(models) == every else some(models), "names": some(names),
            }
        )  # fmt: skip
    return make_table("special", "Conditions that are special, by reason", SPECIAL, rows) if rows else None


def next_table(table: pd.DataFrame | None) -> Table | None:
    """The planner's table as it is."""
    if table is None or table.empty:
        return None
    columns = []
    for name in table:
        numeric = pd.api.types.is_numeric_dtype(table[name])
        title, kind = NEXT.get(str(name), (str(name), "number" if numeric else "text"))
        columns.append(Column(str(name), title, title, kind if numeric else "text"))
    rows = [
        {str(name): "" if isinstance(value, float) and pd.isna(value) and not _is_number(table, name) else value
         for name, value in row.items()}
        for row in records(table)
    ]  # fmt: skip
    return make_table("next", "What to perturb next, most useful first", columns, rows, search="gene or reason")


def _is_number(table: pd.DataFrame, name: object) -> bool:
    return pd.api.types.is_numeric_dtype(table[name])
