"""What the enrichment of attention compares: tables of attention with the same rows and nodes, and sets of genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._attention import stored_attention
from scperturb_modules._conditions import genes_of_row, parse_row_name
from scperturb_modules._errors import DataError, MissingKeyError, name_some, require_key

if TYPE_CHECKING:
    from anndata import AnnData

Matrix = NDArray[np.float64]
By = Literal["neighbours", "condition", "set"]

NEIGHBOURS, CONDITION, SET = "neighbours", "condition", "set"
SUM_TOLERANCE = 1e-3
"""Rows of float32 weights sum to 1 within this; a row that sums to less was cut to its top nodes."""


@dataclass(frozen=True)
class GeneSets:
    """Which nodes are in which set.

    Attributes
    ----------
    names
        Names of the S sets.
    members
        (S, N) zeros and ones where every condition is tested with every set; (P, N) and S = 1 where each condition has
        a set of its own.
    absent
        (S,) or (P,) number of genes of the set that are no node.
    own
        Whether each condition has a set of its own.
    """

    names: tuple[str, ...]
    members: sparse.csr_array
    absent: NDArray[np.int64]
    own: bool

    def sums(self, values: Matrix) -> Matrix:
        """(P, S) sum of (P, N) values over the nodes of each set."""
        if self.own:
            return np.asarray(self.members.multiply(values).sum(axis=1)).reshape(-1, 1)
        return np.asarray((self.members @ values.T).T)


def attention_table(source: AnnData | pd.DataFrame, what: str) -> pd.DataFrame:
    """Conditions x nodes weights (float64) of a Prediction, or the table itself, checked.

    Raises
    ------
    MissingKeyError
        The Prediction holds no attention.
    DataError
        Weights that are no attention: none at all, negative, not finite, rows above 1, repeated names.
    """
    table = source if isinstance(source, pd.DataFrame) else stored_attention(source, what)
    if table.empty:
        raise DataError(f"{what} is empty: {len(table)} conditions, {table.shape[1]} nodes.")
    for axis, names in (("rows", table.index), ("nodes", table.columns)):
        if not names.is_unique:
            raise DataError(f"{what} has repeated {axis}: {name_some(names[names.duplicated()].unique())}.")
    table = table.astype(np.float64)
    values = table.to_numpy()
    with np.errstate(invalid="ignore"):
        good = np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (values.sum(axis=1) <= 1 + SUM_TOLERANCE)
    if not good.all():
        raise DataError(
            f"{what} holds no attention in {int((~good).sum())} rows: {name_some(table.index[~good])}. Weights are "
            "finite, not negative, and sum to 1 in each row (less where only the top nodes are kept)."
        )
    return table


def aligned(tables: Sequence[pd.DataFrame], like: pd.DataFrame) -> list[pd.DataFrame]:
    """Null tables with the rows and nodes of ``like``, in its order.

    Raises
    ------
    DataError
        A null lacks conditions, or has other nodes: then it was not fitted on a relabelled copy of the same network.
    """
    result = []
    for i, table in enumerate(tables):
        lost = like.index.difference(table.index)
        if len(lost):
            raise DataError(f"null[{i}] lacks {len(lost)} conditions: {name_some(lost)}. Predict the same conditions.")
        other = like.columns.symmetric_difference(table.columns)
        if len(other):
            raise DataError(
                f"null[{i}] has other nodes than the attention; {len(other)} are in one of them only: "
                f"{name_some(other)}. Fit the null models on the same network with its labels permuted."
            )
        result.append(table.loc[like.index, like.columns])
    return result


def cut(tables: Sequence[pd.DataFrame], n_top: int | None) -> list[Matrix]:
    """Values of all tables, kept to the ``n_top`` largest of each row (and ties with the last of them).

    Raises
    ------
    DataError
        Some tables were stored with their top nodes only and others whole, and ``n_top`` does not make them alike.
    """
    values = [table.to_numpy() for table in tables]
    if n_top is None:
        is_cut = [bool((table.sum(axis=1) < 1 - SUM_TOLERANCE).any()) for table in values]
        if len(set(is_cut)) > 1:
            short = [table for table, is_short in zip(values, is_cut, strict=True) if is_short]
            least = min(int((table > 0).sum(axis=1).min()) for table in short)
            raise DataError(
                "Some of the tables (attention, null) hold only the top nodes of each row, others all nodes; their "
                f"ranks cannot be compared. Pass n_top={least}, so that all are cut alike."
            )
        return values
    if n_top < 1:
        raise ValueError(f"n_top={n_top} keeps no node; give a positive number or None.")
    n = min(n_top, values[0].shape[1])
    least_kept = [-np.partition(-table, n - 1, axis=1)[:, n - 1 : n] for table in values]
    return [np.where(table >= least, table, 0.0) for table, least in zip(values, least_kept, strict=True)]


def resolve_sets(gene_sets: Any, by: By | None, rows: pd.Index, nodes: pd.Index) -> GeneSets:
    """Build the sets from what the caller gave; see :func:`scperturb_modules.tl.attention_enrichment`.

    Raises
    ------
    ValueError
        ``by`` is needed, or does not fit ``gene_sets``.
    DataError
        No set, or none that has to do with these conditions.
    """
    kind = _kind(gene_sets, by)
    if not len(gene_sets):
        raise DataError("gene_sets is empty.")
    if kind == SET:
        names = tuple(str(name) for name in gene_sets)
        return _gene_sets(names, [_genes(gene_sets[name], name) for name in gene_sets], nodes, own=False)
    if kind == NEIGHBOURS:
        return _gene_sets((NEIGHBOURS,), _neighbours(gene_sets, rows), nodes, own=True)
    return _gene_sets((CONDITION,), _of_conditions(gene_sets, rows), nodes, own=True)


def perturbed_mask(rows: pd.Index, nodes: pd.Index) -> NDArray[np.bool_]:
    """(P, N): whether the node is a perturbed gene of the row."""
    mask = np.zeros((len(rows), len(nodes)), dtype=bool)
    for line, name in zip(mask, rows, strict=True):
        found = nodes.get_indexer(pd.Index(genes_of_row(str(name)), dtype=object))
        line[found[found >= 0]] = True
    return mask


def _kind(gene_sets: Any, by: By | None) -> str:
    if isinstance(gene_sets, pd.DataFrame):
        if by not in (None, NEIGHBOURS):
            raise ValueError(f"gene_sets is a table of edges, which goes with by='neighbours', not by={by!r}.")
        return NEIGHBOURS
    if not isinstance(gene_sets, Mapping):
        raise ValueError("gene_sets is a table of edges (source, target) or a mapping from names to genes.")
    if by not in (CONDITION, SET):
        raise ValueError(
            f"by={by!r} does not say what the names in gene_sets are: by='condition' (the genes of each condition, "
            "for example its true responders) or by='set' (gene sets such as pathways, tested in every condition)."
        )
    return by


def _genes(given: Iterable[str], name: object) -> set[str]:
    if isinstance(given, str):
        raise ValueError(f"gene_sets[{name!r}] is the text {given!r}; give a list of genes.")
    return {str(gene) for gene in given}


def _neighbours(edges: pd.DataFrame, rows: pd.Index) -> list[set[str]]:
    """Per row the genes joined to a perturbed gene by an edge, in either direction."""
    for column in ("source", "target"):
        require_key(
            column, edges.columns, "the columns of the edge table", mend="An edge is a row of source and target."
        )
    around: dict[str, set[str]] = {}
    for source, target in zip(edges["source"].astype(str), edges["target"].astype(str), strict=True):
        around.setdefault(source, set()).add(target)
        around.setdefault(target, set()).add(source)
    sets: list[set[str]] = [set().union(*(around.get(gene, set()) for gene in genes_of_row(str(row)))) for row in rows]
    if not any(sets):
        raise DataError(
            f"No perturbed gene of {len(rows)} conditions ({name_some(rows)}) is in the edge table; its genes are "
            f"{name_some(around)}. Both need the same kind of gene names."
        )
    return sets


def _of_conditions(gene_sets: Mapping[str, Iterable[str]], rows: pd.Index) -> list[set[str]]:
    """Per row its own genes: those of ``condition|context``, else those of the condition."""
    sets, found = [], 0
    for row in map(str, rows):
        name = row if row in gene_sets else parse_row_name(row)[0]
        found += name in gene_sets
        sets.append(_genes(gene_sets[name], name) if name in gene_sets else set())
    if not found:
        raise MissingKeyError(
            f"gene_sets has none of the {len(rows)} conditions ({name_some(rows)}); it has {name_some(gene_sets)}. "
            "With by='set' the names are those of gene sets."
        )
    return sets


def _gene_sets(names: tuple[str, ...], sets: Sequence[set[str]], nodes: pd.Index, *, own: bool) -> GeneSets:
    columns, starts, absent = [], [0], []
    for genes in sets:
        found = nodes.get_indexer(pd.Index(sorted(genes), dtype=object))
        columns.append(found[found >= 0])
        starts.append(starts[-1] + len(columns[-1]))
        absent.append(int((found < 0).sum()))
    flat = np.concatenate(columns)
    members = sparse.csr_array((np.ones(len(flat)), flat, starts), shape=(len(sets), len(nodes)))
    return GeneSets(names, members, np.array(absent, dtype=np.int64), own)
