"""What networks read of a training screen and of priors, as tensors: features of genes, patterns of responses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._folds import Members
from scperturb_modules.models._nodes import Nodes
from scperturb_modules.models._rows import Arrays
from scperturb_modules.priors import GeneSets, PriorSource
from scperturb_modules.priors._standardise import standardised

MOST_PRIOR_FEATURES = 64
"""A wider prior table is reduced to this many principal components."""


def scaled_patterns(changes: NDArray, weight: NDArray | None, rank: int) -> NDArray:
    """(G, rank) leading right singular vectors of (P, G), each times its root mean square; missing ones are 0."""
    weighted = changes if weight is None else changes * np.sqrt(weight)[:, None]
    patterns = np.zeros((changes.shape[1], rank))
    if not len(changes):
        return patterns
    _, size, vectors = np.linalg.svd(weighted, full_matrices=False)
    n = n_directions(size, rank)
    vectors = vectors[:n] * np.sign(vectors[np.arange(n), np.abs(vectors[:n]).argmax(axis=1)])[:, None]
    patterns[:, :n] = vectors.T * size[:n] / np.sqrt(len(changes))
    return patterns


def n_directions(size: NDArray, most: int) -> int:
    """How many singular values, in falling order, are more than rounding; ``most`` at the most."""
    return min(most, int(np.count_nonzero(size > 1e-9 * max(size[0], 1e-30))))


def responses_of_genes(data: TrainingData, arrays: Arrays) -> NDArray[np.float64]:
    """(n, G) what genes do alone: measured parts of the anchor, or changes without any."""
    measured = arrays["measured_part"][arrays["measured"] > 0].astype(np.float64)
    singles = data.delta[data.order == 1]
    return measured if len(measured) > len(singles) else singles if len(singles) else data.delta


def response_basis(data: TrainingData, arrays: Arrays, rank: int) -> torch.Tensor:
    """(G, rank) patterns in which a gene's part of the anchor is read."""
    return as_float(scaled_patterns(responses_of_genes(data, arrays), None, rank))


def residual_basis(arrays: Arrays, members: Members, rank: int) -> torch.Tensor:
    """(M, G, rank) patterns of what the anchor leaves over in the conditions that each member is trained on."""
    left_over = arrays["target"].astype(np.float64) - _own_parts(arrays).sum(axis=1) - arrays["offset"]
    patterns = [scaled_patterns(left_over[rows], arrays["row_weight"][rows], rank) for rows in members.trains.T]
    return as_float(np.stack(patterns))


def _own_parts(arrays: Arrays) -> NDArray:
    seen = arrays["measured"][..., None] > 0
    return np.where(seen, arrays["measured_part"], arrays["expected_part"]).astype(np.float64)


def genes_trained(data: TrainingData, nodes: Nodes, members: Members) -> NDArray[np.bool_]:
    """(M, N) genes perturbed in what each member is trained on."""
    number = nodes.number
    known = np.zeros((members.held_out.shape[1], len(nodes.names)), dtype=bool)
    for row, genes in enumerate(data.genes):
        for gene in genes:
            known[members.trains[row], number[gene]] = True
    return known


def feature_tables(tables: Mapping[str, pd.DataFrame], nodes: Nodes) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Name to (N, F) values and (N,) which genes have a row, of tables with a column at least."""
    aligned = {name: table.reindex(list(nodes.names)) for name, table in tables.items() if table.shape[1]}
    return {
        name: (as_float(table.fillna(0.0).to_numpy()), torch.tensor(table.notna().all(axis=1).to_numpy()))
        for name, table in aligned.items()
    }


def prior_features(sources: Mapping[str, PriorSource]) -> dict[str, pd.DataFrame]:
    """The feature form of each prior, of few columns; networks and gene sets come last."""
    kinds = {name: _kind(source) for name, source in sources.items()}
    last = sorted(sources, key=lambda name: bool(kinds[name]))
    named = {name: f"{name} ({kinds[name]})" if kinds[name] else name for name in last}
    return {named[name]: _reduced(sources[name].table) for name in last}


def _kind(source: PriorSource) -> str:
    if isinstance(source.prior, pd.DataFrame):
        return ""
    return "sets" if isinstance(source.prior, GeneSets) else "spectral"


def control_features(training: AnnData) -> pd.DataFrame:
    """Mean and standard deviation of each gene in training controls, standardised; (G, 2)."""
    best = int(np.argmax(training.obs[keys.N_CONTROLS].to_numpy()))
    se2 = np.nan_to_num(np.asarray(training.layers[keys.SE2_CONTROL])[best])
    spread = np.sqrt(se2 * training.obs[keys.N_CONTROLS].iloc[best])
    mean = np.asarray(training.varm[keys.CONTROL_MEAN], dtype=np.float64).mean(axis=1)
    return standardised(pd.DataFrame({"mean": mean, "sd": spread}, index=list(training.var_names)))


def _reduced(table: pd.DataFrame) -> pd.DataFrame:
    """Standardised columns; wide tables as principal components, which keep the scale of what they explain."""
    complete = standardised(table)
    if complete.shape[1] <= MOST_PRIOR_FEATURES:
        return complete
    left, size, _ = np.linalg.svd(complete.to_numpy(), full_matrices=False)
    scores = left[:, :MOST_PRIOR_FEATURES] * size[:MOST_PRIOR_FEATURES]
    scores *= np.sqrt(MOST_PRIOR_FEATURES / max(float(np.square(scores).sum(axis=1).mean()), 1e-12))
    return pd.DataFrame(scores, index=complete.index)


def as_float(values: NDArray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.get_default_dtype())
