"""Guards on the object itself: names, columns, layers. Each takes the facts and returns what is wrong, or None."""

from __future__ import annotations

import pandas as pd

from scperturb_modules._errors import name_some
from scperturb_modules._keys import SPLIT
from scperturb_modules.pp._facts import ERROR, Facts, Finding, Guard

_ENSEMBL = r"^ENS[A-Z]*G\d{5,}"


def empty(facts: Facts) -> Finding | None:
    n_cells, n_genes = facts.adata.shape
    if n_cells and n_genes:
        return None
    return Finding(ERROR, 1, f"The object is empty: {n_cells} cells x {n_genes} genes.", "Check the filters before.")


def keys(facts: Facts) -> Finding | None:
    """Columns and layers that were named but do not exist, or hold numbers instead of labels."""
    adata, named = facts.adata, facts.keys
    problems = []
    for argument in ("perturbation_key", "batch_key", "cell_type_key", "split_key"):
        key = getattr(named, argument)
        if key is None or (argument == "split_key" and key == SPLIT) or key in adata.obs:
            continue
        problems.append(f"{argument}={key!r}: obs has {name_some(adata.obs.columns, most=12) or 'no columns'}")
    if named.perturbation_key in adata.obs:
        column = adata.obs[named.perturbation_key]
        if pd.api.types.is_float_dtype(column) or pd.api.types.is_bool_dtype(column):
            problems.append(f"perturbation_key={named.perturbation_key!r}: the column holds {column.dtype}, not labels")
    layers = [name for name in adata.layers if name is not None]
    if named.layer is not None and named.layer not in layers:
        problems.append(f"layer={named.layer!r}: layers has {name_some(layers, most=12) or 'nothing'}")
    elif facts.matrix is None:
        problems.append("X is empty (None)")
    if not problems:
        return None
    message = "These arguments name nothing usable: " + "; ".join(problems) + "."
    mend = "Pass a column or layer that exists."
    if named.perturbation_key not in adata.obs:
        mend = "Pass a column that exists; spm.pp.standardize_perturbations(adata, ...) makes obs['perturbation']."
    return Finding(ERROR, len(problems), message, mend)


def cell_names(facts: Facts) -> Finding | None:
    doubled = facts.adata.obs_names[facts.adata.obs_names.duplicated()].unique()
    if doubled.empty:
        return None
    message = f"{len(doubled)} duplicated cell names (first: {name_some(doubled, most=3)})."
    return Finding(ERROR, len(doubled), message, "Call adata.obs_names_make_unique().")


def gene_names(facts: Facts) -> Finding | None:
    doubled = facts.adata.var_names[facts.adata.var_names.duplicated()].unique()
    if doubled.empty:
        return None
    message = (
        f"{len(doubled)} duplicated gene names (first: {name_some(doubled, most=3)}): perturbation targets would be "
        "ambiguous."
    )
    return Finding(ERROR, len(doubled), message, "Call adata.var_names_make_unique(), or sum the duplicates.")


def identifiers(facts: Facts) -> Finding | None:
    names = facts.adata.var_names.to_series().astype(str)
    n = int(names.str.match(_ENSEMBL).sum())
    if n <= len(names) / 2:
        return None
    columns = [str(name) for name in facts.adata.var.columns]
    symbols = [name for name in columns if "symbol" in name.lower() or name.lower() in ("gene_name", "gene_names")]
    column = symbols[0] if symbols else "gene_symbols"
    return Finding(
        ERROR,
        n,
        f"{n} of {len(names)} genes are Ensembl ids (first: {names.iloc[0]!r}); targets and priors use symbols.",
        f"Set adata.var_names = adata.var[{column!r}].astype(str), then call adata.var_names_make_unique().",
    )


OBJECT_GUARDS: dict[str, Guard] = {
    "empty": empty,
    "keys": keys,
    "cell_names": cell_names,
    "gene_names": gene_names,
    "identifiers": identifiers,
}
"""Of every object; the others need what ``empty`` and ``keys`` look for."""
