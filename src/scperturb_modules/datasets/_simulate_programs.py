"""Activity of modules in single cells: how it varies, how modules go together, and how perturbations change that.

The log rate of a gene gets ``loading * u``, where u is the activity of its module in the cell. The activities of a cell
are normal with mean 0, variance 1 and a correlation that depends on the perturbation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._simulate_graph import GeneGraph
from ._simulate_settings import SimulationSettings

# correlation of two coupled modules, and the change of it by a perturbation at rewiring = 1
COUPLING = 0.5
N_NEWLY_COUPLED = 2
# factor by which genes differ: in their loadings, and in how strongly they rewire
VARIATION = (0.6, 1.4)


@dataclass(frozen=True)
class Programs:
    """Activities of K modules, and the G genes that follow them.

    loading (G,); module_of_gene (G,); control (K, K) correlation in cells without a working guide; changes (T, K, K)
    what the perturbation of each target adds to it.
    """

    loading: np.ndarray
    module_of_gene: np.ndarray
    control: np.ndarray
    changes: np.ndarray

    def correlation(self, targets: Sequence[int]) -> np.ndarray:
        """(K, K) correlation where these targets (rows of ``changes``) are perturbed together."""
        return nearest_correlation(self.control + self.changes[list(targets)].sum(axis=0))

    def shift(self, correlation: np.ndarray, works: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """(N, G) what the activities add to log rates.

        works (N,): whether a cell has this ``correlation``, or that of controls; normal (N, K): independent standard
        normal.
        """
        activity = np.where(works[:, None], normal @ _root(correlation), normal @ _root(self.control))
        return activity[:, self.module_of_gene] * self.loading

    def log_share_moments(self, shares: np.ndarray, correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, 1) mean and (N, G) standard deviation of what the activities add to the log of a gene's share.

        shares (N, G) where all activities are 0. The log share gets ``loading * u - D``, with D the log of the sum of
        all rates, and is taken as normal: the mean of ``exp(D)`` is exact, and the slopes of D in u are those at mean
        rates.
        """
        rates = shares * np.exp(self.loading**2 / 2)
        total = rates.sum(axis=1, keepdims=True)
        is_member = self.module_of_gene[:, None] == np.arange(len(self.control))
        slope = (rates * self.loading / total) @ is_member  # of D in the activity of each module
        covariance = slope @ correlation
        variance = (slope * covariance).sum(axis=1, keepdims=True)
        of_gene = self.loading**2 - 2 * self.loading * covariance[:, self.module_of_gene] + variance
        return variance / 2 - np.log(total), np.sqrt(np.maximum(of_gene, 0.0))


def draw_programs(settings: SimulationSettings, graph: GeneGraph, rng: np.random.Generator) -> Programs:
    """Loadings, correlation in controls, and its change by each target: the rule of its module, more or less of it."""
    n_modules, n_targets = settings.n_modules, len(graph.targets)
    loading = settings.module_sd * rng.uniform(*VARIATION, settings.n_genes)
    control, rule = np.eye(n_modules), np.zeros((n_modules, n_modules, n_modules))
    if settings.rewiring > 0:
        control, rule = _draw_coordination(n_modules, rng)
    strength = settings.rewiring * rng.uniform(*VARIATION, n_targets)
    changes = strength[:, None, None] * rule[graph.module_of_gene[graph.targets]]
    return Programs(loading, graph.module_of_gene, control, changes)


def _draw_coordination(n_modules: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) correlation with a few coupled pairs, disjoint; (K, K, K) for each module, what its targets change.

    They uncouple one pair and couple two others, positively or negatively.
    """
    n_coupled = max(1, n_modules // 2 - 1)
    coupled = np.sort(rng.permutation(n_modules)[: 2 * n_coupled].reshape(-1, 2), axis=1)
    is_coupled = np.zeros((n_modules, n_modules), dtype=bool)
    is_coupled[tuple(coupled.T)] = True
    uncoupled = np.argwhere(np.triu(~is_coupled, k=1))
    rule = np.zeros((n_modules, n_modules, n_modules))
    for change in rule:
        change[tuple(rng.choice(coupled))] = -COUPLING
        gained = rng.choice(uncoupled, N_NEWLY_COUPLED, replace=False)
        change[tuple(gained.T)] = rng.choice([-COUPLING, COUPLING], N_NEWLY_COUPLED)
        change += change.T.copy()
    return np.eye(n_modules) + COUPLING * (is_coupled | is_coupled.T), rule


def nearest_correlation(matrix: np.ndarray) -> np.ndarray:
    """A valid correlation matrix: negative eigenvalues become 0, then the diagonal 1."""
    value, vector = np.linalg.eigh(matrix)
    if value[0] >= 0:
        return matrix
    half = vector * np.sqrt(np.maximum(value, 0.0))
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    return half @ half.T


def _root(correlation: np.ndarray) -> np.ndarray:
    """Symmetric square root."""
    value, vector = np.linalg.eigh(correlation)
    return (vector * np.sqrt(np.maximum(value, 0.0))) @ vector.T
