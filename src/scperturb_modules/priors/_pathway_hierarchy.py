"""Pathways within pathways: which of them hold a gene, how specific they are, and which genes share one."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gene_sets import GeneSets
from scperturb_modules.priors._graph import GeneGraph, Index
from scperturb_modules.priors._identifiers import find_genes
from scperturb_modules.priors._overlap import Measure
from scperturb_modules.priors._pathway_levels import (
    Level,
    ancestors,
    depths,
    is_propagated,
    level_membership,
    longest_path,
    relation_matrix,
)
from scperturb_modules.priors._pathway_lookup import Lookup
from scperturb_modules.priors._pathway_mask import Correlation, PathwayMask, make_mask
from scperturb_modules.priors._stored import (
    common_from_uns,
    common_to_uns,
    members_from_uns,
    members_to_uns,
    text_array,
    texts,
)


@dataclass(frozen=True, eq=False, repr=False)
class PathwayHierarchy:
    """Pathways, their parents and their genes; made by :func:`reactome`.

    A pathway may have several parents, and chains of parents differ in length. **Levels** are seen from a gene:

    - level 1 (``"leaf"``): its most specific pathways, those that hold it while none of their children does;
    - level 2, 3: the parents, and the parents of those; a top pathway stands for the levels that a short chain lacks;
    - ``"top"``: those of its pathways that have no parent; ``"all"``: every pathway that holds it.

    Wherever a pathway is asked for, its id or its name will do.

    Attributes
    ----------
    name
        As the user knows it.
    genes
        (n,) symbols, sorted. The genes of one pathway are :meth:`genes_of`.
    ids, pathway_names
        (S,) the pathways; an id stands once, and is the name where the source has none.
    membership
        (n, S) CSR array of float64 ones; a pathway holds the genes of its children.
    parent, child
        (R,) intp, numbers of pathways: the relations, sorted, none twice.
    attrs
        Provenance: ``source``, ``version``, ``licence``, ``derived_from``; under ``left_out`` what was dropped or
        mended, with its count.
    """

    name: str
    genes: tuple[str, ...]
    ids: tuple[str, ...]
    pathway_names: tuple[str, ...]
    membership: sparse.csr_array
    parent: Index
    child: Index
    attrs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        membership = sparse.csr_array(self.membership, dtype=np.float64, copy=True)
        membership.sort_indices()
        object.__setattr__(self, "membership", membership)
        object.__setattr__(self, "attrs", copy.deepcopy(dict(self.attrs)))
        for end in ("parent", "child"):
            numbers = np.array(getattr(self, end), dtype=np.intp)
            numbers.setflags(write=False)
            object.__setattr__(self, end, numbers)
        n_pathways = len(self.ids)
        code = self.parent * n_pathways + self.child
        in_order = list(self.genes) == sorted(set(self.genes)) and bool(np.all(np.diff(code) > 0))
        is_named = len(set(self.ids)) == len(self.pathway_names) == n_pathways
        fits = membership.shape == (len(self.genes), n_pathways) and bool((membership.data == 1).all())
        if not (in_order and is_named and fits and is_propagated(membership, self._up)):
            raise DataError(f"pathways {self.name!r} are not in order; make them by spm.priors.reactome(...).")

    @property
    def table(self) -> pd.DataFrame:
        """(S, 4) a row per pathway: ``id``, ``name``, ``depth`` (longest way from a top pathway), ``n_genes``."""
        return self._table.copy()

    def pathways(self, genes: str | Iterable[str] | None = None, level: Level = 1) -> pd.DataFrame:
        """The pathways of genes on a level.

        Parameters
        ----------
        genes
            A gene, or several; None: all.
        level
            1, 2, 3, ``"leaf"`` (the same as 1), ``"top"`` or ``"all"``.

        Returns
        -------
        DataFrame
            A row per gene and pathway, genes in the order given, with ``gene``, ``level``, ``id``, ``name``, ``depth``
            and ``n_genes`` (of this object).

        Raises
        ------
        DataError
            A gene is not here.
        ValueError
            There is no such level.

        Examples
        --------
        >>> import pandas as pd
        >>> from scperturb_modules.priors import reactome
        >>> sets = {"Immunity": ["STAT1", "IRF1", "TLR4"], "Interferon": ["STAT1", "IRF1"]}
        >>> reactome(None, sets, pd.DataFrame({"parent": ["Immunity"], "child": ["Interferon"]})).pathways("STAT1")
            gene  level          id        name  depth  n_genes
        0  STAT1      1  Interferon  Interferon      1        2
        """
        rows = self._lookup.genes(genes)
        row, pathway = level_membership(self.membership[rows], self._up, level).nonzero()
        found = self._rows(pathway)
        found.insert(0, "gene", np.array(self.genes, dtype=object)[rows[row]])
        found.insert(1, "level", 1 if level == "leaf" else level)
        return found

    def genes_of(self, pathway: str) -> tuple[str, ...]:
        """The genes of a pathway, sorted.

        Raises
        ------
        DataError
            There is no such pathway, or several have the name.
        """
        column = self.membership[:, [self._lookup.pathway(pathway)]]
        return tuple(self.genes[row] for row in np.sort(column.nonzero()[0]))

    def parents(self, pathway: str) -> pd.DataFrame:
        """The pathways that a pathway is a part of: rows of :attr:`table`."""
        return self._rows(self._up[[self._lookup.pathway(pathway)]].indices)

    def children(self, pathway: str) -> pd.DataFrame:
        """The parts of a pathway: rows of :attr:`table`."""
        return self._rows(self.child[self.parent == self._lookup.pathway(pathway)])

    def ancestors(self, pathway: str) -> pd.DataFrame:
        """Parents, their parents and so on, each once: rows of :attr:`table`."""
        return self._rows(ancestors(self._up, self._lookup.pathway(pathway)))

    def path_to_top(self, pathway: str) -> pd.DataFrame:
        """The way from a pathway (first row) to one without parents; of several the longest, then the first by id."""
        return self._rows(longest_path(self._up, self._lookup.pathway(pathway), self.ids))

    def level_membership(self, level: Level = 1) -> sparse.csr_array:
        """(n, S) CSR array of float64 ones where a pathway holds a gene on a level.

        Raises
        ------
        ValueError
            There is no such level.
        """
        return level_membership(self.membership, self._up, level)

    def same_pathway_mask(
        self,
        genes: Iterable[str] | None = None,
        level: Level = 1,
        *,
        max_size: int | None = None,
        fallback: Correlation | None = None,
        threshold: float = 0.4,
    ) -> PathwayMask:
        """Join genes that share a pathway on a level, each gene with itself, and genes without pathways by correlation.

        Parameters
        ----------
        genes
            n names, each once, in the order of the mask; None: all genes here.
        level
            As in :meth:`pathways`.
        max_size
            Pathways that hold more than so many of these genes on the level are left out.
        fallback
            Partners for the genes that are not here: a co-expression network (:func:`coexpression`), a table of
            correlations with genes as rows and columns, or an (n, n) array in the order of ``genes``.
        threshold
            Partners have ``|r|`` above it.

        Returns
        -------
        PathwayMask
            ``matrix`` (n, n) and, by gene and in numbers, where the pairs come from (``table``, ``report``).

        Raises
        ------
        DataError
            A gene occurs twice, none is here, or the array has another shape.
        ValueError
            There is no such level; ``threshold`` is negative.

        Notes
        -----
        The mask of BioDSNN's attention: pathways on the lowest level, and for genes that Reactome lacks the others with
        ``|r| > 0.4``. It is symmetric: the partner of a gene without pathways sees that gene too.
        """
        asked = list(self.genes if genes is None else map(str, genes))
        if threshold < 0:
            raise ValueError(f"threshold={threshold} is negative; it is compared with the size of a correlation")
        find_genes(asked, self.genes, what=self.name)
        member = self.level_membership(level)
        return make_mask(asked, self.genes, member, max_size=max_size, fallback=fallback, threshold=threshold)

    def to_sets(self, level: Level = 1) -> GeneSets:
        """The pathways that hold a gene on a level, as sets of those genes; ids are their descriptions."""
        member = self.level_membership(level)
        used = np.flatnonzero(np.bincount(member.indices, minlength=len(self.ids)))
        count = Counter(self.pathway_names)
        pairs = [(self.pathway_names[i], self.ids[i]) for i in used]
        names = tuple(name if count[name] == 1 else f"{name} ({id_})" for name, id_ in pairs)
        return GeneSets(self.name, self.genes, names, member[:, used], tuple(id_ for _, id_ in pairs), self.attrs)

    def to_graph(
        self,
        level: Level = 1,
        *,
        measure: Measure = "jaccard",
        top: int = 20,
        minimum: float = 0.1,
        symmetric: bool = True,
    ) -> GeneGraph:
        """Join genes by the pathways that they share on a level, as :meth:`GeneSets.to_graph` does."""
        return self.to_sets(level).to_graph(measure=measure, top=top, minimum=minimum, symmetric=symmetric)

    def jaccard(self, genes: Iterable[str] | None = None, level: Level = 1) -> pd.DataFrame:
        """(n, n) float64 shared pathways of two genes as a share of all pathways of both, on a level."""
        order = [self.genes[number] for number in self._lookup.genes(genes)]
        return pd.DataFrame(self.to_sets(level).similarity(order, order), index=order, columns=order)

    def to_uns(self) -> dict[str, Any]:
        """Plain arrays and text, as h5ad and zarr keep them; :meth:`from_uns` reads them back."""
        return {
            **common_to_uns(self),
            "ids": text_array(self.ids),
            "pathway_names": text_array(self.pathway_names),
            **members_to_uns(self.membership),
            "parent": self.parent.astype(np.int64),
            "child": self.child.astype(np.int64),
        }

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> PathwayHierarchy:
        """The pathways that :meth:`to_uns` wrote."""
        common, ids = common_from_uns(stored), texts(stored["ids"])
        return cls(
            **common,
            ids=ids,
            pathway_names=texts(stored["pathway_names"]),
            membership=members_from_uns(stored, (len(common["genes"]), len(ids))),
            parent=stored["parent"],
            child=stored["child"],
        )

    def __repr__(self) -> str:
        used = int((self._table["n_genes"] > 0).sum())
        pathways = f"{len(self.ids)} pathways ({used} with genes)"
        return f"PathwayHierarchy({self.name!r}, {len(self.genes)} genes, {pathways}, {len(self.parent)} relations)"

    @cached_property
    def _up(self) -> sparse.csr_array:
        return relation_matrix(self.parent, self.child, self.ids)

    @cached_property
    def _table(self) -> pd.DataFrame:
        size = np.bincount(self.membership.indices, minlength=len(self.ids))
        columns = {"id": self.ids, "name": self.pathway_names, "depth": depths(self._up), "n_genes": size}
        return pd.DataFrame(columns)

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup.of(self.name, self.genes, self.ids, self.pathway_names)

    def _rows(self, numbers: Index | list[int]) -> pd.DataFrame:
        return self._table.iloc[numbers].reset_index(drop=True)
