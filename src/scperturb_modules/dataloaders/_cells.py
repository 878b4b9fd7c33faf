"""Training cells as codes, the controls that each context is compared with, and hashes of names."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.pp._controls import first_non_empty
from scperturb_modules.pp._screen import ScreenView

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CodedCells:
    """T training cells in the order of their names.

    Attributes
    ----------
    rows
        (T,) int64 row numbers.
    condition
        (T,) int64 position in ``conditions``, -1 for controls.
    context
        (T,) int64 position in ``cell_types`` and ``batches``.
    conditions, cell_types, batches
        Names, sorted.
    """

    rows: np.ndarray
    condition: np.ndarray
    context: np.ndarray
    conditions: np.ndarray
    cell_types: np.ndarray
    batches: np.ndarray


def code_cells(view: ScreenView, rows: np.ndarray) -> CodedCells:
    """Number the conditions and contexts of the cells ``rows`` by the order of their names."""
    labels, is_control = view.labels[rows], view.is_control[rows]
    found, conditions = pd.factorize(labels[~is_control], sort=True)
    condition = np.full(len(rows), -1, np.int64)
    condition[~is_control] = found
    cell_type, cell_types = pd.factorize(view.contexts[rows], sort=True)
    batch, batches = pd.factorize(view.batches[rows], sort=True)
    pairs, context = np.unique(cell_type.astype(np.int64) * max(len(batches), 1) + batch, return_inverse=True)
    of_type, of_batch = np.divmod(pairs, max(len(batches), 1))
    return CodedCells(
        rows=rows.astype(np.int64),
        condition=condition,
        context=context.astype(np.int64),
        conditions=np.asarray(conditions, dtype=object),
        cell_types=np.asarray(cell_types, dtype=object)[of_type],
        batches=np.asarray(batches, dtype=object)[of_batch],
    )


def find_controls(table: CodedCells, wanted: np.ndarray, *, pooled: bool) -> tuple[np.ndarray, ...]:
    """Rows of the training controls of each context; empty for contexts without a wanted cell.

    Parameters
    ----------
    table
        The training cells.
    wanted
        (T,) bool, the perturbed cells that need controls.
    pooled
        Whether a context without controls takes those of its cell type, or else all.

    Raises
    ------
    DataError
        A context has none, and ``pooled`` is False; or there are none at all.
    """
    is_control = table.condition < 0
    needed = np.bincount(table.context[wanted], minlength=len(table.cell_types))
    available = np.bincount(table.context[is_control], minlength=len(table.cell_types))
    lacking = np.flatnonzero((needed > 0) & (available == 0))
    if lacking.size:
        _report_lacking(table, lacking, needed, pooled=pooled and bool(is_control.any()))
    return tuple(
        table.rows[_control_mask(table, code, is_control)] if count else np.empty(0, np.int64)
        for code, count in enumerate(needed)
    )


def _control_mask(table: CodedCells, code: int, is_control: np.ndarray) -> np.ndarray:
    own = is_control & (table.context == code)
    same_type = is_control & (table.cell_types == table.cell_types[code])[table.context]
    return first_non_empty(own, same_type, is_control)


def _report_lacking(table: CodedCells, lacking: np.ndarray, needed: np.ndarray, *, pooled: bool) -> None:
    counts = [f"{_context_name(table, code)} ({needed[code]} perturbed cells)" for code in lacking]
    problem = f"{len(lacking)} contexts have no training control cells: {name_some(counts)}."
    if not pooled:
        raise DataError(
            f'{problem} Leave their cells out, or pass control_fallback="pooled" to take the controls of the same '
            "cell type in other batches, or of all."
        )
    logger.info("%s Controls of other batches or cell types stand in for them.", problem)


def _context_name(table: CodedCells, code: int) -> str:
    named = {"cell type": table.cell_types[code], "batch": table.batches[code]}
    return ", ".join(f"{kind} {name}" for kind, name in named.items() if name) or "the whole screen"


def identity_hash(parts: Sequence[str]) -> int:
    """64 bits of a SHA-256 of names, the same in every process and for any other names beside them."""
    digest = hashlib.sha256(_encode(parts)).digest()
    return int.from_bytes(digest[:8], "little")


def fingerprint_of(
    identities: Sequence[Sequence[str]],
    cells: Sequence[np.ndarray],
    controls: Sequence[np.ndarray],
    names: np.ndarray,
) -> str:
    """SHA-256 of the names of n groups and their cells, and of the controls of each context."""
    digest = hashlib.sha256()
    for identity, own in zip(identities, cells, strict=True):
        digest.update(_encode([*identity, *names[own]]))
    for matched in controls:
        digest.update(_encode(names[matched]))
    return digest.hexdigest()


def _encode(names: Iterable[object]) -> bytes:
    """Names as bytes; other names are other bytes, whatever characters they hold."""
    return json.dumps([str(name) for name in names]).encode()
