"""How well the genetic interactions of a prediction agree with those observed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.metrics._status import is_constant
from scperturb_modules.tl.interactions._classes import (
    ADDITIVE,
    EPISTASIS,
    FLAGS,
    NEOMORPHIC,
    REDUNDANCY,
    SUPPRESSION,
    SYNERGY,
)
from scperturb_modules.tl.interactions._scores import SCORES

Array = NDArray[np.float64]

N_CLASS = 10
"""The precision of a class is that of so many pairs, as in the figures of GEARS."""
LABELS = (*FLAGS, ADDITIVE, "")
_LARGEST, _SMALLEST = 1.0, -1.0
RANKED_BY = {
    NEOMORPHIC: ("model_fit", _SMALLEST),
    EPISTASIS: ("equality", _SMALLEST),
    REDUNDANCY: ("similarity", _LARGEST),
    SYNERGY: ("magnitude", _LARGEST),
    SUPPRESSION: ("magnitude", _SMALLEST),
}
"""Which score ranks the pairs of a class, and which end comes first."""


@dataclass(frozen=True)
class InteractionAgreement:
    """What :func:`interaction_agreement` returns.

    Attributes
    ----------
    scores
        A row per score: ``n`` pairs with a value on both sides, ``pearson`` and ``spearman`` with ``_lower`` and
        ``_upper``; NaN where a side is constant, as the magnitude of an additive prediction is.
    top
        Rows ``synergy`` (largest magnitude) and ``suppression`` (smallest): the ``n_top`` first pairs of prediction
        and truth out of ``n``, their ``overlap``, its ``precision``, the overlap ``expected`` by chance and the
        hypergeometric ``p`` of at least so many. NaN where the prediction ranks nothing.
    classes
        A row per class: ``n_observed`` and ``n_predicted`` labels, ``recall`` of the observed ones,
        ``precision_at_10`` (share of the ten first predicted pairs that have the observed flag) and
        ``base_rate`` (the same of a random list).
    confusion
        Pairs by observed (rows) and predicted (columns) label; ``""`` is without a class.
    n_pairs
        Pairs in both tables.
    only_predicted, only_observed
        Names of pairs that are in one table only, and are not compared.
    """

    scores: pd.DataFrame
    top: pd.DataFrame
    classes: pd.DataFrame
    confusion: pd.DataFrame
    n_pairs: int
    only_predicted: tuple[str, ...]
    only_observed: tuple[str, ...]


def interaction_agreement(
    predicted: pd.DataFrame,
    observed: pd.DataFrame,
    *,
    n_top: int = 20,
    n_boot: int = 1000,
    ci: float = 0.9,
    seed: int = 0,
) -> InteractionAgreement:
    """Compare two tables of :func:`genetic_interactions` over the pairs that are in both.

    Parameters
    ----------
    predicted, observed
        The tables. Give the second call the genes of the first (``genes=table.attrs["genes"]``), and the one on
        predictions the measured ``noise``; beside a model list an additive prediction.
    n_top
        Pairs at either end of the magnitudes whose overlap is counted.
    n_boot
        Resamples of pairs for the intervals of the correlations.
    ci
        Their coverage.
    seed
        Of the draws.

    Returns
    -------
    InteractionAgreement
        Correlations of the scores, overlap of the strongest pairs, precision and recall of classes, confusion.

    Raises
    ------
    DataError
        A table is none of :func:`genetic_interactions`, names a pair twice, was made over other genes than the
        other, or has no pair in common with it.

    Examples
    --------
    >>> import anndata, numpy as np, scperturb_modules as spm
    >>> rng = np.random.default_rng(0)
    >>> a, b, c = rng.normal(size=(3, 50))
    >>> changes = anndata.AnnData(np.stack([a, b, c, 0.4 * a + 0.4 * b, a + c, 1.5 * b + c]))
    >>> changes.obs_names = ["A", "B", "C", "A+B", "A+C", "B+C"]
    >>> table = spm.tl.genetic_interactions(changes, layer=None)
    >>> spm.tl.interaction_agreement(table, table, n_top=1).scores.loc["magnitude", ["n", "pearson"]].round(6).tolist()
    [3.0, 1.0]
    """
    if min(n_top, n_boot) < 1 or not 0 < ci < 1:
        raise ValueError(f"n_top={n_top} and n_boot={n_boot} must be at least 1, and ci={ci} between 0 and 1.")
    _check_tables(predicted, observed)
    shared = [name for name in predicted.index if name in set(observed.index)]
    if not shared:
        raise DataError(
            f"No pair is in both tables: predicted has {name_some(predicted.index)}, "
            f"observed {name_some(observed.index)}."
        )
    left, right = predicted.loc[shared], observed.loc[shared]
    return InteractionAgreement(
        scores=_score_table(left, right, n_boot, ci, seed),
        top=pd.DataFrame({name: _overlap(left, right, name, n_top) for name in (SYNERGY, SUPPRESSION)}).T,
        classes=pd.DataFrame({name: _class_row(left, right, name) for name in (*FLAGS, ADDITIVE)}).T,
        confusion=_confusion(left, right),
        n_pairs=len(shared),
        only_predicted=tuple(map(str, predicted.index.difference(observed.index))),
        only_observed=tuple(map(str, observed.index.difference(predicted.index))),
    )


def _check_tables(predicted: pd.DataFrame, observed: pd.DataFrame) -> None:
    for side, table in (("predicted", predicted), ("observed", observed)):
        absent = [column for column in (*SCORES, *FLAGS.values(), "label") if column not in table]
        if absent:
            raise DataError(
                f"{side} lacks {len(absent)} columns: {name_some(absent)}. Make it by spm.tl.genetic_interactions()."
            )
        if not table.index.is_unique:
            twice = table.index[table.index.duplicated()].unique()
            raise DataError(f"{side} has {len(twice)} pairs more than once: {name_some(twice)}. Keep one row of each.")
    one, other = (table.attrs.get("genes") for table in (predicted, observed))  # absent from a table read from a file
    if one is not None and other is not None and set(one) != set(other):
        raise DataError(
            f"predicted was scored over {len(one)} genes and observed over {len(other)}, and they are not the "
            'same. Pass genes=table.attrs["genes"] of one of them to the other call.'
        )


def _score_table(left: pd.DataFrame, right: pd.DataFrame, n_boot: int, ci: float, seed: int) -> pd.DataFrame:
    rows = {}
    for score in SCORES:
        x, y = (table[score].to_numpy(dtype=np.float64) for table in (left, right))
        known = np.isfinite(x) & np.isfinite(y)
        x, y = x[known], y[known]
        row: dict[str, float] = {"n": int(known.sum())}
        for name, prepare in (("pearson", _as_it_is), ("spearman", _ranks)):
            row |= _correlation(name, x, y, prepare, n_boot, ci, seed)
        rows[score] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _correlation(
    name: str, x: Array, y: Array, prepare: Callable[[Array], Array], n_boot: int, ci: float, seed: int
) -> dict[str, float]:
    """A correlation and its percentile interval over pairs; NaN below three pairs or where a side is constant."""
    names = (name, f"{name}_lower", f"{name}_upper")
    if len(x) < 3 or is_constant(x) or is_constant(y):
        return dict.fromkeys(names, np.nan)
    drawn = np.random.default_rng(seed).integers(0, len(x), (n_boot, len(x)))
    repeats = _pearson(prepare(x[drawn]), prepare(y[drawn]))
    tail = (1 - ci) / 2
    low, high = np.nanquantile(repeats, [tail, 1 - tail])
    value = _pearson(prepare(x[None]), prepare(y[None]))[0]
    return dict(zip(names, (float(value), float(low), float(high)), strict=True))


def _as_it_is(values: Array) -> Array:
    return values


def _ranks(values: Array) -> Array:
    return np.asarray(stats.rankdata(values, axis=1))


def _pearson(x: Array, y: Array) -> Array:
    """(K,) of rows; NaN where a draw is constant."""
    x, y = (values - values.mean(axis=1, keepdims=True) for values in (x, y))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sum(x * y, axis=1) / np.sqrt(np.sum(x**2, axis=1) * np.sum(y**2, axis=1))


def _overlap(left: pd.DataFrame, right: pd.DataFrame, name: str, n_top: int) -> dict[str, float]:
    score, end = RANKED_BY[name]
    known = np.isfinite(left[score].to_numpy()) & np.isfinite(right[score].to_numpy())
    x, y = (end * table[score].to_numpy(dtype=np.float64)[known] for table in (left, right))
    n, first = len(x), min(n_top, len(x))
    row = {"n_top": first, "n": n, "expected": first**2 / n if n else np.nan}
    if not n or is_constant(x) or is_constant(y):
        return row | dict.fromkeys(("overlap", "precision", "p"), np.nan)
    overlap = len(set(_first(x, first)) & set(_first(y, first)))
    p = float(stats.hypergeom.sf(overlap - 1, n, first, first))
    return row | {"overlap": overlap, "precision": overlap / first, "p": p}


def _first(values: Array, n: int) -> list[int]:
    """Positions of the n largest values; ties in the order of the rows."""
    return np.argsort(-values, kind="stable")[:n].tolist()


def _class_row(left: pd.DataFrame, right: pd.DataFrame, name: str) -> dict[str, float]:
    predicted, observed = (table["label"].to_numpy() == name for table in (left, right))
    row = {
        "n_observed": int(observed.sum()),
        "n_predicted": int(predicted.sum()),
        "recall": float(predicted[observed].mean()) if observed.any() else np.nan,
    }
    return row | {"precision_at_10": np.nan, "base_rate": np.nan} | _precision(left, right, name)


def _precision(left: pd.DataFrame, right: pd.DataFrame, name: str) -> dict[str, float]:
    """Empty for the additive class, which no score ranks."""
    if name not in RANKED_BY:
        return {}
    score, end = RANKED_BY[name]
    known = np.isfinite(left[score].to_numpy()) & (right["label"] != "").to_numpy()
    x, flag = end * left[score].to_numpy(dtype=np.float64)[known], right[FLAGS[name]].to_numpy(dtype=bool)[known]
    if not len(x):
        return {}
    share = {"base_rate": float(flag.mean())}
    return share if is_constant(x) else share | {"precision_at_10": float(flag[_first(x, N_CLASS)].mean())}


def _confusion(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    labels = list(LABELS)
    table = pd.crosstab(right["label"].to_numpy(), left["label"].to_numpy())
    return table.reindex(index=labels, columns=labels, fill_value=0).rename_axis(index="observed", columns="predicted")
