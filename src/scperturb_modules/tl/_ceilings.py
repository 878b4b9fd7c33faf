"""How good can any prediction be on these data? Noise floors and replicates, measured with the same yardstick."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules import baselines
from scperturb_modules._errors import DataError
from scperturb_modules.metrics import METRICS, PRIMARY, Metric, metric_quality
from scperturb_modules.tl._evaluate import Answer, score
from scperturb_modules.tl._summary import REGIME, UNIT, best_baseline, blocks, losses, plain
from scperturb_modules.tl._yardstick import Array, Yardstick

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

N_HALVES = 10
MIN_HALVED = 20
"""Conditions with fewer cells are not halved."""

REPLICATE = "replicate"
REFERENCES: Mapping[str, type[baselines.Baseline]] = {
    "mean_shift": baselines.MeanShift,
    "no_change": baselines.NoChange,
}
"""What a replicate is compared with, by the column of the quality table."""

SCORE = ["stratum", "condition", "regime", "metric"]
ROOM_COLUMNS = ["split_kind", "regime", "metric", "best_baseline", "error", "floor", "noise_share", "room", "n"]
CORRELATION = "pearson_delta"
"""The metric whose replicate value gives the ceiling of correlations."""
CEILING_COLUMNS = [*REGIME, *UNIT, "n_cells", "replicate_r", "reliability", "best_r", "floor"]
QUALITY_COLUMNS = ["metric", REPLICATE, *REFERENCES, "dynamic_range", "replicate_wins", "n"]


@dataclass(frozen=True)
class Ceilings:
    """Of one split.

    Attributes
    ----------
    floor
        (P,) L2 distance that a perfect prediction would still have; NaN with too few cells.
    replicates
        A row per condition and metric: ``stratum, condition, regime, metric``, and the value of a replicate and of
        the references, all scored against one half of the cells, averaged over the halvings.
    """

    floor: Array
    replicates: pd.DataFrame


def ceilings(
    screen: AnnData,
    setup: keys.ScreenKeys,
    against: Yardstick,
    references: Mapping[str, Answer],
    metrics: Sequence[Metric],
    *,
    min_cells: int,
    seed: int,
) -> Ceilings:
    """Halve the cells of each test condition and score one half, and the references, against the other.

    Parameters
    ----------
    screen
        All cells, with the split.
    setup
        Which columns hold what.
    against
        The full truth.
    references
        Answers of the references about the same rows.
    metrics
        To be scored.
    min_cells
        Conditions with fewer cells are left out, as in the result table.
    seed
        Of the halvings.
    """
    enough = np.flatnonzero(against.n_cells >= max(min_cells, MIN_HALVED))
    floor = np.full(len(against.names), np.nan)
    nothing = Ceilings(floor, pd.DataFrame(columns=[*SCORE, REPLICATE, *REFERENCES]))
    if not len(enough):
        return nothing
    rows = [against.names[p] for p in enough]
    means, tables = [], []
    try:
        # one pair of halves at a time: each has all layers of a pseudobulk
        for first, second in baselines.replicate_halves(screen, rows, **vars(setup), n_repeats=N_HALVES, seed=seed):
            means.append((first.X, second.X))
            half = _half(against, enough, second)
            tables += list(_scored_against_half(half, first, references, enough, metrics))
    except DataError as error:
        logger.warning("no replicates, so the noise floor is unknown: %s", error)
        return nothing
    in_top = np.zeros((len(rows), len(against.var_names)), dtype=bool)
    for mask, p in zip(in_top, enough, strict=True):
        mask[against.top[p]] = True
    floor[enough] = baselines.l2_floor(means, in_top)
    return Ceilings(floor, _averaged(pd.concat(tables)))


def _half(against: Yardstick, rows: np.ndarray, half: AnnData) -> Yardstick:
    """The yardstick of one half of the cells; what comes from training stays that of the full truth."""
    control_train = (against.mean - against.difference)[rows]

    def pick(values: Sequence[str]) -> tuple[str, ...]:
        return tuple(values[p] for p in rows)

    return replace(
        against,
        names=pick(against.names),
        rows=tuple(against.rows[p] for p in rows),
        genes=tuple(against.genes[p] for p in rows),
        regimes=pick(against.regimes),
        statuses=pick(against.statuses),
        n_cells=half.obs[keys.N_CELLS].to_numpy(dtype=np.int64),
        n_controls=half.obs[keys.N_CONTROLS].to_numpy(dtype=np.int64),
        mean=np.asarray(half.X),
        difference=np.asarray(half.X) - control_train,
        change=np.asarray(half.layers[keys.DELTA]),
        se2=np.asarray(half.layers[keys.SE2]),
        se2_control=np.asarray(half.layers[keys.SE2_CONTROL]),
        detection=np.asarray(half.layers[keys.DETECTION]),
        center=against.center[rows],
        se2_pooled=against.se2_pooled[rows],
        control_mean=against.control_mean[rows],
    )


def _scored_against_half(
    half: Yardstick,
    other: AnnData,
    references: Mapping[str, Answer],
    rows: np.ndarray,
    metrics: Sequence[Metric],
) -> Iterator[pd.DataFrame]:
    control_train = half.mean - half.difference
    ok = ("ok",) * len(rows)
    answers = {REPLICATE: Answer(np.asarray(other.X) - control_train, np.asarray(other.layers[keys.DELTA]), ok)}
    for name, said in references.items():
        answers[name] = Answer(said.difference[rows], said.change[rows], ok)
    for name, said in answers.items():
        yield score(half, said, metrics, min_cells=1).assign(predictor=name)


def _averaged(table: pd.DataFrame) -> pd.DataFrame:
    mean = table.groupby([*SCORE, "predictor"], sort=True)["value"].mean()
    return mean.unstack("predictor")[[REPLICATE, *REFERENCES]].rename_axis(columns=None).reset_index()


def room(frame: pd.DataFrame) -> pd.DataFrame:
    """How much of the error of the best mandatory baseline a better prediction could remove.

    Returns
    -------
    DataFrame
        A row per split kind and regime: the mandatory baseline with the lowest mean L2 (``error``), the mean ``floor``
        of a perfect prediction, ``noise_share`` = sum of squared floors over sum of squared errors, ``room`` = 1 -
        noise_share, and the number ``n`` of conditions behind it. NaN without a mandatory baseline or a floor.
    """
    primary = frame[frame["metric"] == PRIMARY]
    errors = losses(primary)
    floors = plain(primary).groupby([*REGIME, "stratum", "condition"])["floor"].mean()
    lines = []
    for (split, regime), block in blocks(errors, REGIME):
        best = best_baseline(block.groupby("model")["loss"].mean(), regime)
        error = block[block["model"] == best].set_index(["stratum", "condition"])["loss"]
        both = pd.DataFrame({"error": error, "floor": floors.xs((split, regime))}).dropna()
        share = (both["floor"] ** 2).sum() / (both["error"] ** 2).sum() if len(both) else np.nan
        lines.append((split, regime, PRIMARY, best, error.mean(), both["floor"].mean(), share, 1.0 - share, len(both)))
    return pd.DataFrame(lines, columns=ROOM_COLUMNS)


def quality(replicates: pd.DataFrame) -> pd.DataFrame:
    """Which metrics can tell a replicate of the experiment from the training mean, on these data.

    Parameters
    ----------
    replicates
        :attr:`Ceilings.replicates` of all splits.

    Returns
    -------
    DataFrame
        A row per metric: mean value of the replicate half, of ``MeanShift`` and of ``NoChange`` against the same half,
        ``dynamic_range`` (1: the replicate is perfect, 0: no better than the mean), ``replicate_wins`` (share of
        conditions) and the number of conditions.
    """
    lines: list[tuple[Any, ...]] = []
    for metric in (name for name in METRICS if name in set(replicates["metric"])):
        rows = replicates[replicates["metric"] == metric]
        by = ["split_kind", *(["regime"] if METRICS[metric].kind == "dataset" else []), "stratum", "condition"]
        mean = rows.groupby(by)[[REPLICATE, *REFERENCES]].mean()
        found = metric_quality(metric, mean[REPLICATE], mean["mean_shift"])
        means = [mean[name].mean() for name in (REPLICATE, *REFERENCES)]
        lines.append((metric, *means, found.dynamic_range, found.replicate_wins, found.n))
    return pd.DataFrame(lines, columns=QUALITY_COLUMNS)


def ceiling_table(frame: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """What limits the scores of each condition; see ``Benchmark.ceilings``."""
    by = [*REGIME, *UNIT]
    primary = plain(frame[frame["metric"] == PRIMARY])
    known = primary.groupby(by)[["floor", "n_cells_test"]].mean()
    r = replicates[replicates["metric"] == CORRELATION].groupby(by)[REPLICATE].mean() if len(replicates) else None
    table = known.assign(replicate_r=np.nan if r is None else r).reset_index()
    reliability = spearman_brown(table["replicate_r"].to_numpy(dtype=np.float64))
    table = table.assign(
        reliability=reliability, best_r=np.sqrt(reliability), n_cells=table["n_cells_test"].astype(int)
    )
    return table[CEILING_COLUMNS]


def spearman_brown(r: Array) -> Array:
    """Correlation that two replicates of the whole size would have: ``2 r / (1 + r)`` for r > 0, else NaN.

    Spearman (1910), Brown (1910). Its root is the best correlation of a noise-free prediction with the whole data.

    >>> spearman_brown(np.array([0.5, 0.0, -0.2])).round(3).tolist()
    [0.667, nan, nan]
    """
    positive = np.where(r > 0, r, np.nan)
    return 2.0 * positive / (1.0 + positive)


def replicate_wins(replicates: pd.DataFrame) -> dict[tuple[str, str], tuple[float, int]]:
    """By split kind and regime: how often a replicate is better than the mean on the primary metric, of how many."""
    if replicates.empty:
        return {}
    primary = replicates[replicates["metric"] == PRIMARY]
    tables = {(split, regime): quality(rows).iloc[0] for (split, regime), rows in blocks(primary, REGIME)}
    return {key: (float(row["replicate_wins"]), int(row["n"])) for key, row in tables.items()}


def with_ceilings(table: pd.DataFrame, against: Yardstick, found: Ceilings) -> pd.DataFrame:
    """Write the floor (of the primary metric) and the replicate's value beside each score."""
    floor = {(c or "", p): f for (p, c), f in zip(against.rows, found.floor, strict=True)}
    replicate = found.replicates.set_index(SCORE)[REPLICATE].rename("replicate_value")
    table = table.join(replicate.astype(np.float64), on=SCORE)
    floors = [floor.get(row, np.nan) for row in zip(table["stratum"], table["condition"], strict=True)]
    return table.assign(floor=np.where(table["metric"] == PRIMARY, floors, np.nan))
