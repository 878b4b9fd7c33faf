"""What the knowledge stream is built from, of one training screen and what is known before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._features import (
    feature_tables,
    genes_trained,
    prior_features,
    residual_basis,
    response_basis,
)
from scperturb_modules.models._folds import Members
from scperturb_modules.models._nodes import Nodes, relations_of
from scperturb_modules.models._rows import Arrays
from scperturb_modules.models.biodsnn._knowledge import Knowledge, normalised
from scperturb_modules.models.biodsnn._module import BioDsnnShape
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.models.biodsnn._stream import StreamShape
from scperturb_modules.priors import GeneGraph, PathwayMask, PriorSource

NOTHING = 1e-9
"""Mean expression below this is rounding."""


def make_shape(
    data: TrainingData,
    nodes: Nodes,
    networks: Mapping[str, GeneGraph],
    sources: Mapping[str, PriorSource],
    knowledge: Knowledge,
    mask: PathwayMask,
    arrays: Arrays,
    members: Members,
    stream: StreamShape | None,
    settings: BioDsnnSettings,
) -> BioDsnnShape:
    """Collect everything that the module is built from.

    Parameters
    ----------
    data, nodes
        Training pseudobulk as plain arrays; genes of networks.
    networks, sources
        Networks among the priors, and all priors as features.
    knowledge, mask
        Co-expression and pathways, and which measured genes may attend to which.
    arrays
        Rows of the training conditions with ``target`` (P, G).
    members
        Who is trained on what.
    stream
        What the data stream is built from, if there is one.
    settings
        All settings.
    """
    uses_go = settings.use_knowledge and settings.use_go
    number = {gene: i for i, gene in enumerate(data.var_names)}
    shown = np.concatenate([arrays[name][arrays["present"] > 0] for name in ("measured_part", "expected_part")])
    return BioDsnnShape(
        networks=_networks(networks, nodes) if uses_go else (),
        tables=feature_tables(prior_features(sources), nodes) if uses_go else {},
        known=torch.tensor(genes_trained(data, nodes, members)),
        coexpression=_coexpression(knowledge, data) if settings.use_coexpression else None,
        mask=mask.matrix if settings.use_mask else None,
        gene_of=torch.tensor([number.get(name, -1) for name in nodes.names]),
        response_basis=response_basis(data, arrays, settings.rank),
        residual_basis=residual_basis(arrays, members, settings.rank),
        part_scale=_size(shown),
        stream=stream,
        n_predicting=members.n_members,
        scale=max(float(np.mean(arrays["target"].astype(np.float64) ** 2)), 1e-12),
    )


def loss_arrays(data: TrainingData) -> Arrays:
    """Of each training row: ``se`` (P, G), and ``found`` (P, G), genes that its cells or their controls have at all."""
    found = np.maximum(data.mean, data.mean - data.delta) > NOTHING
    return {"se": np.sqrt(data.se2).astype(np.float32), "found": found}


def _networks(networks: Mapping[str, GeneGraph], nodes: Nodes) -> tuple[sparse.csr_array, ...]:
    return tuple(normalised(matrix) for one in networks.values() for _, matrix in relations_of(one, nodes.names))


def _coexpression(knowledge: Knowledge, data: TrainingData) -> sparse.csr_array | None:
    return None if knowledge.coexpression is None else normalised(knowledge.coexpression.adjacency(data.var_names))


def _size(parts: NDArray) -> float:
    """Root mean square, 1 where there is nothing."""
    return float(np.sqrt(np.mean(parts.astype(np.float64) ** 2))) if parts.size and parts.any() else 1.0
