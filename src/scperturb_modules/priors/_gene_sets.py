"""Builder of gene sets from what users have: a GMT file, a table, a dictionary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gmt import SetSource, members_table, read_sets
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._set_table import GeneSets, count_left_out

__all__ = ["GeneSets", "count_left_out", "gene_sets"]


def gene_sets(
    gmt: SetSource,
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    min_size: int = 1,
    max_size: int | None = None,
    version: str = "",
    names: GeneNames | None = None,
    keep_others: bool = False,
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
    version
        Version of the source, where it is known.
    names
        Other names of genes.
    keep_others
        Keep genes that are not among ``genes``: how rare a set is counts all genes.

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
    label = name or _name_of(gmt)
    raw = read_sets(gmt, what=label)
    set_number = np.repeat(np.arange(len(raw.members)), [len(members) for members in raw.members.values()])
    symbols, membership = members_table(
        np.array([gene for members in raw.members.values() for gene in members], dtype=object),
        set_number,
        len(raw.members),
    )
    attrs = {"derived_from": f"gene sets {label}", **raw.attrs} | ({"version": version} if version else {})
    attrs = count_left_out(attrs, raw.mended, label)
    every = GeneSets(label, symbols, tuple(raw.members), membership, raw.descriptions, attrs)
    part = every if genes is None else every.subset(genes, names=names, keep_others=keep_others)
    largest = int(part.size.max())
    most = largest if max_size is None else max_size
    fits = (part.size >= min_size) & (part.size <= most)
    if not fits.any():
        raise DataError(f"{label}: no set has {min_size} to {most} of the genes; the largest has {largest}.")
    return part.with_sets(fits, "sets too small or too large")


def _name_of(source: SetSource) -> str:
    if isinstance(source, pd.DataFrame):
        return str(source.attrs.get("name", "gene_sets"))
    if isinstance(source, Mapping):
        return "gene_sets"
    name = Path(source).name
    for ending in (".gz", ".gmt", ".tsv", ".csv", ".txt"):
        name = name.removesuffix(ending)
    return name
