"""Reads the columns of an edge table; what cannot be used is an error that names rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some

SOURCE, TARGET, WEIGHT = "source", "target", "weight"


def gene_columns(table: pd.DataFrame, name: str) -> list[NDArray[np.object_]]:
    """Both ends of each edge as text, (E,) each.

    Raises
    ------
    DataError
        A column is absent, or a name is missing or blank.
    """
    absent = [column for column in (SOURCE, TARGET) if column not in table.columns]
    if absent:
        raise DataError(
            f"network {name!r} has no column {name_some(absent)}; its columns are {name_some(table.columns)}. An edge "
            "table has the columns source and target, and may have weight."
        )
    ends = table[[SOURCE, TARGET]].astype(object)
    text = ends.astype(str)
    nameless = (ends.isna() | text.apply(lambda column: column.str.strip() == "")).any(axis=1).to_numpy()
    if nameless.any():
        raise DataError(
            f"network {name!r} has {nameless.sum()} edges without a gene name, in rows "
            f'{name_some(table.index[nameless])}. Drop them: table.dropna(subset=["source", "target"]); pandas reads '
            "a gene called NA as missing unless read_csv is given keep_default_na=False."
        )
    return [text[column].to_numpy(dtype=object) for column in (SOURCE, TARGET)]


def weight_column(table: pd.DataFrame, name: str, *, signed: bool) -> NDArray[np.float64]:
    """Weights (E,), 1 where the table has none.

    Raises
    ------
    DataError
        Weights that are no finite number, are zero, or are negative although the network is not signed.
    """
    if WEIGHT not in table.columns:
        return np.ones(len(table))
    weight = pd.to_numeric(table[WEIGHT].astype(object), errors="coerce").to_numpy(dtype=np.float64)
    problems = [
        (~np.isfinite(weight), "that are no finite number", "Drop or fill them."),
        (weight == 0, "of zero", 'A weight of zero is no edge: table = table[table["weight"] != 0].'),
    ]
    if not signed:
        mend = "spm.priors.GeneGraph.from_table(table, signed=True).split_signs() makes two networks of them."
        problems.append((weight < 0, "below zero", mend))
    for wrong, what, mend in problems:
        if wrong.any():
            rows = name_some(table.index[wrong])
            raise DataError(f"network {name!r} has {wrong.sum()} weights {what}, in rows {rows}. {mend}")
    return weight
