"""The observed truth: mean expression of each condition, and its change against matched controls."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scperturb_modules import _keys
from scperturb_modules._conditions import genes_of, row_name
from scperturb_modules._errors import DataError, name_some
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp._controls import Controls, MatchedControl, find_controls, match_controls
from scperturb_modules.pp._matrix import Moments, group_moments
from scperturb_modules.pp._screen import ScreenView, expression_of, resolve_screen
from scperturb_modules.pp._split_table import CellRows

if TYPE_CHECKING:
    from anndata import AnnData

OK, UNMATCHED = "ok", "control_unmatched"


def pseudobulk(
    adata: AnnData,
    *,
    perturbation_key: str = _keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = _keys.SPLIT,
    cells: Literal["all", "training"] = "all",
    control_fallback: Literal["pooled"] | None = None,
) -> AnnData:
    """Average the cells of each perturbed condition and subtract matched controls.

    A row is a condition in a context (cell type), named ``A+B`` or ``A+B|context``, sorted by name. With a batch key
    the control of a row is the mean of the batches' control means, weighted by the share of the row's cells in each
    batch. Where the split holds out controls (the strict protocol), test rows are measured against these and all
    other rows against the training controls; otherwise (the published protocol) every row is measured against all.

    Parameters
    ----------
    adata
        Cells x genes; ``X`` or ``layer`` is log1p of counts per 10,000. May be backed. Is not changed.
    perturbation_key
        Column of ``obs`` with canonical labels.
    control
        Label of the control cells.
    layer
        Layer to use instead of ``X``.
    batch_key
        Column of ``obs``: match controls within its values.
    cell_type_key
        Column of ``obs`` with the context of a cell; controls never cross contexts.
    split_key
        Column of ``obs`` with the parts train, val and test; may be absent.
    cells
        ``"training"``: only cells outside the test part enter, so the result holds nothing of the test cells.
    control_fallback
        ``"pooled"``: a context without controls takes those of all contexts, and its rows get the status
        ``control_unmatched``.

    Returns
    -------
    AnnData
        Conditions x genes, float64. ``X`` mean expression. ``layers``: ``control`` (the matched control that delta is
        measured against), ``control_train`` (the same from training controls), ``delta`` = X - control, ``se2`` its
        squared standard error (NaN for a condition of one cell), ``se2_control`` the control's part of it, and
        ``detection``, the larger of the shares of the row's cells and of its control cells above zero. ``obs``:
        ``perturbation``, the context, the part, ``n_cells``, ``n_controls``, ``n_perturbed`` (genes) and ``status``
        (``control_unmatched``: some cells are of a batch without controls; the batch's share is spread over the
        others). ``var["control_mean"]`` and, by context, ``varm["control_mean"]``: mean of the training controls.
        ``uns["scperturb_modules"]``: ``setup`` (the keys used) and ``pseudobulk`` with ``contexts``, ``cells``,
        ``protocol`` and ``fingerprint`` of the training rows.

    Raises
    ------
    MissingKeyError
        A named column or layer does not exist.
    DataError
        Missing or non-canonical labels, a condition with cells in two parts, no controls in a context, no perturbed
        cells, values that are not finite.

    Notes
    -----
    ``se2`` = var / n + sum_b w_b^2 var_b / n_b with ``ddof=1``. A batch with a single control cell has no variance of
    its own and takes the pooled one of the other batches.

    The strict protocol follows from the shared-control bias: noise of controls used on both sides is common to
    prediction and truth, and correlates where there is no effect (Ahlmann-Eltze et al. 2025 use the published one).

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> from scperturb_modules.pp import pseudobulk
    >>> obs = pd.DataFrame({"perturbation": ["control", "control", "A", "A"]}, index=list("wxyz"))
    >>> screen = anndata.AnnData(np.array([[0.0, 1], [0, 3], [2, 2], [4, 2]]), obs=obs)
    >>> pseudobulk(screen).to_df("delta").to_numpy()
    array([[3., 0.]])
    """
    keys = ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key, split_key)
    if cells not in ("all", "training"):
        raise ValueError(f"cells={cells!r} is unknown; use 'all' or 'training'.")
    if control_fallback not in (None, "pooled"):
        raise ValueError(f"control_fallback={control_fallback!r} is unknown; use 'pooled' or None.")
    view = resolve_screen(adata, keys)
    used = view.is_training if cells == "training" else np.ones(adata.n_obs, dtype=bool)
    _check_cells(view, used, keys)
    groups, codes = cell_groups(view, used)
    controls = find_controls(groups, pooled=control_fallback is not None)
    moments = group_moments(expression_of(adata, layer), codes, len(groups))
    _check_finite(moments, adata.var_names)
    truth, training = match_rows(groups, moments, controls, *batch_counts_of(view, groups, codes))
    result = _assemble(adata, groups, moments, truth, training)
    contexts = _add_control_means(result, groups, moments, controls)
    result.uns[_keys.ROOT] = {
        _keys.SETUP: keys.to_uns(),
        _keys.PSEUDOBULK: {
            "contexts": np.array(contexts, dtype=str),
            "cells": cells,
            "protocol": "strict" if view.is_evaluation_control.any() else "published",
            "fingerprint": _fingerprint(result),
        },
    }
    return result


def _check_cells(view: ScreenView, used: np.ndarray, keys: ScreenKeys) -> None:
    if not (view.is_training & view.is_control).any():
        where = "training cell" if view.is_control.any() else "cell"
        labels = name_some(sorted(pd.unique(view.labels)), most=8)
        raise DataError(
            f"No {where} has the control label {keys.control!r} in obs[{keys.perturbation_key!r}] (labels: {labels}). "
            "Pass the label of the control cells as control=."
        )
    if not (used & ~view.is_control).any():
        raise DataError(
            f"obs[{keys.perturbation_key!r}] has no perturbed {'training ' if not used.all() else ''}cell, only "
            f"{keys.control!r}."
        )
    CellRows.of(view).part_of_row(view.parts, keys.split_key)


def cell_groups(view: ScreenView, used: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Each cell belongs to one group: a perturbed row, or the controls of a context, batch and side.

    Returns the table of groups, perturbed rows first and by name, and (N,) the group of each cell, -1 if unused.
    """
    is_control = view.is_control
    cells = pd.DataFrame(
        {
            "is_control": is_control,
            "context": view.contexts,
            "condition": view.labels,
            "batch": np.where(is_control, view.batches, ""),
            "part": np.where(is_control & view.is_training, _keys.TRAIN, view.parts),
        }
    )[used]
    number = cells.groupby(list(cells), sort=False).ngroup().to_numpy()
    groups = cells.drop_duplicates(ignore_index=True)  # in the order of the numbers: of first appearance
    names = [
        row_name(label, context or None) for label, context in zip(groups["condition"], groups["context"], strict=True)
    ]
    groups = groups.assign(name=names).sort_values(["is_control", "name", "batch", "part"])
    codes = np.full(len(used), -1)
    codes[used] = np.argsort(groups.index)[number]
    return groups.reset_index(drop=True), codes


