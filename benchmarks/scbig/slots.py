"""What the workers of both flow models share; runs in their environments, so it knows nothing of ours."""

from __future__ import annotations

from typing import Any

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


def fixed_steps() -> dict[str, Any]:
    """Arguments of CellFlow's ``predict``: 20 midpoint steps, where its default takes about a hundred of six stages."""
    import diffrax

    return {"solver": diffrax.Midpoint(), "dt0": 0.05, "stepsize_controller": diffrax.ConstantStepSize()}
