"""Conditions as both flow models read them; runs in their environments, so it knows nothing of ours."""

from __future__ import annotations

import pandas as pd

CONTROL = "control"


def slots(conditions: pd.Series) -> pd.DataFrame:
    """``obs``: two genes a cell, ``ctrl`` where there is none, and whether it is a control."""
    labels = conditions.astype(str)
    genes = labels.replace(CONTROL, "ctrl+ctrl").str.split("+")
    return pd.DataFrame(
        {
            "condition": labels,
            "pert1": genes.str[0],
            "pert2": genes.str[1].fillna("ctrl"),
            "is_control": labels == CONTROL,
        }
    )
