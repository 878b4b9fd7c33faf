"""How many gene programs there are: a guess by what stands out from noise, and a scan around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules.models.scbig._clustering import Graph, joined_vectors, relations_used
from scperturb_modules.models.scbig._kmeans import centroids, spherical_kmeans
from scperturb_modules.models.scbig._relations import Relation

FEWEST, MOST = 4, 60
GENES_PER_PROGRAM = 10
"""So many genes a program has on average at least."""

STEPS = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)
"""Numbers that are tried, as multiples of the guess; and its neighbours."""


def choose_n_programs(
    relations: Sequence[Relation], graphs: Sequence[Graph], *, seed: int = 0, candidates: Sequence[int] | None = None
) -> tuple[int, pd.DataFrame]:
    """The number of programs of the best mean silhouette, the smallest of equals.

    Parameters
    ----------
    relations, graphs
        As in :func:`cluster_genes`.
    seed
        Of k-means.
    candidates
        Numbers to try; None: around the number of directions that stand out from noise.

    Returns
    -------
    int
        K.
    DataFrame
        A row for each number tried: ``n_programs``, ``silhouette``.
    """
    used = relations_used(relations, graphs, MOST)
    vectors, weight = joined_vectors(used)
    tried = sorted(set(candidates)) if candidates is not None else _around(_guess(used), len(vectors))
    score = [_silhouette(vectors, weight, spherical_kmeans(vectors, weight, k, seed=seed), k) for k in tried]
    table = pd.DataFrame({"n_programs": tried, "silhouette": score})
    return int(tried[int(np.argmax(np.round(score, 6)))]), table


def _guess(relations: Sequence[Relation]) -> int:
    return max((one.n_directions for one in relations), default=0)


def _around(guess: int, n_genes: int) -> list[int]:
    most = max(2, min(MOST, n_genes // GENES_PER_PROGRAM))
    near = [guess - 2, guess - 1, guess + 1, guess + 2] if guess else []
    steps = [round(step * guess) for step in STEPS] if guess else [FEWEST, 8, 12, 16, 24, 32]
    return sorted({int(np.clip(k, min(FEWEST, most), most)) for k in [*steps, *near]})


def _silhouette(
    vectors: NDArray[np.float64], weight: NDArray[np.float64], labels: NDArray[np.int64], n_programs: int
) -> float:
    """Weighted mean of ``(b - a) / max(a, b)`` with distances to the own (a) and the next (b) program's mean."""
    distance = 1 - vectors @ centroids(vectors, weight, labels, n_programs).T
    genes = np.arange(len(labels))
    own = distance[genes, labels]
    distance[genes, labels] = np.inf
    other = distance.min(axis=1)
    return float(np.average((other - own) / np.maximum(np.maximum(own, other), 1e-12), weights=weight))
