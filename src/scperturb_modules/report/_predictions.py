"""Section 5: every test condition of every predictor, with the genes that it says change most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import row_name
from scperturb_modules.report._answers import Answer
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Choice, Column, Table, make_table, options_of, records

if TYPE_CHECKING:
    from anndata import AnnData

MOST_ROWS = 2000
"""Rows of the table in the page."""

N_GENES = 3
BATCH = 256
"""Conditions whose changes are made dense at a time."""

COLUMNS = (
    Column("condition", "Condition", "Perturbed gene, or genes joined by +, in a cell type where there are several"),
    Column("model", "Predictor", "A model or a baseline"),
    Column("error", "Error", "Error (L2) of the prediction; lower is better", "number"),
    Column(
        "word",
        "Against baselines",
        "Beats, ties or loses, beyond the noise of the cells; the baselines that make the bar are not judged",
        "word",
    ),
    Column("baseline", "Baseline", "The best baseline for such conditions, which it is set beside"),
    Column("baseline_error", "Baseline's error", "Error (L2) of the baseline beside on this condition", "number"),
    Column("predicted", "Predicted to change most", "The three genes with the largest predicted change, up or down"),
    Column("measured", "Measured to change most", "The three genes with the largest measured change, up or down"),
    Column("interval", "Interval", "Whether 90 % intervals are given: ok, coarse (few conditions) or none", "word"),
    Column("bound", "Error bound", "The error (L2) that is not exceeded in 9 of 10 cases", "number"),
    Column("reason", "Abstains because", "Where this is filled in, do not believe the prediction"),
    Column("n_cells", "Cells", "Number of measured cells of the condition", "count"),
    Column("question", "What is predicted", "How much of the condition was measured in training"),
)
CERTAINTY = {"interval": "none", "bound": np.nan, "reason": ""}
"""Columns of a prediction that was never calibrated; where that is so of all, they are left out."""


def predictions(source: Source, answers: list[Answer]) -> tuple[Table, str]:
    """The table, and what it leaves out ("" where it holds all)."""
    titles = {(answer.split, answer.regime): answer for answer in answers}
    table = source.conditions.sort_values(
        ["split_kind", "regime", "gain", "condition", "stratum", "model"], kind="stable", na_position="last"
    )
    chosen = [titles[key].use for key in zip(table["split_kind"], table["regime"], strict=True)]
    table = table.assign(is_chosen=table["model"].to_numpy() == np.array(chosen, dtype=object))
    shown = _most_telling(table)
    facts = _Facts(source)
    rows = []
    for row in records(shown):
        said = facts.of(str(row["model"]), row["split_kind"], row_name(row["condition"], row["stratum"] or None))
        question = titles[row["split_kind"], row["regime"]].title
        name = row_name(row["condition"], row["stratum"] or None)
        rows.append(
            row | said | {"condition": name, "question": question, "which": "recommended" if row["is_chosen"] else ""}
        )
    order = {answer.title: i for i, answer in enumerate(answers)}
    rows.sort(key=lambda row: (not row["which"], order[row["question"]]))
    choices = (
        Choice("which", "Predictor", [("recommended", "recommended for each question"), ("", "all")]),
        Choice("question", "What is predicted", options_of([(row["question"],) * 2 for row in rows], "all")),
        Choice("word", "Against the best baseline", options_of([(row["word"],) * 2 for row in rows],
                                                               "all")),
    )  # fmt: skip
    calibrated = any(row["interval"] != "none" or row["reason"] for row in rows)
    columns = [column for column in COLUMNS if calibrated or column.id not in CERTAINTY]
    result = make_table(
        "predictions", "Test conditions and their predictions", columns, rows, choices=choices,
        search="condition, gene, predictor or reason",
    )  # fmt: skip
    n_out = len(table) - len(shown)
    text = f"{len(shown):,} of {len(table):,} predictions are in this page: of the others, those with the largest gain "
    text += f"and the largest loss were kept and {n_out:,} between them left out. results.csv of the run has all."
    return result, text if n_out else ""


def _most_telling(table: pd.DataFrame) -> pd.DataFrame:
    """At most ``MOST_ROWS`` rows: those of the recommended predictors first, then the best and the worst."""
    if len(table) <= MOST_ROWS:
        return table
    own = table[table["is_chosen"]]
    own = _ends(own, MOST_ROWS) if len(own) > MOST_ROWS else own
    rest = _ends(table[~table["is_chosen"]], MOST_ROWS - len(own))
    return table[table.index.isin([*own.index, *rest.index])]


def _ends(table: pd.DataFrame, most: int) -> pd.DataFrame:
    ranked = table.sort_values("gain", kind="stable", na_position="last")
    return pd.concat([ranked.head(most // 2), ranked.tail(most - most // 2)])


class _Facts:
    """What the predictions themselves say, of the first fold that tests a condition."""

    def __init__(self, source: Source) -> None:
        self._found: dict[tuple[str, str, str], dict[str, Any]] = {}
        for (model, label), prediction in source.board.predictions.items():
            split = label.rpartition("_fold")[0]
            names = [str(name) for name in prediction.obs_names]
            new = np.array([(model, split, name) not in self._found for name in names], dtype=bool)
            if not new.any():
                continue
            part = prediction[new]
            measured = _of_truth(source.board.truths.get(label), part.obs_names)
            for name, genes, obs in zip(part.obs_names, top_genes(part), records(part.obs), strict=True):
                self._found[model, split, str(name)] = {
                    "predicted": genes,
                    "measured": measured.get(str(name), ""),
                    "interval": str(obs.get(keys.INTERVAL, "none")),
                    "bound": float(obs.get(keys.ERROR_BOUND, np.nan)),
                    "reason": _reason(obs),
                }

    def of(self, model: str, split: str, name: str) -> dict[str, Any]:
        return self._found.get((model, split, name), {"predicted": "no prediction", "measured": "", **CERTAINTY})


def _reason(obs: dict[str, Any]) -> str:
    if not obs.get(keys.ABSTAIN, False):
        return ""
    return str(obs.get(keys.ABSTAIN_REASON, "")) or "no reason given"


def _of_truth(truth: AnnData | None, names: pd.Index) -> dict[str, str]:
    if truth is None:
        return {}
    there = truth[truth.obs_names.isin(names)]
    return dict(zip(map(str, there.obs_names), top_genes(there), strict=True))


def top_genes(data: AnnData) -> list[str]:
    """Per row the names of the genes with the largest change, each with an arrow up or down."""
    return [text for rows in _batches(data.n_obs) for text in _top_genes(data[rows])]


def _top_genes(data: AnnData) -> list[str]:
    from scipy import sparse

    delta = data.layers[keys.DELTA]
    values = np.asarray(delta.toarray() if sparse.issparse(delta) else delta, dtype=np.float64)
    order = np.argsort(-np.abs(np.nan_to_num(values)), axis=1, kind="stable")[:, :N_GENES]
    genes = data.var_names.astype(str).to_numpy()
    return [
        " ".join(f"{'↑' if row[at] > 0 else '↓'}{genes[at]}" for at in best if row[at] != 0 and np.isfinite(row[at]))
        or "no change"
        for row, best in zip(values, order, strict=True)
    ]


def _batches(n: int) -> Iterator[slice]:
    return (slice(start, start + BATCH) for start in range(0, n, BATCH))
