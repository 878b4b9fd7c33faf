"""Score a Prediction against the truth."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules import metrics as spm_metrics
from scperturb_modules._conditions import MEASURED, row_name
from scperturb_modules._errors import DataError, ScreenWarning, name_some, require_key
from scperturb_modules.metrics import Metric
from scperturb_modules.metrics._status import FEW_CELLS, FEW_CONDITIONS, MIN_CELLS, MISSING, OK, settle
from scperturb_modules.tl._compared import aside_of, gene_set, sides_of
from scperturb_modules.tl._frame import ALL_CONDITIONS, as_results
from scperturb_modules.tl._yardstick import Array, Yardstick, yardstick

if TYPE_CHECKING:
    from anndata import AnnData

ERROR = "error"


@dataclass(frozen=True)
class Answer:
    """What a predictor said about the rows of a yardstick.

    Attributes
    ----------
    difference, change
        (P, G) predicted changes, for errors and for correlations; the same array for every predictor, two arrays for
        a replicate, whose halves have controls of their own.
    statuses
        ``ok``, ``missing`` or ``error`` (then the changes are 0: no change), or what the predictor reported.
    """

    difference: Array
    change: Array
    statuses: tuple[str, ...]

    @classmethod
    def none(cls, truth: Yardstick, status: str) -> Answer:
        """No prediction at all, which counts as the prediction of no change."""
        zero = np.zeros_like(truth.change)
        return cls(zero, zero, (status,) * len(truth.names))


def evaluate(
    pred: AnnData, truth: AnnData, *, metrics: str | Sequence[str] = "core", min_cells: int = MIN_CELLS
) -> pd.DataFrame:
    """Score a Prediction against the measured pseudobulk.

    Parameters
    ----------
    pred
        Prediction of any predictor: conditions x genes with ``layers["delta"]``, rows named like those of ``truth``.
        Genes are matched by name; genes that ``truth`` lacks are not scored.
    truth
        ``spm.pp.pseudobulk(adata)`` of the whole screen. With a split its test rows are scored, and those that
        ``pred`` lacks count as predicted unchanged (status ``missing``), so that abstaining earns nothing; the
        training rows give the centre of ``pearson_pert``. Without a split the rows of ``pred`` are scored.
    metrics
        ``"core"``, ``"all"``, or ids of :data:`scperturb_modules.metrics.METRICS`.
    min_cells
        Conditions with fewer cells are not scored (NaN, status ``few_cells``).

    Returns
    -------
    DataFrame
        A row per condition and metric with the columns of ``Benchmark.frame``. Metrics over all conditions of a
        regime and context have ``condition`` ``"__all__"``.

    Raises
    ------
    DataError
        ``pred`` lacks genes or has values that are not finite; ``truth`` is no pseudobulk of all cells.
    ValueError
        An unknown metric.

    Notes
    -----
    Errors compare means, so the control cancels; correlations, directions and sizes compare changes, and under the
    strict protocol the truth's control is one that no predictor has seen. ``docs/evaluation.md`` has the reasons.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> spm.pp.split(adata, "unseen_single", seed=0)
    >>> spm.baselines.NoChange.setup_anndata(adata)
    >>> model = spm.baselines.NoChange(adata)
    >>> model.train()
    >>> frame = spm.tl.evaluate(model.predict(), spm.pp.pseudobulk(adata), metrics=["l2_top1000"])
    >>> sorted(set(frame["regime"]))
    ['pair_1of2', 'single_unseen']
    """
    chosen = choose_metrics(metrics)
    against = yardstick(truth, list(pred.obs_names))
    _warn_unknown_rows(pred, truth)
    record = pred.uns.get(keys.ROOT, {}).get(keys.PREDICTION, {})
    table = score(against, answer(pred, against), chosen, min_cells=min_cells)
    if keys.SPLIT not in truth.obs and keys.SEEN in pred.obs:
        # the truth does not know what was trained on, the prediction does
        seen = pred.obs[keys.SEEN].astype(str)
        table["regime"] = [seen.get(name, MEASURED) for name in _row_names(table)]
    return as_results(table, model=record.get("model", ""), model_version=record.get("package_version", ""))


def choose_metrics(
    metrics: str | Sequence[str],
    facts: Mapping[str, Metric] = spm_metrics.METRICS,
    core: Sequence[str] = spm_metrics.CORE,
) -> tuple[Metric, ...]:
    """The metrics that ``metrics=`` asks for, in the order of a table of facts; ``core`` is what ``"core"`` means.

    Raises
    ------
    ValueError
        An unknown id, or none.
    """
    named = {"core": tuple(core), "all": tuple(facts)}
    ids = named.get(metrics, (metrics,)) if isinstance(metrics, str) else tuple(metrics)
    unknown = [name for name in ids if name not in facts]
    if unknown or not ids:
        known = ", ".join(facts)
        raise ValueError(f"metrics={name_some(unknown) or 'nothing'} is unknown; use 'core', 'all' or some of {known}.")
    return tuple(metric for name, metric in facts.items() if name in ids)


def answer(pred: AnnData, against: Yardstick) -> Answer:
    """Align a Prediction with the rows and genes of the truth.

    Raises
    ------
    DataError
        Genes are absent, rows are repeated, or values are not finite.
    """
    require_key(keys.DELTA, pred.layers, "layers of the prediction")
    columns = pred.var_names.get_indexer(list(against.var_names)) if pred.var_names.is_unique else None
    if columns is None or not pred.obs_names.is_unique:
        raise DataError("The prediction has repeated row or gene names; each condition and gene has one row or column.")
    absent = [gene for gene, column in zip(against.var_names, columns, strict=True) if column < 0]
    if absent:
        raise DataError(
            f"The prediction lacks {len(absent)} of {len(columns)} genes: {name_some(absent)}. Predict every gene of "
            "the screen, in any order."
        )
    rows = pred.obs_names.get_indexer(list(against.names))
    given = pred.obs[keys.STATUS].astype(str).to_numpy() if keys.STATUS in pred.obs else np.full(pred.n_obs, OK)
    statuses = tuple(str(given[row]) if row >= 0 else MISSING for row in rows)
    delta = pred.to_df(layer=keys.DELTA).to_numpy(dtype=np.float64)[rows][:, columns]  # the layer may be sparse
    delta[np.isin(statuses, (MISSING, ERROR))] = 0.0
    broken = [name for name, row in zip(against.names, delta, strict=True) if not np.isfinite(row).all()]
    if broken:
        raise DataError(f"The prediction has NaN or infinite values in {len(broken)} rows: {name_some(broken)}.")
    return Answer(delta, delta, statuses)


def score(against: Yardstick, said: Answer, metrics: Sequence[Metric], *, min_cells: int) -> pd.DataFrame:
    """Score an answer with every metric.

    Returns
    -------
    DataFrame
        A row per condition (or regime and context) and metric, with the columns of the result table that a yardstick
        knows.
    """
    by_kind = {"condition": _per_condition, "across": _across, "dataset": _dataset}
    lines = [line for metric in metrics for line in by_kind[metric.kind](against, said, metric, min_cells)]
    return pd.DataFrame(lines)


def _per_condition(against: Yardstick, said: Answer, metric: Metric, min_cells: int) -> Iterator[dict[str, Any]]:
    sides = (*sides_of(against, said, metric), *aside_of(against, metric))
    for p in range(len(against.names)):
        genes = gene_set(against, metric, p)
        result: tuple[float, str] = (np.nan, FEW_CELLS)
        if against.n_cells[p] >= min_cells:
            given = [side[p][genes] for side in sides]
            # a context without training conditions has no centre, one without other conditions no weights
            unknown = FEW_CELLS if metric.aside and against.n_cells[p] < 2 else FEW_CONDITIONS
            result = (np.nan, unknown) if any(np.isnan(side).any() for side in given) else metric.function(*given)
        yield _line(against, said, metric, p, result, len(genes), min_cells)


def _across(against: Yardstick, said: Answer, metric: Metric, min_cells: int) -> Iterator[dict[str, Any]]:
    """Conditions of all regimes of a context are told apart from each other."""
    truth, prediction = sides_of(against, said, metric)
    contexts = np.array(against.contexts, dtype=object)
    for context in dict.fromkeys(against.contexts):
        inside = np.flatnonzero((contexts == context) & (against.n_cells >= min_cells))
        excluded = [against.targets[p] for p in inside]
        values, status = metric.function(truth[inside], prediction[inside], excluded)
        found = dict(zip(inside.tolist(), values, strict=True))
        for p in np.flatnonzero(contexts == context).tolist():
            result = (float(found[p]), status) if p in found else (np.nan, FEW_CELLS)
            n_genes = truth.shape[1] - len(against.targets[p])
            yield _line(against, said, metric, p, result, n_genes, min_cells)


def _dataset(against: Yardstick, said: Answer, metric: Metric, min_cells: int) -> Iterator[dict[str, Any]]:
    sides = (*sides_of(against, said, metric), *aside_of(against, metric))
    enough = against.n_cells >= min_cells
    if metric.aside == "noise":
        enough &= ~np.isnan(against.noise).any(axis=1)  # one cell has no noise to subtract
    groups = list(zip(against.regimes, against.contexts, strict=True))
    for regime, context in dict.fromkeys(groups):
        inside = np.array([group == (regime, context) for group in groups]) & enough
        value, status = metric.function(*(side[inside] for side in sides))
        absent = [status for status in np.array(said.statuses)[inside] if status in (MISSING, ERROR)]
        if len(absent) == inside.sum() and absent and status == OK:
            status = absent[0]
        yield {
            "regime": regime,
            "stratum": context,
            "condition": ALL_CONDITIONS,
            "value": value,
            "status": status,
            "n_cells_test": int(against.n_cells[inside].sum()),
            "n_genes": len(against.var_names),
            **_facts(metric, against),
        }


def _line(
    against: Yardstick, said: Answer, metric: Metric, p: int, result: tuple[float, str], n_genes: int, min_cells: int
) -> dict[str, Any]:
    condition, _ = against.rows[p]
    absent = said.statuses[p] in (MISSING, ERROR)
    value, status = settle(result, n_cells=int(against.n_cells[p]), missing=absent, min_cells=min_cells)
    if status == MISSING:
        status = said.statuses[p]
    elif status == OK:
        status = said.statuses[p] if said.statuses[p] != OK else against.statuses[p]
    return {
        "regime": against.regimes[p],
        "stratum": against.contexts[p],
        "condition": condition,
        "genes": "+".join(against.genes[p]),
        "n_genes_perturbed": len(against.genes[p]),
        "value": value,
        "status": status,
        "n_genes": n_genes,
        "n_cells_test": int(against.n_cells[p]),
        "n_cells_control": int(against.n_controls[p]),
        "effect_norm": against.effect_norm[p],
        "snr": against.snr[p],
        **_facts(metric, against),
    }


def _facts(metric: Metric, against: Yardstick) -> dict[str, Any]:
    return {
        "metric": metric.id,
        "gene_set": metric.gene_set,
        "reference": metric.reference,
        "better": metric.better,
        "perfect": metric.perfect,
        "provider": "scperturb_modules",
        "protocol": against.protocol,
    }


def _row_names(table: pd.DataFrame) -> list[str]:
    pairs = zip(table["condition"], table["stratum"], strict=True)
    return [row_name(condition, context or None) for condition, context in pairs]


def _warn_unknown_rows(pred: AnnData, truth: AnnData) -> None:
    unknown = list(pred.obs_names[~pred.obs_names.isin(truth.obs_names)])
    if unknown:
        warnings.warn(
            f"{len(unknown)} predicted rows were not measured and are not scored: {name_some(unknown)}.",
            ScreenWarning,
            stacklevel=3,
        )
