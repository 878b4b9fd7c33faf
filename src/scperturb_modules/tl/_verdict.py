"""A benchmark in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scperturb_modules._errors import name_some
from scperturb_modules.metrics import MANDATORY, METRICS, PRIMARY, Gain, Verdict, gaming_warnings, verdict
from scperturb_modules.metrics._quality import ENOUGH_WINS
from scperturb_modules.metrics._verdict import CANNOT_TELL, ENOUGH_ROOM, PUBLISHED
from scperturb_modules.tl._summary import REGIME, blocks

LOST = (
    "Cannot tell a replicate from the mean on {regime}: one half of the cells predicts the other better than MeanShift "
    "in {share} % of {n} conditions. Small gains in L2 mean little on these data."
)
NO_BAR = "No bar on {regime}: none of {mandatory} was run. Add spm.baselines.ALL to the predictors."


def judge(gain_table: pd.DataFrame, room: pd.DataFrame, *, protocol: str) -> dict[tuple[str, str, str], Verdict]:
    """The verdict on every predictor by (split kind, regime, model), mandatory baselines too."""
    rooms = dict(zip(zip(room["split_kind"], room["regime"], strict=True), room["room"], strict=True))
    primary = gain_table[gain_table["metric"] == PRIMARY]
    found = {}
    for (split, regime, model), rows in blocks(primary, [*REGIME, "model"]):
        comparisons = {str(row["gain_vs"]): _gain(row) for _, row in rows.iterrows()}
        share, seed_sd = rooms[split, regime], float(rows["seed_sd"].max())
        found[split, regime, model] = verdict(
            model,
            regime,
            comparisons,
            n=int(rows["n"].min()),
            room=None if math.isnan(share) else share,
            protocol=protocol,
            seed_sd=None if math.isnan(seed_sd) else seed_sd,
        )
    return found


def _gain(row: Any) -> Gain:
    return Gain(
        gain=row["gain"], low=row["gain_low"], high=row["gain_high"], p=row["p"], p_wilcoxon=row["p_wilcoxon"],
        n=int(row["n"]), n_undefined=int(row["n_undefined"]), win_share=row["win_share"], scatter=row["scatter"],
        method="none",
    )  # fmt: skip


def in_words(
    summary: pd.DataFrame,
    room: pd.DataFrame,
    verdicts: dict[tuple[str, str, str], Verdict],
    *,
    protocol: str,
    errors: Sequence[str],
    wins: Mapping[tuple[str, str], tuple[float, int]],
) -> str:
    """One paragraph per split kind and regime: the bar, then a sentence for each contender.

    Models are contenders; where only baselines were run, those that are not mandatory in the regime are. ``wins`` is
    the share of conditions in which a replicate is better than the mean on the primary metric, and their number.
    """
    several = summary["split_kind"].nunique() > 1
    paragraphs = []
    for (split, regime), rows in blocks(summary, REGIME):
        line = room[(room["split_kind"] == split) & (room["regime"] == regime)].iloc[0]
        sentences = [_bar(rows, regime, line, f"{regime} ({split})" if several else regime)]
        said = [
            str(verdicts[split, regime, name])
            for name in _contenders(rows, regime)
            if (split, regime, name) in verdicts
        ]
        if not said and line["room"] < ENOUGH_ROOM:
            noise = f"{100 * min(1.0, line['noise_share']):.1f}"
            text = CANNOT_TELL.format(regime=regime, n=int(line["n"]), noise=noise)
            said = [text + (PUBLISHED if protocol == "published" else "")]
        # when the data cannot tell, the sentence is the same for every contender
        sentences += [*dict.fromkeys(said), *_gaming(rows)]
        share, n = wins.get((split, regime), (math.nan, 0))
        if share < ENOUGH_WINS:
            sentences.append(LOST.format(regime=regime, share=f"{100 * share:.0f}", n=n))
        paragraphs.append("\n".join(sentences))
    if errors:
        paragraphs.append(f"Failed and scored as no change: {name_some(sorted(set(errors)))}. See Benchmark.errors.")
    return "\n\n".join(paragraphs)


def _contenders(rows: pd.DataFrame, regime: str) -> list[str]:
    primary = rows[rows["metric"] == PRIMARY]
    models = list(primary.loc[~primary["is_baseline"], "model"])
    return models or [name for name in primary["model"] if name not in MANDATORY.get(regime, ())]


def _bar(rows: pd.DataFrame, regime: str, room: pd.Series, title: str) -> str:
    best = room["best_baseline"]
    if not best:
        return NO_BAR.format(regime=title, mandatory=", ".join(MANDATORY.get(regime, ())))
    primary = rows[rows["metric"] == PRIMARY].set_index("model")
    bar = primary.loc[best]
    n = f"n = {int(bar['n'])} conditions"
    if math.isnan(bar["ci_low"]):
        interval = f"{n}, too few for an interval"
    else:
        interval = f"95 % CI {bar['ci_low']:.2f} to {bar['ci_high']:.2f}, {n}"
    text = f"The bar on {title} is {best}: L2 {bar['mean']:.2f} ({interval})"
    if "NoChange" not in primary.index or best == "NoChange":
        return text + "."
    below = 100 * (1 - bar["mean"] / primary.loc["NoChange", "mean"])
    return f"{text}, {below:.1f} % below NoChange."


def _gaming(rows: pd.DataFrame) -> list[str]:
    """Warnings about models whose secondary metrics improve while their predictions have the wrong size."""
    found = []
    for model in dict.fromkeys(rows.loc[~rows["is_baseline"], "model"]):
        own = rows[rows["model"] == model].set_index("metric")
        better = own[(own["gain"] > 0) & (own["p"] < 0.05)].index
        slope, collapse = (float(own["mean"].get(name, math.nan)) for name in ("slope", "collapse"))
        found += gaming_warnings(model, [name for name in METRICS if name in better], slope=slope, collapse=collapse)
    return found
