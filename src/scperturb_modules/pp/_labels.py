"""One canonical label per condition, whatever the file calls it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules._conditions import CONTEXT_SEPARATOR, GENE_SEPARATOR, canonical_condition
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules._keys import LABELS, PERTURBATION, PERTURBATION_ORIGINAL, ROOT
from scperturb_modules.pp._label_doubts import warn_of_doubtful
from scperturb_modules.pp._label_grammar import (
    Grammar,
    Reading,
    control_suggestion,
    is_missing_name,
    separator_message,
    separators_found,
)

if TYPE_CHECKING:
    from anndata import AnnData


def standardize_perturbations(
    adata: AnnData,
    key: str,
    *,
    sep: str | None = None,
    control: str | Sequence[str] | None = None,
    guide_to_target: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Write canonical labels: ``"control"``, ``"A"``, ``"A+B"`` with distinct genes in sorted order.

    Writes ``obs["perturbation"]`` (categorical without unused categories), ``obs["perturbation_original"]`` (the labels
    as they were) and ``uns["scperturb_modules"]["labels"]`` (the table that is returned). A second call changes
    nothing. On an error nothing is written.

    Parameters
    ----------
    adata
        Cells x genes; not a view.
    key
        Column of ``obs`` with the labels.
    sep
        What joins the genes of a combination besides ``+``. ``sep="+"`` says that nothing but ``+`` does, and turns off
        the search for other separators.
    control
        The label or labels of control cells, exactly as written. By default every label that is a control by one of the
        names in use is one (ctrl, NT, non-targeting, safe harbour, AAVS1, NegCtrl0, DMSO, ...; case, blanks, ``-``,
        ``_`` and ``.`` do not matter).
    guide_to_target
        Target of each guide, where the labels name guides. Nothing is ever guessed from a guide's name.
    overwrite
        Replace an ``obs["perturbation"]`` that holds something else.

    Returns
    -------
    DataFrame
        A row per label: ``original``, ``canonical``, ``n_cells`` and ``action`` (what was done), by ``original``.

    Raises
    ------
    MissingKeyError
        ``obs`` has no such column.
    DataError
        Cells without a label; no control, or one that is not there; another separator between names that are targets
        themselves; guides without a target; a name that holds ``|``, which separates condition and context.

    Warns
    -----
    ScreenWarning
        Genes that differ in case only (they are not merged), labels that look like numbered controls but are not
        taken for such, a name of controls that ``control`` leaves out in a pair (``A+ctrl``), a measured gene that is
        read as a control by its name (CTRL), a number beside a name (``A_2`` with ``sep="_"``), or a ``sep`` that
        occurs nowhere.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"guide": ["NT", "KLF1_BAK1", "KLF1", "BAK1"]}, index=list("wxyz"))
    >>> screen = anndata.AnnData(np.ones((4, 2), dtype=np.float32), obs=obs)
    >>> report = standardize_perturbations(screen, "guide", sep="_")
    >>> list(screen.obs["perturbation"])
    ['control', 'BAK1+KLF1', 'KLF1', 'BAK1']
    """
    require_key(key, adata.obs.columns, "obs")
    refuse_view(adata, "standardize_perturbations")
    again = key == PERTURBATION and _is_own_output(adata)
    codes, names = label_codes(adata.obs[PERTURBATION_ORIGINAL if again else key])
    counts = dict(zip(names, np.bincount(codes[codes >= 0], minlength=len(names)).tolist(), strict=True))
    if again and sep is None and control is None and guide_to_target is None:
        report = _recounted(adata.uns[ROOT][LABELS], counts)
    else:
        _require_labels(codes, names, key, controls=_as_names(control) or ())
        report = read_labels(
            counts,
            sep=sep,
            control=control,
            guide_to_target=guide_to_target,
            genes=adata.var_names,
            where=f"obs[{key!r}]",
        )
    canonical_of = dict(zip(report["original"], report["canonical"], strict=True))
    labels = pd.Categorical(np.array([canonical_of[name] for name in names], dtype=object)[codes])
    original = pd.Categorical(np.array(names, dtype=object)[codes])
    _require_free(adata, key, labels, original, overwrite=overwrite)
    if not (PERTURBATION_ORIGINAL in adata.obs and key == PERTURBATION and _equal(adata.obs[PERTURBATION], labels)):
        adata.obs[PERTURBATION_ORIGINAL] = original
    adata.obs[PERTURBATION] = labels
    adata.uns.setdefault(ROOT, {})[LABELS] = report
    return report


