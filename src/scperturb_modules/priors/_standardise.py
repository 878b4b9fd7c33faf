"""Columns of a gene x feature table on one scale."""

from __future__ import annotations

import numpy as np
import pandas as pd


def standardised(table: pd.DataFrame) -> pd.DataFrame:
    """Complete rows of a table, sorted by gene; columns of mean 0 and variance 1, without those that do not vary.

    Columns are named by numbers, since their names may repeat.
    """
    complete = table.set_axis(range(table.shape[1]), axis=1).dropna().astype(np.float64).sort_index()
    spread = complete.std(ddof=0)
    informative = spread > 1e-12 * complete.abs().max()
    return (complete - complete.mean()).loc[:, informative] / spread[informative]
