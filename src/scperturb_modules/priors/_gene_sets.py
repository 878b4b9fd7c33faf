"""Sets of genes (pathways, complexes, terms) as one sparse table, and what follows from who shares which sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from scipy import sparse


@dataclass(frozen=True, eq=False, repr=False)
class GeneSets:
    """Which genes belong to which sets.

    Attributes
    ----------
    name
        As the user knows it.
    genes
        (n,) symbols, sorted.
    sets
        (S,) names of the sets, each once.
    membership
        (n, S) CSR array of float64 ones.
    descriptions
        (S,) what the source says of each set (an id, an address); may be empty texts.
    attrs
        Provenance: ``source``, ``version``, ``licence``, ``derived_from``.
    """

    name: str
    genes: tuple[str, ...]
    sets: tuple[str, ...]
    membership: sparse.csr_array
    descriptions: tuple[str, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
