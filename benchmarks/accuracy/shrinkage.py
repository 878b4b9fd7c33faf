"""How measured single perturbations are best shrunken: one half of the cells predicts the other half.

`python benchmarks/accuracy/shrinkage.py` prints the mean L2 distance between the shrunken change of one half and the
change of the other, for the form that the anchor uses and for simpler ones. No pair and no test condition is looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import scperturb_modules as spm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import real

N_HALVINGS = 4
Shrink = Callable[[np.ndarray, np.ndarray], np.ndarray]


def weighted(delta: np.ndarray, se2: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """``delta * variance / (variance + se2)`` with negative variances taken as 0."""
    variance = np.broadcast_to(np.maximum(variance, 0), se2.shape)
    total = variance + se2
    return delta * np.divide(variance, total, out=np.ones_like(se2), where=total > 0)


FORMS: dict[str, Shrink] = {
    "plain": lambda delta, se2: delta,
    "one variance per condition": lambda delta, se2: weighted(delta, se2, (delta**2 - se2).mean(1, keepdims=True)),
    "one variance per gene": lambda delta, se2: weighted(delta, se2, (delta**2 - se2).mean(0, keepdims=True)),
    "product (the anchor)": spm.baselines.shrink_to_zero,
}
SCREENS: dict[str, tuple[Callable[[], AnnData], dict[str, Any]]] = {
    "Norman": (real.norman_k562, {}),
    "McFaline-Figueroa": (real.mcfaline, {"cell_type_key": "cell_type"}),
    "Papalexi": (real.papalexi, {"batch_key": "replicate"}),
    "Datlinger": (real.datlinger, {"cell_type_key": "stimulation"}),
    "Schraivogel": (real.schraivogel, {}),
    "simulated": (lambda: spm.datasets.simulate(seed=1), {}),
    "simulated, no effect": (lambda: spm.datasets.simulate("null", seed=1), {}),
}


def halves(adata: AnnData, seed: int, **keys: Any) -> tuple[AnnData, AnnData]:
    """Two pseudobulks of single perturbations without a common cell, rows in the same order."""
    first = np.random.default_rng(seed).random(adata.n_obs) < 0.5
    made = [spm.pp.pseudobulk(adata[mask].copy(), **keys) for mask in (first, ~first)]
    singles = [
        name
        for name in made[0].obs_names
        if "+" not in name and name in made[1].obs_names and np.isfinite(made[0][name].layers["se2"]).all()
    ]
    return made[0][singles], made[1][singles]


def distances(adata: AnnData, **keys: Any) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in FORMS}
    for seed in range(N_HALVINGS):
        one, other = halves(adata, seed, **keys)
        delta, se2, truth = one.layers["delta"], one.layers["se2"], other.layers["delta"]
        for name, shrink in FORMS.items():
            found[name].append(float(np.linalg.norm(shrink(delta, se2) - truth, axis=1).mean()))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    table = {screen: distances(load(), **keys) for screen, (load, keys) in SCREENS.items()}
    sys.stdout.write(pd.DataFrame(table).T.round(3).to_string() + "\n")


if __name__ == "__main__":
    main()
