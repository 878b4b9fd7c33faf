"""Terms of the Gene Ontology and what is above them: a table or an OBO file, checked once."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._go_annotations import as_aspects
from scperturb_modules.priors._graph import Index
from scperturb_modules.priors._read import Table, read_file, read_table

_FOLLOWED = ("is_a", "part_of", "isa", "part of")
"""Relations along which a gene of a term belongs to the parent too; ``regulates`` is none of them."""


@dataclass(frozen=True)
class Terms:
    """Terms (T) and their parents.

    Attributes
    ----------
    ids
        (T,) GO ids.
    names, aspects
        (T,) text; the aspect is BP, MF or CC.
    parents
        (T, T) ones where the column is a parent of the row by is_a or part_of and of the same aspect.
    other_ids
        Alternative ids of terms, to their ids.
    """

    ids: pd.Index
    names: NDArray[np.object_]
    aspects: NDArray[np.object_]
    parents: sparse.csr_array
    other_ids: dict[str, str] = field(default_factory=dict)

    def with_ancestors(self, terms: Index) -> sparse.csr_array:
        """(len(terms), T) ones for each of the terms itself and everything above it."""
        step = sparse.csr_array(sparse.eye_array(len(self.ids), format="csr")[terms])
        reached = step
        while step.nnz:
            step = sparse.csr_array(step @ self.parents)
            reached = sparse.csr_array(reached + step)
            step.data[:] = reached.data[:] = 1.0
        return reached


def read_terms(source: Table) -> Terms:
    """Read terms.

    Parameters
    ----------
    source
        Path of an OBO file (``.obo``, ``.obo.gz``), or a table, or its path, with the columns ``go_id``, ``name``,
        ``aspect`` and ``parents`` (``GO:0048308|is_a;GO:0048311|part_of``; blank for a root).

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged; columns are absent; an id stands twice; an aspect or a parent is unknown; terms are their
        own ancestors.
    """
    if not isinstance(source, pd.DataFrame) and ".obo" in Path(source).suffixes:
        table, other_ids = read_file(source, _read_obo, what="GO terms")
    else:
        wanted = {"go_id": ("GO_ID", "id"), "name": (), "aspect": ("Aspect", "namespace"), "parents": ()}
        table, other_ids = read_table(source, wanted, what="GO terms"), {}
    text = table[["go_id", "name", "aspect", "parents"]].astype(object)
    text = text.where(text.notna(), "").astype(str)
    ids = pd.Index(text["go_id"], dtype=object)
    if not len(ids) or ids.has_duplicates:
        twice = name_some(ids[ids.duplicated()].unique()) or "it is empty"
        raise DataError(f"GO terms: every term stands once in the table; {twice}.")
    aspects = as_aspects(text["aspect"], what="GO terms").to_numpy(dtype=object)
    parents = _parents(ids, aspects, text["parents"].to_numpy(dtype=object), other_ids)
    return Terms(ids, text["name"].to_numpy(dtype=object), aspects, parents, other_ids)


def _parents(
    ids: pd.Index, aspects: NDArray[np.object_], written: NDArray[np.object_], other_ids: dict[str, str]
) -> sparse.csr_array:
    listed = [(child, *one.strip().partition("|")) for child, text in enumerate(written) for one in text.split(";")]
    listed = [one for one in listed if one[1]]
    bare = [parent for _, parent, _, relation in listed if not relation]
    if bare:
        raise DataError(f"GO terms: {len(bare)} parents without a relation: {name_some(bare)}. Write GO:0048308|is_a.")
    listed = [one for one in listed if one[3] in _FOLLOWED]
    child = np.array([one[0] for one in listed], dtype=np.intp)
    place = ids.get_indexer(pd.Index([other_ids.get(one[1], one[1]) for one in listed], dtype=object))
    if (place < 0).any():
        pairs = [f"{ids[child]} -> {parent}" for (child, parent, *_), at in zip(listed, place, strict=True) if at < 0]
        raise DataError(f"GO terms: {len(pairs)} parents are not in the table: {name_some(pairs)}.")
    followed = aspects[child] == aspects[place]
    ends = child[followed], place[followed]
    parents = sparse.coo_array((np.ones(len(ends[0])), ends), shape=(len(ids), len(ids))).tocsr()
    parents.data[:] = 1.0
    _no_cycle(ids, parents)
    return parents


def _no_cycle(ids: pd.Index, parents: sparse.csr_array) -> None:
    _, label = csgraph.connected_components(parents, directed=True, connection="strong")
    ring = np.bincount(label)[label] > 1
    ring |= parents.diagonal() > 0
    if ring.any():
        raise DataError(f"GO terms: {ring.sum()} terms are their own ancestors: {name_some(ids[ring])}.")


def _read_obo(path: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Terms of an OBO file that are not obsolete, and to which of them alternative ids belong."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
        stanzas = file.read().split("\n[")[1:]
    rows, other_ids = [], {}
    for stanza in stanzas:
        kind, *lines = stanza.split("\n")
        said: dict[str, list[str]] = {}
        for line in lines:
            key, _, value = line.partition(": ")
            said.setdefault(key, []).append(value.partition(" ! ")[0].strip())
        if kind.strip() != "Term]" or said.get("is_obsolete") == ["true"]:
            continue
        id_, name, aspect = ("".join(said.get(key, [])) for key in ("id", "name", "namespace"))
        parents = [f"{value.split()[0]}|is_a" for value in said.get("is_a", [])]
        parents += ["|".join(value.split()[1::-1]) for value in said.get("relationship", [])]
        rows.append((id_, name, aspect, ";".join(parents)))
        other_ids.update(dict.fromkeys(said.get("alt_id", []), id_))
    return pd.DataFrame(rows, columns=["go_id", "name", "aspect", "parents"]), other_ids
