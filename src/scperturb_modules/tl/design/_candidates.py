"""Which conditions can be tested next."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._conditions import Row, canonical_condition, genes_of, row_name
from scperturb_modules._errors import DataError, ScreenWarning, name_some, require_key
from scperturb_modules.baselines._prediction import resolve_rows
from scperturb_modules.baselines._training import TrainingData, contexts_of, control_label
from scperturb_modules.priors import as_tables

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

CONDITION, COST = "condition", "cost"
MANY = 20_000


@dataclass(frozen=True)
class Candidates:
    """N conditions in their contexts; ``cost`` (N,) where it is known."""

    rows: tuple[Row, ...]
    genes: tuple[tuple[str, ...], ...]
    cost: NDArray[np.float64] | None = None

    @property
    def names(self) -> list[str]:
        return [row_name(*row) for row in self.rows]

    def take(self, at: Sequence[int] | NDArray[Any]) -> Candidates:
        """Some of them, in this order."""
        at = np.asarray(at)
        positions = np.flatnonzero(at) if at.dtype == bool else at.astype(np.intp)
        rows, genes = tuple(self.rows[i] for i in positions), tuple(self.genes[i] for i in positions)
        return Candidates(rows, genes, None if self.cost is None else self.cost[positions])


def candidates_from(given: Any, training: AnnData, tested: TrainingData, priors: Any) -> Candidates:
    """Read what the user passed, or list what has not been tested.

    Raises
    ------
    DataError
        Conditions of three genes or more, a condition named twice, costs that are not positive numbers, or nothing
        that could be tested.
    MissingKeyError
        A table without the column ``condition``.
    """
    cost: NDArray[np.float64] | None = None
    if given is None:
        names = untested(tested, priors)
    elif isinstance(given, pd.DataFrame):
        require_key(CONDITION, given.columns, "candidates", mend="Name the column with the conditions so.")
        names = [str(name) for name in given[CONDITION]]
        cost = _costs(given[COST]) if COST in given.columns else None
    elif isinstance(given, str):
        raise DataError(f"candidates={given!r} is one text; give a list: [{given!r}].")
    else:
        names = [str(name) for name in given]
    if not names:
        raise DataError("There is no candidate: pass names such as ['A+B'], or a table with a column 'condition'.")
    return _resolve(names, cost, training)


def untested(tested: TrainingData, priors: Any) -> list[str]:
    """All untested pairs of singles measured in one context, and with priors the untested singles that they cover."""
    covered = sorted({str(gene) for table in as_tables(priors).values() for gene in table.dropna().index})
    singles = [row for row, genes in zip(tested.rows, tested.genes, strict=True) if len(genes) == 1]
    rows: list[Row] = []
    for context in tested.perturbed_contexts:
        here = sorted(gene for gene, where in singles if where == context)
        rows += [(canonical_condition(pair), context) for pair in combinations(here, 2)]
        rows += [(gene, context) for gene in covered]
    names = [row_name(*row) for row in rows if row not in tested.index]
    n_pairs = sum("+" in name for name in names)
    logger.info(
        "%d candidates: %d untested pairs of tested singles, %d new singles.", len(names), n_pairs, len(names) - n_pairs
    )
    if len(names) > MANY:
        warnings.warn(
            f"{len(names)} untested conditions are candidates; that takes long. Pass a table of those that you would "
            "test as candidates=.",
            ScreenWarning,
            stacklevel=4,
        )
    return names


def _resolve(names: list[str], cost: NDArray[np.float64] | None, training: AnnData) -> Candidates:
    control = control_label(training)
    rows: list[Row] = []
    costs: list[float] = []
    for i, name in enumerate(names):
        found = resolve_rows([name], contexts_of(training), control=control)
        rows += found
        costs += [np.nan if cost is None else cost[i]] * len(found)
    genes = [genes_of(condition, control=control) for condition, _ in rows]
    many = [row_name(*row) for row, some in zip(rows, genes, strict=True) if len(some) > 2]
    if many:
        raise DataError(
            f"{len(many)} candidates perturb three genes or more: {name_some(many)}. Only singles and pairs are "
            "ranked; leave them out."
        )
    seen: set[Row] = set()
    twice = [row_name(*row) for row in rows if row in seen or seen.add(row)]  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{len(twice)} candidates are named twice: {name_some(twice)}. A+B and B+A are the same.")
    order = sorted(range(len(rows)), key=lambda i: row_name(*rows[i]))
    return Candidates(
        tuple(rows[i] for i in order),
        tuple(genes[i] for i in order),
        None if cost is None else np.array([costs[i] for i in order]),
    )


def _costs(column: pd.Series) -> NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(values) & (values > 0))
    if wrong.any():
        raise DataError(
            f"{wrong.sum()} costs are not positive numbers: {name_some(column[wrong])}. Mend column 'cost'."
        )
    return values
