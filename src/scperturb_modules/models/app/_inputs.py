"""What the network is built from: nodes, networks, features and response patterns of one training screen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._folds import Members
from scperturb_modules.models._nodes import Nodes, relations_of
from scperturb_modules.models._rows import Arrays
from scperturb_modules.models.app._module import AppShape
from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.priors import GeneGraph
from scperturb_modules.priors._standardise import standardised

MOST_PRIOR_FEATURES = 64
"""A wider prior table is reduced to this many principal components."""

PROFILE_COMPONENTS = 8


def make_shape(
    training: AnnData,
    data: TrainingData,
    nodes: Nodes,
    networks: Mapping[str, GeneGraph],
    tables: Mapping[str, pd.DataFrame],
    arrays: Arrays,
    members: Members,
    settings: AppSettings,
) -> AppShape:
    """Collect everything that the module is built from.

    Parameters
    ----------
    training, data
        Training pseudobulk and its plain view.
    nodes, networks
        Genes and their networks.
    tables
        Gene x feature tables, for ``features="prior"``.
    arrays
        Rows of the training conditions with ``target`` (P, G).
    members
        Who is trained on what.
    settings
        All settings.
    """
    target = arrays["target"].astype(np.float64)
    anchor = _own_parts(arrays).sum(axis=1) + arrays["offset"]
    pool = {"all": nodes.measured | nodes.connected, "measured": nodes.measured, "connected": nodes.connected}
    inside = pool[settings.pool]
    if not inside.any():
        inside = nodes.measured
    basis = [
        scaled_patterns(target[rows] - anchor[rows], arrays["row_weight"][rows], settings.rank)
        for rows in members.trains.T
    ]
    return AppShape(
        adjacencies=tuple(matrix for network in networks.values() for _, matrix in relations_of(network, nodes.names)),
        tables=_feature_tables(training, nodes, tables, settings),
        known=torch.tensor(_known(data, nodes, members)),
        outside=torch.tensor(~inside),
        isolated=torch.tensor(~nodes.connected),
        response_basis=_float(scaled_patterns(_responses(data, arrays), None, settings.rank)),
        basis=_float(np.stack(basis)),
        covariates=_float(_covariates(training, data, settings.covariate)),
        scale=max(float(np.mean(target**2)), 1e-12),
    )


def scaled_patterns(changes: NDArray, weight: NDArray | None, rank: int) -> NDArray:
    """(G, rank) leading right singular vectors of (P, G), each times its root mean square; missing ones are 0."""
    weighted = changes if weight is None else changes * np.sqrt(weight)[:, None]
    patterns = np.zeros((changes.shape[1], rank))
    if not len(changes):
        return patterns
    _, size, vectors = np.linalg.svd(weighted, full_matrices=False)
    n = min(rank, int(np.count_nonzero(size > 1e-9 * max(size[0], 1e-30))))
    vectors = vectors[:n] * np.sign(vectors[np.arange(n), np.abs(vectors[:n]).argmax(axis=1)])[:, None]
    patterns[:, :n] = vectors.T * size[:n] / np.sqrt(len(changes))
    return patterns


def _own_parts(arrays: Arrays) -> NDArray:
    seen = arrays["measured"][..., None] > 0
    return np.where(seen, arrays["measured_part"], arrays["expected_part"]).astype(np.float64)


def _responses(data: TrainingData, arrays: Arrays) -> NDArray:
    """Measured parts, in whose patterns parts are read; changes where there is none."""
    measured = arrays["measured_part"][arrays["measured"] > 0].astype(np.float64)
    singles = data.delta[data.order == 1]
    return measured if len(measured) > len(singles) else singles if len(singles) else data.delta


def _known(data: TrainingData, nodes: Nodes, members: Members) -> NDArray[np.bool_]:
    """(M, N) genes perturbed in what each member is trained on."""
    number = nodes.number
    known = np.zeros((members.held_out.shape[1], len(nodes.names)), dtype=bool)
    for row, genes in enumerate(data.genes):
        for gene in genes:
            known[members.trains[row], number[gene]] = True
    return known


def _feature_tables(
    training: AnnData, nodes: Nodes, tables: Mapping[str, pd.DataFrame], settings: AppSettings
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    found: dict[str, pd.DataFrame] = {}
    if "expression" in settings.features:
        found["expression"] = _expression(training)
    if "prior" in settings.features:
        found |= {name: _reduced(table) for name, table in tables.items()}
    aligned = {name: table.reindex(list(nodes.names)) for name, table in found.items() if table.shape[1]}
    if not aligned and "learned" not in settings.features and settings.embedding == "graph":
        raise DataError(
            f"features={settings.features!r}, but there is no such feature that differs between genes; pass a gene x "
            "feature table among the priors, or add 'learned'."
        )
    return {
        name: (_float(table.fillna(0.0).to_numpy()), torch.tensor(table.notna().all(axis=1).to_numpy()))
        for name, table in aligned.items()
    }


def _expression(training: AnnData) -> pd.DataFrame:
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


def _covariates(training: AnnData, data: TrainingData, kind: str) -> NDArray:
    """(C, n) encoding of the contexts in the order of ``data.contexts``; one column of 0 where there is nothing."""
    n = len(data.contexts)
    if kind == "none" or n == 1:
        return np.zeros((n, 1))
    if kind == "onehot":
        # the vector of a context without any training condition is never trained
        trained = [context in data.perturbed_contexts for context in data.contexts]
        return np.diag(np.array(trained, dtype=np.float64))
    profiles = np.asarray(training.varm[keys.CONTROL_MEAN], dtype=np.float64).T
    centred = profiles - profiles.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    kept = min(PROFILE_COMPONENTS, n - 1)
    scores = left[:, :kept] * size[:kept]
    return scores / max(float(np.sqrt(np.square(scores).mean())), 1e-12)


def _float(values: NDArray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.get_default_dtype())
