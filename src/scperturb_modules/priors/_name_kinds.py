"""What kind of gene names two sides use: for the message that says why they do not match."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

_KINDS = {
    "Ensembl protein ids": r"(\d+\.)?ENS[A-Z]*P\d{11}(\.\d+)?",
    "Ensembl ids": r"ENS[A-Z]*[GT]\d{11}(\.\d+)?",
    "Entrez ids": r"\d+",
    "mouse symbols": r"[A-Z][a-z][^A-Z]*",
    "human symbols": r"[A-Z][^a-z]*|C\d+orf\d+",
    "symbols in lower case": r"[a-z][^A-Z]*",
}
"""What names look like; the first that fits counts."""


def other_kind(genes: Collection[str], symbols: Collection[str]) -> str:
    """How the names of the user and of the source differ in kind, and what mends it; empty where they do not."""
    mine, theirs = _kind(genes), _kind(symbols)
    if not mine or not theirs or mine == theirs:
        return ""
    said = f"The genes look like {mine}, those of the source like {theirs}: "
    if "Ensembl protein ids" in (mine, theirs):
        return (
            said + "pass names=spm.priors.GeneNames.from_tables(ids=...), a table of symbols and protein ids such as "
            'spm.priors.download("string_info").'
        )
    if any(kind in ("Ensembl ids", "Entrez ids") for kind in (mine, theirs)):
        return said + "pass names=spm.priors.GeneNames.from_tables(ids=...), a table of symbols and ids."
    if "mouse symbols" in (mine, theirs):
        return said + "map orthologs first; a symbol in other letter case need not be the ortholog."
    return said + "write both in the same letter case, if they are of one species."


def _kind(names: Collection[str]) -> str:
    """The kind that more than half of the names look like; empty where none does."""
    looks = Counter(_look(name) for name in names)
    return next((kind for kind, n in looks.items() if 2 * n > len(names)), "")


def _look(name: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if re.fullmatch(pattern, name)), "")
