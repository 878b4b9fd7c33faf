"""Picking experiments one after the other: what each would be worth given those before it, and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some

Array = NDArray[np.float64]
Index = NDArray[np.intp]

GREEDY = 500
"""Without a budget, so many are chosen one given the other; the rest follow by their worth given those."""


class Worth(Protocol):
    """What each of N candidates is worth, given those picked so far."""

    def scores(self) -> Array:
        """(N,) now."""
        ...

    def pick(self, at: int) -> None:
        """Take a candidate."""
        ...


@dataclass
class Fixed:
    """A worth that does not depend on the others."""

    values: Array

    def scores(self) -> Array:
        return self.values

    def pick(self, at: int) -> None:
        """Nothing changes."""


class Information:
    """Nats that a measurement would tell: ``.5 log(1 + variance / noise)``, the variance given all picked before.

    A pick takes its rank-one part out of the covariance, so that of two near duplicates the second tells little.

    Parameters
    ----------
    variance
        (N,) posterior variance.
    column
        The posterior covariance (N,) of a candidate with all.
    noise
        Variance of a measurement.
    """

    def __init__(self, variance: Array, column: Callable[[int], Array], noise: float) -> None:
        self._variance = variance.copy()
        self._column = column
        self._noise = noise
        self._taken: list[Array] = []

    def scores(self) -> Array:
        return 0.5 * np.log1p(np.maximum(self._variance, 0.0) / self._noise)

    def pick(self, at: int) -> None:
        column = self._column(at)
        for taken in self._taken:
            column = column - taken[at] * taken
        taken = column / np.sqrt(max(column[at], 0.0) + self._noise)
        self._taken.append(taken)
        self._variance -= taken**2


class Centres:
    """Distance of each point to the nearest of those tested and picked (greedy k-centre, Gonzalez 1985).

    Parameters
    ----------
    points
        (N, G) of the candidates.
    tested
        (T, G) of the tested conditions.
    """

    def __init__(self, points: Array, tested: Array) -> None:
        from scipy.spatial.distance import cdist

        self._points = points
        self._distance = cdist(points, tested).min(axis=1)

    def scores(self) -> Array:
        return self._distance

    def pick(self, at: int) -> None:
        self._distance = np.minimum(self._distance, np.linalg.norm(self._points - self._points[at], axis=1))


@dataclass(frozen=True)
class Constraints:
    """What may be chosen.

    Parameters
    ----------
    include
        Every choice perturbs at least one of these genes.
    exclude
        Genes that no choice perturbs, and conditions that are not chosen.
    max_per_gene
        So many choices perturb one gene at most.
    max_cost
        The choices cost so much in total at most; candidates need a column ``cost``. A candidate that no longer fits
        is passed over.
    """

    include: Collection[str] = field(default=())
    exclude: Collection[str] = field(default=())
    max_per_gene: int | None = None
    max_cost: float | None = None

    @classmethod
    def of(cls, given: Constraints | Mapping[str, Any] | None) -> Constraints:
        """Read what the user passed.

        Raises
        ------
        DataError
            A name that is no constraint, text instead of a list, or a number that allows nothing.
        """
        if isinstance(given, Constraints):
            return given
        known = [one.name for one in fields(cls)]
        strange = sorted(set(given or {}) - set(known))
        if strange:
            raise DataError(f"constraints has no {name_some(strange)}; use {', '.join(known)}.")
        made = cls(**dict(given or {}))
        for name in ("include", "exclude"):
            if isinstance(getattr(made, name), str):
                raise DataError(f"constraints[{name!r}] is one text; give a list: [{getattr(made, name)!r}].")
        for name in ("max_per_gene", "max_cost"):
            value = getattr(made, name)
            if value is not None and not value > 0:
                raise DataError(f"constraints[{name!r}]={value} allows nothing; give a number above 0.")
        return made

    def allowed(self, names: Sequence[str], genes: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
        """(N,) which candidates ``include`` and ``exclude`` leave.

        Raises
        ------
        DataError
            A name that no candidate has, or none is left.
        """
        present = {gene for some in genes for gene in some}
        for what, known in (("include", present), ("exclude", present.union(names))):
            strange = sorted(set(getattr(self, what)) - known)
            if strange:
                raise DataError(
                    f"{len(strange)} of constraints[{what!r}] are in no candidate: {name_some(strange)}. Drop them, or "
                    "add conditions with them to candidates."
                )
        wanted, barred = set(self.include), set(self.exclude)
        left = np.array(
            [
                (not wanted or not wanted.isdisjoint(some)) and barred.isdisjoint(some) and name not in barred
                for name, some in zip(names, genes, strict=True)
            ],
            dtype=bool,
        )
        if not left.any():
            raise DataError(
                f"constraints leave none of {len(names)} candidates: include={name_some(sorted(wanted))}, "
                f"exclude={name_some(sorted(barred))}. Loosen one of them."
            )
        return left


def pick(
    worth: Worth,
    genes: Sequence[Sequence[str]],
    constraints: Constraints,
    *,
    budget: int | None,
    cost: Array | None,
) -> tuple[list[int], list[float]]:
    """Take the candidate of most worth, again and again, as far as constraints allow; the first of equals.

    Returns
    -------
    tuple
        Positions in the order of choice, and what each was worth when it was chosen.

    Raises
    ------
    DataError
        ``max_cost`` without costs, or less than the cheapest candidate costs.
    """
    if constraints.max_cost is not None:
        _check_cost(cost, constraints.max_cost)
    n = len(genes)
    left = np.ones(n, dtype=bool)
    of_gene: dict[str, list[int]] = {}
    for at, some in enumerate(genes):
        for gene in some:
            of_gene.setdefault(gene, []).append(at)
    uses = dict.fromkeys(of_gene, 0)
    remaining = np.inf if constraints.max_cost is None else float(constraints.max_cost)
    chosen: list[int] = []
    scores: list[float] = []
    while len(chosen) < (n if budget is None else budget):
        if cost is not None:
            left &= cost <= remaining + 1e-9
        if not left.any():
            break
        now = np.where(left, worth.scores(), -np.inf)
        at = int(np.argmax(now))
        chosen.append(at)
        scores.append(float(now[at]))
        left[at] = False
        remaining -= 0.0 if cost is None else float(cost[at])
        for gene in genes[at]:
            uses[gene] += 1
            if uses[gene] == constraints.max_per_gene:
                left[of_gene[gene]] = False
        if budget is not None or len(chosen) <= GREEDY:
            worth.pick(at)
    return chosen, scores


def _check_cost(cost: Array | None, most: float) -> None:
    if cost is None:
        raise DataError("constraints['max_cost'] needs costs: pass candidates as a table with a column 'cost'.")
    if cost.min() > most:
        raise DataError(f"constraints['max_cost']={most:g}, but the cheapest candidate costs {cost.min():g}. Raise it.")
