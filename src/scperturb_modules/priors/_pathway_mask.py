"""Which genes share a pathway, with partners in expression for the genes that no pathway has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._graph import GeneGraph, Index
from scperturb_modules.priors._pathway_levels import members_among

Correlation: TypeAlias = GeneGraph | pd.DataFrame | ArrayLike
"""Correlations of genes: a co-expression network, a table with genes as rows and columns, or an (n, n) array."""

PATHWAY, FALLBACK, ALONE = STATUSES = ("pathway", "fallback", "alone")


@dataclass(frozen=True, eq=False, repr=False)
class PathwayMask:
    """Pairs of genes that share a pathway or correlate; every gene is paired with itself.

    Attributes
    ----------
    genes
        (n,) in the order asked for.
    matrix
        (n, n) CSR array of bool, symmetric, True on the diagonal.
    status
        (n,) text. ``"pathway"``: the hierarchy has the gene; ``"fallback"``: it does not, but the gene has partners in
        expression; ``"alone"``: neither, it is paired with itself only.
    n_pathways
        Pathways with one or more of the genes on the level.
    n_dropped
        Further pathways left out for their size.
    """

    genes: tuple[str, ...]
    matrix: sparse.csr_array
    status: np.ndarray
    n_pathways: int
    n_dropped: int

    @property
    def degree(self) -> Index:
        """(n,) partners of each gene, itself not counted."""
        return np.diff(self.matrix.indptr).astype(np.intp) - 1

    @property
    def n_pairs(self) -> int:
        """Pairs of two different genes; a pair counts once."""
        return int(self.degree.sum()) // 2

    @property
    def table(self) -> pd.DataFrame:
        """A row per gene: ``status`` and ``n_partners``."""
        columns = {"status": self.status.astype(object), "n_partners": self.degree}
        return pd.DataFrame(columns, index=pd.Index(self.genes, name="gene"))

    @property
    def report(self) -> pd.Series:
        """Genes of each status and those with a partner, pathways, pairs, median and largest number of partners."""
        degree = self.degree
        facts: dict[str, Any] = {f"genes_{status}": int((self.status == status).sum()) for status in STATUSES}
        facts |= {"genes_with_partner": int((degree > 0).sum()), "pathways": self.n_pathways}
        facts |= {"pathways_dropped": self.n_dropped, "pairs": self.n_pairs}
        facts |= {"median_partners": float(np.median(degree)), "max_partners": int(degree.max())}
        return pd.Series(facts, name="same_pathway_mask", dtype=object)

    def __repr__(self) -> str:
        counts = ", ".join(f"{int((self.status == status).sum())} {status}" for status in STATUSES)
        return f"PathwayMask({len(self.genes)} genes ({counts}), {self.n_pairs} pairs)"


def make_mask(
    genes: list[str],
    members: tuple[str, ...],
    membership: sparse.csr_array,
    *,
    max_size: int | None,
    fallback: Correlation | None,
    threshold: float,
) -> PathwayMask:
    """The mask of some genes, by the pathways (columns) that hold ``members`` (rows of ``membership``) on a level."""
    twice = [gene for gene, count in Counter(genes).items() if count > 1]
    if twice or not genes:
        raise DataError(f"genes occur more than once: {name_some(twice)}." if twice else "there are no genes.")
    known = pd.Index(genes).isin(members)
    member = members_among(genes, members, membership)
    size = np.bincount(member.indices, minlength=member.shape[1])
    used = (size > 0) & (size <= (size.max(initial=0) if max_size is None else max_size))
    in_used = sparse.csr_array(member[:, np.flatnonzero(used)], dtype=bool)
    matrix = in_used @ in_used.T + sparse.eye_array(len(genes), dtype=bool, format="csr")
    status = np.where(known, PATHWAY, ALONE).astype("U8")
    if fallback is not None:
        absent, partner = _partners(fallback, genes, np.flatnonzero(~known), threshold)
        status[absent] = FALLBACK
        ends = np.concatenate([absent, partner]), np.concatenate([partner, absent])
        matrix = matrix + sparse.csr_array((np.ones(2 * len(absent), dtype=bool), ends), shape=matrix.shape)
    matrix = sparse.csr_array(matrix)
    matrix.sort_indices()
    return PathwayMask(tuple(genes), matrix, status, int(used.sum()), int(((size > 0) & ~used).sum()))


def _partners(fallback: Correlation, genes: list[str], absent: Index, threshold: float) -> tuple[Index, Index]:
    """Numbers of absent genes, and of the other genes that correlate with them, in either direction."""
    if isinstance(fallback, GeneGraph):
        weight = abs(fallback.adjacency(genes))
        strength = sparse.csr_array(weight.maximum(weight.T))[absent]
    else:
        values = _square(fallback, genes)
        # a gene that does not vary has no correlation: NaN counts as none
        strength = np.fmax(np.abs(values[absent]), np.abs(values[:, absent]).T)
    row, partner = (strength > threshold).nonzero()
    is_other = absent[row] != partner
    return absent[row[is_other]], partner[is_other].astype(np.intp)


def _square(fallback: pd.DataFrame | ArrayLike, genes: list[str]) -> NDArray[np.float64]:
    """(n, n) correlations in the order of the genes; NaN where a table lacks a gene."""
    if isinstance(fallback, pd.DataFrame):
        twice = {name for labels in (fallback.index, fallback.columns) for name in labels[labels.duplicated()]}
        if twice:
            raise DataError(f"fallback: genes stand more than once: {name_some(sorted(map(str, twice)))}.")
        return fallback.reindex(index=genes, columns=genes).to_numpy(dtype=np.float64)
    values = np.asarray(fallback, dtype=np.float64)
    if values.shape != (len(genes), len(genes)):
        raise DataError(
            f"fallback has shape {values.shape}, but there are {len(genes)} genes. Give an array with a row and a "
            "column per gene, in their order, or a DataFrame with their names on both sides."
        )
    return values
