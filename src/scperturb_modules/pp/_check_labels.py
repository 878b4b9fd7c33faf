"""Guards on labels and numbers of cells. Each takes the facts and returns what is wrong, or None."""

from __future__ import annotations

import pandas as pd

from scperturb_modules._conditions import CONTEXT_SEPARATOR, canonical_condition, is_canonical
from scperturb_modules._errors import name_some
from scperturb_modules._keys import PARTS
from scperturb_modules.pp._facts import ERROR, NOTE, WARNING, Facts, Finding, Guard
from scperturb_modules.pp._label_grammar import (
    control_suggestion,
    is_missing_name,
    separator_message,
    separators_found,
)

MIN_CELLS = 30
MIN_CONTROLS = 100
MIN_CONDITIONS = 10
_BATCH_WORDS = r"batch|replicate|gem_?group|lane|channel|donor|sample|plate|library_?id"


def missing_keys(facts: Facts) -> Finding | None:
    """Cells without a batch or a cell type."""
    found = {}
    for key in (facts.keys.batch_key, facts.keys.cell_type_key):
        if key is not None and facts.adata.obs[key].isna().any():
            found[key] = int(facts.adata.obs[key].isna().sum())
    if not found:
        return None
    named = ", ".join(f"obs[{key!r}] in {n}" for key, n in found.items())
    first = next(iter(found))
    mend = f"Fill them, or drop them: adata = adata[adata.obs[{first!r}].notna()].copy()"
    return Finding(ERROR, sum(found.values()), f"Values are missing: {named} cells.", mend)


def split(facts: Facts) -> Finding | None:
    key = facts.keys.split_key
    if key not in facts.adata.obs:
        return None
    column = facts.adata.obs[key]
    strange = ~column.isin(PARTS)
    if not strange.any():
        return None
    values = column[strange].astype(str).unique()
    message = f"obs[{key!r}] has {int(strange.sum())} cells outside {', '.join(PARTS)}: {name_some(values)}."
    mend = "Call spm.pp.split(adata, ..., overwrite=True); if it is not a split, rename it, or pass split_key=."
    return Finding(ERROR, int(strange.sum()), message, mend)


def missing_labels(facts: Facts) -> Finding | None:
    blank = [name for name in facts.names if is_missing_name(name) and name != facts.keys.control]
    n = int((facts.codes < 0).sum()) + sum(facts.n_cells[name] for name in blank)
    if n == 0:
        return None
    key = facts.keys.perturbation_key
    kept = f"adata.obs[{key!r}].notna()" + (f" & ~adata.obs[{key!r}].isin({blank})" if blank else "")
    message = f"{n} of {facts.adata.n_obs} cells have no perturbation label in {facts.label_column}."
    return Finding(ERROR, n, message, f"Drop them: adata = adata[{kept}].copy()")


def control_label(facts: Facts) -> Finding | None:
    if facts.keys.control in facts.n_cells:
        return None
    message = f"Control label {facts.keys.control!r} is not in {facts.label_column}."
    if facts.n_cells:
        message += f" {control_suggestion(facts.keys.control, facts.n_cells)}"
    mend = f"Call spm.pp.standardize_perturbations(adata, {facts.keys.perturbation_key!r}), or pass control=."
    return Finding(ERROR, 1, message, mend)


def separator(facts: Facts) -> Finding | None:
    measured = set(map(str, facts.adata.var_names))
    labels = [name for name in facts.conditions if name not in measured]
    found = separators_found(labels, measured.union(facts.names))
    if not found:
        return None
    n = len({label for some in found.values() for label in some})
    mend = f"Call spm.pp.standardize_perturbations(adata, {facts.keys.perturbation_key!r}, sep={next(iter(found))!r})."
    return Finding(ERROR, n, f"{facts.label_column}: {separator_message(found, facts.conditions)}", mend)


def canonical_labels(facts: Facts) -> Finding | None:
    control = facts.keys.control
    wrong = [name for name in facts.conditions if not (is_canonical(name, control=control) or is_missing_name(name))]
    if not wrong:
        return None
    message = (
        f"{len(wrong)} labels of {facts.label_column} are not canonical: {name_some(wrong)}; {wrong[0]!r} is written "
        f"{canonical_condition(facts.targets(wrong[0]), control=control)!r}."
    )
    mend = f"Call spm.pp.standardize_perturbations(adata, {facts.keys.perturbation_key!r})."
    return Finding(ERROR, len(wrong), message, mend)


def context_controls(facts: Facts) -> Finding | None:
    if facts.contexts is None or facts.keys.control not in facts.n_cells:
        return None
    perturbed = facts.contexts[~facts.is_control].value_counts()
    with_controls = facts.contexts[facts.is_control & facts.is_training].unique()
    lacking = perturbed[~perturbed.index.isin(with_controls)].sort_index()
    if lacking.empty:
        return None
    counts = name_some([f"{context} ({n} perturbed cells)" for context, n in lacking.items()])
    key = facts.keys.cell_type_key
    return Finding(
        NOTE if facts.pooled_controls else ERROR,
        len(lacking),
        f"{len(lacking)} values of obs[{key!r}] have no control cells for training: {counts}.",
        'Leave them out, or pass control_fallback="pooled" to take the controls of all contexts.',
    )


def single_cells(facts: Facts) -> Finding | None:
    alone = [name for name in facts.conditions if facts.n_cells[name] == 1]
    if not alone or len(alone) < len(facts.conditions):
        return None
    message = f"Each of the {len(alone)} conditions of {facts.label_column} has one cell: {name_some(alone, most=3)}."
    mend = "Pass the column with the target of a cell, not its name or guide barcode, as perturbation_key=."
    return Finding(ERROR, len(alone), message, mend)


