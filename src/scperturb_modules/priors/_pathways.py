"""Reactome, or any pathways within pathways, from a file of their genes and one of their relations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._gene_sets import GeneSets, count_left_out, gene_sets
from scperturb_modules.priors._gmt import SetSource
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._pathway_hierarchy import PathwayHierarchy
from scperturb_modules.priors._pathway_levels import propagated, relation_matrix
from scperturb_modules.priors._read import Table, read_table

_ID = re.compile(r"R-[A-Z]{3}-\d+")
"""How Reactome writes an id; the letters are the species."""
_WHAT = "pathway hierarchy"


def reactome(
    genes: Iterable[str] | None,
    gmt: SetSource | GeneSets,
    hierarchy: Table,
    *,
    names: GeneNames | None = None,
    keep_others: bool = False,
    version: str = "",
) -> PathwayHierarchy:
    """Read Reactome's pathways and how they are nested.

    Parameters
    ----------
    genes
        Names to keep, for example ``adata.var_names``; None: all genes of the source.
    gmt
        Genes of each pathway: ``ReactomePathways.gmt`` (name, id, genes), or whatever else :func:`gene_sets` reads, or
        its result. A pathway without a description has its name as id.
    hierarchy
        ``ReactomePathwaysRelation.txt``, or a table with the columns ``parent`` and ``child``, or its path; ids. Of
        relations with species in their ids (``R-HSA-109581``) those of the species of ``gmt`` are read.
    names
        Other names of genes.
    keep_others
        Keep genes of the source that are not among ``genes``: how rare a pathway is counts all genes.
    version
        Release of Reactome, for the record.

    Returns
    -------
    PathwayHierarchy
        The genes that the source knows, under the names of ``genes``, and all pathways of both files.

    Raises
    ------
    FileNotFoundError
        No file is at a path.
    DataError
        A file is damaged or lacks columns; pathways share an id, or are their own ancestors; no relation is about
        the pathways of ``gmt``; none of the genes is found.

    Notes
    -----
    A pathway holds the genes of its children. The sets of Reactome are written so, but files of two releases differ:
    where a parent lacks a gene of its child, or has no set at all, the gene is added to it. So a gap between a pathway
    and its ancestor does not make the ancestor look specific. ``attrs["left_out"]`` counts these, pathways that stand
    in one of the files only, and relations of other species.

    Reactome: Gillespie et al. 2022, CC0.

    Examples
    --------
    >>> sets = {"Immunity": ["STAT1", "IRF1", "TLR4"], "Interferon": ["STAT1", "IRF1"], "Heme": ["ALAS2"]}
    >>> pathways = reactome(None, sets, pd.DataFrame({"parent": ["Immunity"], "child": ["Interferon"]}))
    >>> pathways
    PathwayHierarchy('reactome', 4 genes, 3 pathways (3 with genes), 1 relations)
    >>> pathways.pathways("STAT1", level=2)[["gene", "level", "name"]].to_numpy().tolist()
    [['STAT1', 2, 'Immunity']]
    """
    sets = gmt if isinstance(gmt, GeneSets) else gene_sets(gmt, name="reactome")
    set_ids = tuple(said or name for said, name in zip(sets.descriptions, sets.sets, strict=True))
    shared = [one for one, count in Counter(set_ids).items() if count > 1]
    if shared:
        raise DataError(f"{sets.name}: {len(shared)} ids stand for several pathways: {name_some(shared)}.")
    relations, n_foreign = _relations(hierarchy, set_ids)
    named = set(relations.to_numpy().ravel())
    without_set = sorted(named.difference(set_ids))
    ids = set_ids + tuple(without_set)
    number = pd.Index(ids)
    ends = [number.get_indexer(pd.Index(relations[end])) for end in ("parent", "child")]
    parent, child = np.unique(np.array(ends), axis=1)
    found = find_genes(genes, sets.genes, what="Reactome", names=names, keep_others=keep_others)
    kept = tuple(sorted(found))
    rows = pd.Index(sets.genes).get_indexer(pd.Index([found[gene] for gene in kept], dtype=object))
    written = sparse.csr_array(sets.membership[rows])
    written.resize(len(kept), len(ids))
    member = propagated(written, relation_matrix(parent, child, ids))
    said = {"source": "Reactome", "version": version, "licence": "CC0", "derived_from": "curated pathways"}
    counts = {
        "relations of other species": n_foreign,
        "pathways in the hierarchy without a set": len(without_set),
        "sets that are not in the hierarchy": len(set(set_ids) - named),
        "genes added to a parent that lacks a gene of its child": member.nnz - written.nnz,
    }
    attrs = count_left_out({**sets.attrs, **said}, counts, "reactome")
    return PathwayHierarchy("reactome", kept, ids, sets.sets + tuple(without_set), member, parent, child, attrs)


def _relations(hierarchy: Table, set_ids: tuple[str, ...]) -> tuple[pd.DataFrame, int]:
    """Columns parent and child, of the species of the sets; and how many are of others."""
    frame = read_table(hierarchy, {}, what=_WHAT)
    if len(frame.columns) == 2 and all(_ID.fullmatch(str(label)) for label in frame.columns):
        # Reactome's own file has no header: its first relation was taken for one
        first = pd.DataFrame([frame.columns.tolist()], columns=["parent", "child"])
        frame = pd.concat([first, frame.set_axis(["parent", "child"], axis=1)], ignore_index=True)
    pairs = read_table(frame, {"parent": (), "child": ()}, what=_WHAT)[["parent", "child"]]
    gaps = pairs.isna().any(axis=1).to_numpy()
    if gaps.any():
        rows = name_some(np.flatnonzero(gaps).tolist())
        raise DataError(f"{_WHAT}: {int(gaps.sum())} rows without parent or child, at rows {rows}.")
    pairs = pairs.astype(str)
    species = {_species(one) for one in set_ids}
    same = pairs.map(lambda one: _species(one) in species).all(axis=1)
    if pairs[same].isin(set(set_ids)).to_numpy().any():
        return pairs[same], int((~same).sum())
    raise DataError(
        f"{_WHAT}: none of {len(pairs)} relations is about the {len(set_ids)} pathways; first ids: "
        f"{name_some(set_ids, most=3)} / {name_some(pairs['parent'], most=3)}. Use files of one species, and a GMT "
        "file with the ids in its second column, as Reactome's own."
    )


def _species(pathway: str) -> str:
    """``R-HSA`` of an id of Reactome; empty for other ids."""
    return pathway.rpartition("-")[0] if _ID.fullmatch(pathway) else ""
