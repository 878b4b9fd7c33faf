"""One split of a screen: every predictor is fitted on its training side and scored on its test side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from scperturb_modules import __version__
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.metrics import Metric
from scperturb_modules.tl._ceilings import REFERENCES, ceilings, with_ceilings
from scperturb_modules.tl._contenders import Contender, Run, run
from scperturb_modules.tl._coverage import CALIBRATION_COLUMNS, interval_rows
from scperturb_modules.tl._evaluate import score
from scperturb_modules.tl._folds import Fold, FoldPlan, make_fold
from scperturb_modules.tl._frame import as_results
from scperturb_modules.tl._margins import margins

if TYPE_CHECKING:
    from anndata import AnnData

SPLIT = ["split_kind", "split_seed", "fold"]


@dataclass(frozen=True)
class Rules:
    """How every split is scored."""

    contenders: tuple[Contender, ...]
    metrics: tuple[Metric, ...]
    priors: Any
    seed: int
    n_seeds: int
    min_cells: int
    intervals: bool


@dataclass(frozen=True)
class FoldResult:
    """What one split gave; the tables are lists of rows."""

    label: str
    frame: pd.DataFrame
    replicates: pd.DataFrame
    margins: pd.DataFrame
    calibration: pd.DataFrame
    truth: AnnData
    predictions: dict[str, AnnData]
    errors: list[tuple[Any, ...]]
    skipped: list[tuple[Any, ...]]
    timings: list[tuple[Any, ...]]


def run_fold(adata: AnnData, setup: keys.ScreenKeys, plan: FoldPlan, rules: Rules) -> FoldResult:
    """Make one split and score every predictor on it."""
    # the last bits of a matrix product depend on the number of threads, and with them ties; besides, torch's threads
    # wait for each other most of the time where the machine is busy
    with threadpool_limits(limits=1):
        fold = make_fold(adata, setup, plan, rules.priors)
        return _score_fold(fold, rules)


def _score_fold(fold: Fold, rules: Rules) -> FoldResult:
    predictions: dict[str, AnnData] = {}
    errors, skipped, timings = [], [], []
    tables, said = [], {}
    for contender in rules.contenders:
        reason = contender.why_not(fold.training, rules.priors, fold.against.names)
        if reason is not None:
            skipped.append((contender.name, fold.label, reason))
            continue
        for seed in range(rules.seed, rules.seed + (1 if contender.deterministic else rules.n_seeds)):
            done = _run(contender, fold, rules, seed)
            timings.append((contender.name, fold.label, seed, done.fit_seconds, done.predict_seconds))
            if done.prediction is None:
                errors.append((contender.name, fold.label, seed, done.message, done.traceback))
            else:
                predictions.setdefault(contender.name, done.prediction)
            said[contender.name, seed] = done.answer.difference
            table = score(fold.against, done.answer, rules.metrics, min_cells=rules.min_cells)
            tables.append(table.assign(**_contender_facts(contender, rules, seed, done)))
    references = {
        name: _run(Contender(name, build), fold, replace(rules, intervals=False), rules.seed).answer
        for name, build in REFERENCES.items()
    }
    found = ceilings(
        fold.screen, fold.setup, fold.against, references, rules.metrics, min_cells=rules.min_cells, seed=rules.seed
    )
    if not tables:
        reasons = sorted({f"{name} ({reason})" for name, _, reason in skipped})
        raise DataError(
            f"No predictor applies to {fold.label}: {name_some(reasons)}. Pass others, or spm.baselines.ALL."
        )
    frame = pd.concat(tables, ignore_index=True)
    return FoldResult(
        label=fold.label,
        frame=as_results(with_ceilings(frame, fold.against, found), **_fold_facts(fold)),
        replicates=_with_split(found.replicates, fold),
        margins=_with_split(margins(fold.screen, fold.setup, fold.against, said, min_cells=rules.min_cells), fold),
        calibration=_with_split(_calibration(fold, predictions, rules), fold),
        truth=fold.truth,
        predictions=predictions,
        errors=errors,
        skipped=skipped,
        timings=timings,
    )


def _calibration(fold: Fold, predictions: Mapping[str, AnnData], rules: Rules) -> pd.DataFrame:
    """How the intervals of every prediction did; of the first training seed."""
    found = [
        interval_rows(prediction, fold.against, model=name, min_cells=rules.min_cells)
        for name, prediction in predictions.items()
    ]
    return stacked(found or [pd.DataFrame(columns=CALIBRATION_COLUMNS)])


def _with_split(table: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    named = table.assign(split_kind=fold.scheme, split_seed=fold.seed, fold=fold.fold)
    return named[[*SPLIT, *table.columns]]


def _run(contender: Contender, fold: Fold, rules: Rules, seed: int) -> Run:
    return run(
        contender,
        training=fold.training,
        cells=fold.training_cells,
        screen=fold.setup,
        against=fold.against,
        priors=rules.priors,
        seed=seed,
        intervals=rules.intervals,
    )


def _contender_facts(contender: Contender, rules: Rules, seed: int, done: Run) -> dict[str, Any]:
    record = {} if done.prediction is None else done.prediction.uns.get(keys.ROOT, {}).get(keys.PREDICTION, {})
    return {
        "model": contender.name,
        "model_version": str(record.get("package_version", "")),
        "model_seed": seed,
        "is_baseline": contender.is_baseline,
        "uses_perturbation_prior": contender.uses_perturbation_prior(rules.priors),
    }


def _fold_facts(fold: Fold) -> dict[str, Any]:
    return {
        "split_kind": fold.scheme,
        "split_version": fold.version,
        "split_seed": fold.seed,
        "fold": fold.fold,
        "leak_status": fold.leak_status,
        "package_version": __version__,
    }


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The tables one below the other; an empty one would change the types of the others."""
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
