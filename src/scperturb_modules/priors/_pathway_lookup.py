"""Numbers of the pathways and genes that a user names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._graph import Index


@dataclass(frozen=True)
class Lookup:
    """Pathways by id and by name, genes by name.

    Attributes
    ----------
    what
        Name of the source, for messages.
    symbols
        The genes, in order.
    ids
        Of the pathways, in order.
    numbers
        Each id and each name, to the pathways that are called so; an id goes before an equal name.
    """

    what: str
    symbols: pd.Index
    ids: tuple[str, ...]
    numbers: dict[str, list[int]]

    @classmethod
    def of(cls, what: str, genes: tuple[str, ...], ids: tuple[str, ...], names: tuple[str, ...]) -> Lookup:
        """For genes and pathways with ids and names."""
        numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            numbers.setdefault(name, []).append(number)
        by_id = {one: [number] for number, one in enumerate(ids)}
        return cls(what, pd.Index(genes, dtype=object), ids, numbers | by_id)

    def pathway(self, asked: str) -> int:
        """The pathway with an id or a name; a :class:`DataError` where there is none, or several."""
        found = self.numbers.get(asked, [])
        if len(found) > 1:
            ids = name_some((self.ids[number] for number in found), most=12)
            raise DataError(f"{self.what}: {len(found)} pathways are called {asked!r}; give one of their ids: {ids}.")
        if not found:
            near = get_close_matches(str(asked), list(self.numbers), n=3)
            hint = f"Near names: {name_some(near)}." if near else "All of them are in pathways.table."
            raise DataError(f"{self.what}: pathway {asked!r} is not among the {len(self.ids)}. {hint}")
        return found[0]

    def genes(self, asked: str | Iterable[str] | None) -> Index:
        """Numbers of a gene, of several, or (None) of all; a :class:`DataError` where one is not here."""
        if asked is None:
            return np.arange(len(self.symbols))
        names = [asked] if isinstance(asked, str) else list(map(str, asked))
        numbers = self.symbols.get_indexer(pd.Index(names, dtype=object))
        absent = [name for name, number in zip(names, numbers, strict=True) if number < 0]
        if absent:
            raise DataError(
                f"{self.what}: {len(absent)} of {len(names)} genes are not among its {len(self.symbols)}: "
                f"{name_some(absent)}. Those that are: [gene for gene in genes if gene in pathways.genes]."
            )
        return numbers
