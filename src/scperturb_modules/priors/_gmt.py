"""Gene sets as users have them (GMT file, long table, dictionary), read to the same plain lists."""

from __future__ import annotations

import gzip
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._graph import Index
from scperturb_modules.priors._read import Table, read_file, read_table

SetSource: TypeAlias = Table | Mapping[str, Iterable[str]]
"""Gene sets: path of a GMT file or of a table, a table of genes and sets, or a dictionary from sets to genes."""

GENE_COLUMNS = ("symbol", "gene_symbol", "genesymbol", "hgnc_symbol")
_SET_COLUMNS = ("pathway", "term", "geneset", "gene_set", "complex", "pfam", "go_id")
_WEIGHT = re.compile(r",[-+]?[0-9]+\.?[0-9]*(?:[eE][-+]?[0-9]+)?$")
"""Enrichr writes the weight of a gene behind it: ``STAT1,1.0``."""


@dataclass
class RawSets:
    """Genes of each set, as read: ``members`` in the order of the source, what was mended, what the source says."""

    members: dict[str, list[str]]
    descriptions: tuple[str, ...] = ()
    mended: dict[str, int] = field(default_factory=dict)
    attrs: dict[str, object] = field(default_factory=dict)


def read_sets(source: SetSource, *, what: str) -> RawSets:
    """Read gene sets of any form, without blank genes and without the weights of Enrichr.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged; a set has no name or no gene; two lines of a GMT file have one name.
    """
    if isinstance(source, Mapping):
        raw = RawSets({str(name): listed(name, genes) for name, genes in source.items()})
    elif isinstance(source, pd.DataFrame) or {".tsv", ".csv"} & set(Path(source).suffixes):
        raw = _from_table(source, what)
    else:
        raw = _from_gmt(source, what)
    _clean(raw)
    if not raw.members:
        raise DataError(f"{what}: no gene sets in it.")
    nameless = sum(not name.strip() for name in raw.members)
    empty = [name for name, genes in raw.members.items() if not genes]
    if nameless or empty:
        wrong = f"{len(empty)} without a gene: {name_some(empty)}" if empty else f"{nameless} without a name"
        raise DataError(f"{what}: of {len(raw.members)} gene sets, {wrong}. Take them out, or fill them.")
    return raw


def listed(name: object, members: Iterable[str]) -> list[str]:
    """Members of one entry of a dictionary as text, blank where missing; a text instead of a list is an error."""
    if isinstance(members, str):
        raise DataError(f"{str(name)!r} has the text {members!r}; give a list: [{members!r}].")
    return ["" if pd.isna(member) else str(member) for member in members]


def members_table(genes: Any, set_number: Index, n_sets: int) -> tuple[tuple[str, ...], sparse.csr_array]:
    """Sorted genes, and the table (genes, sets) of ones, from pairs of a gene (text) and the number of a set."""
    row, symbols = pd.factorize(genes, sort=True)
    table = sparse.coo_array((np.ones(len(row)), (row, set_number)), shape=(len(symbols), n_sets)).tocsr()
    table.data[:] = 1.0  # a gene that a source names twice in a set is in it once
    return tuple(str(symbol) for symbol in symbols), table


def _from_table(table: Table, what: str) -> RawSets:
    frame = read_table(table, {"gene": GENE_COLUMNS, "set": _SET_COLUMNS}, what=what)
    pairs = frame[["gene", "set"]].astype(object).where(frame[["gene", "set"]].notna(), "").astype(str)
    pairs = pairs.apply(lambda column: column.str.strip())
    complete = pairs[(pairs != "").all(axis=1)]
    return RawSets(
        complete.groupby("set", sort=False)["gene"].agg(list).to_dict(),
        mended={"rows without gene or set": len(pairs) - len(complete)},
        attrs={**_source(table), **{str(key): value for key, value in frame.attrs.items()}},
    )


def _from_gmt(path: str | os.PathLike[str], what: str) -> RawSets:
    """Genes as gseapy reads them; what it passes over in silence (names twice, lines without genes) is an error."""
    text = read_file(path, _text, what=what).replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.rstrip().split("\t", 2) for line in text.split("\n") if line.strip()]
    short = [line[0] for line in lines if len(line) < 3]
    if short:
        raise DataError(
            f"{what}: {len(short)} of {len(lines)} lines without genes: {name_some(short)}. A line of a GMT file has a "
            "name, a description and genes, with tabs between."
        )
    names = [line[0].strip() for line in lines]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{what}: {len(twice)} gene sets stand more than once: {name_some(twice)}. Rename them.")
    genes = _by_gseapy([line[2] for line in lines])
    descriptions = tuple(line[1].strip() for line in lines)
    return RawSets(dict(zip(names, genes, strict=True)), descriptions, attrs=_source(path))


def _source(table: Table) -> dict[str, object]:
    return {} if isinstance(table, pd.DataFrame) else {"source": Path(table).name}


def _text(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode("utf-8-sig")


def _by_gseapy(genes: list[str]) -> list[list[str]]:
    """Genes of each line; gseapy gets a copy, as it reads no .gz, wants the ending .gmt and merges equal names."""
    from gseapy import read_gmt

    with TemporaryDirectory() as folder:
        copy = Path(folder) / "sets.gmt"
        with open(copy, "w") as file:
            file.writelines(f"{number}\t-\t{line}\n" for number, line in enumerate(genes))
        sets: dict[str, list[str]] = read_gmt(str(copy))
    return list(sets.values())


def _clean(raw: RawSets) -> None:
    blank = weighted = 0
    for name, genes in raw.members.items():
        bare = [_WEIGHT.sub("", gene.strip()) if "," in gene else gene.strip() for gene in genes]
        weighted += sum(gene.strip() != one for gene, one in zip(genes, bare, strict=True))
        raw.members[name] = [gene for gene in bare if gene]
        blank += len(bare) - len(raw.members[name])
    raw.mended |= {"blank gene fields": blank, "weights cut off": weighted}