def perturbed_cells(facts: Facts) -> Finding | None:
    if facts.conditions:
        return None
    return Finding(
        ERROR, 1, f"{facts.label_column} has no perturbed cells.", "Pass another perturbation_key= or control=."
    )


def few_cells(facts: Facts) -> Finding | None:
    if facts.contexts is None:
        n_cells = pd.Series(facts.n_cells)
        few = [name for name in facts.conditions if facts.n_cells[name] < MIN_CELLS]
    else:
        labels = facts.adata.obs[facts.keys.perturbation_key].astype(str)
        n_cells = (labels + CONTEXT_SEPARATOR + facts.contexts)[~facts.is_control].value_counts().sort_index()
        few = n_cells.index[n_cells < MIN_CELLS].tolist()
    if not few:
        return None
    message = f"{len(few)} conditions have fewer than {MIN_CELLS} cells and are not scored: {name_some(few)}."
    return Finding(WARNING, len(few), message, "Pass min_cells= to the evaluation to score them all the same.")


def few_controls(facts: Facts) -> Finding | None:
    n_all = int(facts.is_control.sum())
    if facts.contexts is None:
        few = {"the screen": n_all} if n_all < MIN_CONTROLS else {}
    else:
        n_controls = facts.contexts[facts.is_control].value_counts().sort_index()
        few = {str(context): int(n) for context, n in n_controls.items() if n < MIN_CONTROLS}
    if n_all == 0 or not few:  # none at all is an error of its own
        return None
    counts = ", ".join(f"{n} in {context}" for context, n in few.items())
    message = f"Fewer than {MIN_CONTROLS} control cells: {counts}. Their noise enters every change."
    mend = "Keep all control cells; spm.pp.split(..., holdout_controls=0) shares them between training and truth."
    return Finding(WARNING, len(few), message, mend)


def few_conditions(facts: Facts) -> Finding | None:
    key = facts.keys.split_key
    sides = {"": set(facts.conditions)}
    if key in facts.adata.obs:
        perturbed = (facts.codes >= 0) & ~facts.is_control
        training = {facts.names[code] for code in set(facts.codes[perturbed & facts.is_training])}
        test = {facts.names[code] for code in set(facts.codes[perturbed & ~facts.is_training])}
        sides = {"training ": training, "test ": test}
    few = {side: len(names) for side, names in sides.items() if len(names) < MIN_CONDITIONS}
    if not few:
        return None
    counts = " and ".join(f"{n} {side}conditions" for side, n in few.items())
    message = f"Only {counts}: expect no model to beat the mean, and wide intervals."
    return Finding(WARNING, min(few.values()), message, "Nothing mends it but more conditions.")


def replicates(facts: Facts) -> Finding | None:
    """A column that looks like batches in which controls and perturbed cells stand side by side."""
    if facts.keys.batch_key is not None:
        return None
    obs = facts.adata.obs
    for name in obs.columns[obs.columns.astype(str).str.contains(_BATCH_WORDS, case=False)]:
        if name in (facts.keys.perturbation_key, facts.keys.cell_type_key, facts.keys.split_key):
            continue
        n_batches = obs[name].nunique()
        if 2 <= n_batches <= max(2, facts.adata.n_obs // 20) and _share_with_controls(facts, name) > 0.5:
            message = f"obs[{name!r}] looks like a batch column ({n_batches} values)."
            return Finding(NOTE, n_batches, message, f"Pass batch_key={name!r} for matched controls.")
    return None


def batch_controls(facts: Facts) -> Finding | None:
    key = facts.keys.batch_key
    if key is None:
        return None
    share = _share_with_controls(facts, key)
    n_batches = facts.adata.obs[key].nunique()
    n = n_batches - round(share * n_batches)
    if n == 0:
        return None
    message = f"{n} of {n_batches} batches of obs[{key!r}] lack control or perturbed cells."
    level = NOTE if share > 0.5 else WARNING
    return Finding(level, n, message, "Controls of the other batches stand in; leave batch_key= out if most lack them.")


def _share_with_controls(facts: Facts, key: str) -> float:
    """The share of batches that hold both control and perturbed cells."""
    column = facts.adata.obs[key].astype(str)
    both = set(column[facts.is_control]) & set(column[~facts.is_control])
    return len(both) / max(column.nunique(), 1)


def unmeasured(facts: Facts) -> Finding | None:
    genes = sorted({gene for name in facts.conditions for gene in facts.targets(name)})
    absent = [gene for gene in genes if gene not in facts.adata.var_names]
    if not absent:
        return None
    message = (
        f"{len(absent)} of {len(genes)} perturbed genes are not in var_names; their own effect cannot be scored: "
        f"{name_some(absent)}."
    )
    return Finding(NOTE, len(absent), message, "Keep the targets when choosing genes.")


LABEL_GUARDS: dict[str, Guard] = {
    "missing_keys": missing_keys,
    "split": split,
    "missing_labels": missing_labels,
    "control_label": control_label,
    "separator": separator,
    "canonical_labels": canonical_labels,
    "perturbed_cells": perturbed_cells,
    "single_cells": single_cells,
    "context_controls": context_controls,
    "few_cells": few_cells,
    "few_controls": few_controls,
    "few_conditions": few_conditions,
    "replicates": replicates,
    "batch_controls": batch_controls,
    "unmeasured": unmeasured,
}
