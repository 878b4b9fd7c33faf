"""How strong the measured interaction of a pair is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of_row, parse_row_name, row_name
from scperturb_modules.metrics import top_genes
from scperturb_modules.tl.interactions._pairs import values_of

if TYPE_CHECKING:
    from anndata import AnnData


def measured_interactions(measured: AnnData) -> pd.Series:
    """Size of the measured interaction of every pair with both singles, minus its noise, by name.

    Parameters
    ----------
    measured
        Pseudobulk with the layers ``delta``, ``se2`` and ``se2_control``.

    Returns
    -------
    Series
        L2 norms over the 1,000 genes highest in controls, float64.
    """
    genes = genes_compared(measured)
    change, se2, control = (values_of(measured, layer, genes) for layer in (keys.DELTA, keys.SE2, keys.SE2_CONTROL))
    at = {str(name): i for i, name in enumerate(measured.obs_names)}
    sizes: dict[str, float] = {}
    for name, pair in at.items():
        singles = [at.get(row_name(gene, parse_row_name(name)[1])) for gene in genes_of_row(name)]
        if len(singles) != 2 or None in singles:
            continue
        a, b = (int(i) for i in singles if i is not None)
        # the control is in the change of the pair once and in the sum twice: once in the difference
        noise = se2[pair] + se2[a] + se2[b] - control[pair] - control[a] - control[b] + control[pair]
        square = np.sum((change[pair] - change[a] - change[b]) ** 2) - np.sum(noise)
        sizes[name] = float(np.sqrt(max(square, 0.0)))
    return pd.Series(sizes, dtype=np.float64)


def genes_compared(measured: AnnData) -> list[str]:
    """The 1,000 genes highest in training controls."""
    at = top_genes(measured.var[keys.CONTROL_MEAN], list(map(str, measured.var_names)))
    return [str(measured.var_names[i]) for i in at]
