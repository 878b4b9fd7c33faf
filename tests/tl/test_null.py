"""A screen without any effect must not look predictable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scperturb_modules as spm

N_CELLS, N_CONTROLS, N_TRAIN, N_TEST, N_GENES = 30, 60, 10, 10, 300


def mean_pearson_of_the_mean(seed: int, *, protocol: str) -> float:
    """Pearson of change that MeanShift reaches on independent counts."""
    rng = np.random.default_rng(seed)
    names = [f"P{i:02d}" for i in range(N_TRAIN + N_TEST)]
    labels = np.repeat(["control", *names], [N_CONTROLS] + [N_CELLS] * len(names))
    counts = rng.poisson(3.0, (len(labels), N_GENES))
    obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(len(labels))])
    adata = AnnData(np.log1p(counts).astype(np.float32), obs=obs)
    parts = {name: "test" if i >= N_TRAIN else "train" for i, name in enumerate(names)}
    holdout = 0.3 if protocol == "strict" else 0.0
    spm.pp.split(adata, "custom", assignment=parts, seed=seed, holdout_controls=holdout)
    model = spm.baselines.MeanShift(spm.pp.pseudobulk(adata, cells="training"))
    model.train()
    frame = spm.tl.evaluate(model.predict(names[N_TRAIN:]), spm.pp.pseudobulk(adata), metrics=["pearson_delta"])
    assert set(frame["protocol"]) == {protocol} and len(frame) == N_TEST
    return float(frame["value"].mean())


@pytest.mark.parametrize("protocol", ["published", "strict"])
def test_pearson_of_the_mean_without_any_effect(protocol):
    found = np.mean([mean_pearson_of_the_mean(seed, protocol=protocol) for seed in range(50)])
    shared = 1 / N_CONTROLS
    expected = shared / np.sqrt((shared + 1 / (N_CELLS * N_TRAIN)) * (shared + 1 / N_CELLS))
    assert expected == pytest.approx(0.527, abs=0.001)
    if protocol == "published":
        assert abs(found - expected) < 0.03
    else:
        assert abs(found) < 0.02
