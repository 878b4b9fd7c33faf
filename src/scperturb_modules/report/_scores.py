"""Section 3: every predictor on every metric, and what each metric is worth on these data."""

from __future__ import annotations

import math

from scperturb_modules.metrics import METRICS
from scperturb_modules.metrics._quality import ENOUGH_WINS
from scperturb_modules.pl._style import metric_name
from scperturb_modules.report._answers import Answer
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Choice, Column, Table, make_table, options_of, records
from scperturb_modules.report._words import metric_help, metric_option

COLUMNS = (
    Column("model", "Predictor", "A model or a baseline"),
    Column("kind", "Kind", "Baselines are plain rules that a model has to beat"),
    Column("mean", "Value", "Mean over the test conditions", "number"),
    Column("ci_low", "from", "Lower end of the 95 % interval of the value", "number"),
    Column("ci_high", "to", "Upper end of the 95 % interval of the value", "number"),
    Column("gain", "Gain\u00a0%", "How much nearer to perfect it is than the baseline beside", "percent"),
    Column("gain_low", "gain from", "Lower end of the 95 % interval of the gain, in %", "percent"),
    Column("gain_high", "gain to", "Upper end of the 95 % interval of the gain, in %", "percent"),
    Column("gain_vs", "over", "The baseline that is hardest to beat"),
    Column("verdict", "Verdict", "In a word, for the main metric only; see the words at the end", "word"),
    Column("n", "n", "Number of test conditions", "count"),
    Column("question", "What is predicted", "How much of the condition was measured in training"),
)

QUALITY = (
    Column("name", "Metric", "What is measured"),
    Column("text", "In plain words", "What the metric says"),
    Column("replicate", "Replicate", "Score of one half of the cells against the other half", "number"),
    Column("mean_shift", "Training mean", "Score of the average training perturbation", "number"),
    Column("no_change", "No change", "Score of predicting that nothing happens", "number"),
    Column("replicate_wins", "Replicate wins %", "In how many conditions the replicate is better", "percent"),
    Column("use", "On these data", "Below 80 % the metric cannot tell a repeat from the training mean"),
)


def leaderboard(source: Source, answers: list[Answer]) -> Table:
    """A row per metric, kind of prediction and predictor; the primary metric is shown first."""
    titles = {(answer.split, answer.regime): answer.title for answer in answers}
    rows = []
    order = {key: i for i, key in enumerate(titles)}
    ranked = sorted(records(source.board.summary()), key=lambda row: order[row["split_kind"], row["regime"]])
    for row in ranked:
        title = titles[row["split_kind"], row["regime"]]
        kind = "baseline" if row["is_baseline"] else "model"
        word = row["verdict"] if row["verdict"] != "secondary" else ""
        rows.append(row | {"question": title, "kind": kind, "verdict": word})
    choices = (
        Choice("metric", "Metric", options_of([(row["metric"], metric_option(row["metric"])) for row in rows])),
        Choice("question", "What is predicted", [*options_of([(row["question"],) * 2 for row in rows]), ("", "all")]),
    )
    caption = "Every predictor, best first: mean over test conditions with its 95 % interval"
    return make_table("leaderboard", caption, COLUMNS, rows, choices=choices, search="predictor", page=60)


def quality(source: Source) -> Table:
    """What each metric can tell apart here."""
    rows = []
    for row in records(source.board.quality()):
        rows.append(
            row
            | {
                "name": metric_name(row["metric"]) if row["metric"] in METRICS else row["metric"],
                "text": metric_help(row["metric"]),
                "use": _worth(row["replicate_wins"]),
            }
        )
    return make_table("quality", "Which metric means something on these data", QUALITY, rows)


def _worth(wins: float) -> str:
    """Whether a metric can tell a repeat of the experiment from the training mean."""
    if math.isnan(wins):
        return "not known here"
    return "means something" if wins >= ENOUGH_WINS else "cannot tell a repeat from the mean"
