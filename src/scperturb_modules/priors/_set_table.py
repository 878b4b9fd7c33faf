"""Sets of genes (pathways, complexes, terms) as one sparse table, and what follows from who shares which sets."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._graph import Array, GeneGraph, Index
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._latent import main_directions
from scperturb_modules.priors._overlap import Measure, Overlap, rarity_rows
from scperturb_modules.priors._stored import (
    common_from_uns,
    common_to_uns,
    members_from_uns,
    members_to_uns,
    text_array,
    texts,
)

logger = logging.getLogger(__name__)

LEFT_OUT = "left_out"
"""Key of ``attrs``: what was dropped or mended on the way, in words, with its count."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneSets:
    """Which genes belong to which sets; made by :func:`gene_sets` and :func:`go_sets`.

    Attributes
    ----------
    name
        As the user knows it.
    genes
        (n,) symbols, sorted; some may be in no set.
    sets
        (S,) names of the sets, each once.
    membership
        (n, S) CSR array of float64 ones.
    descriptions
        (S,) what the source says of each set (an id, an address); empty where it says nothing.
    attrs
        Provenance: ``source``, ``version``, ``licence``, ``derived_from``; under ``left_out`` what was dropped, with
        its count.
    """

    name: str
    genes: tuple[str, ...]
    sets: tuple[str, ...]
    membership: sparse.csr_array
    descriptions: tuple[str, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        membership = sparse.csr_array(self.membership, dtype=np.float64, copy=True)
        membership.sort_indices()
        object.__setattr__(self, "membership", membership)
        object.__setattr__(self, "descriptions", tuple(self.descriptions) or ("",) * len(self.sets))
        object.__setattr__(self, "attrs", copy.deepcopy(dict(self.attrs)))
        in_order = list(self.genes) == sorted(set(self.genes)) and len(set(self.sets)) == len(self.sets)
        fits = membership.shape == (len(self.genes), len(self.sets)) and len(self.descriptions) == len(self.sets)
        if not (in_order and fits and membership.has_canonical_format and (membership.data == 1).all()):
            raise DataError(f"gene sets {self.name!r} are not in order; make them by spm.priors.gene_sets(table).")

    @cached_property
    def size(self) -> Index:
        """(S,) number of genes in each set."""
        return np.bincount(self.membership.indices, minlength=len(self.sets)).astype(np.intp)

    def genes_of(self, set_name: str) -> tuple[str, ...]:
        """Genes of a set, sorted.

        Raises
        ------
        DataError
            There is no such set.
        """
        column = self.membership[:, [_place(set_name, self.sets, f"{self.name}: set")]]
        return tuple(self.genes[row] for row in np.sort(column.nonzero()[0]))

    def sets_of(self, gene: str) -> tuple[str, ...]:
        """Sets that a gene is in, in the order of ``sets``.

        Raises
        ------
        DataError
            There is no such gene.
        """
        row = self.membership[[_place(gene, self.genes, f"{self.name}: gene")]]
        return tuple(self.sets[column] for column in row.nonzero()[1])

    def subset(self, genes: Iterable[str], *, names: GeneNames | None = None, keep_others: bool = False) -> GeneSets:
        """The sets among some genes; those without one of them are dropped and counted.

        Parameters
        ----------
        genes
            Names, for example ``adata.var_names``. Those that are not here are left out.
        names
            Other names of genes; a gene keeps the name that it has in ``genes``.
        keep_others
            Keep the other genes too; then nothing but names changes.

        Raises
        ------
        DataError
            None of the genes is here.
        """
        found = find_genes(genes, self.genes, what=self.name, names=names, keep_others=keep_others)
        wanted = tuple(sorted(found))
        rows = pd.Index(self.genes).get_indexer(pd.Index([found[gene] for gene in wanted], dtype=object))
        part = replace(self, genes=wanted, membership=self.membership[rows])
        return part.with_sets(part.size > 0, "sets without one of the genes")

    def with_sets(self, keep: NDArray[np.bool_], reason: str) -> GeneSets:
        """The same genes with the sets of a mask (S,) only; ``reason`` names the others where they are counted."""
        columns = np.flatnonzero(keep)
        return replace(
            self,
            sets=tuple(self.sets[column] for column in columns),
            membership=self.membership[:, columns],
            descriptions=tuple(self.descriptions[column] for column in columns),
            attrs=count_left_out(self.attrs, {reason: len(self.sets) - len(columns)}, self.name),
        )

    def similarity(self, rows: Sequence[str], columns: Sequence[str], *, measure: Measure = "jaccard") -> Array:
        """How similar genes are by the sets that they share.

        Parameters
        ----------
        rows, columns
            Names of genes.
        measure
            ``"jaccard"``: shared sets by all sets of both. ``"rarity"``: cosine of memberships weighted by
            ``log(n / size)``, so that a small set in common says more than a large one; n and size count the genes
            here, so it is best taken of sets that are not restricted to a few genes.

        Returns
        -------
        ndarray
            (len(rows), len(columns)) float64 from 0 to 1. NaN for a gene that is not here, 0 for one in no set.

        Raises
        ------
        DataError
            Another measure.
        """
        known = pd.Index(self.genes, dtype=object)
        row, column = (known.get_indexer(pd.Index(each, dtype=object)) for each in (rows, columns))
        values = np.full((len(row), len(column)), np.nan)
        inner = Overlap.of(self.membership, measure).between(row[row >= 0], column[column >= 0])
        values[np.ix_(row >= 0, column >= 0)] = inner
        return values

    def to_graph(
        self, *, measure: Measure = "jaccard", top: int = 20, minimum: float = 0.1, symmetric: bool = True
    ) -> GeneGraph:
        """Network of genes that share sets.

        Parameters
        ----------
        measure
            See :meth:`similarity`; it becomes the weight.
        top, minimum
            Each gene lists the ``top`` others of highest similarity above ``minimum``; of equal ones the first by
            name.
        symmetric
            Undirected, with an edge where either gene lists the other; else directed, from the listed gene to the one
            that lists it.

        Returns
        -------
        GeneGraph
            All genes here; those that nobody is similar to are isolated.

        Raises
        ------
        DataError
            Another measure; ``top`` below 1; ``minimum`` not from 0 to below 1.

        Examples
        --------
        >>> from scipy import sparse
        >>> members = sparse.csr_array([[1, 1], [0, 1], [1, 1]])
        >>> sets = GeneSets("blood", ("ALAS2", "HBB", "HMBS"), ("heme", "erythroid"), members)
        >>> sets.to_graph().to_table()[["source", "target", "weight"]]
          source target  weight
        0  ALAS2    HBB     0.5
        1  ALAS2   HMBS     1.0
        2    HBB   HMBS     0.5
        """
        gene, other, weight = Overlap.of(self.membership, measure).best(top, minimum)
        source, target = (np.minimum(gene, other), np.maximum(gene, other)) if symmetric else (other, gene)
        code, first = np.unique(source.astype(np.intp) * len(self.genes) + target, return_index=True)
        ends = np.divmod(code, max(len(self.genes), 1))
        attrs = {**self.attrs, "measure": measure, "top": top, "minimum": minimum}
        return GeneGraph(self.name, self.genes, *ends, weight[first], not symmetric, attrs=attrs)

    def to_frame(self, n_features: int = 64, *, clip: bool = False) -> pd.DataFrame:
        """Features of genes: truncated singular value decomposition of their memberships.

        Memberships are weighted by ``log(n / size)`` and each gene is scaled to length one (latent semantic analysis);
        of each feature the entry of largest size is positive.

        Parameters
        ----------
        n_features
            Number of singular values.
        clip
            Take what there is where the sets are too few for ``n_features``.

        Returns
        -------
        DataFrame
            Genes x features, float64. Genes whose sets say nothing (in none, or only in sets of all genes) are left out
            and counted in a log line.

        Raises
        ------
        DataError
            Genes and sets have fewer independent directions than ``n_features``, and ``clip`` is False.
        """
        known, rows = rarity_rows(self.membership)
        n_genes = len(self.genes)
        if len(known) < n_genes:
            logger.info("%s: %d of %d genes get no features", self.name, n_genes - len(known), n_genes)
        features = main_directions(rows, n_features, clip=clip)
        names = [f"set{number + 1}" for number in range(features.shape[1])]
        table = pd.DataFrame(features, index=[self.genes[row] for row in known], columns=names)
        table.attrs.update({**copy.deepcopy(self.attrs), "name": self.name})
        return table

    def to_uns(self) -> dict[str, Any]:
        """Plain arrays and text, as h5ad and zarr keep them; :meth:`from_uns` reads them back."""
        return {
            **common_to_uns(self),
            "sets": text_array(self.sets),
            "descriptions": text_array(self.descriptions),
            **members_to_uns(self.membership),
        }

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> GeneSets:
        """The sets that :meth:`to_uns` wrote."""
        common, sets = common_from_uns(stored), texts(stored["sets"])
        membership = members_from_uns(stored, (len(common["genes"]), len(sets)))
        return cls(**common, sets=sets, membership=membership, descriptions=texts(stored["descriptions"]))

    def __repr__(self) -> str:
        return f"GeneSets({self.name!r}, {len(self.genes)} genes, {len(self.sets)} sets, {self.membership.nnz} members)"


def count_left_out(attrs: Mapping[str, Any], counts: Mapping[str, int], name: str) -> dict[str, Any]:
    """Provenance with further counts of what was dropped or mended; each that is not zero is logged."""
    found = {reason: int(count) for reason, count in counts.items() if count}
    for reason, count in found.items():
        logger.info("%s: %d %s", name, count, reason)
    before = attrs.get(LEFT_OUT, {})
    total = {**before, **{reason: count + before.get(reason, 0) for reason, count in found.items()}}
    return {**attrs, LEFT_OUT: total} if total else dict(attrs)


def _place(name: str, known: Sequence[str], what: str) -> int:
    if name not in known:
        raise DataError(f"{what} {name!r} is not among the {len(known)}: {name_some(known)}.")
    return known.index(name)
