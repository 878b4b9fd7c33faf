"""Sections 1 and 2: what to use for each question, in one sentence, and what the data cannot say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scperturb_modules.metrics import MANDATORY, cannot_tell
from scperturb_modules.metrics._bootstrap import MIN_CLUSTERS
from scperturb_modules.metrics._quality import ENOUGH_WINS
from scperturb_modules.metrics._verdict import ENOUGH_REPLICATES, ENOUGH_ROOM
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Column, Table, digits, interval, make_table, records, tone_of
from scperturb_modules.report._words import regime_text, split_text

USE_MODEL = "Use {model}: its error is {gain} lower than that of {baseline}, the baseline hardest to beat{care}."
AS_GOOD = " {other}, a baseline that it need not beat here, gains {gain} as well and is simpler."
USE_BASELINE = "Nothing beats the baselines. Use {baseline}: it is simple. The best model, {model}, gains {gain}{care}."
SEVERAL = ", which the best of several models may do by chance"
ONLY_BASELINES = "Only baselines were compared. Use {baseline}: no other was shown to be better."
CANNOT = "These data cannot rank models here: {why}. {baseline} is a safe default, not a winner."
FEW = "there are {n} test conditions, and at least {least} are needed"
NOISE = "measurement noise explains most of the error of the best baseline"
REPLICATE = "a repeat of the experiment is nearer to the truth than the training mean in only {share} % of conditions"
NO_INTERVAL = "the gains have no interval"
NO_BAR = "None of the baselines that count here was scored, so nothing can be recommended."
NOT_SCORED = "None of the test conditions has enough cells, so nothing can be recommended."

COLUMNS = (
    Column("question", "What is predicted", "How much of the condition was measured in training"),
    Column("split", "What was held out", "How conditions were divided into training and test"),
    Column("use", "Use", "The predictor to use for such conditions"),
    Column("word", "Best model", "The best model against the baselines, in a word; see the words at the end", "word"),
    Column("error", "Error", "Error (L2) of the recommended predictor; lower is better", "number"),
    Column("gain", "Gain\u00a0%", "How much lower its error is than that of the baseline beside", "percent"),
    Column("low", "from", "Lower end of the 95 % interval of the gain, in %", "percent"),
    Column("high", "to", "Upper end of the 95 % interval of the gain, in %", "percent"),
    Column("over", "over", "The baseline that is hardest to beat"),
    Column(
        "room", "Room\u00a0%", "Share of the error that is not measurement noise: what can still be gained", "percent"
    ),
    Column("n", "n", "Number of test conditions", "count"),
)


@dataclass(frozen=True)
class Answer:
    """What the page says about one way of predicting (split kind and regime)."""

    split: str
    regime: str
    title: str
    use: str
    word: str
    sentence: str
    data: str
    details: tuple[str, ...]

    @property
    def tone(self) -> str:
        return tone_of(self.word)


def answers_of(source: Source) -> list[Answer]:
    """An answer per split kind and regime."""
    regimes = [regime for _, regime in source.regimes]
    return [_answer(source, split, regime, twice=regimes.count(regime) > 1) for split, regime in source.regimes]


def _answer(source: Source, split: str, regime: str, *, twice: bool) -> Answer:
    table = source.verdicts
    rows = table[(table["split_kind"] == split) & (table["regime"] == regime)].merge(
        source.primary[["split_kind", "regime", "model", "mean"]].rename(columns={"mean": "error_"}),
        on=["split_kind", "regime", "model"],
    )
    use, word, sentence = _choice(source, rows, split, regime)
    title = regime_text(regime)
    return Answer(
        split,
        regime,
        f"{title} ({split_text(split)})" if twice else title,
        use,
        word,
        sentence[:1].upper() + sentence[1:],
        _data(source, split, regime),
        tuple(dict.fromkeys(text for text in _contenders(rows, regime)["text"] if text)),
    )


def _contenders(rows: pd.DataFrame, regime: str) -> pd.DataFrame:
    """The models, or where there is none the baselines that need not be beaten."""
    models = rows[~rows["is_baseline"].astype(bool)]
    return models if len(models) else rows[~rows["model"].isin(MANDATORY.get(regime, ()))]


def _choice(source: Source, rows: pd.DataFrame, split: str, regime: str) -> tuple[str, str, str]:
    """What to use, the word and the sentence."""
    room = source.room[split, regime]
    bar = room["best_baseline"]
    if not bar:
        scored = rows["error_"].notna().any()
        return "", "no baseline" if scored else "not scored", NO_BAR if scored else NOT_SCORED
    pool = _contenders(rows, regime)
    share = source.wins.get((split, regime), (math.nan, 0))[0]
    n = int(rows["n"].max()) if len(rows) else int(room["n"])
    silent = cannot_tell(regime, n=n, room=room["room"], replicate_wins=share)
    if silent is not None or (len(pool) and set(pool["word"]) == {"cannot tell"}):
        return bar, "cannot tell", CANNOT.format(baseline=bar, why=_why_not(n, room["room"], share))
    winners = pool[pool["word"] == "beats"].sort_values(["error_", "model"], kind="stable")
    if len(winners):
        best = winners.iloc[0]
        care = ENOUGH_REPLICATES <= share < ENOUGH_WINS
        text = USE_MODEL.format(
            model=best["model"],
            gain=_gain(best),
            baseline=best["gain_vs"],
            care=", but read it with care" if care else "",
        )
        return str(best["model"]), "beats", text + _as_good(rows, best)
    if rows["is_baseline"].astype(bool).all():
        return bar, "no better", ONLY_BASELINES.format(baseline=bar)
    best = pool.sort_values(["error_", "model"], kind="stable").iloc[0]
    chance = SEVERAL if best["gain_low"] > 0 and best["word"] == "no better" else ""
    text = USE_BASELINE.format(baseline=bar, model=best["model"], gain=_gain(best), care=chance)
    return bar, str(best["word"]), text


def _gain(row: pd.Series) -> str:
    return interval(100 * row["gain"], 100 * row["gain_low"], 100 * row["gain_high"], unit=" %")


def _as_good(rows: pd.DataFrame, best: pd.Series) -> str:
    """A remark on the best baseline whose gain reaches into the interval of the recommended model's."""
    others = rows[rows["is_baseline"].astype(bool) & (rows["gain_vs"] == best["gain_vs"]) & (rows["gain"] > 0)]
    others = others[(others["gain"] >= best["gain_low"]) & (others["model"] != best["model"])]
    if best["is_baseline"] or others.empty:
        return ""
    nearest = others.sort_values(["error_", "model"], kind="stable").iloc[0]
    return AS_GOOD.format(other=nearest["model"], gain=_gain(nearest))


