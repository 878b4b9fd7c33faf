"""Section 4: whether the 90 % intervals hold what they promise, and which predictions abstain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.report._answers import Answer
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Column, Table, make_table, records
from scperturb_modules.report._words import regime_text, some, split_text

COVERAGE = (
    Column("model", "Predictor", "Whose intervals these are"),
    Column("question", "What is predicted", "How much of the condition was measured in training"),
    Column("split", "What was held out", "How conditions were divided into training and test"),
    Column("coverage", "Coverage %", "Share of measured changes inside the 90 % interval; 90 is right", "percent"),
    Column("coverage_low", "from", "Lower end of the 95 % interval of the coverage", "percent"),
    Column("coverage_high", "to", "Upper end of the 95 % interval of the coverage", "percent"),
    Column("width", "Width", "Mean width of the intervals (log1p CP10k); narrow is good if coverage holds", "number"),
    Column(
        "relative_width",
        "Relative width",
        "Mean width over that of the training mean's intervals; below 1 is sharper",
        "number",
    ),
    Column("interval_score", "Interval score", "Width plus a fine for each miss; lower is better", "number"),
    Column("constant_score", "Constant score", "The same for intervals of one constant width", "number"),
    Column("n", "n", "Number of test conditions", "count"),
)

ABSTAINING = (
    Column("model", "Predictor", "A model or a baseline"),
    Column("reason", "Why", "What makes the condition unlike anything seen"),
    Column("n", "Predictions", "How many of its predictions abstain for this reason", "count"),
    Column("share", "Share %", "Of all its predictions", "percent"),
    Column("names", "Conditions", "The first of them"),
)


def coverage(source: Source) -> Table | None:
    """Measured coverage of the intervals; None where nothing was calibrated."""
    table = source.coverage
    if not len(table) or table["coverage"].isna().all():
        return None
    rows = [
        row | {"question": regime_text(row["regime"]), "split": split_text(row["split_kind"])}
        for row in records(table[table["coverage"].notna()])
    ]
    return make_table("coverage", "Do the 90 % intervals hold nine of ten measured changes?", COVERAGE, rows)


def abstaining(source: Source) -> Table | None:
    """Which predictions say that they must not be believed, by reason; None where no predictor can say so."""
    totals: Counter[str] = Counter()
    found: dict[tuple[str, str], list[str]] = {}
    for (model, _), prediction in source.board.predictions.items():
        if keys.ABSTAIN not in prediction.obs:
            continue
        totals[model] += prediction.n_obs
        silent = prediction.obs[prediction.obs[keys.ABSTAIN].astype(bool)]
        for name, reason in zip(silent.index, silent[keys.ABSTAIN_REASON].astype(str), strict=True):
            found.setdefault((model, reason), []).append(str(name))
    if not totals:
        return None
    rows = [
        {
            "model": model, "reason": reason, "n": len(names), "share": len(names) / totals[model],
            "names": some(sorted(set(names))),
        }
        for (model, reason), names in sorted(found.items())
    ]  # fmt: skip
    return make_table("abstaining", "Predictions that must not be believed", ABSTAINING, rows)


def worth_a_line(source: Source, answers: Sequence[Answer]) -> list[str]:
    """The recommended predictors and every model that is no baseline, those with intervals, by name."""
    frame = source.board.frame
    models = set(frame.loc[~frame["is_baseline"].astype(bool), "model"].astype(str))
    return sorted((models | {answer.use for answer in answers}) & set(source.coverage["model"].astype(str)))


def certainty_text(source: Source, answers: Sequence[Answer]) -> str:
    """What the section begins with."""
    table: pd.DataFrame = source.coverage
    texts = []
    if not len(table) or table["coverage"].isna().all():
        texts.append("No prediction of this run carries a calibrated 90 % interval: treat every predicted value as a "
                     "best guess of unknown certainty.")  # fmt: skip
    flags = _abstain_flags(source)
    recommended = sorted({answer.use for answer in answers} & set(flags))
    if recommended:
        own = np.concatenate([flags[model] for model in recommended])
        texts.append(f"Of the predictions of {' and '.join(recommended)}, recommended above, {own.sum():,} of "
                     f"{len(own):,} abstain: do not believe them.")  # fmt: skip
    elif not flags:
        texts.append("No predictor of this run can abstain.")
    return " ".join(texts)


def _abstain_flags(source: Source) -> dict[str, NDArray[np.bool_]]:
    """Whether each prediction abstains, by predictor; those that can say so."""
    flags: dict[str, list[NDArray[np.bool_]]] = {}
    for (model, _), prediction in source.board.predictions.items():
        if keys.ABSTAIN in prediction.obs:
            flags.setdefault(model, []).append(prediction.obs[keys.ABSTAIN].to_numpy(dtype=bool))
    return {model: np.concatenate(parts) for model, parts in flags.items()}
