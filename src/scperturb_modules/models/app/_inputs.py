"""What the network is built from: nodes, networks, features and response patterns of one training screen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from anndata import AnnData
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._features import (
    as_float,
    control_features,
    feature_tables,
    genes_trained,
    prior_features,
    residual_basis,
    response_basis,
)
from scperturb_modules.models._folds import Members
from scperturb_modules.models._nodes import Nodes, relations_of
from scperturb_modules.models._rows import Arrays
from scperturb_modules.models.app._module import AppShape
from scperturb_modules.models.app._settings import AppSettings
from scperturb_modules.priors import GeneGraph, PriorSource

PROFILE_COMPONENTS = 8


def make_shape(
    training: AnnData,
    data: TrainingData,
    nodes: Nodes,
    networks: Mapping[str, GeneGraph],
    sources: Mapping[str, PriorSource],
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
    sources
        All priors, for ``features="prior"``: networks and gene sets are features too.
    arrays
        Rows of the training conditions with ``target`` (P, G).
    members
        Who is trained on what.
    settings
        All settings.
    """
    target = arrays["target"].astype(np.float64)
    pool = {"all": nodes.measured | nodes.connected, "measured": nodes.measured, "connected": nodes.connected}
    inside = pool[settings.pool]
    if not inside.any():
        inside = nodes.measured
    return AppShape(
        adjacencies=tuple(matrix for network in networks.values() for _, matrix in relations_of(network, nodes.names)),
        tables=_feature_tables(training, nodes, sources, settings),
        known=torch.tensor(genes_trained(data, nodes, members)),
        outside=torch.tensor(~inside),
        isolated=torch.tensor(~nodes.connected),
        response_basis=response_basis(data, arrays, settings.rank),
        basis=residual_basis(arrays, members, settings.rank),
        covariates=as_float(_covariates(training, data, settings.covariate)),
        scale=max(float(np.mean(target**2)), 1e-12),
    )


def _feature_tables(
    training: AnnData, nodes: Nodes, sources: Mapping[str, PriorSource], settings: AppSettings
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    chosen = {"expression": control_features(training)} if "expression" in settings.features else {}
    if "prior" in settings.features:
        chosen |= prior_features(sources)
    found = feature_tables(chosen, nodes)
    if not found and "learned" not in settings.features and settings.embedding == "graph":
        raise DataError(
            f"features={settings.features!r}, but there is no such feature that differs between genes; pass a gene x "
            "feature table among the priors, or add 'learned'."
        )
    return found


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
