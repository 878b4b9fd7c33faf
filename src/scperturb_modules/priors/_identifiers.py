"""Which symbol of a source a gene of the user stands for."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._name_kinds import other_kind
from scperturb_modules.priors._name_tables import NameTable, read_aliases, read_ids, without_version
from scperturb_modules.priors._read import Table

logger = logging.getLogger(__name__)

Names: TypeAlias = Mapping[str, tuple[str, ...]]

_FEW = 0.05
"""With less than this share of the genes found, names of another kind are an error."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneNames:
    """Other names of genes: aliases, earlier symbols, Ensembl, STRING and Entrez ids; made by :meth:`from_tables`.

    A name is compared as it is written, letter case included; of Ensembl ids the version is not read. A current
    symbol stands for itself, even where it is also an alias of other genes.

    Attributes
    ----------
    symbols
        Current symbols.
    aliases, ensembl, entrez
        Each other name, to the sorted current symbols that it may stand for. STRING's ids are among ``ensembl``.
    """

    symbols: frozenset[str] = frozenset()
    aliases: Names = field(default_factory=dict)
    ensembl: Names = field(default_factory=dict)
    entrez: Names = field(default_factory=dict)

    @classmethod
    def from_tables(cls, ids: Table | Sequence[Table] | None = None, aliases: Table | None = None) -> GeneNames:
        """Read tables of names.

        Parameters
        ----------
        ids
            A row per gene: ``symbol`` and at least one of ``ensembl``, ``entrez``, ``alias_symbol`` and
            ``prev_symbol``; several names in one field are joined by ``|``. The complete set of HGNC, BioMart's gene
            table, STRING's ``protein.info`` and the ``var`` of 10x data (with its index as ``symbol``) are read with
            the columns they have. Of several tables in a list, symbols of a later one are looked up among the
            names of those before it.
        aliases
            A row per alias: ``alias``, ``symbol``. An alias may stand for several symbols.

        Raises
        ------
        FileNotFoundError
            No file is at a path.
        DataError
            Neither table is given, a file is damaged, or columns are absent.

        Examples
        --------
        >>> import pandas as pd
        >>> ids = pd.DataFrame({"symbol": ["PTPRC"], "ensembl": ["ENSG00000081237"]})
        >>> aliases = pd.DataFrame({"alias": ["CD45", "SEPT2", "SEPT2"], "symbol": ["PTPRC", "SEPTIN2", "SEPTIN6"]})
        >>> names = GeneNames.from_tables(ids, aliases)
        >>> names.candidates("ENSG00000081237.22"), names.candidates("SEPT2")
        (('PTPRC',), ('SEPTIN2', 'SEPTIN6'))
        """
        tables = [ids] if isinstance(ids, (pd.DataFrame, str, os.PathLike)) else ids or []
        read = [read_ids(table) for table in tables]
        if aliases is not None:
            read.append(read_aliases(aliases))
        if not read:
            raise DataError("GeneNames.from_tables needs a table of ids, a table of aliases, or both.")
        names = cls()
        for table in read:
            names = names._with(table)
        return names

    def candidates(self, gene: str) -> tuple[str, ...]:
        """Current symbols that a name may stand for, sorted; empty where it is unknown."""
        return self._look_up(gene)[1]

    def translate(self, genes: Iterable[str]) -> pd.DataFrame:
        """What each name stands for; nothing is guessed.

        Parameters
        ----------
        genes
            n names, for example ``adata.var_names``.

        Returns
        -------
        DataFrame
            A row per name, in the order given; all columns are text. ``symbol``: the current symbol, empty where there
            is none or more than one. ``how``: ``"symbol"`` (it is current), ``"ensembl"``, ``"entrez"``, ``"alias"``,
            ``"ambiguous"`` or ``"unknown"``. ``candidates``: all symbols it may stand for, joined by ``|``. ``near``:
            for an unknown name, the current symbols whose names differ from it in letter case and punctuation only.

        Examples
        --------
        >>> import pandas as pd
        >>> aliases = pd.DataFrame({"alias": ["CD45", "SEPT2", "SEPT2"], "symbol": ["PTPRC", "SEPTIN2", "SEPTIN6"]})
        >>> GeneNames.from_tables(aliases=aliases).translate(["PTPRC", "CD45", "SEPT2", "Ptprc"])
               symbol        how       candidates   near
        gene
        PTPRC   PTPRC     symbol            PTPRC
        CD45    PTPRC      alias            PTPRC
        SEPT2          ambiguous  SEPTIN2|SEPTIN6
        Ptprc            unknown                   PTPRC
        """
        asked = pd.Index([str(gene) for gene in genes], name="gene", dtype=object)
        columns = ["symbol", "how", "candidates", "near"]
        return pd.DataFrame([self._row(gene) for gene in asked], index=asked, columns=columns, dtype=object)

    def __repr__(self) -> str:
        numbers = {"Ensembl ids": self.ensembl, "Entrez ids": self.entrez, "aliases": self.aliases}
        counts = (f"{len(table)} {kind}" for kind, table in numbers.items())
        return f"GeneNames({len(self.symbols)} symbols, {', '.join(counts)})"

    def _with(self, table: NameTable) -> GeneNames:
        """Also the names of one more table, whose symbols may be other names here."""
        current = {symbol: name for name, symbol in _by_current_name(table.symbols, self).items()}
        meant = {kind: {name: set(each) for name, each in getattr(self, kind).items()} for kind in table.pairs}
        for kind, pairs in table.pairs.items():
            for name, symbol in pairs:
                meant[kind].setdefault(name, set()).add(current[symbol])
        ready = {kind: {name: tuple(sorted(each)) for name, each in names.items()} for kind, names in meant.items()}
        return replace(self, symbols=self.symbols.union(current.values()), **ready)

    def _row(self, gene: str) -> tuple[str, str, str, str]:
        how, candidates = self._look_up(gene)
        if len(candidates) == 1:
            return candidates[0], how, candidates[0], ""
        if candidates:
            return "", "ambiguous", "|".join(candidates), ""
        return "", how, "", "|".join(sorted(self._near.get(_folded(gene), ())))

    def _look_up(self, gene: str) -> tuple[str, tuple[str, ...]]:
        if gene in self.symbols:
            return "symbol", (gene,)
        name = without_version(gene)
        for how, table in (("ensembl", self.ensembl), ("entrez", self.entrez), ("alias", self.aliases)):
            if name in table:
                return how, table[name]
        return "unknown", ()

    @cached_property
    def _near(self) -> dict[str, set[str]]:
        """Symbols by their names and aliases, without letter case and punctuation."""
        near: dict[str, set[str]] = {}
        for symbol in self.symbols:
            near.setdefault(_folded(symbol), set()).add(symbol)
        for alias, symbols in self.aliases.items():
            near.setdefault(_folded(alias), set()).update(symbols)
        return near


