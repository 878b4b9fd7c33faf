"""The gene graph of a simulated screen: modules, regulators, mediators, and its partial and decoy copies."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd
from scipy import sparse

from ._simulate_settings import LEAST_MODULE, N_MEDIATORS, SimulationSettings

DENSITY_WITHIN = 0.10
DENSITY_BETWEEN = 0.005
# a block of few genes would fall apart at the density above
LEAST_DEGREE_WITHIN = 7
SHARE_ABSENT = 0.3


@dataclass(frozen=True)
class GeneGraph:
    """Undirected weighted graph over G genes in modules.

    names (G,) str; module_of_gene (G,) int; targets (T,) perturbable gene numbers, ascending;
    mediators (T, 3) gene numbers, neighbours of the target in its own module; edges (E, 2), first < second;
    weights (E,) in [0.4, 1].
    """

    names: np.ndarray
    module_of_gene: np.ndarray
    targets: np.ndarray
    mediators: np.ndarray
    edges: np.ndarray
    weights: np.ndarray

    def transition(self) -> sparse.csr_array:
        """Row-normalised adjacency (G, G): where a signal that leaves a gene goes next."""
        n_genes = len(self.names)
        first, second = self.edges.T
        upper = sparse.coo_array((self.weights, (first, second)), shape=(n_genes, n_genes)).tocsr()
        adjacency = upper + upper.T
        degree = adjacency.sum(axis=1)
        inverse = np.divide(1.0, degree, out=np.zeros(n_genes), where=degree > 0)
        return sparse.csr_array(sparse.diags_array(inverse) @ adjacency)

    def table(self) -> pd.DataFrame:
        """Edges as ``source``, ``target``, ``weight``; each undirected edge once."""
        return _edge_table(self.names, self.edges, self.weights)


def draw_graph(settings: SimulationSettings, rng: np.random.Generator) -> GeneGraph:
    """Stochastic block model; every regulator is joined to three mediators of its own module."""
    n_genes = settings.n_genes
    module_of_gene, targets = _place_genes(settings, rng)
    is_target = np.zeros(n_genes, dtype=bool)
    is_target[targets] = True
    mediators = np.array(
        [
            np.sort(rng.choice(np.flatnonzero(~is_target & (module_of_gene == module)), N_MEDIATORS, replace=False))
            for module in module_of_gene[targets]
        ]
    )
    edges = _draw_edges(settings, module_of_gene, targets, mediators, rng)
    width = len(str(n_genes))
    names = np.array([f"G{number:0{width}d}" for number in range(1, n_genes + 1)])
    return GeneGraph(names, module_of_gene, targets, mediators, edges, rng.uniform(0.4, 1.0, len(edges)))


def _place_genes(settings: SimulationSettings, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Module of each gene, and the perturbable genes, which are spread evenly over the modules."""
    shuffled = rng.permutation(settings.n_genes)
    module_of_gene = np.empty(settings.n_genes, dtype=np.int64)
    targets, others = np.split(shuffled, [settings.n_perturbable])
    for genes in (targets, others):
        module_of_gene[genes] = np.arange(len(genes)) % settings.n_modules
    if settings.module_sizes == "unequal":
        n_targets = np.bincount(module_of_gene[targets], minlength=settings.n_modules)
        sizes = _draw_sizes(settings, n_targets, rng)
        module_of_gene[others] = np.repeat(np.arange(settings.n_modules), sizes - n_targets)
    return module_of_gene, np.sort(targets)


def _draw_sizes(settings: SimulationSettings, n_targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(K,) genes per module; none is too small for its targets and their mediators."""
    least = np.maximum(n_targets + N_MEDIATORS, ceil(LEAST_MODULE * settings.n_genes))
    shares = rng.dirichlet(np.full(settings.n_modules, 2.0))
    above = np.maximum(shares - least / settings.n_genes, 0.0)
    ends = np.cumsum(above) * (settings.n_genes - least.sum()) / max(above.sum(), 1e-12)
    return least + np.diff(np.round(ends).astype(np.int64), prepend=0)


def _draw_edges(
    settings: SimulationSettings,
    module_of_gene: np.ndarray,
    targets: np.ndarray,
    mediators: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    first, second = np.triu_indices(len(module_of_gene), k=1)
    module_size = np.full(settings.n_modules, settings.n_genes / settings.n_modules)
    if settings.module_sizes == "unequal":
        module_size = np.bincount(module_of_gene)
    within = np.clip(LEAST_DEGREE_WITHIN / module_size, DENSITY_WITHIN, 1.0)[module_of_gene[first]]
    same_module = module_of_gene[first] == module_of_gene[second]
    drawn = rng.random(len(first)) < np.where(same_module, within, DENSITY_BETWEEN)
    planted = np.sort(np.column_stack([np.repeat(targets, N_MEDIATORS), mediators.ravel()]), axis=1)
    return np.unique(np.concatenate([np.column_stack([first[drawn], second[drawn]]), planted]), axis=0)


def partial_table(graph: GeneGraph, rng: np.random.Generator) -> pd.DataFrame:
    """The graph as a knowledge base knows it: 30 % of the genes, with all their edges, are absent."""
    absent = rng.permutation(len(graph.names))[: round(SHARE_ABSENT * len(graph.names))]
    kept = ~np.isin(graph.edges, absent).any(axis=1)
    return _edge_table(graph.names, graph.edges[kept], graph.weights[kept])


def decoy_table(graph: GeneGraph, rng: np.random.Generator) -> pd.DataFrame:
    """The same graph with permuted gene labels: of equal shape, and worthless."""
    return _edge_table(rng.permutation(graph.names), graph.edges, graph.weights)


def _edge_table(names: np.ndarray, edges: np.ndarray, weights: np.ndarray) -> pd.DataFrame:
    table = pd.DataFrame({"source": names[edges[:, 0]], "target": names[edges[:, 1]], "weight": weights})
    table.index = table.index.astype(str)  # AnnData stores string indices only
    return table
