"""What a saved model holds beside its weights: the training pseudobulk, the priors, and records for JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules.baselines._storage import source_from_uns, source_to_uns
from scperturb_modules.priors import GeneGraph, PriorSource
from scperturb_modules.train import FitResult

if TYPE_CHECKING:
    from anndata import AnnData

TRAINING_FILE = "training.h5ad"
CELLS_FILE = "adata.h5ad"
Priors = Mapping[str, GeneGraph | pd.DataFrame]


def training_writer(
    training: AnnData, sources: Mapping[str, PriorSource], learned: Mapping[str, Any]
) -> Callable[[Path], None]:
    """A function that writes the training pseudobulk, the priors and what was learned of the cells to a path."""

    def write(path: Path) -> None:
        stored = training.copy()
        # results that the user's object may hold are no part of the model
        root = {name: stored.uns[keys.ROOT][name] for name in (keys.SETUP, keys.PSEUDOBULK)}
        # a name of a prior may hold characters that a key of h5ad may not
        arrays = {f"prior_{i}": source_to_uns(source) for i, source in enumerate(sources.values())}
        kept = {keys.PRIORS: arrays, keys.LEARNED: dict(learned)}
        stored.uns = {keys.ROOT: root | {name: one for name, one in kept.items() if one}}
        stored.write_h5ad(path)

    return write


def read_training(path: Path, names: Sequence[str]) -> tuple[AnnData, dict[str, PriorSource]]:
    """Read what :func:`training_writer` wrote: training pseudobulk, and priors by name."""
    from anndata import read_h5ad

    training = read_h5ad(path)
    stored = training.uns[keys.ROOT].pop(keys.PRIORS, {})
    return training, {name: source_from_uns(stored[f"prior_{i}"]) for i, name in enumerate(names)}


def sha256_of(prior: GeneGraph | pd.DataFrame) -> str:
    """Fingerprint of a prior's content, whatever the order of its rows."""
    if isinstance(prior, GeneGraph):
        return prior.sha256()
    ordered = prior.sort_index()
    digest = hashlib.sha256("\n".join(ordered.index).encode())
    digest.update((ordered.to_numpy(dtype="<f8") + 0.0).tobytes())  # + 0.0: no negative zero
    return digest.hexdigest()


def history_to_plain(history: Mapping[str, pd.DataFrame] | None) -> dict[str, dict[str, np.ndarray]]:
    """Metric to its epochs and values."""
    return {
        name: {"epoch": frame.index.to_numpy(), "value": frame[name].to_numpy()}
        for name, frame in (history or {}).items()
    }


def history_from_plain(stored: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, pd.DataFrame]:
    """Undo :func:`history_to_plain`."""
    return {
        name: pd.DataFrame({name: one["value"]}, index=pd.Index(one["epoch"], name="epoch"))
        for name, one in stored.items()
    }


def fit_to_plain(result: FitResult | None) -> dict[str, Any] | None:
    """A training run without its history."""
    return None if result is None else {key: value for key, value in asdict(result).items() if key != "history"}
