"""Prior knowledge about genes: networks from plain edge tables."""

from __future__ import annotations

from scperturb_modules.priors._degrade import degrade
from scperturb_modules.priors._given import as_graphs, is_edge_table, named_priors, overlap_error
from scperturb_modules.priors._graph import GeneGraph, as_graph
from scperturb_modules.priors._spectral import spectral_embedding

__all__ = [
    "GeneGraph",
    "as_graph",
    "as_graphs",
    "degrade",
    "is_edge_table",
    "named_priors",
    "overlap_error",
    "spectral_embedding",
]