def read_labels(
    n_cells: Mapping[str, int],
    *,
    sep: str | None = None,
    control: str | Sequence[str] | None = None,
    guide_to_target: Mapping[str, str] | None = None,
    genes: Iterable[str] = (),
    where: str = "labels",
) -> pd.DataFrame:
    """The core of :func:`standardize_perturbations`: read distinct labels, given with their number of cells.

    >>> read_labels({"ctrl": 9, "B+A": 3, "A+ctrl": 2})[["original", "canonical", "action"]].to_numpy().tolist()
    [['A+ctrl', 'A', 'control removed'], ['B+A', 'A+B', 'sorted'], ['ctrl', 'control', 'control']]
    """
    controls = _as_names(control)
    measured = {str(gene) for gene in genes}
    targets = {} if guide_to_target is None else {str(k): str(v) for k, v in guide_to_target.items() if pd.notna(v)}
    grammar = Grammar(sep, None if controls is None else frozenset(controls), targets)
    readings = {label: grammar.read(label) for label in sorted(n_cells)}
    _require_targets(readings, n_cells, where)
    if sep != GENE_SEPARATOR:
        _require_no_other_separator(n_cells, grammar, measured, where)
    _require_controls(readings, n_cells, grammar, where)
    _require_plain_names(readings, where)
    warn_of_doubtful(readings, grammar, measured, where)
    return pd.DataFrame(
        {
            "original": list(readings),
            "canonical": [canonical_condition(reading.genes) for reading in readings.values()],
            "n_cells": [n_cells[label] for label in readings],
            "action": [reading.action for reading in readings.values()],
        }
    )


def label_codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """(N,) code of each cell's label, -1 where there is none, and the labels as text."""
    codes, uniques = pd.factorize(column)
    text_codes, names = pd.factorize(np.array([str(label) for label in uniques], dtype=object))  # 1 and "1" are one
    return np.append(text_codes, -1)[codes], [str(name) for name in names]


def refuse_view(adata: AnnData, function: str) -> None:
    """Raise where writing would silently turn a view into a copy that the caller does not hold."""
    if adata.is_view:
        raise DataError(f"This AnnData is a view of another one. Call adata = adata.copy() before {function}.")