def _why_not(n: int, room: float, share: float) -> str:
    """The gravest reason why nothing can be ranked."""
    if n < MIN_CLUSTERS:
        return FEW.format(n=n, least=MIN_CLUSTERS)
    if room < ENOUGH_ROOM:
        return NOISE
    return REPLICATE.format(share=digits(100 * share)) if share < ENOUGH_REPLICATES else NO_INTERVAL


def _data(source: Source, split: str, regime: str) -> str:
    """What the data can tell apart: the noise, and whether a replicate beats the mean."""
    room = source.room[split, regime]
    share, n_halved = source.wins.get((split, regime), (math.nan, 0))
    texts = [f"{int(room['n'])} test conditions."]
    if not math.isnan(room["room"]):
        noise = digits(100 * min(1.0, max(0.0, 1 - room["room"])))
        texts.append(f"Measurement noise explains {noise} % of the squared error of {room['best_baseline']}.")
    if not math.isnan(share):
        care = ": small gains mean little here" if share < ENOUGH_WINS else ""
        texts.append(
            f"A repeat of the experiment is nearer to the truth than the training mean in {digits(100 * share)} % of "
            f"{n_halved} conditions{care}."
        )
    return " ".join(texts)


def headline(answers: list[Answer]) -> str:
    """The page in one sentence."""
    n_won = sum(answer.word == "beats" for answer in answers)
    n_silent = sum(answer.word in ("cannot tell", "not scored", "no baseline") for answer in answers)
    kinds = _kinds(len(answers))
    if n_silent == len(answers):
        return f"These data cannot rank predictors: {kinds} tested, no answer."
    silent = f" For {n_silent} the data cannot tell." if n_silent else ""
    if n_won:
        won = "; ".join(answer.title for answer in answers if answer.word == "beats")
        return f"The plain baselines are beaten in {n_won} of {kinds}: {won}.{silent}"
    return f"Nothing beats the plain baselines in {_kinds(len(answers) - n_silent)}.{silent}"


def _kinds(n: int) -> str:
    return "1 kind of prediction" if n == 1 else f"{n} kinds of prediction"


def recommendation(source: Source, answers: list[Answer]) -> Table:
    """Which predictor to use, a row per split kind and regime."""
    of = ("split_kind", "regime", "model")
    chosen = {tuple(row[name] for name in of): row for row in records(source.verdicts)}
    errors = {tuple(row[name] for name in of): row["mean"] for row in records(source.primary)}
    rows = []
    for answer in answers:
        key = (answer.split, answer.regime, answer.use)
        row: dict[str, Any] = chosen.get(key, {})
        room = source.room[answer.split, answer.regime]
        rows.append(
            {
                "question": regime_text(answer.regime), "split": split_text(answer.split),
                "use": answer.use or "—", "word": answer.word, "error": errors.get(key, math.nan),
                "gain": row.get("gain", math.nan), "low": row.get("gain_low", math.nan),
                "high": row.get("gain_high", math.nan), "over": row.get("gain_vs", ""),
                "room": room["room"], "n": room["n"],
            }
        )  # fmt: skip
    return make_table("use", "The predictor to use for each kind of prediction", COLUMNS, rows)
