"""Names for gene programs: the gene sets that a program holds more genes of than chance would give it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import false_discovery_control

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.metrics._hypergeometric import log_upper_tail
from scperturb_modules.priors import GeneSets, PathwayHierarchy, gene_sets

if TYPE_CHECKING:
    from anndata import AnnData

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]
GivenSets: TypeAlias = (
    "str | os.PathLike[str] | Mapping[str, Iterable[str]] | pd.DataFrame | GeneSets | PathwayHierarchy"
)

_MEND = "Call model.gene_programs() of a trained spm.SCBIG first; it stores the programs in the AnnData."
_TIE = 1e-9
"""Rounding must not decide whether a random partition reaches the observed value."""


def program_enrichment(
    adata: AnnData,
    gene_sets: GivenSets,
    *,
    fdr: float = 0.05,
    min_size: int = 5,
    max_size: int = 500,
    n_permutations: int = 0,
    seed: int = 0,
    store: bool = True,
) -> pd.DataFrame:
    """Find the gene sets that are over-represented in gene programs, and name the programs after them.

    A one-sided hypergeometric test of every program with every set (gseapy, offline). The background are the measured
    genes that are in a program, not the genome: a set counts with its genes among them only.

    Parameters
    ----------
    adata
        With the programs that ``gene_programs()`` of a trained ``spm.SCBIG`` stores: ``var["scbig_program"]`` and
        ``uns["scperturb_modules"]["scbig"]["programs"]``.
    gene_sets
        Path of a GMT file (may be compressed), a dictionary from sets to genes, ``spm.priors.gene_sets(...)`` or
        ``spm.priors.reactome(...)``, of which all pathways are tested.
    fdr
        A program takes the name of its set of least p-value, if its false discovery rate is below this.
    min_size, max_size
        Sets with fewer or more genes in the background are left out.
    n_permutations
        So many random partitions of the genes, with the sizes of the programs, are compared with the programs as a
        whole; 0: none.
    seed
        Of the partitions.
    store
        Write the table and the names (``""``: none) to ``adata``; two programs may have one name.

    Returns
    -------
    DataFrame
        A row per program and set that share a gene, by program, then p-value: ``program``, ``set``, ``overlap``
        (genes in both), ``n_program``, ``n_set``, ``odds_ratio`` (with 0.5 added to each count), ``pvalue``, ``fdr``
        (Benjamini and Hochberg over all programs and sets, those without a common gene included) and ``genes``
        (``"A;B"``). Its ``attrs``: ``n_programs``, ``n_named``, ``n_sets``, ``n_genes`` (background), ``strength``,
        and, NaN without permutations, ``permutation_strength`` (the mean) and ``permutation_p``.

    Raises
    ------
    MissingKeyError
        No programs are stored.
    DataError
        The sets share no gene with the programs, or none has ``min_size`` to ``max_size`` of them.
    ValueError
        ``fdr`` is not above 0 and at most 1, or ``n_permutations`` is negative.

    Notes
    -----
    ``strength`` is the sum over programs of ``-log10`` of the least p-value, and::

        permutation_p = (1 + partitions with at least this strength) / (1 + partitions)

    It asks whether the programs as a whole follow the sets more than random groups of genes do. Any programs of
    co-expressed genes may: it does not say that this clustering is better than another.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> from scperturb_modules.tl._program_enrichment import program_enrichment
    >>> genes = [f"G{i}" for i in range(40)]
    >>> adata = anndata.AnnData(np.zeros((1, 40), dtype=np.float32), var=pd.DataFrame(index=genes))
    >>> adata.var["scbig_program"] = ["P1"] * 25 + ["P2"] * 15
    >>> programs = pd.DataFrame({"n_genes": [25, 15], "name": ""}, index=["P1", "P2"])
    >>> adata.uns["scperturb_modules"] = {"scbig": {"programs": programs}}
    >>> table = program_enrichment(adata, {"heme": genes[30:], "other": genes[::3]}, n_permutations=99)
    >>> adata.uns["scperturb_modules"]["scbig"]["programs"]["name"].tolist()
    ['', 'heme']
    >>> table.attrs["permutation_p"] <= 0.05
    True
    """
    if not 0 < fdr <= 1:
        raise ValueError(f"fdr={fdr} is no rate; give a number above 0 and at most 1, for example 0.05.")
    if n_permutations < 0:
        raise ValueError(f"n_permutations={n_permutations} is negative; 0 makes none.")
    names, program = _programs(adata)
    sets = _measured(gene_sets, program.index, min_size, max_size)
    numbers = names.get_indexer(pd.Index(program))
    table = _tested(names, numbers, sets)
    named = table[table["fdr"] < fdr].drop_duplicates("program").set_index("program")["set"]
    table.attrs = {"n_programs": len(names), "n_named": len(named), "n_sets": len(sets.names), "n_genes": len(program)}
    table.attrs.update(_against_random(numbers, sets, n_permutations, seed))
    if store:
        _store(adata, table, named)
    return table


@dataclass(frozen=True)
class _Sets:
    """The sets in the background.

    Attributes
    ----------
    names
        (S,) names of the sets.
    genes
        (G,) the background.
    members
        (G, S) CSR array of float64 ones.
    """

    names: tuple[str, ...]
    genes: NDArray[np.object_]
    members: sparse.csr_array

    @property
    def size(self) -> Index:
        """(S,) genes of each set."""
        return np.asarray(self.members.sum(axis=0)).ravel().astype(np.intp)

    def shared(self, numbers: Index, n_programs: int) -> Index:
        """(K, S) genes that a program (its number for each gene) and a set share."""
        n_genes = len(numbers)
        one_hot = sparse.csr_array((np.ones(n_genes), numbers, np.arange(n_genes + 1)), shape=(n_genes, n_programs))
        return np.asarray((one_hot.T @ self.members).toarray(), dtype=np.intp)


def _programs(adata: AnnData) -> tuple[pd.Index, pd.Series]:
    """Names of the K programs, and the program of each gene that is in one."""
    require_key(keys.PROGRAM, adata.var.columns, "var", mend=_MEND)
    scbig = adata.uns.get(keys.ROOT, {}).get(keys.SCBIG, {})
    require_key(keys.PROGRAMS, scbig, f"uns[{keys.ROOT!r}][{keys.SCBIG!r}]", mend=_MEND)
    names = pd.Index(scbig[keys.PROGRAMS].index.astype(str))
    program = adata.var[keys.PROGRAM].astype(str)
    program = program[program.isin(names)]
    empty = names.difference(program.unique())
    if len(empty):
        raise DataError(
            f"{len(empty)} of {len(names)} programs have no gene here: {name_some(empty)}. The AnnData was cut to some "
            f"of its genes, or var[{keys.PROGRAM!r}] was changed. {_MEND}"
        )
    return names, program


def _measured(given: GivenSets, genes: pd.Index, min_size: int, max_size: int) -> _Sets:
    """The sets among the genes."""
    if isinstance(given, PathwayHierarchy):
        given = given.to_sets("all")
    label = given.name if isinstance(given, GeneSets) else None
    source = _as_table(given) if isinstance(given, GeneSets) else given
    found = gene_sets(source, genes, name=label, min_size=min_size, max_size=max_size)
    row, column = found.membership.nonzero()
    row = genes.get_indexer(pd.Index(found.genes))[row]
    members = sparse.csr_array((np.ones(len(row)), (row, column)), shape=(len(genes), len(found.sets)))
    return _Sets(found.sets, genes.to_numpy(dtype=object), members)


def _as_table(sets: GeneSets) -> pd.DataFrame:
    row, column = sets.membership.nonzero()
    return pd.DataFrame({"gene": np.array(sets.genes)[row], "set": np.array(sets.sets)[column]})


def _tested(names: pd.Index, numbers: Index, sets: _Sets) -> pd.DataFrame:
    """A row per program and set with a common gene, by gseapy."""
    from gseapy import enrich

    # gseapy may change the case of names, and takes names that are numbers for another kind; codes it leaves alone
    code = np.array([f"G{i}" for i in range(len(numbers))], dtype=object)
    gene_of = dict(zip(code, sets.genes, strict=True))
    members = sets.members.T.tocsr()
    coded = dict(zip(sets.names, map(list, np.split(code[members.indices], members.indptr[1:-1])), strict=True))
    tables = []
    for number in np.flatnonzero(sets.shared(numbers, len(names)).any(axis=1)):
        found = enrich(code[numbers == number].tolist(), coded, background=code.tolist(), outdir=None)
        tables.append(found.results.assign(number=number))
    rows = pd.concat(tables, ignore_index=True)
    genes = [sorted(gene_of[gene] for gene in text.split(";")) for text in rows["Genes"]]
    # a set without a gene of the program was tested too, with p = 1
    p = np.ones(len(names) * len(sets.names))
    p[: len(rows)] = rows["P-value"].clip(0.0, 1.0)
    table = pd.DataFrame(
        {
            "number": rows["number"],
            "program": names.to_numpy()[rows["number"]],
            "set": rows["Term"],
            "overlap": [len(shared) for shared in genes],
            "n_program": np.bincount(numbers)[rows["number"]],
            "n_set": sets.size[pd.Index(sets.names).get_indexer(pd.Index(rows["Term"]))],
            "odds_ratio": rows["Odds Ratio"],
            "pvalue": p[: len(rows)],
            "fdr": false_discovery_control(p)[: len(rows)],
            "genes": [";".join(shared) for shared in genes],
        }
    )
    order = {"number": True, "pvalue": True, "odds_ratio": False, "set": True}
    table = table.sort_values(list(order), ascending=list(order.values()), ignore_index=True)
    return table.drop(columns="number")


def _against_random(numbers: Index, sets: _Sets, n_permutations: int, seed: int) -> dict[str, float]:
    """How strongly programs follow the sets, and how often random partitions of the same sizes do as much."""
    rng = np.random.default_rng(seed)
    sizes = np.bincount(numbers)
    sizes_of_sets, column = np.unique(sets.size, return_inverse=True)
    sizes_of_programs, row = np.unique(sizes, return_inverse=True)
    log_p = log_upper_tail(len(numbers), sizes_of_programs, sizes_of_sets)

    def strength(labels: Index) -> float:
        found = log_p[row[:, None], column, sets.shared(labels, len(sizes))]
        return float(-found.min(axis=1).sum() / np.log(10))

    observed = strength(numbers)
    null = np.array([strength(rng.permutation(numbers)) for _ in range(n_permutations)])
    reached = int((null >= observed - _TIE).sum())
    known = bool(n_permutations)
    return {
        "strength": observed,
        "permutation_strength": float(null.mean()) if known else np.nan,
        "permutation_p": (1 + reached) / (1 + n_permutations) if known else np.nan,
    }


def _store(adata: AnnData, table: pd.DataFrame, named: pd.Series) -> None:
    """Write the table and the names; what is stored is replaced, so that a view's parent is left as it is."""
    scbig = adata.uns[keys.ROOT][keys.SCBIG]
    programs = scbig[keys.PROGRAMS]
    programs = programs.assign(name=[str(named.get(program, "")) for program in programs.index.astype(str)])
    stored = table.copy()
    stored.attrs = {}
    scbig = {**scbig, keys.PROGRAMS: programs, keys.PROGRAM_ENRICHMENT: stored}
    adata.uns[keys.ROOT] = {**adata.uns[keys.ROOT], keys.SCBIG: scbig}
