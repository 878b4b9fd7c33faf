"""From the attention of pairs of genes to that of pathways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules.priors import GeneSets
from scperturb_modules.priors._pathway_levels import members_among

COLUMNS = ("condition", "pathway", "name", "n_genes", "attention", "change")


def pathway_attention(
    weights: NDArray[np.floating],
    edges: NDArray[np.integer],
    pathways: GeneSets,
    genes: Sequence[str],
    conditions: Sequence[str],
) -> pd.DataFrame:
    """How much of their attention the genes of a pathway pay to each other.

    Parameters
    ----------
    weights
        (P + 1, E) attention of permitted pairs in P conditions, and last in the unperturbed cell.
    edges
        (E, 2) the gene that attends and the one that it attends to.
    pathways, genes
        Pathways, and the measured genes that edges count.
    conditions
        P names.

    Returns
    -------
    DataFrame
        A row for each condition and pathway with two measured genes or more: ``condition``, ``pathway``, ``name``,
        ``n_genes``, ``attention`` (0 to 1, the mean over the pathway's genes of what they pay to its other genes) and
        ``change`` (minus that of the unperturbed cell); for each condition the largest changes first.
    """
    member = members_among(genes, pathways.genes, pathways.membership)
    size = np.asarray(member.sum(axis=0)).ravel()
    used = np.flatnonzero(size >= 2)
    shared = sparse.csr_array(member[edges[:, 0]][:, used].multiply(member[edges[:, 1]][:, used]))
    shared = sparse.csr_array(sparse.diags_array((edges[:, 0] != edges[:, 1]).astype(np.float64)) @ shared)
    paid = np.asarray(weights, dtype=np.float64) @ shared / size[used]
    tables = [
        _table(name, of_row, of_row - paid[-1], pathways, used, size[used])
        for name, of_row in zip(conditions, paid[:-1], strict=True)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _table(
    condition: str,
    attention: NDArray,
    change: NDArray,
    pathways: GeneSets,
    used: NDArray[np.intp],
    size: NDArray,
) -> pd.DataFrame:
    order = np.argsort(-np.abs(change), kind="stable")
    names = np.array(pathways.sets, dtype=object)[used][order]
    ids = np.array(pathways.descriptions, dtype=object)[used][order]
    columns = (
        condition,
        np.where(ids == "", names, ids),
        names,
        size[order].astype(int),
        attention[order],
        change[order],
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
