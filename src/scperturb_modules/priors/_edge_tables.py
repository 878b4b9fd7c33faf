"""Networks from public edge tables: interactions of proteins, and regulons."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._edge_columns import SOURCE, TARGET, WEIGHT
from scperturb_modules.priors._edge_rows import (
    SIGN_OF_MODE,
    edge_rows,
    find_column,
    network_of,
    numbers_of,
    provenance,
    read_edges,
    rows_among,
    table_name,
)
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._read import Table

logger = logging.getLogger(__name__)

# column names are compared in lower case; the first that a table has counts
_SYMBOLS = ("source_genesymbol", "target_genesymbol")  # before source and target: OmniPath has protein ids there
_ENDS = (
    _SYMBOLS,
    ("source", "target"),
    ("gene_a", "gene_b"),
    ("gene1", "gene2"),
    ("protein1", "protein2"),
    ("preferredname_a", "preferredname_b"),
    ("#node1", "node2"),
    ("official symbol interactor a", "official symbol interactor b"),
    ("entitya", "entityb"),
    ("from", "to"),
    ("a", "b"),
)
_REGULON_ENDS = (("tf", "target"), ("tf", "gene"), _SYMBOLS, ("source", "target"))
_SCORES = ("weight", "combined_score", "score")
_NUMBERS = ("mor", "weight")
_MODES = ("mode",)
_LEVELS = ("confidence", "level", "dorothea_level")


def interactions(
    edges: Table,
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    directed: bool | None = None,
    score: str | None = None,
    minimum: float | None = None,
    version: str = "",
    names: GeneNames | None = None,
    keep_others: bool = False,
) -> GeneGraph:
    """Network from any table of interactions: STRING, hu.MAP, CORUM, SIGNOR, BioGRID, OmniPath.

    Parameters
    ----------
    edges
        A table, or the path of one, with a row per edge. The genes stand in ``source`` and ``target``, or in columns
        that a public table has in their place: ``gene_a``/``gene_b``, ``protein1``/``protein2``,
        ``source_genesymbol``/``target_genesymbol``, ``from``/``to`` and the like, in any letter case. Files without a
        header, as of hu.MAP, hold two genes a line, or two genes and a weight.
    genes
        The user's genes, for example ``adata.var_names``; None: all of the table.
    name
        Default: what ``attrs`` of the table say, else the file's name, else ``"interactions"``.
    directed
        Whether edges point from source to target, as in SIGNOR. Default: what ``attrs`` of the table say, else not.
    score
        Column with the strength of an edge, for example ``"experiments"`` of STRING. Default: the first there is of
        ``weight``, ``combined_score``, ``score``; without one, every edge weighs 1.
    minimum
        The least strength of an edge, on the scale of the table: 700 is high confidence in STRING.
    version
        Of the database.
    names
        Other names of genes; see :meth:`GeneNames.from_tables`. STRING's ids need its table of names.
    keep_others
        Keep genes of the source that are not among ``genes``, under the symbols that ``names`` has for them, else the
        source's: ways between your genes lead through them, which :class:`spm.baselines.NearestPrior` and
        :func:`fuse` use.

    Returns
    -------
    GeneGraph
        All genes asked for that the table knows; those without an edge among them are ``isolated``. Weights lie
        within 0 and 1: where strengths exceed 1, all are divided by the next power of ten, those of STRING by 1,000.
        In ``attrs``: ``score``, the column of strengths; ``score_of_one``, what they were divided by, if they were;
        ``n_edges_outside``, rows with a gene not asked for; ``n_edges_below``, rows among the genes with a strength
        of zero or below ``minimum``.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged; columns are absent; a gene has no name; strengths are missing or negative; ``minimum`` is
        not on their scale; none of the genes is found.

    Notes
    -----
    Repeated edges and self-loops are merged, dropped and counted as in :meth:`GeneGraph.from_table`.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"gene_a": ["A", "A", "B"], "gene_b": ["B", "C", "D"], "score": [900, 450, 1000]})
    >>> network = interactions(table, ["A", "B", "C", "X"], minimum=700)
    >>> network, network.isolated, network.weight
    (GeneGraph('interactions', 3 genes, 1 edge, undirected), ('C',), array([0.9]))
    """
    what = table_name(name, edges, "interactions")
    table = read_edges(edges, _ENDS, score=score, what=what)
    attrs = provenance(table, edges, version=version, derived_from="protein interactions")
    column = score if score is not None else find_column(table, _SCORES)
    strength = np.ones(len(table)) if column is None else numbers_of(table, column)
    if column is not None:
        attrs["score"] = str(column)
    if minimum is not None:
        _check_minimum(minimum, strength, column, what=what)
    every = edge_rows(table, _ENDS, strength, what=what)
    rows, known = rows_among(every, genes, attrs.pop("isolated", ()), names, keep_others=keep_others, what=what)
    attrs["n_edges_outside"] = len(table) - len(rows)
    weak = rows[WEIGHT] == 0 if minimum is None else (rows[WEIGHT] < minimum) | (rows[WEIGHT] == 0)
    attrs["n_edges_below"] = int(weak.sum())
    return network_of(rows[~weak], known, strength, attrs, name=what, directed=directed)


def regulons(
    edges: Table,
    genes: Iterable[str] | None = None,
    *,
    name: str | None = None,
    levels: Sequence[str] | None = None,
    signed: bool = False,
    version: str = "",
    names: GeneNames | None = None,
    keep_others: bool = False,
) -> GeneGraph:
    """Network of transcription factors and their targets: DoRothEA, CollecTRI, TRRUST.

    Parameters
    ----------
    edges
        A table, or the path of one, with a row per edge: ``tf`` and ``target`` (or ``source`` and ``target``, or
        OmniPath's columns of symbols). How a factor acts stands in ``mor`` or ``weight`` (a number whose sign counts,
        0 where it is not known), or in ``mode`` (``Activation``, ``Repression`` or anything else: not known). TRRUST's
        own file, without a header, is read too.
    genes
        The user's genes; None: all of the table.
    name
        Default: what ``attrs`` of the table say, else the file's name, else ``"regulons"``.
    levels
        Levels of confidence to be used, ``"ABC"`` or ``["A", "B", "C"]``; of rows of other levels nothing is used.
        Default: all. They stand in ``confidence`` or ``level``.
    signed
        Whether repression is a negative weight. Rows whose sign is not known are left out then, and so are all rows of
        a pair for which the table says both.
    version
        Of the database.
    names
        Other names of genes; see :meth:`GeneNames.from_tables`.
    keep_others
        Keep genes of the source that are not among ``genes``, under the symbols that ``names`` has for them, else the
        source's: ways between your genes lead through them, which :class:`spm.baselines.NearestPrior` and
        :func:`fuse` use.

    Returns
    -------
    GeneGraph
        Directed from factor to target. All genes asked for that the table knows; those without an edge among them are
        ``isolated``. Weights are the size of the number, 1 where there is none or it is 0; where sizes exceed 1, all
        are divided by the next power of ten. In ``attrs``: ``levels`` if chosen; ``score_of_one``, what sizes were
        divided by, if they were; ``n_edges_outside``, rows with a gene not asked for; if ``signed``,
        ``n_edges_unknown`` and ``n_edges_contradicting``, rows left out.

    Raises
    ------
    FileNotFoundError
        No file is at the path.
    DataError
        The file is damaged; columns are absent; a gene has no name; numbers are missing; a level does not occur; no
        sign is known; none of the genes is found.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [("T", "A", "Activation"), ("T", "B", "Repression"), ("T", "C", "Unknown"), ("U", "T", "Activation")]
    >>> table = pd.DataFrame(rows, columns=["tf", "target", "mode"])
    >>> network = regulons(table, ["A", "B", "C", "T"], signed=True)
    >>> network.to_table()
      source target  weight
    0      T      A     1.0
    1      T      B    -1.0
    >>> network.isolated, network.attrs["n_edges_outside"], network.attrs["n_edges_unknown"]
    (('C',), 1, 1)
    """
    what = table_name(name, edges, "regulons")
    table = read_edges(edges, _REGULON_ENDS, what=what)
    attrs = provenance(table, edges, version=version, derived_from="regulons")
    if levels is not None:
        attrs["levels"] = list(levels)
        table = _of_levels(table, attrs["levels"], what=what)
    size, sign = _sizes_and_signs(table)
    if signed and not np.any(sign):
        raise DataError(
            f"{what}: signed=True needs activation or repression in a column {name_some((*_NUMBERS, *_MODES))}; no row "
            f"says which. The columns are {name_some(table.columns, most=12)}."
        )
    weight = size * sign if signed else size
    every = edge_rows(table, _REGULON_ENDS, weight, what=what)
    rows, known = rows_among(every, genes, attrs.pop("isolated", ()), names, keep_others=keep_others, what=what)
    attrs["n_edges_outside"] = len(table) - len(rows)
    if signed:
        unknown, contradicting = rows[WEIGHT] == 0, _contradicting(rows)
        attrs |= {"n_edges_unknown": int(unknown.sum()), "n_edges_contradicting": int(contradicting.sum())}
        pairs = rows[contradicting].drop_duplicates([SOURCE, TARGET])
        logger.info(
            "%s: left out %d rows whose sign is not known, and %d that contradict each other: %s",
            *(what, unknown.sum(), contradicting.sum(), name_some(pairs[SOURCE] + " -> " + pairs[TARGET]) or "none"),
        )
        rows = rows[~(unknown | contradicting)]
    return network_of(rows, known, size, attrs, name=what, directed=True, signed=signed)


def _check_minimum(minimum: float, strength: NDArray[np.float64], column: str | None, *, what: str) -> None:
    if column is None:
        raise DataError(f"{what}: minimum={minimum} needs a column of strengths; name it by score=.")
    numbers = strength[np.isfinite(strength)]
    if numbers.size and (numbers.max() < minimum or (minimum < 1 < numbers.max())):
        raise DataError(
            f"{what}: minimum={minimum} is not on the scale of {column!r}, which goes from {numbers.min():g} to "
            f"{numbers.max():g}."
        )


def _of_levels(table: pd.DataFrame, levels: list[str], *, what: str) -> pd.DataFrame:
    column = find_column(table, _LEVELS)
    if column is None:
        raise DataError(
            f"{what}: levels={levels} needs a column {name_some(_LEVELS)}; the columns are "
            f"{name_some(table.columns, most=12)}."
        )
    absent = sorted(set(levels) - set(table[column].astype(str)))
    if absent:
        occurring = name_some(sorted(table[column].astype(str).unique()), most=12)
        raise DataError(f"{what}: no row of level {name_some(absent)}; the levels are {occurring}.")
    return table[table[column].astype(str).isin(levels)]


def _sizes_and_signs(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each row the weight without its sign, and the sign: 1, -1, or 0 where it is not known."""
    number, mode = find_column(table, _NUMBERS), find_column(table, _MODES)
    value = np.zeros(len(table)) if number is None else numbers_of(table, number)
    sign = np.asarray(np.sign(value), dtype=np.float64)
    if mode is not None:
        signs = table[mode].astype(str).str.lower().map(SIGN_OF_MODE).fillna(0.0)
        sign = np.asarray(signs, dtype=np.float64)
    return np.where(value == 0, 1.0, np.abs(value)), sign


def _contradicting(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows with a sign, of a pair that also has the other sign."""
    pair = rows.groupby([SOURCE, TARGET], sort=False).ngroup().to_numpy()
    positive, negative = (np.bincount(pair[on], minlength=len(rows)) > 0 for on in (rows[WEIGHT] > 0, rows[WEIGHT] < 0))
    return np.asarray((positive & negative)[pair] & (rows[WEIGHT] != 0).to_numpy())
