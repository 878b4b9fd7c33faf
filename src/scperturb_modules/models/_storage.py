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
from scperturb_modules.baselines._priors import Embedding
from scperturb_modules.priors import GeneGraph
from scperturb_modules.train import FitResult, to_json

if TYPE_CHECKING:
    from anndata import AnnData

TRAINING_FILE = "training.h5ad"
CELLS_FILE = "adata.h5ad"
_EMBEDDING = "embedding"
_GENES, _VALUES = "genes", "values"
Priors = Mapping[str, GeneGraph | pd.DataFrame]


def training_writer(training: AnnData, priors: Priors, embedding: Embedding | None) -> Callable[[Path], None]:
    """A function that writes the training pseudobulk and the priors to a path."""

    def write(path: Path) -> None:
        stored = training.copy()
        # results that the user's object may hold are no part of the model
        root = {name: stored.uns[keys.ROOT][name] for name in (keys.SETUP, keys.PSEUDOBULK)}
        # a name of a prior may hold characters that a key of h5ad may not
        arrays = {f"prior_{i}": _arrays(prior) for i, prior in enumerate(priors.values())}
        if embedding is not None:
            arrays[_EMBEDDING] = {_GENES: np.array(embedding.genes, dtype=str), _VALUES: embedding.values}
        stored.uns = {keys.ROOT: root | ({keys.PRIORS: arrays} if arrays else {})}
        stored.write_h5ad(path)

    return write


def read_training(
    path: Path, records: Sequence[Mapping[str, Any]]
) -> tuple[AnnData, dict[str, GeneGraph | pd.DataFrame], Embedding | None]:
    """Read what :func:`training_writer` wrote: training pseudobulk, priors by name, fused priors."""
    from anndata import read_h5ad

    training = read_h5ad(path)
    stored = training.uns[keys.ROOT].pop(keys.PRIORS, {})
    priors = {str(record["name"]): _prior(record, stored[f"prior_{i}"]) for i, record in enumerate(records)}
    fused = stored.get(_EMBEDDING)
    if fused is None:
        return training, priors, None
    return training, priors, Embedding(tuple(map(str, fused[_GENES])), np.asarray(fused[_VALUES], dtype=np.float64))


def prior_records(priors: Priors) -> list[dict[str, Any]]:
    """What JSON keeps of each prior: name, kind, provenance, columns."""
    return [{"name": name, "attrs": _plain(prior.attrs), **_form(prior)} for name, prior in priors.items()]


def _form(prior: GeneGraph | pd.DataFrame) -> dict[str, Any]:
    if isinstance(prior, GeneGraph):
        own = ("directed", "n_merged", "n_self_loops")
        return {"kind": "network", "label": prior.name, **{name: getattr(prior, name) for name in own}}
    return {"kind": "table", "columns": [str(column) for column in prior.columns]}


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Provenance as JSON can hold it; anything else by its text."""
    plain = {}
    for name, value in attrs.items():
        try:
            plain[str(name)] = to_json(value)
        except TypeError:
            plain[str(name)] = str(value)
    return plain


def _arrays(prior: GeneGraph | pd.DataFrame) -> dict[str, np.ndarray]:
    if isinstance(prior, GeneGraph):
        edges = {name: np.array(getattr(prior, name)) for name in ("source", "target", "weight")}
        return {_GENES: np.array(prior.genes, dtype=str), **edges}
    return {_GENES: prior.index.to_numpy(dtype=str), _VALUES: prior.to_numpy(dtype=np.float64)}


def _prior(record: Mapping[str, Any], arrays: Mapping[str, Any]) -> GeneGraph | pd.DataFrame:
    genes = [str(gene) for gene in arrays[_GENES]]
    if record["kind"] == "table":
        table = pd.DataFrame(np.asarray(arrays[_VALUES]), index=genes, columns=record["columns"])
        table.attrs.update(record["attrs"])
        return table
    return GeneGraph(
        record["label"], tuple(genes), arrays["source"], arrays["target"], arrays["weight"],
        record["directed"], record["n_merged"], record["n_self_loops"], record["attrs"],
    )  # fmt: skip


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