def _check_finite(moments: Moments, genes: pd.Index) -> None:
    wrong = ~np.isfinite(moments.mean).all(0)
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} genes have values that are not finite: {name_some(genes[wrong])}. "
            "Find the cells with spm.pp.validate(adata) and leave them out."
        )


def batch_counts_of(view: ScreenView, groups: pd.DataFrame, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, B) cells of each perturbed row per batch, and (K,) the batch of each group (0 for perturbed rows)."""
    batch_of_cell, batches = pd.factorize(view.batches, sort=True)
    n_rows = int((~groups["is_control"]).sum())
    is_row = (codes >= 0) & (codes < n_rows)
    counts = np.zeros((n_rows, len(batches)), np.int64)
    np.add.at(counts, (codes[is_row], batch_of_cell[is_row]), 1)
    batch_of_group = np.where(groups["is_control"], pd.Index(batches).get_indexer(pd.Index(groups["batch"])), 0)
    return counts, batch_of_group


def match_rows(
    groups: pd.DataFrame,
    moments: Moments,
    controls: dict[str, Controls],
    batch_counts: np.ndarray,
    batch_of_group: np.ndarray,
) -> tuple[MatchedControl, MatchedControl]:
    """The control that each row's delta is measured against, and the same from training controls only."""
    n_rows, n_batches = batch_counts.shape
    rows = groups[:n_rows]
    is_test = (rows["part"] == _keys.TEST).to_numpy()
    truth, training = (MatchedControl.empty(n_rows, moments.mean.shape[1]) for _ in range(2))

    def match(index: np.ndarray, chosen: np.ndarray, is_own: bool) -> MatchedControl:
        by_batch = moments.take(chosen).merge(batch_of_group[chosen], n_batches)
        matched = match_controls(batch_counts[index], by_batch)
        matched.matched &= is_own
        return matched

    for context, side in controls.items():
        own = (rows["context"] == context).to_numpy()
        training.put(own, match(own, side.training, side.training_own))
        truth.put(own & ~is_test, match(own & ~is_test, side.training, side.training_own))
        truth.put(own & is_test, match(own & is_test, side.truth, side.truth_own))
    return truth, training


