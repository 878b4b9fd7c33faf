"""Can anything on the training side know the test cells? Checked on the data as they are, before any score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import parse_row_name
from scperturb_modules._errors import LeakError, name_some, require_key
from scperturb_modules._keys import TEST, ScreenKeys
from scperturb_modules.pp._label_grammar import Grammar
from scperturb_modules.pp._leak_evidence import ENOUGH_DETECTED, Evidence

if TYPE_CHECKING:
    from anndata import AnnData

PASS, FAIL, UNVERIFIED, NOTE = "pass", "fail", "unverified", "note"

_GENE_LISTS = (
    "rank_genes_groups",
    "rank_genes_groups_cov_all",
    "top_non_dropout_de_20",
    "top_non_zero_de_20",
    "non_dropout_gene_idx",
    "non_zeros_gene_idx",
)
"""Lists that scanpy and GEARS store, made from test cells too."""
_DERIVED_FROM_CELLS = {
    "var": ("highly_variable", "dispersions_norm", "variances_norm"),
    "varm": ("PCs",),
    "uns": ("hvg", "pca", "neighbors", "leiden", "louvain", "umap"),
    "obs": ("leiden", "louvain"),
    "layers": ("scaled",),
}
"""What common preprocessing derives from all cells; every ``obsm`` counts too."""
_FROM_RECORD = {"highly_variable": ("highly_variable", "dispersions_norm", "variances_norm", "hvg")}


class Finding(NamedTuple):
    """One line of the report."""

    result: str
    n: int
    message: str
    mend: str = ""


def check_leakage(
    adata: AnnData,
    *,
    priors: Any = None,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
) -> pd.DataFrame:
    """Look for test information on the training side; nothing is changed or raised.

    Parameters
    ----------
    adata
        Cells x genes with a split. Labels may be in any spelling.
    priors
        What predictors are given: one table, a sequence or a mapping of them. Each says what it was made from by
        ``.attrs["derived_from"]`` (or the attribute ``derived_from``): ``"same_screen"``,
        ``"same_line_other_screen"``, or anything else, such as ``"annotation"``. One made from training cells of this
        screen (``priors.coexpression``) says which by ``.attrs["cells"]``, and is judged by them.
    perturbation_key, control, layer, cell_type_key, split_key
        Columns, control label and layer of the screen. ``layers["counts"]``, where it exists, goes before ``layer``.

    Returns
    -------
    DataFrame
        One or more rows for each of seven checks, with ``check``, ``result`` (``pass``, ``fail``, ``unverified``: it
        cannot be seen from the data, ``note``), ``n`` (cells, conditions or things concerned), ``message`` and
        ``mend``.

        ``cells``
            no cell name in two parts
        ``counts``
            no two cells of different parts with the same counts (at least 20 detected genes)
        ``conditions``
            no condition in two parts of a context, also under another name: B+A, A+ctrl, other case
        ``provenance``
            whatever was derived from cells (variable genes, principal components, clusters) has a record, and the
            record holds no test condition and no evaluation control
        ``gene_lists``
            lists of changed genes in ``uns``; predictors here do not read them
        ``priors``
            none was made from this screen, unless from the training side of this very split
        ``controls``
            evaluation controls exist and are not among the training controls

    Raises
    ------
    MissingKeyError
        A column does not exist.
    DataError
        The split column holds other values than train, val and test.

    See Also
    --------
    raise_on_leak : Turn failures into an error.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"perturbation": ["control", "A+B", "B+A"], "split": ["train", "train", "test"]})
    >>> report = check_leakage(anndata.AnnData(np.eye(3), obs=obs.set_index(pd.Index(list("xyz")))))
    >>> report.loc[report["result"] == "fail", "check"].tolist()
    ['conditions']
    """
    require_key(split_key, adata.obs.columns, "obs", mend="Call spm.pp.split(adata, ...) first.")
    keys = ScreenKeys(perturbation_key, control, layer, None, cell_type_key, split_key)
    evidence = Evidence(adata, keys, priors)
    found = [(name, *finding) for name, check in _CHECKS.items() for finding in check(evidence)]
    return pd.DataFrame(found, columns=["check", *Finding._fields])


def raise_on_leak(report: pd.DataFrame) -> None:
    """Raise :class:`LeakError` with every failure of :func:`check_leakage` and its mend; else do nothing."""
    failed = report[report["result"] == FAIL]
    if len(failed):
        lines = [f"{row.check}: {row.message} {row.mend}".rstrip() for row in failed.itertuples()]
        raise LeakError(f"{len(failed)} leaks from test to training:\n" + "\n".join(lines))


def _check_cells(evidence: Evidence) -> list[Finding]:
    names = evidence.cells["name"]
    torn = evidence.torn(names[names.duplicated(keep=False)])
    if not len(torn):
        return [Finding(PASS, 0, "No cell name occurs in two parts.")]
    some = name_some(names[torn].unique())
    mend = "Drop the copies, or call adata.obs_names_make_unique() if they are different cells."
    return [Finding(FAIL, names[torn].nunique(), f"Cell names occur in several parts: {some}.", mend)]


def _check_counts(evidence: Evidence) -> list[Finding]:
    content = evidence.content
    if content.empty:
        message = f"No cell has {ENOUGH_DETECTED} detected genes, so copies of cells cannot be told from chance."
        return [Finding(UNVERIFIED, 0, message)]
    torn = evidence.torn(content)
    if not len(torn):
        return [Finding(PASS, 0, "No two cells of different parts have the same counts.")]
    some = name_some(evidence.cells["name"][torn])
    return [Finding(FAIL, len(torn), f"Cells of different parts have the same counts: {some}.", "Drop the copies.")]


def _check_conditions(evidence: Evidence) -> list[Finding]:
    """A control is in several parts by design, so cells that read as controls are left out."""
    cells = evidence.cells
    grammar = Grammar()
    names = {label: _folded_name(grammar, label, evidence.keys.control) for label in cells["label"].unique()}
    folded = cells["label"].map(names)
    where = folded.str.cat(cells["context"], sep="|")[folded != ""]
    torn = evidence.torn(where)
    if not len(torn):
        return [Finding(PASS, 0, "Every condition of a context is in one part.")]
    labels = cells.loc[torn].groupby(where[torn])["label"].unique()
    some = name_some(" = ".join(sorted(spellings)) for spellings in labels)
    mend = "Call spm.pp.standardize_perturbations(adata, ...), mend the spelling of genes, and split again."
    return [Finding(FAIL, len(labels), f"Conditions are in several parts: {some}.", mend)]


def _folded_name(grammar: Grammar, label: str, control: str) -> str:
    genes = {gene.casefold() for gene in grammar.read(label).genes if gene != control}
    return "+".join(sorted(genes))


def _check_provenance(evidence: Evidence) -> list[Finding]:
    records = evidence.adata.uns.get(_keys.ROOT, {}).get(_keys.PROVENANCE, {})
    findings = [_judge_record(name, record, evidence) for name, record in records.items()]
    recorded = {what for name in records for what in _FROM_RECORD.get(name, (name,))}
    unknown = [where for where, what in _derived(evidence.adata) if what not in recorded]
    if unknown:
        message = f"Derived from cells that nothing records: {name_some(unknown, most=8)}."
        mend = (
            "Predictors here do not read them. Choose genes by spm.pp.normalize(adata, n_top_genes=...) after a split."
        )
        findings.append(Finding(UNVERIFIED, len(unknown), message, mend))
    return findings or [Finding(PASS, 0, "Nothing stored was derived from cells.")]


def _derived(adata: AnnData) -> list[tuple[str, str]]:
    """What was derived from cells, as text and by its key."""
    listed = [
        (place, what) for place, keys in _DERIVED_FROM_CELLS.items() for what in keys if what in getattr(adata, place)
    ]
    listed += [("obsm", str(what)) for what in adata.obsm]
    return [(f"{place}[{what!r}]", what) for place, what in listed]


def _judge_record(name: str, record: Mapping[str, Any], evidence: Evidence) -> Finding:
    mend = f"Derive {name} again, from the training side of this split."
    if record.get("cells_sha256") == evidence.training_sha256:
        return Finding(PASS, 0, f"{name} was derived from the cells of the training side.")
    used = {str(row) for row in record.get("conditions", ())}
    untrained = evidence.untrained_conditions  # also where the record was made with another cell_type_key
    leaked = sorted(row for row in used if row in evidence.test_rows or parse_row_name(row)[0] in untrained)
    if leaked:
        return Finding(FAIL, len(leaked), f"{name} was derived from test conditions: {name_some(leaked)}.", mend)
    n_controls = int(record.get("n_evaluation_controls", 0))
    if n_controls:
        return Finding(FAIL, n_controls, f"{name} was derived from {n_controls} evaluation controls.", mend)
    message = f"{name} was derived from other cells than those of the training side; cells or split changed since."
    return Finding(UNVERIFIED, 1, message, mend)


def _check_gene_lists(evidence: Evidence) -> list[Finding]:
    found = [key for key in _GENE_LISTS if key in evidence.adata.uns]
    if not found:
        return [Finding(PASS, 0, "No list of changed genes is stored.")]
    message = (
        f"uns holds lists of genes made from test cells: {name_some(found, most=6)}. Predictors here do not read them."
    )
    return [Finding(NOTE, len(found), message)]


def _check_priors(evidence: Evidence) -> list[Finding]:
    priors = _named_priors(evidence.priors)
    findings = [_judge_prior(name, prior, evidence) for name, prior in priors]
    return findings or [Finding(PASS, 0, "No prior was given.")]


def _named_priors(priors: Any) -> Iterable[tuple[str, Any]]:
    if priors is None:
        return ()
    if isinstance(priors, Mapping):
        return [(str(name), prior) for name, prior in priors.items()]
    listed = list(priors) if isinstance(priors, list | tuple) else [priors]
    return [(str(_said(prior, "name") or f"prior {i}"), prior) for i, prior in enumerate(listed, start=1)]


def _said(prior: Any, key: str) -> Any:
    """What a prior says of itself; ``getattr`` on a table could find a column of that name."""
    attributes = getattr(prior, "attrs", None)
    if isinstance(attributes, Mapping) and key in attributes:
        return attributes[key]
    return None if isinstance(prior, pd.DataFrame) else getattr(prior, key, None)


def _judge_prior(name: str, prior: Any, evidence: Evidence) -> Finding:
    origin = _said(prior, "derived_from")
    if origin == _keys.SAME_SCREEN:
        return Finding(FAIL, 1, f"{name} was made from this screen.", "Leave it out, or make it from training cells.")
    if origin == _keys.SAME_LINE:
        return Finding(NOTE, 1, f"{name} was made from another perturbation screen of the same cell line.")
    record = _said(prior, "cells")
    if isinstance(record, Mapping):
        return _judge_record(name, record, evidence)
    if origin is None:
        return Finding(NOTE, 1, f"{name} does not say what it was made from.", 'Set its attrs["derived_from"].')
    return Finding(PASS, 0, f"{name} was made from {origin}.")


def _check_controls(evidence: Evidence) -> list[Finding]:
    cells = evidence.cells
    is_evaluation = cells["is_control"] & (cells["part"] == TEST)
    if not is_evaluation.any():
        message = "No control is held out: controls serve both sides (published protocol), so their noise correlates."
        return [Finding(NOTE, 0, message, "spm.pp.split(..., holdout_controls=0.3) holds controls out.")]
    shared = _shared_controls(evidence)
    if len(shared):
        some = name_some(cells["name"][shared])
        return [
            Finding(FAIL, len(shared), f"Evaluation controls are training controls too: {some}.", "Drop the copies.")
        ]
    tested = cells.loc[(cells["part"] == TEST) & ~cells["is_control"], "context"].unique()
    lacking = sorted(set(tested) - set(cells.loc[is_evaluation, "context"]))
    if lacking:
        message = f"Tested contexts without evaluation controls: {name_some(lacking)}; training controls serve there."
        return [Finding(NOTE, len(lacking), message, "Split again, with more controls in these contexts.")]
    return [Finding(PASS, int(is_evaluation.sum()), "Evaluation controls are apart from training controls.")]


def _shared_controls(evidence: Evidence) -> np.ndarray:
    """Positions of evaluation controls that a training control equals in name or counts."""
    controls = evidence.cells[evidence.cells["is_control"]]
    side = controls["part"].eq(TEST)
    shared: set[int] = set()
    for key in (controls["name"], evidence.content[evidence.content.index.isin(controls.index)]):
        n_sides = side.loc[key.index].groupby(key).transform("nunique")
        shared.update(n_sides.index[(n_sides > 1) & side.loc[key.index]])
    return np.array(sorted(shared), dtype=np.int64)


_CHECKS: dict[str, Callable[[Evidence], list[Finding]]] = {
    "cells": _check_cells,
    "counts": _check_counts,
    "conditions": _check_conditions,
    "provenance": _check_provenance,
    "gene_lists": _check_gene_lists,
    "priors": _check_priors,
    "controls": _check_controls,
}
