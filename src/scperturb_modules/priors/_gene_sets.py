"""Sets of genes (pathways, complexes, terms) as one sparse table, and what follows from who shares which sets."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._gmt import SetSource, read_sets
from scperturb_modules.priors._graph import Index
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._stored import common_from_uns, common_to_uns, text_array, texts

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

    def subset(self, genes: Iterable[str], *, names: GeneNames | None = None) -> GeneSets:
        """The sets among some genes; those without one of them are dropped and counted.

        Parameters
        ----------
        genes
            Names, for example ``adata.var_names``. Those that are not here are left out.
        names
            Other names of genes; a gene keeps the name that it has in ``genes``.

        Raises
        ------
        DataError
            None of the genes is here.
        """
        found = find_genes(genes, self.genes, what=self.name, names=names)
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

    def to_uns(self) -> dict[str, Any]:
        """Plain arrays and text, as h5ad and zarr keep them; :meth:`from_uns` reads them back."""
        return {
            **common_to_uns(self),
            "sets": text_array(self.sets),
            "descriptions": text_array(self.descriptions),
            "indices": self.membership.indices.astype(np.int64),
            "indptr": self.membership.indptr.astype(np.int64),
        }

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> GeneSets:
        """The sets that :meth:`to_uns` wrote."""
        common, sets = common_from_uns(stored), texts(stored["sets"])
        indices, indptr = (np.asarray(stored[key], dtype=np.int64) for key in ("indices", "indptr"))
        shape = len(common["genes"]), len(sets)
        membership = sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=shape)
        return cls(**common, sets=sets, membership=membership, descriptions=texts(stored["descriptions"]))

    def __repr__(self) -> str:
        return f"GeneSets({self.name!r}, {len(self.genes)} genes, {len(self.sets)} sets, {self.membership.nnz} members)"


def gene_sets(
    gmt: SetSource,
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    min_size: int = 1,
    max_size: int | None = None,
    names: GeneNames | None = None,
) -> GeneSets:
    """Read gene sets: pathways, complexes, protein families, anything that genes can share.

    Parameters
    ----------
    gmt
        Path of a GMT file (set, description, genes, with tabs between; may be compressed; read by gseapy), a
        dictionary from sets to genes, or a table with the columns ``gene`` and ``set`` (or symbol; pathway, term,
        pfam, go_id), one row each, or the path of one (``.tsv``, ``.csv``).
    genes
        Names to keep, for example ``adata.var_names``; None: all genes of the source.
    name
        What to call the sets. Default: the name of the file, else ``"gene_sets"``.
    min_size, max_size
        Sets with fewer or more of these genes are left out and counted.
    names
        Other names of genes.

    Returns
    -------
    GeneSets
        The genes that the source knows, under the names of ``genes``. ``attrs["left_out"]`` counts what was dropped:
        blank fields, weights that Enrichr appends (``STAT1,1.0``), sets without one of the genes, sets by size.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged or has lines without genes; two sets have one name; none of the genes, or no set, is left.

    Examples
    --------
    >>> sets = gene_sets({"heme": ["ALAS2", "HMBS"], "globins": ["HBA1", "HBB", "HBG1"]})
    >>> sets, sets.sets_of("HBB")
    (GeneSets('gene_sets', 5 genes, 2 sets, 5 members), ('globins',))
    """
    is_path = not isinstance(gmt, Mapping | pd.DataFrame)
    label = name or (_file_name(gmt) if is_path else "gene_sets")  # type: ignore[arg-type]
    raw = read_sets(gmt, what=label)
    set_number = np.repeat(np.arange(len(raw.members)), [len(members) for members in raw.members.values()])
    symbols, membership = members_table(
        np.array([gene for members in raw.members.values() for gene in members], dtype=object),
        set_number,
        len(raw.members),
    )
    said = {"source": label, "derived_from": f"gene sets {label}", **raw.attrs}
    attrs = count_left_out(said, raw.mended, label)
    every = GeneSets(label, symbols, tuple(raw.members), membership, raw.descriptions, attrs)
    part = every if genes is None else every.subset(genes, names=names)
    largest = int(part.size.max())
    most = largest if max_size is None else max_size
    fits = (part.size >= min_size) & (part.size <= most)
    if not fits.any():
        raise DataError(f"{label}: no set has {min_size} to {most} of the genes; the largest has {largest}.")
    return part.with_sets(fits, "sets too small or too large")


def members_table(
    genes: NDArray[np.object_], set_number: Index, n_sets: int
) -> tuple[tuple[str, ...], sparse.csr_array]:
    """Sorted genes, and the table (genes, sets) of ones, from pairs of a gene and the number of a set."""
    row, symbols = pd.factorize(genes, sort=True)
    table = sparse.coo_array((np.ones(len(row)), (row, set_number)), shape=(len(symbols), n_sets)).tocsr()
    table.data[:] = 1.0  # a gene that a source names twice in a set is in it once
    return tuple(str(symbol) for symbol in symbols), table


def count_left_out(attrs: Mapping[str, Any], counts: Mapping[str, int], name: str) -> dict[str, Any]:
    """Provenance with further counts of what was dropped or mended; each that is not zero is logged."""
    found = {reason: int(count) for reason, count in counts.items() if count}
    for reason, count in found.items():
        logger.info("%s: %d %s", name, count, reason)
    before = attrs.get(LEFT_OUT, {})
    total = {**before, **{reason: count + before.get(reason, 0) for reason, count in found.items()}}
    return {**attrs, LEFT_OUT: total} if total else dict(attrs)


def _file_name(path: str | os.PathLike[str]) -> str:
    name = Path(path).name
    for ending in (".gz", ".gmt", ".tsv", ".csv", ".txt"):
        name = name.removesuffix(ending)
    return name


def _place(name: str, known: Sequence[str], what: str) -> int:
    if name not in known:
        raise DataError(f"{what} {name!r} is not among the {len(known)}: {name_some(known)}.")
    return known.index(name)
