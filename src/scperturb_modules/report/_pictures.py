"""Pictures inside the page: SVG where it is light, else PNG, both as a data address."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules.report._answers import Answer
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import digits, records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAVY = 150_000
"""Bytes; a larger SVG is drawn as PNG."""


@dataclass(frozen=True)
class Picture:
    """An image for the page; ``alt`` says in words what it shows."""

    address: str
    alt: str
    caption: str
    width: int
    height: int


def picture(draw: Callable[[], Axes], alt: str, caption: str) -> Picture:
    """Draw without a window, with the same bytes every time, and close the figure."""
    from matplotlib import pyplot

    # no date in the file, and names of its parts that do not change from run to run
    with pyplot.ioff(), pyplot.rc_context({"svg.hashsalt": "scperturb_modules", "svg.fonttype": "path"}):
        figure: Any = draw().figure
        svg = _saved(figure, "svg", metadata={"Date": None, "Creator": None})
        kind, content = ("svg+xml", svg) if len(svg) <= HEAVY else ("png", _saved(figure, "png", dpi=150))
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
        pyplot.close(figure)
    address = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(address, alt, caption, width, height)


def _saved(figure: Any, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, facecolor="white", **settings)
    return buffer.getvalue()


def of_answer(source: Source, answer: Answer) -> list[Picture]:
    """The leaderboard and the gains of one kind of prediction."""
    from scperturb_modules import pl
    from scperturb_modules.pl._verdict import verdict

    rows = source.primary[(source.primary["split_kind"] == answer.split) & (source.primary["regime"] == answer.regime)]
    if rows["mean"].isna().all():
        return []
    board = _Part(rows.reset_index(drop=True), source.board.room(), answer)
    order = ", ".join(f"{row['model']} {digits(row['mean'])}" for row in records(rows.head(5)))
    alt = f"Error of {len(rows)} predictors with 95 % intervals on {answer.title}, best first: {order}."
    found = [picture(lambda: pl.leaderboard(board), alt, f"Error on {answer.title}; lower is better.")]
    table = source.verdicts
    judged = table[(table["split_kind"] == answer.split) & (table["regime"] == answer.regime)].reset_index(drop=True)
    if len(judged):
        texts = ", ".join(f"{row['model']} {digits(100 * row['gain'])} %" for row in records(judged.head(5)))
        found.append(
            picture(
                lambda: verdict(judged),
                f"Gain over the hardest baseline with 95 % intervals on {answer.title}: {texts}. The line marks 0.",
                "Gain over the baseline hardest to beat, named beside it; right of the line is better.",
            )
        )
    return found


class _Part:
    """The rows of one split kind and regime, as ``pl.leaderboard`` reads them."""

    def __init__(self, rows: pd.DataFrame, room: pd.DataFrame, answer: Answer) -> None:
        self._rows = rows
        self._room = room[(room["split_kind"] == answer.split) & (room["regime"] == answer.regime)]

    def summary(self) -> pd.DataFrame:
        return self._rows

    def room(self) -> pd.DataFrame:
        return self._room


def of_interactions(found: pd.DataFrame) -> Picture | None:
    """Predicted against measured strength of the interactions; None where no pair has both."""
    from scperturb_modules import pl

    seen = found.filter(regex="_measured$").rename(columns=lambda name: str(name).removesuffix("_measured"))
    said = found[list(seen.columns)]
    both = said["magnitude"].notna() & seen["magnitude"].notna()
    if both.sum() < 2:
        return None
    for name, value in found.attrs.items():
        said.attrs[name] = seen.attrs[name] = value
    alt = f"Strength of the genetic interaction, predicted against measured, for {int(both.sum())} pairs."
    caption = "A point is a pair; on the diagonal the prediction is right."
    return picture(lambda: pl.genetic_interactions(said, observed=seen), alt, caption)


def of_coverage(source: Source, models: Sequence[str]) -> Picture | None:
    """Promised against measured coverage of some predictors; None where no interval was calibrated."""
    from scperturb_modules import pl

    if not models:
        return None
    alt = f"Share of measured changes inside the intervals of {', '.join(models)}, against the share promised."
    caption = "Intervals hold what they promise where points lie on the dashed line."
    return picture(lambda: pl.calibration(source.board, models=models), alt, caption)
