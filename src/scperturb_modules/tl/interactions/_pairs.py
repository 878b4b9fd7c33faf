"""Which rows of a conditions x features AnnData are pairs, and where their singles are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, canonical_condition, genes_of, parse_row_name, row_name
from scperturb_modules._errors import DataError, name_some, require_key

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """D pairs and the R rows that they consist of.

    Attributes
    ----------
    pairs
        (condition, context) of each pair.
    rows
        Those of A, B and A+B of every pair, each once, as far as they exist.
    index
        (D, 3) position of A, B and A+B in ``rows``; -1 where there is no such row.
    sources
        (AnnData, positions in it): the rows in their order, those of ``data`` before those of ``singles``.
    n_higher_order
        Rows of three genes or more, which are not scored.
    """

    pairs: tuple[Row, ...]
    rows: tuple[Row, ...]
    index: NDArray[np.intp]
    sources: tuple[tuple[AnnData, NDArray[np.intp]], ...]
    n_higher_order: int

    @property
    def names(self) -> list[str]:
        return [row_name(*row) for row in self.pairs]

    @property
    def is_complete(self) -> NDArray[np.bool_]:
        """(D,) whether both singles and the pair itself are there."""
        return np.all(self.index >= 0, axis=1)

    @property
    def missing(self) -> list[list[str]]:
        """Names of the rows that each pair lacks."""
        return [
            [row_name(part, context) for part, at in zip((*genes_of(pair), pair), index, strict=True) if at < 0]
            for (pair, context), index in zip(self.pairs, self.index, strict=True)
        ]

    def table(self) -> pd.DataFrame:
        """Names, contexts and genes of the pairs."""
        genes = [genes_of(pair) for pair, _ in self.pairs]
        columns: dict[str, Any] = {keys.PERTURBATION: [pair for pair, _ in self.pairs]}
        if any(context is not None for _, context in self.pairs):
            columns[keys.CELL_TYPE] = [context or "" for _, context in self.pairs]
        columns |= {"gene_a": [first for first, _ in genes], "gene_b": [second for _, second in genes]}
        return pd.DataFrame(columns, index=pd.Index(self.names, dtype=object), dtype=object)

    def values(self, layer: str | None, genes: Sequence[str]) -> Array:
        """(R, m) values of ``X`` or a layer of every row."""
        blocks = [values_of(source, layer, genes)[at] for source, at in self.sources]
        return np.concatenate(blocks) if blocks else np.empty((0, len(genes)))

    def of_pairs(self, values: Array) -> Array:
        """(D, 3, ...) of A, B and A+B from (R, ...); NaN where a row is missing."""
        padded = np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])
        return padded[self.index]


def find_pairs(data: AnnData, pairs: Iterable[str] | None, singles: AnnData | None) -> Pairs:
    """Look up every pair, or those named, and their singles in the same context.

    Raises
    ------
    DataError
        Two rows of one condition, a name that is no pair, or no pair at all.
    """
    control = control_of(data)
    own = row_positions(data, control)
    others = {} if singles is None else row_positions(singles, control_of(singles))
    orders = [len(genes_of(condition)) for condition, _ in own]
    wanted = _all_pairs(own) if pairs is None else _named_pairs(pairs, own, control)
    n_higher = int(np.sum(np.array(orders) > 2))
    if n_higher:
        logger.info("%d conditions of three genes or more are left out: only pairs are scored.", n_higher)
    if not wanted:
        raise DataError(
            f"No row of data is a pair: its {data.n_obs} rows are {name_some(data.obs_names)}. "
            "Pairs are named 'A+B' or 'A+B|context' in obs_names."
        )
    parts = [[*((gene, context) for gene in genes_of(pair)), (pair, context)] for pair, context in wanted]
    used = dict.fromkeys(row for triple in parts for row in triple)
    here = [row for row in used if row in own]
    there = [row for row in used if row not in own and row in others and len(genes_of(row[0])) == 1]
    number = {row: i for i, row in enumerate([*here, *there])}
    sources = [(data, np.array([own[row] for row in here], dtype=np.intp))]
    if singles is not None:
        sources.append((singles, np.array([others[row] for row in there], dtype=np.intp)))
    index = np.array([[number.get(row, -1) for row in triple] for triple in parts], dtype=np.intp)
    return Pairs(tuple(wanted), tuple(number), index, tuple(sources), n_higher)


def _all_pairs(own: Iterable[Row]) -> list[Row]:
    return [row for row in own if len(genes_of(row[0])) == 2]


def _named_pairs(names: Iterable[str], own: Iterable[Row], control: str) -> list[Row]:
    """A name without a context asks for the pair in every context in which it is there."""
    if isinstance(names, str):
        raise DataError(f"pairs={names!r} is one text; give a list: [{names!r}].")
    rows: dict[Row, None] = {}
    strange = []
    for name in names:
        condition, context = parse_row_name(str(name))
        genes = genes_of(condition, control=control)
        pair = canonical_condition(genes)
        if len(genes) != 2:
            strange.append(name)
        elif context is not None:
            rows[pair, context] = None
        else:
            rows.update(dict.fromkeys([row for row in own if row[0] == pair] or [(pair, None)]))
    if strange:
        raise DataError(f"{len(strange)} of pairs do not name two genes: {name_some(strange)}. A pair is 'A+B'.")
    return list(rows)


def row_positions(data: AnnData, control: str) -> dict[Row, int]:
    """Where each perturbed (condition, context) of a conditions x features AnnData is."""
    found: dict[Row, int] = {}
    twice = []
    for position, name in enumerate(map(str, data.obs_names)):
        condition, context = parse_row_name(name)
        genes = genes_of(condition, control=control)
        row = (canonical_condition(genes), context)
        if row in found:
            twice.append(name)
        elif genes:
            found[row] = position
    if twice:
        raise DataError(
            f"{len(twice)} rows name a condition that is there already: {name_some(twice)}. Keep one of each."
        )
    return found


def control_of(data: AnnData) -> str:
    return setup_of(data).control


def setup_of(data: AnnData) -> keys.ScreenKeys:
    """The keys with which a pseudobulk or a Prediction was made; the usual ones where none are recorded."""
    return keys.ScreenKeys.from_uns(data.uns.get(keys.ROOT, {}).get(keys.SETUP, {}))


def values_of(data: AnnData, layer: str | None, genes: Sequence[str]) -> Array:
    """(rows, m) float64 of ``X`` or a layer, for the genes named."""
    if layer is not None:
        require_key(layer, data.layers, "layers", mend="Pass layer=None to use X.")
    matrix = data.X if layer is None else data.layers[layer]
    if matrix is None:
        raise DataError("data.X is empty (None); pass the layer with the changes as layer=.")
    block = matrix[:, data.var_names.get_indexer(pd.Index(genes))]
    return np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float64)
