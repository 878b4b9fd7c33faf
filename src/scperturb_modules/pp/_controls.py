"""Which control cells a condition is compared with, and how batches are weighed."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules._keys import TEST
from scperturb_modules.pp._matrix import Moments


@dataclass(frozen=True)
class Controls:
    """Controls of one context: positions in the table of groups, and whether the cells are of that context."""

    training: np.ndarray
    training_own: bool
    truth: np.ndarray
    truth_own: bool


@dataclass
class MatchedControl:
    """Matched controls of R rows; ``mean``, ``se2``, ``detection`` (R, G), ``n_cells`` and ``matched`` (R,).

    ``matched`` is False for rows some of whose cells are of a batch or context without controls.
    """

    mean: np.ndarray
    se2: np.ndarray
    detection: np.ndarray
    n_cells: np.ndarray
    matched: np.ndarray

    @classmethod
    def empty(cls, n_rows: int, n_genes: int) -> MatchedControl:
        mean, se2, detection = np.full((3, n_rows, n_genes), np.nan)
        return cls(mean, se2, detection, np.zeros(n_rows, np.int64), np.zeros(n_rows, bool))

    def put(self, index: np.ndarray, other: MatchedControl) -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


def find_controls(groups: pd.DataFrame, *, pooled: bool) -> dict[str, Controls]:
    """The control groups of every context that has a perturbed row.

    Parameters
    ----------
    groups
        A row per group of cells with the columns ``is_control``, ``context`` and ``part``.
    pooled
        Give the controls of all contexts to a context that has none.

    Raises
    ------
    DataError
        A context has perturbed cells but no training controls.
    """
    is_control = groups["is_control"].to_numpy()
    context_of = groups["context"].to_numpy()
    evaluation = is_control & (groups["part"] == TEST).to_numpy()
    training = is_control & ~evaluation
    contexts = pd.unique(context_of[~is_control])
    lacking = [context for context in contexts if not (training & (context_of == context)).any()]
    if lacking and not pooled:
        _raise_no_controls(groups, lacking)
    found = {}
    for context in contexts:
        own = context_of == context
        training_side = first_non_empty(training & own, training)
        # held-out controls first; of other contexts only where the context has no control at all
        truth_side = first_non_empty(evaluation & own, training & own, evaluation, training)
        found[context] = Controls(
            training=np.flatnonzero(training_side),
            training_own=bool(own[training_side].any()),
            truth=np.flatnonzero(truth_side),
            truth_own=bool(own[truth_side].any()),
        )
    return found


def first_non_empty(*masks: np.ndarray) -> np.ndarray:
    """The first mask with a True, else the last."""
    return next((mask for mask in masks if mask.any()), masks[-1])


def _raise_no_controls(groups: pd.DataFrame, lacking: list[str]) -> None:
    perturbed = groups[~groups["is_control"]]
    counts = [f"{context} ({(perturbed['context'] == context).sum()} perturbed conditions)" for context in lacking]
    raise DataError(
        f"{len(lacking)} contexts have no training control cells: {name_some(counts)}. Leave them out, or pass "
        'control_fallback="pooled" to take the controls of all contexts.'
    )


def match_controls(batch_counts: np.ndarray, controls: Moments) -> MatchedControl:
    """Weigh the controls of each batch by the share of a condition's cells in it.

    Parameters
    ----------
    batch_counts
        (R, B) cells of each condition per batch.
    controls
        Moments of the control cells per batch (B groups, some may be empty, not all).

    Notes
    -----
    Batches without controls are left out and their share is spread over the others; a condition that shares no batch
    with any control is compared with all controls, weighted by cells.
    """
    available = controls.n > 0
    counts = np.where(available, batch_counts, 0).astype(np.float64)
    matched = counts.sum(1) == batch_counts.sum(1)
    counts[counts.sum(1) == 0] = controls.n
    weights = counts / counts.sum(1, keepdims=True)
    used = (weights > 0).astype(np.float64)
    n_cells = used @ controls.n
    noise = _control_variance(controls) / np.maximum(controls.n, 1)[:, None]
    return MatchedControl(
        mean=weights @ controls.mean,
        se2=weights**2 @ noise,
        detection=used @ controls.positive / n_cells[:, None],
        n_cells=n_cells.astype(np.int64),
        matched=matched,
    )


def _control_variance(controls: Moments) -> np.ndarray:
    degrees = np.maximum(controls.n - 1, 0)
    if not degrees.any():
        return np.full(controls.mean.shape, np.nan)
    pooled = controls.m2.sum(0) / degrees.sum()
    return np.where(degrees[:, None] > 0, controls.m2 / np.maximum(degrees, 1)[:, None], pooled)
