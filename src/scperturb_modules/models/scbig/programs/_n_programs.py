"""How many gene programs there are: a guess by what stands out from noise, and a scan around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules.models.scbig.programs._clustering import Graph, joined_vectors, relations_used, require_genes_for
from scperturb_modules.models.scbig.programs._kmeans import centroids, spherical_kmeans
from scperturb_modules.models.scbig.programs._relations import Relation

FEWEST, MOST = 8, 60
GENES_PER_PROGRAM = 10
"""So many genes a program has on average at least."""

STEPS = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0)
"""Numbers that are tried first, as multiples of the guess; then the neighbours of the best."""

MOST_GENES = 3_000
"""Numbers are judged by the genes of the strongest signal; the others would fit any."""


def choose_n_programs(
    relations: Sequence[Relation], graphs: Sequence[Graph], *, seed: int = 0, candidates: Sequence[int] | None = None
) -> tuple[int, pd.DataFrame]:
    """The number of programs of the best mean silhouette.

    Parameters
    ----------
    relations, graphs
        As in :func:`cluster_genes`.
    seed
        Of k-means.
    candidates
        Numbers to try; None: around the number of directions that stand out from noise, from 8 to 60 as far as a
        program has ten genes on average.

    Returns
    -------
    int
        K.
    DataFrame
        A row for each number tried: ``n_programs``, ``silhouette``.

    Raises
    ------
    DataError
        There is neither a relation nor an edge, or there are fewer than four genes.
    """
    used = relations_used(relations, graphs, MOST)
    require_genes_for(used, 2)
    vectors, weight = joined_vectors(used)
    fewest = min(FEWEST, max(2, len(vectors) // GENES_PER_PROGRAM))
    most = max(fewest, min(MOST, len(vectors) // GENES_PER_PROGRAM))
    strongest = np.sort(np.argsort(-weight, kind="stable")[:MOST_GENES])
    vectors, weight = vectors[strongest], weight[strongest]
    score: dict[int, float] = {}

    def judge(numbers: Iterable[float]) -> None:
        for k in sorted({int(np.clip(round(k), fewest, most)) for k in numbers} - score.keys()):
            score[k] = _silhouette(vectors, weight, spherical_kmeans(vectors, weight, k, seed=seed), k)

    if candidates is not None:
        fewest, most = min(candidates), max(candidates)
        judge(candidates)
    else:
        guess = max(FEWEST, *(one.n_directions for one in used))
        judge(step * guess for step in STEPS)
        best = _best(score)
        judge(range(best - 2, best + 3))
    table = pd.DataFrame({"n_programs": sorted(score), "silhouette": [score[k] for k in sorted(score)]})
    return _best(score), table.set_axis(table.index.astype(str))


def _best(score: Mapping[int, float]) -> int:
    """The number of the best score, the smallest of equals."""
    return min(score, key=lambda k: (-round(score[k], 6), k))


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
