"""Paired comparisons over test conditions pooled over seeds, as the texts of tables and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

import scperturb_modules as spm
from scperturb_modules.metrics import Gain

ANCHOR = "AdditiveShrunk"
KEYS = ["seed", "regime", "condition"]


def wide(errors: pd.DataFrame, regimes: Sequence[str] | None = None) -> pd.DataFrame:
    """A row per seed, regime and condition, a column per model."""
    table = errors.pivot(index=KEYS, columns="model", values="error")
    return table if regimes is None else table[table.index.get_level_values("regime").isin(regimes)]


def gain_of(model: pd.Series, base: pd.Series) -> Gain:
    """Of a model over another; a condition of one seed is one unit."""
    model, base = model.align(base, join="inner")
    return spm.metrics.compare(model.to_numpy(), base.to_numpy(), _units(model))


def mean_of(values: pd.Series) -> str:
    """Mean L2 with its interval."""
    found = spm.metrics.mean_interval(values.to_numpy(), _units(values))
    return f"{found.value:.2f} ({found.low:.2f}, {found.high:.2f})"


def percent(gain: Gain) -> str:
    """``12.3 (10.0, 14.5)``."""
    return f"{100 * gain.gain:z.1f} ({100 * gain.low:z.1f}, {100 * gain.high:z.1f})"


def by_seed(model: pd.Series, base: pd.Series) -> str:
    """Smallest and largest gain of a seed; a training run is the same for all conditions of its seed."""
    model, base = model.align(base, join="inner")
    of_seed = 1 - model.groupby("seed").mean() / base.groupby("seed").mean()
    return f"{100 * of_seed.min():z.1f} to {100 * of_seed.max():z.1f}"


def word(gain: Gain) -> str:
    """What the interval allows to say."""
    return "lower" if gain.low > 0 else "higher" if gain.high < 0 else "not shown to differ"


def sentence(what: str, than: str, gain: Gain) -> str:
    """Which of two errors is lower, by how much, with the interval; or that no difference is shown."""
    bounds = f"n = {gain.n}"
    if gain.low == gain.high == 0:
        return f"The error of {what} is exactly that of {than} ({bounds})."
    if gain.low <= 0 <= gain.high:
        interval = f"gain {100 * gain.gain:z.1f} %, 95 % CI {100 * gain.low:z.1f} to {100 * gain.high:z.1f}"
        return f"The error of {what} is not shown to differ from that of {than} ({interval}, {bounds})."
    low, high = sorted(abs(100 * bound) for bound in (gain.low, gain.high))
    size = f"{abs(100 * gain.gain):.1f} % {word(gain)}"
    return f"The error of {what} is {size} than that of {than} (95 % CI {low:.1f} to {high:.1f}, {bounds})."


def gains_over(table: pd.DataFrame, models: Iterable[str], *, of: str) -> list[dict[str, object]]:
    """One row per competitor: its error, and the gain of ``of`` over it."""
    rows = []
    for name in models:
        gain = gain_of(table[of], table[name])
        rows.append(
            {
                "predictor": name,
                "L2 (95 % CI)": mean_of(table[name]),
                f"gain of {of} over it, % (95 % CI)": "" if name == of else percent(gain),
                "per seed": "" if name == of else by_seed(table[of], table[name]),
                f"{of} better in": "" if name == of else f"{100 * gain.win_share:.0f} %",
                "n": gain.n,
            }
        )
    return rows


def verdict(table: pd.DataFrame, regime: str, *, of: str) -> str:
    """The sentence of the leaderboard, against each baseline that counts in the regime."""
    gains = {name: gain_of(table[of], table[name]) for name in spm.metrics.MANDATORY[regime]}
    return str(spm.metrics.verdict(of, regime, gains, n=len(table), room=None))


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * table.shape[1], *table.astype(str).to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _units(values: pd.Series) -> np.ndarray:
    return np.array([f"{seed}|{condition}" for seed, _, condition in values.index])
