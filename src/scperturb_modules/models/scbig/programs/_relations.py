"""Which genes belong together, as vectors of genes: from cells, from responses, and from tables."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.models.scbig.programs._rotation import simple_loadings

Array = NDArray[np.float64]

logger = logging.getLogger(__name__)

MIN_RESPONSES = 20
"""Fewer perturbed conditions than this say too little about which genes respond together."""

MOST_SD = 10.0
"""Standardised expression is cut here, lest a few cells make a direction."""

BLOCK = 512
"""Cells that are made dense together."""

MOST_NOISE = 0.9
"""Directions count from this share of the largest singular value of noise: weak programs are known together only."""

LEAST_WEIGHT, N_PAIRS = 0.01, 100_000

_OVERSAMPLED, _POWERS, _POWERS_OF_NOISE = 10, 3, 5


@dataclass(frozen=True, eq=False)
class Relation:
    """One view of which genes are alike.

    Attributes
    ----------
    name
        For reports.
    vectors
        (G, r) float64; rows of length one, or zero where the gene is not covered.
    covered
        (G,) bool.
    weight
        Of this view among others.
    strength
        (G,) float64, how much a gene counts in the mean of its program: the size of its signal; 0 where not covered.
    n_directions
        Directions that stand out from noise; 0 where none does, or where noise was not judged.
    """

    name: str
    vectors: Array
    covered: NDArray[np.bool_]
    weight: float = 1.0
    strength: Array = field(default_factory=lambda: np.zeros(0))
    n_directions: int = 0

    @classmethod
    def of(cls, name: str, rows: Array, *, weight: float = 1.0, n_directions: int = 0) -> Relation:
        """From rows (G, r) of any length; those of length zero are not covered."""
        length = np.linalg.norm(rows, axis=1)
        covered = length > 1e-12 * max(length.max(initial=0.0), 1e-300)
        vectors = np.where(covered[:, None], rows / np.where(covered, length, 1.0)[:, None], 0.0)
        strength = np.where(covered, length, 0.0) / np.sqrt(np.mean(length[covered] ** 2)) if covered.any() else length
        return cls(name, vectors, covered, weight, strength, n_directions)


def coexpression_relation(
    cells: Any, covariates: Any, *, rank: int, seed: int, remove_top_pcs: int = 0, name: str = "coexpression"
) -> Relation:
    """Genes that vary together between cells, beyond what covariates explain.

    Parameters
    ----------
    cells
        (n, G) float32 array or CSR, log1p CP10k.
    covariates
        (n, c) float64 array or CSR; the intercept is added.
    rank
        Most directions.
    seed
        Of the random start of the decomposition, and of the noise that it is compared with.
    remove_top_pcs
        Leading directions to drop, where a strong factor is known to be unwanted and has no covariate.

    Returns
    -------
    Relation
        Genes without variance are not covered.

    Notes
    -----
    Least-squares residuals are standardised, cut at 10 standard deviations, and decomposed (Halko et al. 2011,
    algorithm 4.4). Directions count by how far their singular value exceeds those of the same residuals with random
    signs, which keep every gene's and every cell's variance but share nothing (Hong, Sheng and Dobriban, Selecting the
    number of components in PCA via random signflips, 2020): in counts, most directions are noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> state = np.repeat(rng.normal(size=(300, 2)), 10, axis=1)
    >>> cells = (state + rng.normal(size=(300, 20))).astype(np.float32)
    >>> relation = coexpression_relation(cells, np.zeros((300, 0)), rank=5, seed=0)
    >>> relation.n_directions, relation.vectors.shape, bool(relation.covered.all())
    (2, (20, 2), True)
    """
    residuals, varies = standardised_residuals(cells, covariates)
    rng = np.random.default_rng(seed)
    rank = min(rank + remove_top_pcs, *(size - 1 for size in residuals.shape))
    if rank < 1 or not varies.any():
        return Relation.of(name, np.zeros((residuals.shape[1], 1)))
    size, vectors = leading_directions(residuals, rank, rng)
    _flip_signs(residuals, rng)
    noise = leading_directions(residuals, 1, rng, n_powers=_POWERS_OF_NOISE)[0][0]
    return _above_noise(name, size[remove_top_pcs:], vectors[:, remove_top_pcs:], noise, varies)


def response_relation(delta: Array, se2: Array, *, rank: int = 32, name: str = "response") -> Relation | None:
    """Genes that respond alike to perturbations.

    Parameters
    ----------
    delta, se2
        (P, G) change of each gene in each training condition, and its squared standard error.
    rank
        Most directions.

    Returns
    -------
    Relation or None
        None for fewer than 20 conditions.

    Notes
    -----
    Changes are divided by their standard errors, and the mean over conditions, which all share, is taken out. Noise
    alone then has singular values up to ``sqrt(P) + sqrt(G)`` (Marchenko and Pastur 1967).
    """
    if len(delta) < MIN_RESPONSES:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where((se2 > 0) & np.isfinite(se2), delta / np.sqrt(se2), 0.0)
    scaled = np.clip(scaled, -MOST_SD, MOST_SD)
    scaled -= scaled.mean(axis=0)
    _, size, vectors = np.linalg.svd(scaled, full_matrices=False)
    rank = min(rank, len(delta) // 2)
    varies = np.any(scaled != 0, axis=0)
    noise = np.sqrt(len(delta)) + np.sqrt(np.count_nonzero(varies))
    return _above_noise(name, size[:rank], vectors[:rank].T, float(noise), varies)


def table_relation(name: str, table: pd.DataFrame, genes: Sequence[str]) -> Relation:
    """Genes that are alike in a table of features.

    Parameters
    ----------
    table
        Genes x features; genes are found by name, columns are centred over those found.
    genes
        The G genes wanted; those that the table lacks, or of which a value is missing, are not covered.
    """
    rows = table.reindex(list(genes)).to_numpy(dtype=np.float64)
    known = np.isfinite(rows).all(axis=1)
    centred = np.zeros((len(rows), max(rows.shape[1], 1)))
    if known.any():
        centred[known, : rows.shape[1]] = rows[known] - rows[known].mean(axis=0)
    found = Relation.of(name, centred)
    # how long a row of a table is says nothing about how sure it is
    return Relation(name, found.vectors, found.covered, strength=found.covered.astype(np.float64))


def weighted_by_agreement(relations: Sequence[Relation], *, seed: int) -> list[Relation]:
    """The first relation as it is, and each other one weighted by how far it agrees with the first.

    The weight is the correlation, over random pairs of genes, of the cosines in both, at least 0.01: a relation that
    says something else about genes, or nothing, would only blur the programs of the first.
    """
    first, *others = relations
    found = [first]
    for other in others:
        i, j = _pairs(first.covered & other.covered, N_PAIRS, seed)
        found.append(replace(other, weight=_agreement(_cosines(first, i, j), _cosines(other, i, j))))
    return found


def graph_agreement(relation: Relation, graph: Any, *, seed: int) -> float:
    """The same of a graph (G, G): correlation of cosines and edges, over all edges and as many random pairs."""
    gene, partner = sparse.triu(graph, k=1).nonzero()
    both = relation.covered[gene] & relation.covered[partner]
    gene, partner = gene[both], partner[both]
    i, j = _pairs(relation.covered, len(gene), seed)
    cosines = np.concatenate([_cosines(relation, gene, partner), _cosines(relation, i, j)])
    return _agreement(cosines, np.arange(len(cosines)) < len(gene))


def _pairs(among: NDArray[np.bool_], n: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """About n random pairs of two genes."""
    genes = np.flatnonzero(among)
    if not len(genes):
        return genes, genes
    i, j = np.random.default_rng(seed).choice(genes, (2, n))
    return i[i != j], j[i != j]


def _cosines(relation: Relation, i: NDArray[np.intp], j: NDArray[np.intp]) -> Array:
    return np.einsum("ij,ij->i", relation.vectors[i], relation.vectors[j])


def _agreement(one: NDArray[Any], other: NDArray[Any]) -> float:
    if len(one) < 3 or not np.ptp(one.astype(float)) > 0 or not np.ptp(other.astype(float)) > 0:
        return LEAST_WEIGHT
    return max(LEAST_WEIGHT, float(np.corrcoef(one, other)[0, 1]))


def standardised_residuals(cells: Any, covariates: Any) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(n, G) float32 residuals of mean 0 and variance 1, cut at 10; and which genes vary (the others are 0)."""
    n_cells, n_genes = cells.shape
    design = sparse.csr_array(sparse.hstack([np.ones((n_cells, 1)), sparse.csr_array(covariates)]), dtype=np.float64)
    by_rows = sparse.csr_array(cells) if sparse.issparse(cells) else cells
    moments = sparse.csr_array(design.T) @ by_rows
    moments = moments.toarray() if sparse.issparse(moments) else np.asarray(moments)
    inverse = np.linalg.pinv((design.T @ design).toarray(), rcond=1e-10, hermitian=True)
    fit = (inverse @ moments).astype(np.float32)
    residuals = np.empty((n_cells, n_genes), dtype=np.float32)
    squares, raw = np.zeros(n_genes), np.zeros(n_genes)
    for rows in _blocks(n_cells):
        block = by_rows[rows]
        dense = np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float32)
        residuals[rows] = dense - design[rows].astype(np.float32) @ fit
        squares += np.square(residuals[rows]).sum(axis=0, dtype=np.float64)
        raw += np.square(dense).sum(axis=0, dtype=np.float64)
    varies = squares > 1e-8 * np.maximum(raw, 1e-300)
    scale = np.where(varies, np.sqrt(n_cells / np.where(varies, squares, 1.0)), 0.0).astype(np.float32)
    for rows in _blocks(n_cells):
        residuals[rows] = np.clip(residuals[rows] * scale, -MOST_SD, MOST_SD)
    return residuals, varies


