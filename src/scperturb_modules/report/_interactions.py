"""Section 6: genetic interactions of the pairs whose two singles were measured, predicted and measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from scperturb_modules._conditions import PAIR_2OF2, row_name
from scperturb_modules.report._answers import Answer
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Choice, Column, Table, make_table, options_of, records
from scperturb_modules.report._words import split_text

if TYPE_CHECKING:
    from anndata import AnnData

COLUMNS = (
    Column("pair", "Pair", "The two perturbed genes, in a cell type where there are several"),
    Column("label", "Predicted", "Kind of interaction that the prediction shows"),
    Column("label_measured", "Measured", "Kind of interaction that the measurement shows"),
    Column("word", "Agree", "Whether both name the same kind; nothing where one of them has none", "word"),
    Column(
        "magnitude", "Strength, predicted", "Above 1.15 synergy, below 0.9 suppression, at the usual cuts", "number"
    ),
    Column("magnitude_measured", "Strength, measured", "Strength of the measured interaction", "number"),
    Column("residual", "Beyond the sum, predicted", "Size of what the sum of both singles does not explain", "number"),
    Column(
        "residual_measured", "Beyond the sum, measured", "The same of the measurement; holds its noise too", "number"
    ),
    Column(
        "model_fit", "Fit, predicted", "How well a weighted sum of the singles explains the pair; 1 fully", "number"
    ),
    Column("model_fit_measured", "Fit, measured", "The same of the measurement", "number"),
    Column("why", "Why no kind", "Why the pair has no kind of interaction"),
    Column("model", "Predictor", "The predictor recommended for such pairs"),
)
SCORES = ("magnitude", "residual", "model_fit")


def interactions_of(source: Source, answers: list[Answer]) -> pd.DataFrame | None:
    """Predicted and measured interactions, a row per pair; None where no pair with both singles was tested."""
    parts = []
    for answer in answers:
        if answer.regime == PAIR_2OF2 and answer.use:
            parts += _of_split(source, answer)
    if not parts:
        return None
    table = pd.concat(parts)
    return table[~table.index.duplicated()].sort_index(kind="stable")


def _of_split(source: Source, answer: Answer) -> list[pd.DataFrame]:
    conditions = source.conditions
    mine = conditions[(conditions["split_kind"] == answer.split) & (conditions["regime"] == PAIR_2OF2)]
    wanted = {row_name(row["condition"], row["stratum"] or None) for row in records(mine)}
    parts = []
    for (model, label), prediction in source.board.predictions.items():
        if model == answer.use and label.rpartition("_fold")[0] == answer.split and label in source.board.truths:
            pairs = [name for name in map(str, prediction.obs_names) if name in wanted]
            wanted -= set(pairs)
            if pairs:
                parts.append(_both(prediction, source.board.truths[label], pairs).assign(model=model, split=label))
    return parts


def _both(prediction: AnnData, truth: AnnData, pairs: list[str]) -> pd.DataFrame:
    """Both tables side by side; the prediction gets the noise of the measurement, so that their scores compare."""
    from scperturb_modules.tl import genetic_interactions

    said = genetic_interactions(prediction, pairs=pairs, singles=truth, noise=truth)
    seen = genetic_interactions(truth, pairs=pairs, genes=said.attrs["genes"])
    return said.join(seen, rsuffix="_measured")


def interaction_table(found: pd.DataFrame) -> Table:
    """A row per pair."""
    rows = []
    for name, row in found.iterrows():
        said, seen = (str(row[key]) if pd.notna(row[key]) else "" for key in ("label", "label_measured"))
        word = ("agrees" if said == seen else "differs") if said and seen else ""
        why = [f"{what}: {row[key]}" for what, key in (("predicted", "status"), ("measured", "status_measured"))
               if row[key] != "ok"]  # fmt: skip
        scores = {name: row.get(name, math.nan) for score in SCORES for name in (score, f"{score}_measured")}
        rows.append(
            scores
            | {
                "pair": str(name), "label": said, "label_measured": seen, "word": word,
                "why": "; ".join(why), "model": row["model"],
            }
        )  # fmt: skip
    kinds = sorted({(row["label_measured"],) * 2 for row in rows if row["label_measured"]})
    words = sorted({(row["word"],) * 2 for row in rows if row["word"]})
    choices = (
        Choice("label_measured", "Measured kind", options_of(kinds, "all")),
        Choice("word", "Agree", options_of(words, "all")),
    )
    caption = "Pairs of genes: kind and strength of their interaction"
    return make_table("interactions", caption, COLUMNS, rows, choices=choices, search="gene, pair or kind")


def interactions_text(found: pd.DataFrame) -> str:
    """How often the kinds agree, and with whose predictions."""
    both = found[found["label"].fillna("").ne("") & found["label_measured"].fillna("").ne("")]
    agree = int((both["label"] == both["label_measured"]).sum())
    models = ", ".join(dict.fromkeys(f"{row['model']} ({split_text(row['split'].rpartition('_fold')[0])})"
                                     for row in records(found)))  # fmt: skip
    return (
        f"Predictions of {models} for {len(found):,} pairs that were held out while both single genes were measured. "
        f"The kind is known on both sides for {len(both):,}, and it is the same for {agree:,} of them."
    )
