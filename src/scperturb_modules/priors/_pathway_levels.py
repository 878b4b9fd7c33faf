"""Which pathways of a hierarchy hold a gene on which level: products of sparse matrices instead of walks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from scperturb_modules._errors import DataError, name_some

Index: TypeAlias = NDArray[np.intp]
Level: TypeAlias = int | str

LEVELS: tuple[Level, ...] = (1, 2, 3, "leaf", "top", "all")


def ones(row: Index, column: Index, shape: tuple[int, int]) -> sparse.csr_array:
    """A sparse matrix of ones at these places; a place named twice holds one 1."""
    matrix = sparse.coo_array((np.ones(len(row)), (row, column)), shape=shape).tocsr()
    matrix.data[:] = 1.0
    return matrix


def members_among(genes: Sequence[str], members: Sequence[str], membership: sparse.csr_array) -> sparse.csr_array:
    """(n, S) which of ``genes`` are in which sets, from the rows that ``members`` have; others are in none."""
    place = pd.Index(members).get_indexer(pd.Index(genes))
    known = np.flatnonzero(place >= 0)
    entries = membership[place[known]].tocoo()
    return ones(known[entries.row], entries.col, (len(genes), membership.shape[1]))


def relation_matrix(parent: Index, child: Index, ids: tuple[str, ...]) -> sparse.csr_array:
    """(S, S) with a 1 from each pathway to each of its parents.

    Raises
    ------
    DataError
        Pathways are their own ancestors; the message names them.
    """
    up = ones(child, parent, (len(ids), len(ids)))
    n_parts, part = connected_components(up, directed=True, connection="strong")
    is_cyclic = (np.bincount(part, minlength=n_parts) > 1)[part]
    is_cyclic[parent[parent == child]] = True
    if is_cyclic.any():
        names = [ids[i] for i in np.flatnonzero(is_cyclic)]
        raise DataError(
            f"pathway hierarchy: {len(names)} pathways are their own ancestors: {name_some(names)}. "
            "Take one relation of each cycle out of the table."
        )
    return up


def depths(up: sparse.csr_array) -> Index:
    """(S,) steps of the longest way to a pathway without parents, which has depth 0."""
    child, parent = up.nonzero()
    depth = np.zeros(up.shape[0], dtype=np.intp)
    while True:
        deeper = depth.copy()
        np.maximum.at(deeper, child, depth[parent] + 1)
        if np.array_equal(deeper, depth):
            return depth
        depth = deeper


def ancestors(up: sparse.csr_array, pathway: int) -> list[int]:
    """Parents of a pathway, their parents and so on, each once, by number."""
    found: set[int] = set()
    last = {pathway}
    while last:
        last = set(up[sorted(last)].indices.tolist()) - found
        found |= last
    return sorted(found)


def longest_path(up: sparse.csr_array, pathway: int, ids: tuple[str, ...]) -> list[int]:
    """The longest way from a pathway to one without parents; of several the first by id."""
    depth = depths(up)
    path = [pathway]
    while depth[path[-1]] > 0:
        parents = up[[path[-1]]].indices
        nearest = parents[depth[parents] == depth[path[-1]] - 1]
        path.append(min(nearest.tolist(), key=ids.__getitem__))
    return path


def propagated(member: sparse.csr_array, up: sparse.csr_array) -> sparse.csr_array:
    """(n, S) memberships in which every pathway also holds the genes of its descendants."""
    while (added := _only_in_children(member, up)).nnz:
        member = sparse.csr_array(member + added)
    return member


def is_propagated(member: sparse.csr_array, up: sparse.csr_array) -> bool:
    """Whether every pathway holds the genes of its children."""
    return _only_in_children(member, up).nnz == 0


def _only_in_children(member: sparse.csr_array, up: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array(_pattern(member @ up) > member).astype(np.float64)


def level_membership(member: sparse.csr_array, up: sparse.csr_array, level: Level) -> sparse.csr_array:
    """(n, S) ones where a pathway holds a gene on a level, from propagated memberships.

    Raises
    ------
    ValueError
        There is no such level.
    """
    if isinstance(level, bool) or level not in LEVELS:
        raise ValueError(f"level={level!r} is unknown; use 1, 2, 3, 'leaf' (the same as 1), 'top' or 'all'")
    is_top = np.diff(up.indptr) == 0
    if level == "all":
        return member
    if level == "top":
        return _pattern(member @ sparse.diags_array(is_top.astype(np.float64), format="csr"))
    found = _pattern((member > member @ up).astype(np.float64))
    # a top pathway stands for the levels that a short chain lacks: it is its own parent
    up_or_stay = sparse.csr_array(up + sparse.diags_array(is_top.astype(np.float64)))
    for _ in range(0 if level == "leaf" else int(level) - 1):
        found = _pattern(found @ up_or_stay)
    return found


def _pattern(matrix: sparse.csr_array) -> sparse.csr_array:
    """Ones where there is anything but 0."""
    matrix = sparse.csr_array(matrix)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    matrix.data[:] = 1.0
    return matrix
