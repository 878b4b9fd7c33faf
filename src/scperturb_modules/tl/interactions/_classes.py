"""Classes of genetic interactions: which scores must lie beyond which thresholds, and which class names a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some

NEOMORPHIC, EPISTASIS, REDUNDANCY = "neomorphic", "epistasis", "redundancy"
SYNERGY, SUPPRESSION, ADDITIVE = "synergy", "suppression", "additive"

Thresholds = Mapping[str, float]
Rule = tuple[tuple[str, Literal["<", ">"], str], ...]
"""Score, side and threshold; all parts must hold."""

RULES: Mapping[str, Rule] = {
    NEOMORPHIC: (("model_fit", "<", "neomorphic_fit"), ("magnitude", "<", "neomorphic_magnitude")),
    EPISTASIS: (("equality", "<", "epistasis"),),
    REDUNDANCY: (("similarity", ">", "redundancy"), ("singles_similarity", ">", "redundancy_singles")),
    SYNERGY: (("magnitude", ">", "synergy"),),
    SUPPRESSION: (("magnitude", "<", "suppression"),),
    ADDITIVE: (("magnitude", "<", "synergy"), ("magnitude", ">", "suppression")),
}
"""What makes a pair one of a class. The classes are not exclusive; the first that holds, in this order, is the label,
and a pair without any is additive."""

FLAGS: Mapping[str, str] = {
    NEOMORPHIC: "is_neomorphic",
    EPISTASIS: "is_epistatic",
    REDUNDANCY: "is_redundant",
    SYNERGY: "is_synergistic",
    SUPPRESSION: "is_suppressive",
}

NORMAN = {
    "neomorphic_fit": 0.73,
    "neomorphic_magnitude": 1.3,
    "epistasis": 0.34,
    "redundancy": 0.84,
    "redundancy_singles": 0.69,
    "synergy": 1.15,
    "suppression": 0.9,
}
GEARS = {
    "neomorphic_fit": 0.88,  # of a Pearson correlation
    "neomorphic_magnitude": np.inf,
    "epistasis": 0.28,
    "redundancy": 0.85,
    "redundancy_singles": -np.inf,
    "synergy": 1.15,
    "suppression": 1.0,
}
SETS: Mapping[str, Mapping[str, float]] = {"norman": NORMAN, "gears": GEARS}


def resolve_thresholds(thresholds: str | Thresholds) -> dict[str, float]:
    """The thresholds of a named set, or those of ``"norman"`` with some replaced.

    >>> resolve_thresholds({"synergy": 1.5})["synergy"], resolve_thresholds("gears")["epistasis"]
    (1.5, 0.28)
    """
    if isinstance(thresholds, str):
        if thresholds not in SETS:
            raise DataError(f"thresholds={thresholds!r}; choose one of {name_some(SETS)}, or give a mapping.")
        return dict(SETS[thresholds])
    unknown = sorted(set(thresholds) - set(NORMAN))
    if unknown:
        raise DataError(
            f"{len(unknown)} thresholds do not exist: {name_some(unknown)}; there are {name_some(NORMAN, most=9)}."
        )
    return NORMAN | {name: float(value) for name, value in thresholds.items()}


def holds(rule: str, low: pd.DataFrame, high: pd.DataFrame, thresholds: Thresholds) -> NDArray[np.bool_]:
    """Where all values between ``low`` and ``high`` lie beyond the thresholds of a class.

    Parameters
    ----------
    rule
        The class.
    low, high
        A row per pair, a column per score; the same table twice asks about the scores themselves.
    thresholds
        Of :func:`resolve_thresholds`.
    """
    parts = [
        (high[score] < thresholds[name]) if side == "<" else (low[score] > thresholds[name])
        for score, side, name in RULES[rule]
    ]
    return np.logical_and.reduce([part.to_numpy(dtype=bool) for part in parts])


def classify(scores: pd.DataFrame, can_tell: NDArray[np.bool_], thresholds: Thresholds) -> pd.DataFrame:
    """Flags and label of each pair; no flag and the label ``""`` where ``can_tell`` is False."""
    flags = {FLAGS[rule]: can_tell & holds(rule, scores, scores, thresholds) for rule in FLAGS}
    label = np.select([~can_tell, *flags.values()], ["", *FLAGS], default=ADDITIVE).astype(object)
    return pd.DataFrame(flags | {"label": label}, index=scores.index)


def is_firm(table: pd.DataFrame, scores: tuple[str, ...], thresholds: Thresholds) -> NDArray[np.bool_]:
    """Whether the whole interval of every score that makes a pair's label lies beyond its threshold."""
    low, high = (
        pd.DataFrame({score: table[f"{score}_{side}"] for score in scores}, index=table.index)
        for side in ("lower", "upper")
    )
    label = table["label"].to_numpy()
    firm = [(label == rule) & holds(rule, low, high, thresholds) for rule in RULES]
    return np.logical_or.reduce(firm)
