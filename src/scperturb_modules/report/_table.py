"""Tables as the page shows them: columns with a plain explanation, cells with a text and a value to sort by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

TINY = 1e-4
"""Positive numbers below this are shown as ``< 0.0001``."""


@dataclass(frozen=True)
class Column:
    """A column: where its values are in a row, its heading, and what it means in plain words."""

    id: str
    title: str
    help: str
    kind: str = "text"
    """``text``, ``number``, ``percent`` (a share, shown times 100), ``count`` or ``word`` (a badge)."""


@dataclass(frozen=True)
class Cell:
    """The text of a cell; ``sort`` stands where the text would sort wrongly, ``tone`` where it is a badge."""

    text: str
    sort: str = ""
    is_number: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Choice:
    """A drop-down above a table that keeps the rows of one value: (value, label), "" keeps all."""

    id: str
    label: str
    options: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Line:
    """A row: its cells, and the values that the choices go by."""

    cells: Sequence[Cell]
    data: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the page. ``search`` names what its search field looks for; "" leaves the field out."""

    id: str
    caption: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    choices: Sequence[Choice] = ()
    search: str = ""
    page: int = 25


def make_table(
    id: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[dict[str, Any]],
    *,
    choices: Sequence[Choice] = (),
    search: str = "",
    page: int = 25,
) -> Table:
    """A table from rows by column id; a choice reads the row's value of its own id."""
    lines = [
        Line(
            [cell_of(row[column.id], column.kind) for column in columns],
            {choice.id: str(row[choice.id]) for choice in choices},
        )
        for row in rows
    ]
    return Table(id, caption, columns, lines, choices, search, page)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries by column."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def options_of(values: Sequence[tuple[str, str]], everything: str = "") -> list[tuple[str, str]]:
    """The distinct (value, label) in their order, with an entry for all of them first where it has a name."""
    return [*([("", everything)] if everything else []), *dict.fromkeys(values)]


def cell_of(value: Any, kind: str) -> Cell:
    """A value as its column shows it; nothing where it is not known."""
    if kind in ("text", "word"):
        text = str(value)
        return Cell(text, tone=tone_of(text) if kind == "word" and text else "")
    number = float(value)
    if math.isnan(number):
        return Cell("", is_number=True)
    text = f"{int(number):,}" if kind == "count" else digits(100 * number if kind == "percent" else number)
    return Cell(text, sort=f"{number:.6g}", is_number=True)


def digits(value: float) -> str:
    """Three significant digits without an exponent.

    >>> [digits(value) for value in (0.0, 4.4968, 1234.5, -0.05123, 3e-32, float("nan"))]
    ['0', '4.50', '1,230', '−0.0512', '< 0.0001', '']
    """
    if math.isnan(value):
        return ""
    size = abs(value)
    if size == 0 or (size < TINY and value < 0):
        return "0"
    if size < TINY:
        return f"< {TINY:.4f}"
    rounded = float(f"{size:.2e}")
    text = f"{rounded:,.{max(0, 2 - math.floor(math.log10(rounded)))}f}"
    return f"−{text}" if value < 0 else text


def interval(value: float, low: float, high: float, *, unit: str = "") -> str:
    """A value with its interval, as in running text."""
    text = f"{digits(value)}{unit}"
    return text if math.isnan(low) or math.isnan(high) else f"{text} (95 % CI {digits(low)} to {digits(high)})"


_TONES = {
    "beats": "good",
    "agrees": "good",
    "ok": "good",
    "no better": "fair",
    "ties": "fair",
    "shrinkage only": "fair",
    "coarse": "fair",
    "worse": "bad",
    "loses": "bad",
    "differs": "bad",
    "abstains": "bad",
}


def tone_of(word: str) -> str:
    """Which colour a word has beside its text: good, fair, bad or, for all else, plain."""
    return _TONES.get(word, "plain")
