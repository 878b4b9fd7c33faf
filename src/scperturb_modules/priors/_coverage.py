"""Which genes of a screen the priors know, and which they do not: the table to look at before training."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import canonical_condition, genes_of
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.priors._given import is_graph, named_priors
from scperturb_modules.priors._graph import GeneGraph, Index, as_graph
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._prior_source import require_distinct

if TYPE_CHECKING:
    from anndata import AnnData

COVERED, ISOLATED, UNKNOWN = STATES = ("covered", "isolated", "unknown")
"""The prior says something of a gene; has it, but without an edge or a set; does not have it."""

_MOST_NAMED = 10


@dataclass(frozen=True, eq=False, repr=False)
class Coverage:
    """What :func:`coverage` found.

    Attributes
    ----------
    genes
        A row per perturbed gene, sorted by name: ``status`` (its best state in any prior: ``"covered"``,
        ``"isolated"`` or ``"unknown"``), ``n_priors`` that cover it, ``n_neighbours`` (genes joined to it in any of the
        networks), ``n_trained_neighbours`` (those of them that are perturbed in training), ``measured``,
        ``n_training_conditions``, ``n_training_cells``, and ``known_as`` (the spelling under which a prior or the
        measured genes have it, where they lack its name; else empty).
    states
        Perturbed genes x priors: ``"covered"``, ``"isolated"`` (the prior has the gene, but without an edge or a set)
        or ``"unknown"``. A row of features in which a number is missing counts as absent.
    sources
        A row per prior: ``kind``, ``n_genes``, and the number of genes in each state among the perturbed ones
        (``perturbed_covered``, ...) and among the measured ones (``measured_covered``, ...).
    """

    genes: pd.DataFrame
    states: pd.DataFrame
    sources: pd.DataFrame

    def __repr__(self) -> str:
        sources = [_source_line(str(name), row) for name, row in self.sources.iterrows()]
        return "\n".join([self._title, *sources, *self._gene_lines])

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self._gene_lines)
        return f"<p>{html.escape(self._title)}</p>{self.sources.to_html()}<p>{lines}</p>"

    @property
    def _title(self) -> str:
        covered = int((self.genes["status"] == COVERED).sum())
        return f"Coverage: {covered} of {len(self.genes)} perturbed genes are covered by a prior"

    @property
    def _gene_lines(self) -> list[str]:
        """The genes that need attention, by what is wrong with them."""
        table = self.genes
        renamed = table.index[table["known_as"] != ""]
        cases: dict[str, Sequence[str] | pd.Index] = {
            "in no prior": table.index[table["status"] == UNKNOWN],
            "isolated": table.index[table["status"] == ISOLATED],
            "known under another name": [f"{gene} as {table.at[gene, 'known_as']}" for gene in renamed],
            "not measured": table.index[~table["measured"]],
        }
        return [
            f"{what}: {len(found)} ({name_some(found, most=_MOST_NAMED)})"
            for what, found in cases.items()
            if len(found)
        ]


def coverage(
    adata: AnnData,
    priors: Any,
    *,
    perturbation_key: str = keys.PERTURBATION,
    control: str = "control",
    split_key: str = keys.SPLIT,
    names: GeneNames | None = None,
) -> Coverage:
    """Count which perturbed and measured genes the priors cover, and list those that they do not.

    Parameters
    ----------
    adata
        A screen (cells x genes) or its ``spm.pp.pseudobulk``; is not changed, and may be backed.
    priors
        Whatever models take as ``priors=``: a :class:`GeneGraph`, an edge table, gene sets, a pathway hierarchy, an
        embedding, a gene x feature DataFrame; one, a sequence, or a mapping from names.
    perturbation_key
        Column of ``obs`` with labels such as ``"A"`` and ``"A+B"``.
    control
        Label of the control cells.
    split_key
        Column of ``obs`` with the parts; training is all that is not ``"test"``. Without the column everything is.
    names
        Other names of genes: tells of a gene that a prior has under another symbol.

    Returns
    -------
    Coverage
        Tables per gene and per prior. A prior without any of the genes is no error here, it covers 0.

    Raises
    ------
    MissingKeyError
        ``obs`` has no such column.
    DataError
        Cells without a label, no cell with the control label, no perturbed gene, or a prior that cannot be read.
    TypeError
        Something that is no prior.

    Notes
    -----
    A gene is looked up under its name as it is written; ``known_as`` names other spellings (upper and lower case, and
    with ``names`` earlier symbols and aliases) but nothing is mapped. To map, give ``names`` to the builder of a prior.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> obs = pd.DataFrame({"perturbation": ["control", "KLF1", "KLF1+Bak1"]}, index=list("xyz"))
    >>> screen = anndata.AnnData(np.zeros((3, 2)), obs=obs, var=pd.DataFrame(index=["KLF1", "HBG1"]))
    >>> edges = pd.DataFrame({"source": ["KLF1", "BAK1"], "target": ["HBG1", "BCL2"]})
    >>> coverage(screen, {"my network": edges})
    Coverage: 1 of 2 perturbed genes are covered by a prior
      my network (network, 4 genes): 1 of 2 perturbed, 2 of 2 measured
    in no prior: 1 ('Bak1')
    known under another name: 1 ('Bak1 as BAK1')
    not measured: 1 ('Bak1')
    """
    genes = _perturbed(adata, perturbation_key, control, split_key)
    perturbed, measured = genes.index, pd.Index(adata.var_names.astype(str)).unique()
    read = {name: _read(name, prior) for name, prior in named_priors(priors).items()}
    state = np.array([prior.states(perturbed) for prior in read.values()], dtype=np.intp).reshape(-1, len(perturbed))
    graphs = [prior.graph for prior in read.values() if prior.graph is not None]
    n_neighbours, n_trained = _count_neighbours(graphs, perturbed, genes["n_training_conditions"].to_numpy() > 0)
    table = pd.DataFrame(
        {
            "status": np.array(STATES, dtype=object)[state.min(axis=0, initial=len(STATES) - 1)],
            "n_priors": (state == STATES.index(COVERED)).sum(axis=0),
            "n_neighbours": n_neighbours,
            "n_trained_neighbours": n_trained,
            "measured": perturbed.isin(measured),
            **genes,
            "known_as": _other_spellings(perturbed, [*(prior.genes for prior in read.values()), measured], names),
        },
        index=perturbed,
    )
    states = pd.DataFrame(np.array(STATES, dtype=object)[state.T], index=perturbed, columns=list(read))
    return Coverage(table, states, _sources(read, {"perturbed": perturbed, "measured": measured}))


def _perturbed(adata: AnnData, key: str, control: str, split_key: str) -> pd.DataFrame:
    """Perturbed genes, sorted, with the number of training conditions and of training cells that hold each."""
    obs = adata.obs
    require_key(key, obs.columns, "obs", mend="Call spm.pp.standardize_perturbations(adata, ...) to make it first.")
    if split_key != keys.SPLIT:
        require_key(split_key, obs.columns, "obs", mend="Call spm.pp.split(adata, ...) first.")
    missing = obs[key].isna().to_numpy()
    if missing.any():
        raise DataError(
            f"obs[{key!r}] is missing in {missing.sum()} cells ({name_some(obs.index[missing])}); fill it, or drop "
            f"them with adata[adata.obs[{key!r}].notna()].copy()."
        )
    labels = obs[key].astype(str)
    has_rows_of_conditions = keys.PSEUDOBULK in adata.uns.get(keys.ROOT, {})
    distinct = labels.unique()
    if control not in distinct and not has_rows_of_conditions:
        raise DataError(
            f"No cell has the control label {control!r} in obs[{key!r}] (labels: {name_some(sorted(distinct))}). "
            "Pass the label of the control cells as control=."
        )
    n_cells = obs[keys.N_CELLS].to_numpy() if has_rows_of_conditions else np.ones(len(obs), dtype=np.intp)
    if split_key in obs:
        n_cells = np.where(obs[split_key] == keys.TEST, 0, n_cells)
    genes = {label: genes_of(label, control=control) for label in distinct}
    conditions = labels.map({label: canonical_condition(of, control=control) for label, of in genes.items()})
    cells = pd.Series(n_cells).groupby(conditions.to_numpy()).sum()
    rows = [(gene, n > 0, n) for condition, n in cells.items() for gene in genes_of(str(condition), control=control)]
    if not rows:
        raise DataError(f"obs[{key!r}] has no perturbed gene: all {len(obs)} rows are {control!r}.")
    table = pd.DataFrame(rows, columns=["gene", "n_training_conditions", "n_training_cells"])
    return table.groupby("gene").sum().astype(np.intp)


class _Prior(NamedTuple):
    """Genes of a prior, each once, and whether it says something of each; its network, where it is one."""

    kind: str
    genes: pd.Index
    is_filled: NDArray[np.bool_]
    graph: GeneGraph | None = None

    def states(self, wanted: pd.Index) -> Index:
        """(n,) place in ``STATES`` of each gene."""
        place = self.genes.get_indexer(wanted)
        # the appended value is the one at place -1: a gene that is not there
        filled = np.append(self.is_filled, False)[place]
        return np.where(place < 0, STATES.index(UNKNOWN), np.where(filled, 0, STATES.index(ISOLATED)))


def _read(name: str, prior: Any) -> _Prior:
    if hasattr(prior, "membership"):
        return _Prior("sets", _index(prior.genes), prior.membership.sum(axis=1) > 0)
    if is_graph(prior):
        graph = as_graph(prior, name)
        return _Prior("network", _index(graph.genes), graph.degree > 0, graph)
    frame = prior.to_frame() if hasattr(prior, "to_frame") else prior
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"prior {name!r} is a {type(prior).__name__}; pass a GeneGraph, an edge table, gene sets, a pathway "
            "hierarchy, an embedding or a DataFrame of genes x features."
        )
    genes = _index(frame.index[frame.notna().all(axis=1)])
    require_distinct(genes, name)
    return _Prior("table", genes, np.ones(len(genes), dtype=bool))


def _index(genes: Iterable[object]) -> pd.Index:
    return pd.Index([str(gene) for gene in genes], dtype=object)


def _count_neighbours(
    graphs: Sequence[GeneGraph], perturbed: pd.Index, is_trained: NDArray[np.bool_]
) -> tuple[Index, Index]:
    """(P,) distinct genes joined to each perturbed gene in any network and direction; the trained ones of them."""
    union = perturbed.append([_index(graph.genes) for graph in graphs]).unique()  # the perturbed ones come first
    joined = sparse.csr_array((len(perturbed), len(union)), dtype=np.intp)
    for graph in graphs:
        number = union.get_indexer(_index(graph.genes))
        ends = np.concatenate([graph.source, graph.target]), np.concatenate([graph.target, graph.source])
        gene, neighbour = (number[end] for end in ends)
        inside = gene < len(perturbed)
        ones = np.ones(inside.sum(), dtype=np.intp)
        joined = joined + sparse.coo_array((ones, (gene[inside], neighbour[inside])), shape=joined.shape).tocsr()
    joined.data[:] = 1  # a gene may be joined to another in several networks, and in both directions
    return joined.sum(axis=1), joined[:, : len(perturbed)] @ is_trained.astype(np.intp)


def _other_spellings(perturbed: pd.Index, known: Iterable[pd.Index], names: GeneNames | None) -> list[str]:
    """Under which other names each gene stands in those lists of genes that lack its own."""
    found: dict[str, set[str]] = {gene: set() for gene in perturbed}
    for genes in known:
        absent = perturbed[~perturbed.isin(genes)]
        by_upper = {gene.upper(): gene for gene in genes} if len(absent) else {}
        for gene in absent:
            candidates = () if names is None else names.candidates(gene)
            found[gene].update(name for name in (by_upper.get(gene.upper(), gene), *candidates) if name in genes)
    return ["/".join(sorted(others)) for others in found.values()]


def _sources(read: Mapping[str, _Prior], asked: Mapping[str, pd.Index]) -> pd.DataFrame:
    counted = [f"{which}_{state}" for which in asked for state in STATES]
    rows = [
        [prior.kind, len(prior.genes)]
        + [int(n) for genes in asked.values() for n in np.bincount(prior.states(genes), minlength=len(STATES))]
        for prior in read.values()
    ]
    return pd.DataFrame(rows, index=list(read), columns=["kind", "n_genes", *counted])


def _source_line(name: str, row: pd.Series) -> str:
    parts = []
    for which in ("perturbed", "measured"):
        covered, isolated, unknown = (int(row[f"{which}_{state}"]) for state in STATES)
        note = f" ({isolated} isolated)" if isolated else ""
        parts.append(f"{covered} of {covered + isolated + unknown} {which}{note}")
    return f"  {name} ({row['kind']}, {row['n_genes']} genes): {', '.join(parts)}"