def leading_directions(
    matrix: NDArray[Any], rank: int, rng: np.random.Generator, *, n_powers: int = _POWERS
) -> tuple[Array, Array]:
    """(r,) largest singular values and (G, r) right singular vectors of a matrix (n, G)."""
    width = min(rank + _OVERSAMPLED, *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], width)).astype(matrix.dtype)
    for _ in range(n_powers):
        basis = np.linalg.qr(matrix.T @ np.linalg.qr(matrix @ basis)[0])[0]
    _, size, turned = np.linalg.svd(matrix @ basis, full_matrices=False)
    vectors = basis @ turned.T
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(width)])
    return size[:rank].astype(np.float64), (vectors * sign)[:, :rank].astype(np.float64)


def _flip_signs(matrix: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Give every entry a random sign, in place."""
    n_genes = matrix.shape[1]
    for rows in _blocks(len(matrix)):
        block = matrix[rows]
        bits = np.unpackbits(np.frombuffer(rng.bytes(len(block) * (n_genes // 8 + 1)), np.uint8))
        np.negative(block, where=bits.reshape(len(block), -1)[:, :n_genes].astype(bool), out=block)


def _above_noise(name: str, size: Array, vectors: Array, noise: float, varies: NDArray[np.bool_]) -> Relation:
    """Directions by how much they exceed most noise; all of them as they are where none exceeds all of it."""
    if size[0] <= noise:
        logger.warning("%s: no direction stands out from noise; programs found by it will mean little.", name)
        return Relation.of(name, vectors * size)
    excess = size**2 - (MOST_NOISE * noise) ** 2
    loading = simple_loadings(vectors[:, excess > 0] * np.sqrt(excess[excess > 0]))
    return Relation.of(name, loading * varies[:, None], n_directions=loading.shape[1])


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