def find_genes(
    genes: Iterable[str] | None,
    known: Collection[str],
    *,
    what: str,
    names: GeneNames | None = None,
    keep_others: bool = False,
) -> dict[str, str]:
    """Look the user's genes up among the symbols of a source.

    Parameters
    ----------
    genes
        Names as the user has them, for example ``adata.var_names``; None: all of the source, as with ``keep_others``.
    known
        Symbols of the source, or ids that ``names`` translates.
    what
        Name of the source, for messages.
    names
        Other names of genes; without, only equal names are the same gene.
    keep_others
        Add the genes of the source that were not asked for: under the one symbol that ``names`` has for them, where no
        other gene has it, else under the name that they have in the source.

    Returns
    -------
    dict
        The user's name of each gene found, in the user's order, to the symbol of the source; no two share one.

    Raises
    ------
    DataError
        None of the genes is found, or fewer than 5 % because the two sides use names of different kinds (Ensembl ids,
        symbols of mouse, letter case).

    Notes
    -----
    A gene whose name the source lacks is found where both sides' names stand for one and the same current symbol. It
    is left out where that is not certain: an alias of several genes, a symbol that another of the user's genes has, two
    genes of the user that would become one. Genes found by another name are counted, those left out are listed, by
    ``logging``.
    """
    symbols = set(known)
    if genes is None:
        return _by_current_name(symbols, names or GeneNames())
    wanted = list(dict.fromkeys(str(gene) for gene in genes))
    found = {gene: gene for gene in wanted if gene in symbols}
    if names is not None:
        found |= _other_names([gene for gene in wanted if gene not in found], symbols, names, set(found), what=what)
    absent = [gene for gene in wanted if gene not in found]
    reason = other_kind(absent, symbols) if 2 * len(absent) > len(wanted) else ""
    if wanted and (not found or (reason and len(found) < _FEW * len(wanted))):
        raise DataError(
            f"{what}: {len(found)} of {len(wanted)} genes found; first names: {name_some(absent, most=3)} / "
            f"{name_some(sorted(symbols), most=3) or 'none'}. "
            f"{reason or 'Use the same kind of gene names on both sides.'}"
        )
    if reason:
        logger.warning("%s: %d of %d genes found. %s", what, len(found), len(wanted), reason)
    in_order = {gene: found[gene] for gene in wanted if gene in found}
    if not keep_others:
        return in_order
    others = symbols.difference(in_order.values())
    return in_order | _by_current_name(others, names or GeneNames(), symbols.union(wanted))


def _by_current_name(symbols: Collection[str], names: GeneNames, taken: Collection[str] = ()) -> dict[str, str]:
    """Symbols or ids of a source by their current symbols where these are certain and not taken, else by themselves."""
    candidates = {symbol: names.candidates(symbol) for symbol in sorted(symbols)}
    users = Counter(found[0] for found in candidates.values() if len(found) == 1)
    free = {name for name, n in users.items() if n == 1}.difference(taken)
    return {
        found[0] if len(found) == 1 and found[0] in free else symbol: symbol for symbol, found in candidates.items()
    }


def _other_names(
    genes: list[str], symbols: set[str], names: GeneNames, taken: set[str], *, what: str
) -> dict[str, str]:
    """Genes whose name the source lacks, to the symbol of the source that certainly means the same gene."""
    # a source may be older than the user's names: then its symbols are the aliases
    known_as: dict[str, set[str]] = {}
    for symbol in symbols:
        current = names.candidates(symbol)
        if len(current) == 1:
            known_as.setdefault(current[0], set()).add(symbol)
    known_as.update((symbol, {symbol}) for symbol in symbols)
    found, doubtful = {}, []
    for gene in genes:
        current = names.candidates(gene)
        there = set[str]().union(*(known_as.get(one, ()) for one in current))
        if len(current) == len(there) == 1:
            found[gene] = there.pop()
        elif there:
            doubtful.append(gene)
    users = Counter(found.values())
    clashing = [gene for gene, symbol in found.items() if symbol in taken or users[symbol] > 1]
    for gene in clashing:
        del found[gene]
    doubtful += clashing
    if found:
        logger.info("%s: %d genes found by another name, such as %s", what, len(found), name_some(found, most=3))
    if doubtful:
        logger.warning(
            "%s: %d ambiguous names are left out: %s. Look at names.translate(...), and rename those you are sure of.",
            *(what, len(doubtful), name_some(doubtful, most=12)),
        )
    return found


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
