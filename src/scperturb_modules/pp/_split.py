"""Training, validation and test conditions, and the control cells that the truth alone may use."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import (
    Row,
    canonical_condition,
    genes_of,
    parse_row_name,
    row_name,
)
from scperturb_modules._errors import DataError, ScreenWarning, name_some, require_key
from scperturb_modules._keys import TEST, TRAIN, VAL, ScreenKeys
from scperturb_modules.pp._labels import refuse_view
from scperturb_modules.pp._screen import ScreenView
from scperturb_modules.pp._split_schemes import (
    CONTROLS,
    SCHEMES,
    VERSION,
    Request,
    held_out_rows,
    rounded,
    shuffled,
    validation_rows,
)
from scperturb_modules.pp._split_suggest import first_suggested
from scperturb_modules.pp._split_table import CellRows, sha256_of, view_without_split

if TYPE_CHECKING:
    from anndata import AnnData

CUSTOM, AUTO = "custom", "auto"
_ENOUGH_IN_REGIME = 3
_ENOUGH_CONTROLS = 20


def split(
    adata: AnnData,
    scheme: str = AUTO,
    *,
    seed: int = 0,
    n_folds: int = 5,
    fold: int = 0,
    holdout_controls: float = 0.3,
    val_fraction: float = 0.1,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
    groups: Mapping[str, object] | None = None,
    held_out: str | Iterable[str] | None = None,
    few_shot: int = 0,
    assignment: Mapping[str, str] | str | None = None,
    overwrite: bool = False,
) -> None:
    """Divide conditions into training, validation and test, and hold out control cells for the truth.

    All cells of a condition in a context go to one part. Writes ``obs[split_key]`` (categorical: train, val, test) and
    ``uns["scperturb_modules"]["split"]``: the arguments, ``version`` of the algorithm, ``sha256`` of the parts of the
    conditions, and ``conditions``, the table of :func:`read_split`.

    Parameters
    ----------
    adata
        Cells x genes; not a view. Only names are read, no expression.
    scheme
        ``"combination"``
            Half of the combinations are tested (of pairs with two, one and no measured single each half), all singles
            train. A fold is an independent draw.
        ``"unseen_gene"``
            A quarter of the genes is unseen. Every condition with an unseen gene is tested, and a quarter of the
            combinations of seen genes. A fold is an independent draw.
        ``"unseen_single"``
            ``n_folds`` folds over genes. A gene's every condition moves with it, so a tested gene is in no training
            condition; each gene is held out in one fold.
        ``"unseen_cluster"``
            The same over the clusters of genes in ``groups``: no near relative is in training.
        ``"unseen_context"``
            The contexts ``held_out`` (default: the fold-th by name) are tested; their controls stay in training, and
            so do ``few_shot`` of their conditions.
        ``"by_covariate"``
            A quarter of the rows (condition, context) is tested, while each condition and each context stays in
            training elsewhere. A fold is an independent draw.
        ``"custom"``
            What ``assignment`` says.
        ``"auto"``
            The first of :func:`suggest_schemes`.
    seed
        Conditions are drawn from their sorted names, seed and fold alone: the order and number of cells do not matter.
    n_folds, fold
        The fold, from 0, that is tested here.
    holdout_controls
        Share of the control cells of each context and batch that is marked test: *evaluation controls*, drawn from
        their names and the seed, the same in every fold. With 0 all controls train and serve both sides, the protocol
        of most publications, in which shared noise correlates.
    val_fraction
        Share of the training units of the kind that is tested (combinations, genes, clusters or rows) that is marked
        val; at least one if ten conditions train, never most of them. A scheme that tests genes moves all conditions
        of a gene to val. Singles stay in training where combinations are tested.
    perturbation_key, control, batch_key, cell_type_key
        Columns of ``obs``; labels are canonical.
    split_key
        Column to write.
    groups
        Cluster of each perturbed gene.
    held_out
        One context or several.
    few_shot
        Number of conditions of a held-out context that train.
    assignment
        Part of each condition (``"A+B"``) or row (``"A+B|context"``), or the name of an ``obs`` column with the parts
        of perturbed cells. Conditions that a mapping does not name train. Controls follow ``holdout_controls``.
    overwrite
        Replace an existing column.

    Raises
    ------
    DataError
        The scheme is impossible on this screen; the message says what there is and which schemes work. Also: the
        column exists, no control cells, cell names that are not unique.

    Warns
    -----
    ScreenWarning
        A regime with fewer than 3 test conditions, or a context with fewer than 20 controls.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"perturbation": ["control"] * 40 + list("ABCDEFGHIJ")}, index=map(str, range(50)))
    >>> screen = anndata.AnnData(np.ones((50, 2), dtype=np.float32), obs=obs)
    >>> split(screen, "unseen_single", seed=0)
    >>> pd.crosstab(screen.obs["split"], screen.obs["perturbation"] == "control").to_numpy().tolist()
    [[7, 28], [1, 0], [2, 12]]
    """
    refuse_view(adata, "split")
    keys = ScreenKeys(perturbation_key, control, None, batch_key, cell_type_key, split_key)
    _check_numbers(seed, n_folds, fold, holdout_controls, val_fraction, few_shot)
    _check_target(adata, split_key, overwrite=overwrite)
    view = view_without_split(adata, keys)
    contexts = () if held_out is None else (held_out,) if isinstance(held_out, str) else tuple(held_out)
    cells = CellRows.of(view)
    request = Request(
        frozenset(cells.rows),
        seed,
        n_folds,
        fold,
        val_fraction,
        control,
        groups=groups,
        held_out=contexts,
        few_shot=few_shot,
    )
    if scheme == AUTO:
        scheme = first_suggested(request)
    part_of_row = (
        _custom_parts(adata, cells, assignment, control) if scheme == CUSTOM else _drawn_parts(scheme, request)
    )
    evaluation = _evaluation_controls(view, adata.obs_names.to_numpy(dtype=str), holdout_controls, seed)
    conditions = cells.table(part_of_row, control)
    _warn_of_thin_regimes(conditions, scheme)
    adata.obs[split_key] = cells.part_of_cell(part_of_row, np.where(evaluation, TEST, TRAIN))
    adata.uns.setdefault(_keys.ROOT, {})[_keys.SPLIT_RECORD] = {
        "scheme": scheme,
        "seed": seed,
        "n_folds": n_folds,
        "fold": fold,
        "few_shot": few_shot,
        "holdout_controls": float(holdout_controls),
        "val_fraction": float(val_fraction),
        "split_key": split_key,
        "version": VERSION,
        "sha256": sha256_of(conditions),
        "conditions": conditions,
    }


def _check_numbers(
    seed: int, n_folds: int, fold: int, holdout_controls: float, val_fraction: float, few_shot: int
) -> None:
    if seed < 0 or few_shot < 0:
        raise ValueError(f"seed={seed} and few_shot={few_shot} must not be negative.")
    if n_folds < 1 or not 0 <= fold < n_folds:
        raise ValueError(f"fold={fold} must be between 0 and n_folds - 1 = {n_folds - 1}.")
    for name, share in (("holdout_controls", holdout_controls), ("val_fraction", val_fraction)):
        if not 0 <= share < 1:
            raise ValueError(f"{name}={share} must be at least 0 and below 1.")


def _check_target(adata: AnnData, split_key: str, *, overwrite: bool) -> None:
    if split_key in adata.obs and not overwrite:
        raise DataError(
            f"obs[{split_key!r}] exists. Pass overwrite=True to replace it, or another split_key= to keep it."
        )
    if not adata.obs_names.is_unique:
        doubled = adata.obs_names[adata.obs_names.duplicated()].unique()
        raise DataError(
            f"{len(doubled)} cell names occur more than once: {name_some(doubled)}. Controls are drawn by name; call "
            "adata.obs_names_make_unique() first."
        )


def _drawn_parts(scheme: str, request: Request) -> dict[Row, str]:
    if scheme not in SCHEMES:
        raise DataError(f"scheme={scheme!r} is unknown; there are {name_some([*SCHEMES, CUSTOM, AUTO], most=9)}.")
    test = held_out_rows(scheme, request)
    val = validation_rows(scheme, request, test)
    return {row: TEST if row in test else VAL if row in val else TRAIN for row in request.rows}


def _custom_parts(
    adata: AnnData, cells: CellRows, assignment: Mapping[str, str] | str | None, control: str
) -> dict[Row, str]:
    if assignment is None:
        raise DataError("'custom' needs assignment=, a mapping from condition to part or the name of an obs column.")
    if isinstance(assignment, str):
        require_key(assignment, adata.obs.columns, "obs")
        part_of_row = cells.part_of_row(adata.obs[assignment].astype(str).to_numpy(dtype=object), assignment)
    else:
        part_of_row = _parts_by_name(frozenset(cells.rows), assignment, control)
    wrong = sorted({str(part) for part in part_of_row.values()} - set(_keys.PARTS))
    if wrong:
        raise DataError(f"assignment= has the parts {name_some(wrong)}; there are train, val and test.")
    if set(part_of_row.values()) <= {TEST, VAL}:
        raise DataError("assignment= leaves no training condition.")
    return part_of_row


def _parts_by_name(rows: frozenset[Row], assignment: Mapping[str, str], control: str) -> dict[Row, str]:
    """Names may be written in any order of genes; a row's own name goes before its condition's."""
    given: dict[Row, str] = {}
    for name, part in assignment.items():
        condition, context = parse_row_name(str(name))
        row = (canonical_condition(genes_of(condition, control=control), control=control), context)
        if given.setdefault(row, part) != part:
            raise DataError(f"assignment= gives {row_name(*row)!r} two parts, {given[row]!r} and {part!r}.")
    known = rows | {(condition, None) for condition, _ in rows}
    unknown = [row_name(*row) for row in given if row not in known]
    if unknown:
        raise DataError(
            f"assignment= names {len(unknown)} conditions without perturbed cells: {name_some(unknown)}. Controls are "
            "divided by holdout_controls=."
        )
    return {row: given.get(row, given.get((row[0], None), TRAIN)) for row in rows}


def _evaluation_controls(view: ScreenView, names: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool; controls held out in each context and batch, drawn from their sorted names."""
    if not view.is_control.any():
        labels = name_some(sorted(pd.unique(view.labels)), most=8)
        raise DataError(f"No cell has the control label {view.control!r} (labels: {labels}). Pass it as control=.")
    cells = pd.DataFrame({"context": view.contexts, "batch": view.batches, "name": names})[view.is_control]
    if share > 0:
        _warn_of_few_controls(cells["context"].value_counts(), view)
    chosen: set[str] = set()
    for _, group in cells.groupby(["context", "batch"])["name"]:
        n = len(group)
        n_held_out = min(max(rounded(share, n), 1), n - 1) if share > 0 else 0
        chosen.update(shuffled(group, seed, 0, CONTROLS)[:n_held_out])
    return np.isin(names, sorted(chosen))


