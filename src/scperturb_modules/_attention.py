"""Reads the attention that a Prediction holds: weights in ``obsm``, the names of its nodes in ``uns``.

One dataset per table, so that networks of many thousand genes can be written; a table in ``uns`` would be one per node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, require_key

if TYPE_CHECKING:
    from anndata import AnnData


def stored_attention(prediction: AnnData, what: str, *, key: str = keys.ATTENTION) -> pd.DataFrame:
    """(P, N) weights of the conditions of a Prediction and the N nodes of the network, float64.

    A condition that the network was not asked, because a gene is known nowhere (NaN as stored), has zeros.

    Parameters
    ----------
    prediction
        A Prediction, or some rows of one.
    what
        How messages call it.
    key
        ``"attention"``, or ``"attention_sd"``: the standard deviation between ensemble members.

    Raises
    ------
    MissingKeyError
        The Prediction holds no attention.
    DataError
        It names more or fewer nodes than it has weights.
    """
    mend = "Predict with a model that has attention: model.predict(...) of an APP model stores it."
    require_key(key, prediction.obsm, f"obsm of {what}", mend=mend)
    record = prediction.uns.get(keys.ROOT, {})
    require_key(keys.ATTENTION_NODES, record, f"uns[{keys.ROOT!r}] of {what}", mend=mend)
    values = np.array(prediction.obsm[key], dtype=np.float64)
    nodes = [str(node) for node in np.asarray(record[keys.ATTENTION_NODES])]
    if values.ndim != 2 or values.shape[1] != len(nodes):
        raise DataError(
            f"obsm[{key!r}] of {what} has shape {values.shape}, but {len(nodes)} nodes are named. Predict these "
            "conditions again."
        )
    values[np.isnan(values).all(axis=1)] = 0.0
    return pd.DataFrame(values, index=prediction.obs_names, columns=nodes)
