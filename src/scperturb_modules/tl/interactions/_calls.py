"""Which genes respond to a pair otherwise than the sum of its singles: one call per pair and gene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules.metrics._local_fdr import fit_null, local_fdr
from scperturb_modules.tl.interactions._classes import SUPPRESSION, SYNERGY
from scperturb_modules.tl.interactions._genes import choose_genes
from scperturb_modules.tl.interactions._noise import against_held_out
from scperturb_modules.tl.interactions._pairs import Pairs, find_pairs

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]

_LAYERS = (keys.SE2, keys.SE2_CONTROL, keys.CONTROL_TRAIN)


def interaction_genes(
    data: AnnData,
    *,
    pairs: Iterable[str] | None = None,
    singles: AnnData | None = None,
    genes: Iterable[str] | None = None,
    layer: str | None = keys.DELTA,
    fdr: float = 0.05,
) -> pd.DataFrame:
    """Call the genes whose change under a pair differs from the sum of the changes of its singles.

    Parameters
    ----------
    data, pairs, singles, genes, layer
        As in :func:`genetic_interactions`.
    fdr
        Genes with a smaller local false discovery rate are called.

    Returns
    -------
    DataFrame
        A row per complete pair and gene: ``perturbation``, ``cell_type`` (if there are contexts), ``gene``, the changes
        ``a``, ``b`` and ``y``, ``interaction`` = y - a - b, ``z`` (NaN without standard errors, and for genes that no
        cell shows), ``local_fdr`` and ``call``: ``"synergy"`` (the pair changes the gene further in the direction of
        the sum), ``"suppression"`` (less far, or the other way) or ``""``.

        ``attrs``: ``genes``; ``missing``, the pairs that lack a row, with its name; ``null``, what the calls rest on
        (``statistic``, ``mean``, ``sd``, ``share``).

    Raises
    ------
    MissingKeyError
        A layer does not exist.
    DataError
        No pair, or a gene that does not exist.

    Notes
    -----
    The null distribution is fitted to all pairs and genes: a normal distribution, by maximum likelihood, to the central
    80 % of the statistics, and the local false discovery rate is its density over that of all (Efron 2004). The
    statistic is z where there are standard errors, else the interaction itself.

    ``z`` counts the noise of the controls once: with one control c, y - a - b = AB - A - B + c. Where the pair was
    measured against held-out controls and its singles were not, all three are measured against training controls;
    otherwise c would enter three times.

    References
    ----------
    Efron (2004), Journal of the American Statistical Association 99, 96.
    Ahlmann-Eltze, Huber and Anders (2025), Nature Methods 22, 1657, for interactions against an empirical null.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> truth = spm.pp.pseudobulk(spm.datasets.simulate("tiny", seed=0))
    >>> table = spm.tl.interaction_genes(truth)
    >>> table["gene"].nunique(), sorted(table["call"].unique())
    (74, ['', 'suppression'])
    """
    found = find_pairs(data, pairs, singles)
    chosen = choose_genes(genes, data=data, singles=singles)
    changes, se2 = _changes(found, layer, chosen)
    complete = found.is_complete
    a, b, y = np.moveaxis(changes[complete], 1, 0)
    interaction = y - a - b
    with np.errstate(divide="ignore", invalid="ignore"):
        z = interaction / np.sqrt(se2[complete])
    statistic = z if np.isfinite(z).any() else interaction
    null = fit_null(statistic)
    rate = local_fdr(statistic, null)
    side = np.where(interaction * (a + b) > 0, SYNERGY, SUPPRESSION)
    names = found.table().drop(columns=["gene_a", "gene_b"])[complete]
    table = names.loc[names.index.repeat(len(chosen))].reset_index(drop=True)
    columns = {"a": a, "b": b, "y": y, "interaction": interaction, "z": z, "local_fdr": rate}
    table["gene"] = np.tile(np.array(chosen, dtype=object), len(names))
    table = table.assign(**{name: values.ravel() for name, values in columns.items()})
    table["call"] = np.where(rate < fdr, side, "").ravel().astype(object)
    lacking = {name: rows for name, rows in zip(found.names, found.missing, strict=True) if rows}
    said = {"statistic": "z" if statistic is z else "interaction"} | null._asdict()
    table.attrs = {"genes": chosen, "missing": lacking, "null": said}
    return table


def _changes(pairs: Pairs, layer: str | None, genes: list[str]) -> tuple[Array, Array]:
    """(D, 3, m) changes of A, B and A+B, and (D, m) the variance of their interaction, NaN where it is not known."""
    changes = pairs.of_pairs(pairs.values(layer, genes))
    used = [(source, at) for source, at in pairs.sources if len(at)]
    if layer != keys.DELTA or any(name not in source.layers for source, _ in used for name in _LAYERS):
        return changes, np.full((len(changes), len(genes)), np.nan)
    of = {name: pairs.of_pairs(pairs.values(name, genes)) for name in _LAYERS}
    held_out = pairs.of_pairs(np.concatenate([against_held_out(source)[at] for source, at in used]).astype(np.float64))
    mixed = np.ptp(held_out, axis=1) > 0
    trained = pairs.of_pairs(pairs.values(None, genes)) - of[keys.CONTROL_TRAIN]
    changes = np.where(mixed[:, None, None], trained, changes)
    own = np.maximum(of[keys.SE2] - of[keys.SE2_CONTROL], 0.0).sum(axis=1)
    is_used = np.where(mixed[:, None], held_out == 0, True)[:, :, None]  # whose controls are those of all three
    control = np.sum(of[keys.SE2_CONTROL], axis=1, where=is_used) / is_used.sum(axis=1)
    return changes, own + control
