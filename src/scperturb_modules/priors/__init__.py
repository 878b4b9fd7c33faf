"""Prior knowledge about genes: networks, gene sets, pathways and embeddings, and what they tell of responses."""

from __future__ import annotations

from scperturb_modules.priors._coexpression import coexpression
from scperturb_modules.priors._coverage import Coverage, coverage
from scperturb_modules.priors._degrade import degrade
from scperturb_modules.priors._edge_tables import interactions, regulons
from scperturb_modules.priors._embedding import GeneEmbedding, gene_embedding
from scperturb_modules.priors._fuse import FusedPrior, fuse
from scperturb_modules.priors._gene_sets import gene_sets
from scperturb_modules.priors._given import as_graphs, is_edge_table, named_priors, overlap_error
from scperturb_modules.priors._graph import GeneGraph, as_graph
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._node_embedding import node_embedding
from scperturb_modules.priors._ontology import gene_ontology, go_sets
from scperturb_modules.priors._pathway_hierarchy import PathwayHierarchy
from scperturb_modules.priors._pathway_mask import PathwayMask
from scperturb_modules.priors._pathways import reactome
from scperturb_modules.priors._prior_source import PriorSource, as_sources, as_tables, knows
from scperturb_modules.priors._set_table import GeneSets
from scperturb_modules.priors._sources import download, sources
from scperturb_modules.priors._spectral import spectral_embedding
from scperturb_modules.priors._stored import store, stored

__all__ = [
    "Coverage",
    "FusedPrior",
    "GeneEmbedding",
    "GeneGraph",
    "GeneNames",
    "GeneSets",
    "PathwayHierarchy",
    "PathwayMask",
    "PriorSource",
    "as_graph",
    "as_graphs",
    "as_sources",
    "as_tables",
    "coexpression",
    "coverage",
    "degrade",
    "download",
    "fuse",
    "gene_embedding",
    "gene_ontology",
    "gene_sets",
    "go_sets",
    "interactions",
    "is_edge_table",
    "knows",
    "named_priors",
    "node_embedding",
    "overlap_error",
    "reactome",
    "regulons",
    "sources",
    "spectral_embedding",
    "store",
    "stored",
]