def _as_names(control: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if control is None:
        return None
    return (str(control),) if np.isscalar(control) else tuple(map(str, control))  # a label may be a number


def _is_own_output(adata: AnnData) -> bool:
    """Whether obs["perturbation"] is what an earlier call made of obs["perturbation_original"]."""
    report = adata.uns.get(ROOT, {}).get(LABELS)
    if report is None or PERTURBATION_ORIGINAL not in adata.obs:
        return False
    canonical_of = dict(zip(report["original"], report["canonical"], strict=True))
    made = adata.obs[PERTURBATION_ORIGINAL].astype(str).map(canonical_of)
    return _equal(adata.obs[PERTURBATION], made)


def _recounted(report: pd.DataFrame, n_cells: Mapping[str, int]) -> pd.DataFrame:
    """The stored report for the cells that are left."""
    kept = report[report["original"].isin(list(n_cells))]
    return kept.assign(n_cells=kept["original"].map(n_cells).astype("int64")).reset_index(drop=True)


def _equal(column: pd.Series, labels: pd.Categorical | pd.Series) -> bool:
    return np.array_equal(np.asarray(column.astype(object)), np.asarray(labels, dtype=object))


def _require_labels(codes: np.ndarray, names: Sequence[str], key: str, *, controls: Collection[str]) -> None:
    blank = [code for code, name in enumerate(names) if is_missing_name(name) and name not in controls]
    n_missing, n_blank = int((codes < 0).sum()), int(np.isin(codes, blank).sum())
    if n_missing + n_blank == 0:
        return
    texts = [names[code] for code in blank]
    drop = f"adata = adata[adata.obs[{key!r}].notna()].copy()"
    if texts:
        drop = f"adata = adata[adata.obs[{key!r}].notna() & ~adata.obs[{key!r}].isin({texts})].copy()"
    written = f", {n_blank} of them written as {name_some(texts)}" if texts else ""
    unperturbed = f"; if {name_some(texts)} stands for unperturbed cells, pass it as control=" if texts else ""
    raise DataError(
        f"{n_missing + n_blank} of {len(codes)} cells have no label in obs[{key!r}]{written}. "
        f"Drop them: {drop}{unperturbed}"
    )


def _require_targets(readings: Mapping[str, Reading], n_cells: Mapping[str, int], where: str) -> None:
    unmapped = sorted({guide for reading in readings.values() for guide in reading.unmapped})
    if unmapped:
        cells = sum(n_cells[label] for label, reading in readings.items() if reading.unmapped)
        raise DataError(
            f"{len(unmapped)} guides of {where} have no target in guide_to_target ({cells} cells): "
            f"{name_some(unmapped)}. Add them to guide_to_target, or drop their cells."
        )


def _require_no_other_separator(n_cells: Mapping[str, int], grammar: Grammar, measured: Set[str], where: str) -> None:
    names = {part for label in n_cells for part in grammar.split(label)}
    one_name = measured | set(grammar.targets)
    known = names | one_name | set(grammar.targets.values())
    labels = {label for label in n_cells if label not in one_name and not grammar.is_control(label)}
    parts = {part: label for label in sorted(labels) for part in grammar.split(label) if part not in one_name}
    found = separators_found(parts, known)
    if found:
        joined = {separator: sorted({parts[part] for part in some}) for separator, some in found.items()}
        raise DataError(f"{where}: {separator_message(joined, labels)}")


def _require_controls(
    readings: Mapping[str, Reading], n_cells: Mapping[str, int], grammar: Grammar, where: str
) -> None:
    named = set(n_cells) | set(grammar.targets.values()) | {part for label in n_cells for part in grammar.split(label)}
    for name in sorted(grammar.controls or ()):
        if name not in named:
            raise DataError(f"Control label {name!r} is not in {where}. {control_suggestion(name, n_cells)}")
    if not any(not reading.genes for reading in readings.values()):
        raise DataError(
            f"No label of {where} is a control by one of the names in use. {control_suggestion(None, n_cells)} "
            "Pass the label of the control cells as control=."
        )


def _require_plain_names(readings: Mapping[str, Reading], where: str) -> None:
    barred = [label for label, reading in readings.items() if any(CONTEXT_SEPARATOR in gene for gene in reading.genes)]
    if barred:
        raise DataError(
            f"{len(barred)} labels of {where} hold '|', which separates condition and context: {name_some(barred)}. "
            "Pass sep='|' if it joins genes, else rename them."
        )
    strands = [label for label, reading in readings.items() if any(gene.strip("_-") != gene for gene in reading.genes)]
    strands = [label for label in strands if GENE_SEPARATOR in label]
    if strands:
        raise DataError(
            f"{len(strands)} labels of {where} hold '+' beside '_' or '-', as guide names with a strand do: "
            f"{name_some(strands)}. '+' joins genes: pass guide_to_target=, or rename them."
        )


def _require_free(
    adata: AnnData, key: str, labels: pd.Categorical, original: pd.Categorical, *, overwrite: bool
) -> None:
    if overwrite or PERTURBATION not in adata.obs or _equal(adata.obs[PERTURBATION], labels):
        return
    if key != PERTURBATION:
        raise DataError(
            f"obs['perturbation'] exists and holds other labels than those made from obs[{key!r}]. Pass overwrite=True "
            "to replace it, or key='perturbation' to standardise that column."
        )
    if PERTURBATION_ORIGINAL in adata.obs and not _equal(adata.obs[PERTURBATION_ORIGINAL].astype(str), original):
        raise DataError(
            "obs['perturbation'] was changed after an earlier call, whose labels are in obs['perturbation_original']. "
            "Pass overwrite=True to replace those too."
        )