def _assemble(
    adata: AnnData, groups: pd.DataFrame, moments: Moments, truth: MatchedControl, training: MatchedControl
) -> AnnData:
    from anndata import AnnData

    n_rows = len(truth.n_cells)
    rows, perturbed = groups[:n_rows], moments.take(np.arange(n_rows))
    n_cells = perturbed.n[:, None]
    conditions = rows["condition"].to_numpy()
    obs = pd.DataFrame({_keys.PERTURBATION: conditions}, index=rows["name"].to_numpy())
    if (rows["context"] != "").any():
        obs[_keys.CELL_TYPE] = rows["context"].to_numpy()
    if (rows["part"] != "").any():
        obs[_keys.SPLIT] = rows["part"].to_numpy()
    obs[_keys.N_CELLS] = perturbed.n
    obs[_keys.N_CONTROLS] = truth.n_cells
    obs[_keys.N_PERTURBED] = [len(genes_of(condition)) for condition in conditions]
    obs[_keys.STATUS] = np.where(truth.matched, OK, UNMATCHED).astype(object)
    layers = {
        _keys.CONTROL_LAYER: truth.mean,
        _keys.CONTROL_TRAIN: training.mean,
        _keys.DELTA: perturbed.mean - truth.mean,
        _keys.SE2: perturbed.variance() / n_cells + truth.se2,
        _keys.SE2_CONTROL: truth.se2,
        _keys.DETECTION: np.maximum(perturbed.positive / n_cells, truth.detection),
    }
    return AnnData(perturbed.mean, obs=obs, var=adata.var.copy(), layers=layers)


def _add_control_means(
    result: AnnData, groups: pd.DataFrame, moments: Moments, controls: dict[str, Controls]
) -> list[str]:
    """Write the mean of the training controls to ``var`` and, by context, to ``varm``; return the contexts."""
    training = np.flatnonzero(groups["is_control"] & (groups["part"] == _keys.TRAIN))
    by_context = {context: side.training for context, side in controls.items()}
    for context in pd.unique(groups["context"][training]):
        by_context[context] = training[groups["context"][training] == context]
    contexts = sorted(by_context)

    def mean(chosen: np.ndarray) -> np.ndarray:
        return moments.take(chosen).merge(np.zeros(len(chosen), np.int64), 1).mean[0]

    result.var[_keys.CONTROL_MEAN] = mean(training)
    result.varm[_keys.CONTROL_MEAN] = np.column_stack([mean(by_context[context]) for context in contexts])
    return contexts


def _fingerprint(result: AnnData) -> str:
    """SHA-256 of what the training side says, the same whether or not the test cells were there.

    Rounded, because the last bits of a mean depend on the order of the cells.
    """
    kept = np.ones(result.n_obs, bool)
    if _keys.SPLIT in result.obs:
        kept = (result.obs[_keys.SPLIT] != _keys.TEST).to_numpy()
    digest = hashlib.sha256()
    for names in (result.var_names, result.obs_names[kept]):
        digest.update("\n".join(names).encode() + b"\0")
    for numbers in (result.X[kept], result.var[_keys.CONTROL_MEAN].to_numpy()):
        digest.update((np.round(numbers, 6) + 0.0).tobytes())  # + 0.0: no negative zero
    return digest.hexdigest()
