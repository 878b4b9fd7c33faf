"""A network from the screen itself: which genes vary together in its training cells."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys
from scperturb_modules._conditions import genes_of, is_canonical, row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules._keys import PARTS, TEST, ScreenKeys
from scperturb_modules.priors._correlation import GeneValues, gene_rows, strongest
from scperturb_modules.priors._graph import GeneGraph, Index
from scperturb_modules.priors._identifiers import find_genes

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

FEWEST_CELLS = 3
"""Any two genes correlate fully in two cells."""


def coexpression(
    adata: AnnData,
    *,
    genes: Iterable[str] | None = None,
    threshold: float = 0.4,
    top: int = 20,
    symmetric: bool = True,
    signed: bool = False,
    cells: Literal["training", "all"] = "training",
    pairs: bool = False,
    max_cells: int = 20_000,
    seed: int = 0,
    name: str = "coexpression",
    perturbation_key: str | None = None,
    control: str | None = None,
    layer: str | None = None,
    cell_type_key: str | None = None,
    split_key: str | None = None,
) -> GeneGraph:
    """Join genes whose expression correlates across the training cells of a screen.

    Parameters
    ----------
    adata
        Cells x genes; ``X`` or ``layer`` is log1p of counts per 10,000. May be sparse, dense or backed. Is not
        changed.
    genes
        Genes of the network; those that the screen does not measure are left out, counted in ``attrs`` and in a log
        line. None: all of them.
    threshold, top
        Each gene lists the ``top`` others with the largest ``|r|`` (Pearson) above ``threshold``; of equal ones those
        that come first by name. ``r`` is rounded to ten decimals.
    symmetric
        True: an undirected edge where either gene lists the other. False: an edge from each listed gene to the gene
        that lists it.
    signed
        False: the weight is ``|r|``. True: it is ``r``.
    cells
        ``"training"``: only cells outside the test part enter. ``"all"``: every cell, for a look at the data; such a
        network is ``derived_from`` ``"same_screen"``, and :func:`scperturb_modules.pp.check_leakage` fails on it.
    pairs
        Whether cells with two or more perturbed genes enter; controls and singles always do.
    max_cells
        Of more cells so many are drawn, by name, so that the order of rows does not matter.
    seed
        Of that draw.
    name
        Name of the network.
    perturbation_key, control, layer, cell_type_key, split_key
        Columns, control label and layer of the screen. None: as recorded by ``setup_anndata``, else those of
        :func:`scperturb_modules.pp.pseudobulk`. The cell type only names conditions in the record.

    Returns
    -------
    GeneGraph
        Of all genes asked for and measured; genes that are constant have no edge. ``attrs["cells"]`` records which
        cells were used, in the form of ``uns["scperturb_modules"]["provenance"]``: ``conditions`` with cells among
        those used, ``n_cells`` and ``n_evaluation_controls`` used, and ``cells_sha256`` of the sorted names of all
        cells of the training side (of all cells for ``cells="all"``).

    Raises
    ------
    MissingKeyError
        A column or layer does not exist; without a split, ``cells="training"`` is refused.
    DataError
        Names of cells or genes that occur twice; labels that are missing or not canonical; parts other than train,
        val and test; fewer than three cells; values that are not finite; none of ``genes`` in the screen.
    ValueError
        ``threshold`` outside [0, 1), ``top`` or ``max_cells`` below one, an unknown ``cells``.

    Notes
    -----
    The co-expression graph of GEARS (Roohani et al. 2024), which takes ``|r| > 0.4`` and the 20 strongest. What
    batches, cell types and library sizes do to many genes at once correlates them too; nothing of it is removed here.

    Cells and genes are put in the order of their names first, so another order of rows or columns gives the same
    network, bit for bit. Needs memory for the chosen cells in their own format and about 1 GiB.

    Examples
    --------
    >>> import numpy as np, pandas as pd, anndata
    >>> obs = pd.DataFrame({"perturbation": ["control", "control", "A", "B"], "split": ["train"] * 3 + ["test"]})
    >>> values = np.array([[0.0, 1, 3], [1, 3, 2], [2, 5, 3], [9, 0, 0]])
    >>> screen = anndata.AnnData(values, obs=obs.set_index(pd.Index(list("wxyz"))), var=pd.DataFrame(index=list("ABC")))
    >>> coexpression(screen).to_table()[["source", "target", "weight"]].to_numpy().tolist()
    [['A', 'B', 1.0]]
    """
    _check_arguments(threshold, top, max_cells, cells)
    keys = _screen_keys(adata, perturbation_key, control, layer, cell_type_key, split_key)
    _check_names(adata)
    wanted = None if genes is None else list(dict.fromkeys(str(gene) for gene in genes))
    found = sorted(find_genes(wanted, adata.var_names, what="the screen"))
    n_not_measured = 0 if wanted is None else len(wanted) - len(found)
    if n_not_measured:
        logger.info("%s: %d of %d genes are not measured in the screen", name, n_not_measured, len(wanted or ()))
    side = _side(adata, keys, cells)
    used = _draw(adata, side & (pairs | _is_simple(adata, keys)), max_cells, seed)
    values = GeneValues.of(gene_rows(_expression(adata, keys.layer), used, adata.var_names.get_indexer(found)))
    _check_finite(values, found)
    gene, partner, r = strongest(values, threshold=threshold, top=top)
    attrs = {
        "source": "this screen",
        "derived_from": "training cells of this screen" if cells == "training" else _keys.SAME_SCREEN,
        "cells": _record(adata, keys, side, used),
        "n_genes_not_measured": n_not_measured,
    }
    empty = GeneGraph(name, tuple(found), gene[:0], gene[:0], r[:0], directed=not symmetric, attrs=attrs)
    return empty.with_edges(partner, gene, r if signed else np.abs(r))


def _check_arguments(threshold: float, top: int, max_cells: int, cells: str) -> None:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold} is not in [0, 1).")
    if top < 1 or max_cells < 1:
        raise ValueError(f"top={top} and max_cells={max_cells} have to be at least 1.")
    if cells not in ("training", "all"):
        raise ValueError(f"cells={cells!r} is unknown; use 'training' or 'all'.")


def _screen_keys(adata: AnnData, *given: str | None) -> ScreenKeys:
    names = ("perturbation_key", "control", "layer", "cell_type_key", "split_key")
    recorded = adata.uns.get(_keys.ROOT, {}).get(_keys.SETUP, {})
    said = {key: value for key, value in zip(names, given, strict=True) if value is not None}
    return ScreenKeys.from_uns({**recorded, **said})


def _check_names(adata: AnnData) -> None:
    for names, which in ((adata.obs_names, "obs"), (adata.var_names, "var")):
        if names.has_duplicates:
            some = name_some(names[names.duplicated()].unique())
            raise DataError(f"{which}_names occur more than once: {some}. Call adata.{which}_names_make_unique().")


def _side(adata: AnnData, keys: ScreenKeys, cells: str) -> NDArray[np.bool_]:
    """(N,) the cells that may be known."""
    if cells == "all":
        return np.ones(adata.n_obs, dtype=bool)
    mend = 'Call spm.pp.split(adata, ...) first, or pass cells="all" for a look at the data without a prediction.'
    parts = _column(adata, keys.split_key, mend)
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise DataError(f"obs[{keys.split_key!r}] has the values {name_some(unknown)}, not {', '.join(PARTS)}. {mend}")
    return (parts != TEST).to_numpy()


def _is_simple(adata: AnnData, keys: ScreenKeys) -> NDArray[np.bool_]:
    """(N,) controls and cells with a single perturbed gene."""
    mend = "Call spm.pp.standardize_perturbations(adata, ...) first."
    labels = _column(adata, keys.perturbation_key, mend)
    distinct = labels.unique()
    wrong = sorted(label for label in distinct if not is_canonical(label, control=keys.control))
    if wrong:
        some = name_some(wrong)
        raise DataError(
            f"obs[{keys.perturbation_key!r}] has {len(wrong)} labels that are not canonical: {some}. {mend}"
        )
    simple = [label for label in distinct if len(genes_of(label, control=keys.control)) < 2]
    return labels.isin(simple).to_numpy()


def _column(adata: AnnData, key: str, mend: str) -> pd.Series:
    require_key(key, adata.obs.columns, "obs", mend=mend)
    column = adata.obs[key]
    if column.isna().any():
        some = name_some(adata.obs_names[column.isna()])
        raise DataError(f"obs[{key!r}] is missing in {column.isna().sum()} cells ({some}). {mend}")
    return column.astype(str)


def _draw(adata: AnnData, pool: NDArray[np.bool_], max_cells: int, seed: int) -> Index:
    """Positions of the cells used, sorted by name."""
    candidates = np.flatnonzero(pool)
    candidates = candidates[np.argsort(adata.obs_names[candidates].to_numpy(dtype=object))]
    if len(candidates) > max_cells:
        drawn = np.random.default_rng(seed).choice(len(candidates), max_cells, replace=False)
        candidates = candidates[np.sort(drawn)]
    if len(candidates) < FEWEST_CELLS:
        raise DataError(
            f"{len(candidates)} cells are left for co-expression (controls and singles of the training side; "
            f"max_cells={max_cells}), at least {FEWEST_CELLS} are needed. Pass pairs=True to take combinations too."
        )
    return candidates


def _expression(adata: AnnData, layer: str | None) -> Any:
    if layer is not None:
        require_key(layer, adata.layers, "layers")
        return adata.layers[layer]
    if adata.X is None:
        raise DataError("adata.X is empty (None); pass the layer with the expression as layer=.")
    return adata.X


def _check_finite(values: GeneValues, genes: list[str]) -> None:
    bad = np.flatnonzero(~np.isfinite(values.mean + values.norm))
    if len(bad):
        some = name_some(genes[i] for i in bad)
        raise DataError(
            f"{len(bad)} genes have values that are missing or infinite: {some}. Call spm.pp.normalize(adata) on the "
            "counts, or leave these genes out by genes=."
        )


def _record(adata: AnnData, keys: ScreenKeys, side: NDArray[np.bool_], used: Index) -> dict[str, Any]:
    """Which cells were used, in the form that ``pp.check_leakage`` judges; plain, so that it can be stored as JSON."""
    obs = adata.obs.iloc[used]
    labels = obs[keys.perturbation_key].astype(str)
    contexts = None if keys.cell_type_key is None else _column(adata, keys.cell_type_key, "").iloc[used]
    rows = zip(labels, [None] * len(obs) if contexts is None else contexts, strict=True)
    held_out = obs[keys.split_key].astype(str) == TEST if keys.split_key in obs else np.zeros(len(obs), dtype=bool)
    is_control = labels == keys.control
    names = "\n".join(sorted(adata.obs_names[side]))
    return {
        "conditions": sorted({row_name(label, context) for label, context in rows if label != keys.control}),
        "n_evaluation_controls": int((is_control & held_out).sum()),
        "n_cells": len(used),
        "cells_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }
