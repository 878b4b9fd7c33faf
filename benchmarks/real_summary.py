"""What the page of real screens says first: where a baseline wins, and what APP adds to its own anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY, Gain
from scperturb_modules.tl._summary import losses

APP, UNGATED, ANCHOR = "APP", "APP (gate off)", "AdditiveShrunk"


@dataclass(frozen=True)
class Outcome:
    """One case: errors pooled over regimes, a condition with its contexts being one unit."""

    question: str
    error: pd.Series
    gains: dict[str, Gain]

    @classmethod
    def of(cls, question: str, board: Any) -> Outcome:
        """Errors and gains of a benchmark; the comparison is paired, so every predictor must answer everything."""
        table = losses(board.frame)
        table = table[table["metric"] == PRIMARY]
        wide = table.pivot(index=["regime", "stratum", "condition"], columns="model", values="loss").dropna(how="all")
        if wide.isna().to_numpy().any():
            raise SystemExit(
                f"{question}: some predictors left out conditions: {list(wide.columns[wide.isna().any()])}"
            )
        names = wide.index.get_level_values("condition")
        gains = {name: spm.metrics.compare(wide[name], wide[ANCHOR], names) for name in (APP, UNGATED)}
        return cls(question, wide.mean().sort_values(kind="stable"), gains)

    @property
    def best(self) -> list[str]:
        """All predictors of the smallest error; APP with a closed gate is its anchor to the last bit."""
        return sorted(self.error.index[self.error == self.error.iloc[0]])

    @property
    def as_good(self) -> list[str]:
        """The best baselines, if they are at least as good as APP with its gate, which is what users get."""
        baselines = self.error.drop([APP, UNGATED])
        best = baselines[baselines == baselines.min()]
        return sorted(best.index) if best.iloc[0] <= self.error[APP] else []


def word(gain: Gain) -> str:
    """What the interval of a gain over the anchor allows to say."""
    if gain.gain == 0 and gain.win_share == 0:
        return "is its anchor"
    if np.isnan(gain.low):
        return "cannot tell"
    return "beats it" if gain.low > 0 else "is worse" if gain.high < 0 else "is no better"


def percent(gain: Gain) -> str:
    if np.isnan(gain.low):
        return f"{100 * gain.gain:z.1f}"
    return f"{100 * gain.gain:z.1f} ({100 * gain.low:z.1f}, {100 * gain.high:z.1f})"


def first_line(outcomes: list[Outcome]) -> str:
    """Where a baseline wins, and what APP is worth against its anchor."""
    lost = [f"{one.question} ({' = '.join(one.as_good)})" for one in outcomes if one.as_good]
    parts = [f"A baseline is as good as APP or better in {len(lost)} of {len(outcomes)} cases: {'; '.join(lost)}."]
    if not lost:
        parts = [f"APP has a lower L2 than every baseline in all of {len(outcomes)} cases."]
    words = {one.question: word(one.gains[APP]) for one in outcomes}
    for which, text in (
        ("beats it", "APP beats its own anchor in"),
        ("is worse", "APP is worse than its own anchor in"),
        ("is no better", "APP is not shown to differ from its own anchor in"),
        ("is its anchor", "APP is its own anchor, since every gate stayed closed, in"),
        ("cannot tell", "There are too few conditions to tell APP from its own anchor in"),
    ):
        found = [question for question, said in words.items() if said == which]
        if found or which in ("beats it", "is worse"):
            parts.append(f"{text} {len(found)}{': ' + '; '.join(found) if found else ''}.")
    gained = [one.question for one in outcomes if word(one.gains[UNGATED]) == "beats it"]
    lowered = [one.question for one in outcomes if word(one.gains[UNGATED]) == "is worse"]
    parts.append(
        f"With its gate off it beats the anchor in {len(gained)}{_named(gained)} and is worse in "
        f"{len(lowered)}{_named(lowered)}."
    )
    return " ".join(parts)


def _named(questions: list[str]) -> str:
    return f" ({'; '.join(questions)})" if questions else ""


def table(outcomes: list[Outcome]) -> pd.DataFrame:
    """A row per case: the best, and the gains of APP, gated and not, over its anchor."""
    return pd.DataFrame(
        {
            "case": [one.question for one in outcomes],
            "lowest L2": [f"{' = '.join(one.best)} {one.error.iloc[0]:.3f}" for one in outcomes],
            ANCHOR: [f"{one.error[ANCHOR]:.3f}" for one in outcomes],
            "APP": [f"{one.error[APP]:.3f}" for one in outcomes],
            "gain of APP, %": [percent(one.gains[APP]) for one in outcomes],
            "APP against its anchor": [word(one.gains[APP]) for one in outcomes],
            "gain of APP (gate off), %": [percent(one.gains[UNGATED]) for one in outcomes],
            "n": [one.gains[APP].n for one in outcomes],
        }
    )
