"""Which symbol of a source a gene of the user stands for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._name_kinds import other_kind
from scperturb_modules.priors._read import Table, read_table

logger = logging.getLogger(__name__)

Names: TypeAlias = Mapping[str, tuple[str, ...]]

_SYMBOL = ("gene_symbol", "hgnc_symbol", "gene_name", "Gene name")
_ID_COLUMNS = {
    "ensembl": ("ensembl", "ensembl_gene_id", "ensembl_id", "gene_ids", "gene_id", "Gene stable ID"),
    "entrez": ("entrez", "entrez_id", "entrezgene_id", "NCBI gene (formerly Entrezgene) ID"),
    "alias": ("alias_symbol", "prev_symbol"),
}
"""Columns of a table of ids that give other names, several of them joined by a bar."""

_FEW = 0.05
"""With less than this share of the genes found, names of another kind are an error."""


@dataclass(frozen=True, eq=False, repr=False)
class GeneNames:
    """Other names of genes: aliases, earlier symbols, Ensembl and Entrez ids; made by :meth:`from_tables`.

    A name is compared as it is written, letter case included; of Ensembl ids the version is not read. A current
    symbol stands for itself, even where it is also an alias of other genes.

    Attributes
    ----------
    symbols
        Current symbols.
    aliases, ensembl, entrez
        Each other name, to the sorted current symbols that it may stand for.
    """

    symbols: frozenset[str] = frozenset()
    aliases: Names = field(default_factory=dict)
    ensembl: Names = field(default_factory=dict)
    entrez: Names = field(default_factory=dict)

    @classmethod
    def from_tables(cls, ids: Table | None = None, aliases: Table | None = None) -> GeneNames:
        """Read tables of names.

        Parameters
        ----------
        ids
            A row per gene: ``symbol`` and at least one of ``ensembl``, ``entrez``, ``alias_symbol`` and
            ``prev_symbol``; several names in one field are joined by ``|``. The complete set of HGNC, BioMart's gene
            table and the ``var`` of 10x data (with its index as ``symbol``) are read with the columns they have.
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
        if ids is None and aliases is None:
            raise DataError("GeneNames.from_tables needs a table of ids, a table of aliases, or both.")
        symbols: set[str] = set()
        meant: dict[str, dict[str, set[str]]] = {kind: {} for kind in _ID_COLUMNS}
        if ids is not None:
            table = read_table(ids, {"symbol": _SYMBOL}, what="gene ids")
            there = [(kind, one) for kind, columns in _ID_COLUMNS.items() for one in columns if one in table.columns]
            if not there:
                raise DataError(
                    "gene ids: no column 'ensembl', 'entrez', 'alias_symbol' or 'prev_symbol'; the columns are "
                    f"{name_some(table.columns, most=12)}."
                )
            symbols.update(table["symbol"].dropna().astype(str))
            for kind, column in there:
                _collect(table, column, meant[kind])
        if aliases is not None:
            table = read_table(aliases, {"alias": (), "symbol": _SYMBOL}, what="gene aliases")
            symbols.update(table["symbol"].dropna().astype(str))
            _collect(table, "alias", meant["alias"])
        ready = {kind: {name: tuple(sorted(each)) for name, each in table.items()} for kind, table in meant.items()}
        return cls(frozenset(symbols), ready["alias"], ready["ensembl"], ready["entrez"])

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
        name = _without_version(gene)
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
        Names as the user has them, for example ``adata.var_names``; None: all of the source.
    known
        Symbols of the source, or ids that ``names`` translates.
    what
        Name of the source, for messages.
    names
        Other names of genes; without, only equal names are the same gene.
    keep_others
        Add the genes of the source that were not asked for, under the names that they have there.

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
        return {symbol: symbol for symbol in sorted(symbols)}
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
    # a name of the user that means another symbol here is not free for a gene of that name
    others = sorted(symbols.difference(in_order.values(), in_order))
    return in_order | {symbol: symbol for symbol in others}


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


def _collect(table: pd.DataFrame, column: str, meant: dict[str, set[str]]) -> None:
    """Add the symbols that each name of a column stands for; names in one field are joined by a bar."""
    # whole numbers with gaps are read as floats: 5788.0 is the id 5788
    rows = table[[column, "symbol"]].dropna().convert_dtypes().astype(str)
    for joined, symbol in zip(rows[column], rows["symbol"], strict=True):
        for name in filter(None, map(str.strip, joined.split("|"))):
            meant.setdefault(_without_version(name), set()).add(symbol)


def _without_version(name: str) -> str:
    return name.partition(".")[0] if name.startswith("ENS") else name


def _folded(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))
