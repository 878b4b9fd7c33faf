"""Is a model closer to the truth than a baseline in one condition? Judged by the noise of that condition's cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules.metrics import MANDATORY
from scperturb_modules.pp._matrix import row_blocks
from scperturb_modules.pp._screen import expression_of, resolve_screen
from scperturb_modules.tl._summary import REGIME, UNIT, best_baseline, blocks
from scperturb_modules.tl._yardstick import Array, Index, Yardstick

if TYPE_CHECKING:
    from anndata import AnnData

Said = Mapping[tuple[str, int], Array]
"""By predictor and training seed: (P, G) predicted changes of the rows of a yardstick."""

RUN_COLUMNS = [
    "regime", "stratum", "condition", "model", "model_seed", "baseline", "error", "baseline_error", "difference", "se",
    "n_cells",
]  # fmt: skip
COLUMNS = [
    *REGIME, *UNIT, "model", "baseline", "error", "baseline_error", "gain", "se", "word", "n_cells",
]  # fmt: skip

LEVEL = 0.05
"""Expected share of wrong claims among the conditions of a model and regime that are said to win or lose."""

BEATS, TIES, LOSES = "beats", "ties", "loses"


def margins(screen: AnnData, setup: keys.ScreenKeys, against: Yardstick, said: Said, *, min_cells: int) -> pd.DataFrame:
    """Differences of squared L2 errors between predictors and mandatory baselines, with their standard errors.

    ``|t - b|^2 - |t - m|^2 = 2 t (m - b) + |b|^2 - |m|^2`` over the top genes is linear in the measured mean ``t``, so
    its standard error is twice that of the mean over cells of their projection on ``m - b``. Genes may be correlated in
    any way. Training controls are part of both predictions and cancel.

    Parameters
    ----------
    screen
        All cells, with the split.
    setup
        Which columns hold what.
    against
        The truth.
    said
        Every answer; mandatory baselines are found by their names, with one seed each.
    min_cells
        Conditions with fewer cells are left out, as in the result table.

    Returns
    -------
    DataFrame
        A row per scored condition, predictor that is not mandatory in its regime, training seed and mandatory
        baseline: ``error`` and ``baseline_error`` (L2), ``difference`` of their squares (positive: the predictor is
        closer), its ``se`` (NaN for one cell) and ``n_cells``.
    """
    scored = np.flatnonzero(against.n_cells >= min_cells)
    runs = list(said)
    projected = _project(screen, setup, against, np.stack([said[run] for run in runs]), scored)
    lines = []
    for p in scored:
        mandatory = MANDATORY[against.regimes[p]]
        truth = against.difference[p][against.top[p]]
        squares = [float(np.sum((truth - said[run][p][against.top[p]]) ** 2)) for run in runs]
        cells = projected[int(p)]
        for b in (i for i, (name, _) in enumerate(runs) if name in mandatory):
            for m in (i for i, (name, _) in enumerate(runs) if name not in mandatory):
                lines.append(
                    (
                        against.regimes[p], against.contexts[p], against.rows[p][0], *runs[m], runs[b][0],
                        np.sqrt(squares[m]), np.sqrt(squares[b]), squares[b] - squares[m],
                        2.0 * _standard_error(cells[:, m] - cells[:, b]), int(against.n_cells[p]),
                    )
                )  # fmt: skip
    return pd.DataFrame(lines, columns=RUN_COLUMNS)


def _project(
    screen: AnnData, setup: keys.ScreenKeys, against: Yardstick, predicted: Array, scored: Index
) -> dict[int, Array]:
    """By scored row: (cells, predictors) its cells projected on the K predictions (K, P, G), over the top genes."""
    view = resolve_screen(screen, setup)
    number = {against.rows[p]: p for p in scored}
    rows = zip(view.labels, view.contexts, strict=True)
    code = np.array([number.get((label, context or None), -1) for label, context in rows])
    code[view.is_control] = -1
    found: dict[int, list[Array]] = {int(p): [] for p in scored}
    for part, block in row_blocks(expression_of(screen, setup.layer)):
        inside = code[part]
        for p in np.unique(inside[inside >= 0]):
            directions = np.zeros(predicted.shape[::2])
            directions[:, against.top[p]] = predicted[:, p, against.top[p]]
            found[int(p)].append(block[inside == p] @ directions.T)
    return {p: np.concatenate(parts) for p, parts in found.items()}


def _standard_error(values: Array) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def condition_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per condition and model, with the word; see ``Benchmark.conditions``.

    Seeds and splits are averaged first. The standard error of the average is at most the average of theirs (the cells
    are the same), which is what is taken.
    """
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    by = [*REGIME, *UNIT, "model", "baseline"]
    mean = table.groupby(by, sort=True)[["error", "baseline_error", "difference", "se", "n_cells"]].mean().reset_index()
    against_best = []
    for (_, regime), rows in blocks(mean, REGIME):
        best = best_baseline(rows.groupby("baseline")["baseline_error"].mean(), regime)
        against_best.append(rows[rows["baseline"] == best])
    parts = [_words(rows) for _, rows in blocks(pd.concat(against_best), [*REGIME, "model"])]
    return pd.concat(parts).sort_values([*REGIME, "model", *UNIT], kind="stable")[COLUMNS].reset_index(drop=True)


def _words(rows: pd.DataFrame) -> pd.DataFrame:
    """The conditions of one model and regime beside the best baseline: two-sided p, adjusted over conditions."""
    from scipy.stats import false_discovery_control, t

    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(rows["difference"] == 0, 0.0, rows["difference"] / rows["se"])
    p = 2.0 * t.sf(np.abs(z), rows["n_cells"] - 1)
    sure = false_discovery_control(np.where(np.isnan(p), 1.0, p)) < LEVEL
    base, error = rows["baseline_error"], rows["error"]
    return rows.assign(
        gain=1.0 - error / base,
        se=rows["se"] / (base * (base + error)),
        word=np.where(sure, np.where(z > 0, BEATS, LOSES), TIES),
        n_cells=rows["n_cells"].astype(np.int64),
    )