def _warn_of_few_controls(counts: pd.Series, view: ScreenView) -> None:
    counts = counts.reindex(sorted(pd.unique(view.contexts)), fill_value=0)
    few = [f"{context} ({n})" if context else f"{n} cells" for context, n in counts.items() if n < _ENOUGH_CONTROLS]
    if few:
        warnings.warn(
            f"{len(few)} contexts have fewer than {_ENOUGH_CONTROLS} controls, too few to divide well: "
            f"{name_some(few)}. holdout_controls=0 uses all of them on both sides.",
            ScreenWarning,
            stacklevel=4,
        )


def _warn_of_thin_regimes(conditions: pd.DataFrame, scheme: str) -> None:
    if scheme in SCHEMES and SCHEMES[scheme].partitions:
        return  # their folds are read together
    counts = conditions.loc[conditions[_keys.SPLIT] == TEST, "regime"].value_counts().sort_index()
    thin = [f"{regime} ({n})" for regime, n in counts.items() if n < _ENOUGH_IN_REGIME]
    if thin:
        warnings.warn(
            f"{len(thin)} regimes have fewer than {_ENOUGH_IN_REGIME} test conditions and are reported as absent: "
            f"{name_some(thin)}.",
            ScreenWarning,
            stacklevel=3,
        )
