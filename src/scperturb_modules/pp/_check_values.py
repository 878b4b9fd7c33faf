"""Guards on expression values. Range and finiteness are read from all values in memory, the rest from the sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from scperturb_modules._errors import name_some
from scperturb_modules.pp._facts import ERROR, NOTE, WARNING, Facts, Finding, Guard

_LARGEST_TWICE_LOGGED = 3.5
_LARGEST_LOG = 50.0
_UNEQUAL_TOTALS = 0.2
_COMMON_SHIFT = 0.5
_DETECTED = 0.05
_MIN_TARGETS = 5
_MOST_GIGABYTES = 4.0


def _stored(facts: Facts) -> Any:
    """All stored values where they are in memory, else those of the sample."""
    if sparse.issparse(facts.matrix):
        return facts.matrix.data
    return facts.matrix if isinstance(facts.matrix, np.ndarray) else facts.values.data


def not_finite(facts: Facts) -> Finding | None:
    stored = _stored(facts)
    if stored.size == 0 or np.isfinite(stored.min()) and np.isfinite(stored.max()):  # min and max pass NaN on
        return None
    n = int((~np.isfinite(stored)).sum())
    matrix = facts.values if stored is facts.values.data else sparse.coo_matrix(facts.matrix)
    columns = matrix.tocoo().col[~np.isfinite(matrix.tocoo().data)]
    genes = facts.adata.var_names[np.unique(columns)]
    message = f"{n} non-finite values in {facts.where}, in {len(genes)} genes (first: {name_some(genes, most=3)})."
    return Finding(ERROR, n, message, "Normalise the counts again, or drop empty cells before (0 / 0 gives NaN).")


def negative(facts: Facts) -> Finding | None:
    stored = _stored(facts)
    smallest = np.fmin.reduce(stored, axis=None) if stored.size else 0.0
    if not smallest < 0:
        return None
    n = int((stored < 0).sum())
    message = (
        f"{facts.where} has {n} negative values (smallest {smallest:.3g}): looks scaled. Changes need log1p values."
    )
    return Finding(ERROR, n, message, "Pass the log-normalised layer as layer=.")


def raw_counts(facts: Facts) -> Finding | None:
    if not facts.is_whole:
        return None
    message = f"{facts.where} looks like raw counts (max {facts.largest:.0f}, all integers). Nothing was changed."
    return Finding(ERROR, 1, message, "Call spm.pp.normalize(adata), or pass the log-normalised layer as layer=.")


def not_logged(facts: Facts) -> Finding | None:
    if facts.is_whole or facts.largest <= _LARGEST_LOG:
        return None
    total = float(np.median(facts.totals))
    equal = np.abs(facts.totals / total - 1).max() < 0.01
    sums = f"row sums ~ {total:.0f}" if equal else f"row sums differ, median {total:.0f}"
    message = f"{facts.where} looks normalised but not logged (max {facts.largest:.0f}, {sums}): log1p is missing."
    mend = "Call scanpy.pp.log1p(adata), or better spm.pp.normalize(adata) on the counts."
    return Finding(ERROR, 1, message, mend)


def logged_twice(facts: Facts) -> Finding | None:
    data = facts.finite
    if not 0 < facts.largest < _LARGEST_TWICE_LOGGED or ((data > 0) & (data == np.floor(data))).any():
        return None
    message = f"{facts.where} looks logged twice (max {facts.largest:.2f})."
    return Finding(WARNING, 1, message, "Normalise the counts again. If it is right, pass check_log=False.")


def library_size(facts: Facts) -> Finding | None:
    if not 0 < facts.largest <= _LARGEST_LOG or facts.is_whole or not facts.is_positive:
        return None
    totals = np.asarray(facts.values.expm1().sum(1)).ravel()
    variation = totals.std() / totals.mean()
    if not variation > _UNEQUAL_TOTALS:
        return None
    message = (
        f"Totals per cell of expm1({facts.where}) vary by {variation:.0%}: library size is not normalised, or genes "
        "were removed after normalisation."
    )
    mend = "Nothing, where genes were removed after it; else call spm.pp.normalize(adata) on the counts."
    return Finding(WARNING, len(totals), message, mend)


def constant_genes(facts: Facts) -> Finding | None:
    low, high = facts.values.min(axis=0).toarray().ravel(), facts.values.max(axis=0).toarray().ravel()
    constant = facts.adata.var_names[low == high]
    if constant.empty:
        return None
    n_cells = facts.values.shape[0]
    message = f"{len(constant)} genes are constant in the {n_cells} cells looked at: {name_some(constant, most=3)}."
    return Finding(NOTE, len(constant), message, "They are kept and predicted as unchanged.")


def memory(facts: Facts) -> Finding | None:
    n_cells, n_genes = facts.adata.shape
    gigabytes = n_cells * n_genes * 4 / 1e9
    if gigabytes <= _MOST_GIGABYTES or isinstance(facts.matrix, np.ndarray):
        return None
    message = f"{facts.where} would need {gigabytes:.1f} GB dense; it is read in blocks."
    return Finding(NOTE, round(gigabytes), message, "Keep it sparse.")


def target_change(facts: Facts) -> Finding | None:
    """How many single perturbations move their own target down and up, among those whose target is detected."""
    conditions, moments = facts.effects
    names = facts.adata.var_names
    singles = [(i + 1, names.get_loc(name)) for i, name in enumerate(conditions) if name in names]
    if not singles or moments.n[0] == 0:
        return None
    group, gene = np.array(singles).T
    detection = np.maximum(moments.positive[group, gene] / moments.n[group], moments.positive[0, gene] / moments.n[0])
    change = (moments.mean[group, gene] - moments.mean[0, gene])[detection >= _DETECTED]
    n, n_down, n_up = len(change), int((change < 0).sum()), int((change > 0).sum())
    if n == 0:
        return None
    message = f"Of {n} conditions whose target is measured, {n_down} lower it and {n_up} raise it."
    if n < _MIN_TARGETS or max(n_down, n_up) >= 0.7 * n:
        return Finding(NOTE, n, message)
    return Finding(
        WARNING, n - max(n_down, n_up), message, "Weak guides, wrong labels, or knock-out of the protein only?"
    )


def common_shift(facts: Facts) -> Finding | None:
    """The mean cosine between changes of training conditions, corrected for noise, also that of the shared control.

    Between two changes the expected product is the true one plus the control's noise; the expected squared length
    holds the noise of both. What is left is the ratio of mean true product to mean true squared length.
    """
    conditions, moments = facts.effects
    if len(conditions) < 3 or moments.n[0] < 2:
        return None
    change = moments.mean[1:] - moments.mean[0]
    noise = moments.variance() / moments.n[:, None]
    n = len(conditions)
    square = (change**2).sum()
    product = ((change.sum(0) ** 2).sum() - square) / (n * (n - 1)) - noise[0].sum()
    length = square / n - noise[1:].sum() / n - noise[0].sum()
    chance = np.sqrt(2 * (noise[0] ** 2).sum())  # standard error of the control's part: a scaled chi-square per gene
    if product < 3 * chance or product <= _COMMON_SHIFT * length:
        return None
    cosine = product / max(length, product)
    message = f"Perturbations share a common shift (cosine {cosine:.2f} over {n} conditions)."
    return Finding(NOTE, n, message, "Read the scores centred on the mean perturbation (pearson_pert).")


VALUE_GUARDS: dict[str, Guard] = {
    "not_finite": not_finite,
    "negative": negative,
    "raw_counts": raw_counts,
    "constant_genes": constant_genes,
    "memory": memory,
}

LOG_GUARDS: dict[str, Guard] = {
    "not_logged": not_logged,
    "logged_twice": logged_twice,
    "library_size": library_size,
}
"""Guesses from the range of values, switched off by ``check_log=False``; for finite values."""

EFFECT_GUARDS: dict[str, Guard] = {"target_change": target_change, "common_shift": common_shift}
"""For labels and values without an error."""
