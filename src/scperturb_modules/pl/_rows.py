"""Which rows of a Prediction or pseudobulk the caller means."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import pandas as pd

from scperturb_modules._conditions import canonical_condition, genes_of, parse_row_name, row_name
from scperturb_modules._errors import name_some


def resolve_rows(asked: str | Sequence[str], rows: pd.Index, what: str = "the prediction") -> list[str]:
    """The row names meant by ``"A+B"`` or ``"A+B|context"``, genes in any order; each once.

    A condition without a context means its rows in all contexts.

    Raises
    ------
    ValueError
        A name without a row; the message has the nearest names.
    """
    by_condition: dict[str, list[str]] = {}
    for row in map(str, rows):
        by_condition.setdefault(parse_row_name(row)[0], []).append(row)
    found: dict[str, None] = {}
    unknown = []
    for name in [asked] if isinstance(asked, str) else asked:
        condition, context = parse_row_name(name)
        canonical = canonical_condition(genes_of(condition))
        of_condition = by_condition.get(canonical, [])
        wanted = row_name(canonical, context)
        matches = of_condition if context is None else [row for row in of_condition if row == wanted]
        found.update(dict.fromkeys(matches))
        if not matches:
            unknown.append(name)
    if unknown:
        raise ValueError(_unknown(unknown, list(map(str, rows)), what))
    return list(found)


def resolve_row(asked: str, rows: pd.Index, what: str = "the prediction") -> str:
    """The one row meant.

    Raises
    ------
    ValueError
        There is none, or one in each of several contexts.
    """
    found = resolve_rows(asked, rows, what)
    if len(found) > 1:
        raise ValueError(f"{what} holds {asked!r} in {len(found)} contexts; name one of {name_some(found, most=12)}")
    return found[0]


def _unknown(names: Sequence[str], rows: Sequence[str], what: str) -> str:
    by_upper = {row.upper(): row for row in rows}
    near: dict[str, None] = {}
    for name in names:
        condition, context = parse_row_name(name)
        canonical = row_name(canonical_condition(genes_of(condition)), context)
        close = get_close_matches(canonical.upper(), list(by_upper), n=3, cutoff=0.6)
        near.update(dict.fromkeys(by_upper[match] for match in close))
    hint = f"near matches: {name_some(near)}" if near else f"it holds {name_some(rows)}"
    return f"{what} holds no condition {name_some(names)}; {hint}"
