"""A benchmark in plain words."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scperturb_modules._errors import name_some
from scperturb_modules.metrics import (
    MANDATORY,
    METRICS,
    PRIMARY,
    Gain,
    Verdict,
    cannot_tell,
    gaming_warnings,
    holm,
    verdict,
)
from scperturb_modules.metrics._quality import ENOUGH_WINS
from scperturb_modules.metrics._verdict import ENOUGH_REPLICATES, PUBLISHED, claim_p
from scperturb_modules.tl._summary import REGIME, blocks

NO_BAR = "No bar on {regime}: none of {mandatory} was run. Add spm.baselines.ALL to the predictors."
UNSCORED = "Not scored: {regime}, none of its {n} conditions has enough cells."
CAUTION = (
    "With care on {regime}: one half of the cells is closer to the other than MeanShift is in {share} % of {n} "
    "conditions. Small gains in L2 mean little on these data."
)
ABSENT = "No prediction, scored as no change: {models}."
OTHERS = "Other baselines: {groups}."
GROUPS = {"no better": "no better than the bar", "worse": "worse", "shrinkage only": "better by shrinkage only"}

VERDICT_COLUMNS = [
    *REGIME, "model", "is_baseline", "word", "gain_vs", "gain", "gain_low", "gain_high", "p", "p_adjusted", "n", "text",
]  # fmt: skip

Wins = Mapping[tuple[str, str], tuple[float, int]]
"""By (split kind, regime): share of conditions in which a replicate beats the mean, and their number."""


@dataclass(frozen=True)
class Judged:
    """A verdict with what it rests on.

    Attributes
    ----------
    verdict
        The word and the sentence.
    p, p_adjusted
        Of the claim that every mandatory baseline is beaten (:func:`scperturb_modules.metrics._verdict.claim_p`), and
        by Holm's method over the models of the regime; a baseline makes no claim, and its p stays as it is.
    n
        Clusters of conditions.
    """

    verdict: Verdict
    p: float
    p_adjusted: float
    n: int


def judge(
    gain_table: pd.DataFrame, room: pd.DataFrame, wins: Wins, *, protocol: str, models: Collection[str]
) -> dict[tuple[str, str, str], Judged]:
    """The verdict on every predictor by (split kind, regime, model), mandatory baselines too.

    ``models`` names those that are no baselines: the claims of several of them are corrected for their number.
    """
    rooms = dict(zip(zip(room["split_kind"], room["regime"], strict=True), room["room"], strict=True))
    primary = gain_table[gain_table["metric"] == PRIMARY]
    found = {}
    for (split, regime), block in blocks(primary, REGIME):
        lots = {str(model): rows for (model,), rows in blocks(block, ["model"])}
        gains = {model: {str(row["gain_vs"]): _gain(row) for _, row in rows.iterrows()} for model, rows in lots.items()}
        p = {model: claim_p(model, regime, gains[model]) for model in lots}
        family = [model for model in lots if model in models]
        adjusted = p | dict(zip(family, holm([p[model] for model in family]).tolist(), strict=True))
        for model, rows in lots.items():
            seed_sd, n = float(rows["seed_sd"].max()), int(rows["n"].min())
            said = verdict(
                model,
                regime,
                gains[model],
                n=n,
                room=rooms[split, regime],
                replicate_wins=_share(wins, split, regime),
                protocol=protocol,
                seed_sd=None if math.isnan(seed_sd) else seed_sd,
                n_models=len(family) if model in family else 1,
                p_adjusted=adjusted[model],
            )
            found[split, regime, model] = Judged(said, p[model], adjusted[model], n)
    return found


def verdict_table(summary: pd.DataFrame, judged: Mapping[tuple[str, str, str], Judged]) -> pd.DataFrame:
    """See ``Benchmark.verdicts``."""
    rows = summary[summary["metric"] == PRIMARY].to_dict(orient="records")
    found = [judged.get((row["split_kind"], row["regime"], row["model"])) for row in rows]
    lines = [
        row | {"word": one.verdict.word, "text": one.verdict.text, "p": one.p, "p_adjusted": one.p_adjusted, "n": one.n}
        for row, one in zip(rows, found, strict=True)
        if one is not None
    ]
    return pd.DataFrame(lines, columns=VERDICT_COLUMNS)


def _gain(row: Any) -> Gain:
    return Gain(
        gain=row["gain"], low=row["gain_low"], high=row["gain_high"], p=row["p"], p_wilcoxon=row["p_wilcoxon"],
        n=int(row["n"]), n_undefined=int(row["n_undefined"]), win_share=row["win_share"], scatter=row["scatter"],
        method="none", p_gain=row["p_gain"],
    )  # fmt: skip


def in_words(
    summary: pd.DataFrame,
    room: pd.DataFrame,
    verdicts: Mapping[tuple[str, str, str], Judged],
    *,
    protocol: str,
    errors: Sequence[str],
    absent: Mapping[str, str],
    wins: Wins,
) -> str:
    """One paragraph per split kind and regime: the bar, then a sentence for each model.

    Where only baselines were run, those that are not mandatory in the regime are judged, and those that do not beat
    the bar share a sentence. ``absent`` has the models that left conditions out, with their number in words.
    """
    several = summary["split_kind"].nunique() > 1
    paragraphs = []
    for (split, regime), rows in blocks(summary, REGIME):
        line = room[(room["split_kind"] == split) & (room["regime"] == regime)].iloc[0]
        bar = _bar(rows, regime, line, f"{regime} ({split})" if several else regime)
        said = {
            name: verdicts[split, regime, name].verdict
            for name in _contenders(rows, regime)
            if (split, regime, name) in verdicts
        }
        replicate = wins.get((split, regime), (math.nan, 0))
        sentences = _sentences(regime, rows, said, line, replicate, published=protocol == "published")
        paragraphs.append("\n".join([bar, *dict.fromkeys(sentences), *_gaming(rows)]))
    if errors:
        paragraphs.append(f"Failed and scored as no change: {name_some(sorted(set(errors)))}. See Benchmark.errors.")
    if absent:
        paragraphs.append(ABSENT.format(models=", ".join(f"{name} ({number})" for name, number in absent.items())))
    return "\n\n".join(paragraphs)


def _sentences(
    regime: str,
    rows: pd.DataFrame,
    said: Mapping[str, Verdict],
    room: pd.Series,
    replicate: tuple[float, int],
    *,
    published: bool,
) -> list[str]:
    """What follows the bar: that the data cannot tell, or who beats whom."""
    if not room["best_baseline"]:
        return []
    share, n_halved = replicate
    n = int(rows.loc[rows["metric"] == PRIMARY, "n"].max())
    silent = cannot_tell(regime, n=n, room=room["room"], replicate_wins=share)
    if silent is None and not rows["is_baseline"].all():
        sentences = [verdict.text for verdict in said.values()]
    else:
        sentences = [*([silent] if silent is not None else _grouped(said)), *([PUBLISHED.strip()] if published else [])]
    if ENOUGH_REPLICATES <= share < ENOUGH_WINS:
        sentences.append(CAUTION.format(regime=regime, share=f"{100 * share:.0f}", n=n_halved))
    return sentences


def _share(wins: Wins, split: str, regime: str) -> float | None:
    return wins[split, regime][0] if (split, regime) in wins else None


def _contenders(rows: pd.DataFrame, regime: str) -> list[str]:
    primary = rows[rows["metric"] == PRIMARY]
    models = list(primary.loc[~primary["is_baseline"], "model"])
    return models or [name for name in primary["model"] if name not in MANDATORY.get(regime, ())]


def _grouped(said: Mapping[str, Verdict]) -> list[str]:
    """A sentence for each baseline that beats the bar, and one for all others."""
    sentences = [verdict.text for verdict in said.values() if verdict.word not in GROUPS]
    groups = []
    for word, text in GROUPS.items():
        names = [name for name, verdict in said.items() if verdict.word == word]
        if names:
            groups.append(f"{', '.join(names)} {text}")
    return sentences + ([OTHERS.format(groups="; ".join(groups))] if groups else [])


def _bar(rows: pd.DataFrame, regime: str, room: pd.Series, title: str) -> str:
    best = room["best_baseline"]
    primary = rows[rows["metric"] == PRIMARY].set_index("model")
    if primary["mean"].isna().all():
        return UNSCORED.format(regime=title, n=int(primary["n_undefined"].max()))
    if not best:
        return NO_BAR.format(regime=title, mandatory=", ".join(MANDATORY.get(regime, ())))
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
