"""The genes that a network knows, and the relations between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.baselines import TrainingData
from scperturb_modules.priors import GeneGraph, overlap_error


@dataclass(frozen=True)
class Nodes:
    """The genes that the network knows, sorted: those of networks and tables, measured ones, perturbed ones.

    Parameters
    ----------
    names
        (N,) gene symbols.
    measured, connected, described
        (N,) bool: has an output column; has a neighbour in a network; has a row in a prior table.
    """

    names: tuple[str, ...]
    measured: NDArray[np.bool_]
    connected: NDArray[np.bool_]
    described: NDArray[np.bool_]

    @classmethod
    def of(cls, data: TrainingData, networks: Mapping[str, GeneGraph], tables: Mapping[str, pd.DataFrame]) -> Nodes:
        """Collect them; a network without any gene of the screen is an error."""
        for network in networks.values():
            overlap_error(network, sorted(data.known_genes))
        connected = {gene for network in networks.values() for gene in network.connected}
        described = {gene for table in tables.values() for gene in table.dropna().index}
        named = {gene for network in networks.values() for gene in network.genes}
        names = tuple(sorted(data.known_genes | named | described))
        groups = (set(data.var_names), connected, described)
        return cls(names, *(np.array([name in group for name in names], dtype=bool) for group in groups))

    @property
    def number(self) -> dict[str, int]:
        """Number of each gene."""
        return {name: i for i, name in enumerate(self.names)}


def relations_of(network: GeneGraph, names: Sequence[str]) -> list[tuple[str, sparse.csr_array]]:
    """Name and (N, N) matrix, entry (i, j) for what i hears from j, of each relation of a network.

    One for an undirected network, two for a directed one (with and against the arrow), both signs apart.
    """
    if np.any(network.weight < 0):
        return [one for part in network.split_signs() for one in relations_of(part, names)]
    forward = network.adjacency(names)
    if not network.directed:
        return [(network.name, forward)]
    # adjacency holds source -> target in (source, target); a target hears its sources
    return [(f"{network.name} with the arrow", sparse.csr_array(forward.T)), (f"{network.name} against it", forward)]
