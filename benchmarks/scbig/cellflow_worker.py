"""Train CellFlow on a folder and predict: runs in the environment of ``cellflow-requirements.txt``, not in ours.

``python cellflow_worker.py FOLDER`` with ``benchmarks/peers`` on the ``PYTHONPATH``. Reads and writes what
``release_worker.py`` does; of what is known of genes it has the embeddings. Its latent are 50 principal components,
its network has the widths that the scBIG release gives to its own copy of CellFlow, a quarter of the defaults.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from slots import fixed_steps, slots
from timing import Clock, write_measured

PACKAGES = ("cellflow-tools", "jax", "jaxlib", "flax", "diffrax", "ott-jax", "numpy", "scipy", "pandas", "anndata")
N_LATENT = 50
N_TIMED = 2
"""Conditions of which the time of a prediction by its own adaptive solver is measured."""
WIDTHS = (1024, 1024)


def prepared(folder: Path, job: dict[str, Any]) -> tuple[ad.AnnData, Any]:
    """The cells, and the model ready to train on them."""
    import cellflow

    cells = ad.read_h5ad(folder / "screen.h5ad")
    values = cells.X.toarray() if hasattr(cells.X, "toarray") else cells.X
    adata = ad.AnnData(np.asarray(values, dtype=np.float32), obs=slots(cells.obs["perturbation"]), var=cells.var[[]])
    for column in ("pert1", "pert2"):
        adata.obs[column] = adata.obs[column].astype("category")
    table = pd.read_csv(folder / "embeddings.csv", index_col=0).astype(np.float32)
    vectors = {str(gene): row for gene, row in zip(table.index, table.to_numpy(), strict=True)}
    adata.uns["genes"] = vectors | {"ctrl": np.zeros(table.shape[1], dtype=np.float32)}
    cellflow.pp.centered_pca(adata, n_comps=N_LATENT)
    model = cellflow.model.CellFlow(adata, solver="otfm")
    model.prepare_data(
        sample_rep="X_pca",
        control_key="is_control",
        perturbation_covariates={"gene": ["pert1", "pert2"]},
        perturbation_covariate_reps={"gene": "genes"},
        max_combination_length=2,
        null_value=0.0,
    )
    model.prepare_model(time_encoder_dims=WIDTHS, hidden_dims=WIDTHS, decoder_dims=WIDTHS, seed=job["seed"])
    return adata, model


def checkpoints(model: Any, job: dict[str, Any]) -> list[tuple[int, Any, dict[str, float]]]:
    """Train; iterations, weights and time at each log iteration."""
    from cellflow.training import ComputationCallback

    kept: list[tuple[int, Any, dict[str, float]]] = []

    class Keep(ComputationCallback):  # type: ignore[misc]
        def on_train_begin(self) -> None:
            pass

        def on_log_iteration(self, source: Any, true: Any, predicted: Any, solver: Any) -> dict[str, float]:
            # the first call comes after every + 2 iterations
            kept.append((2 + job["every"] * (len(kept) + 1), solver.vf_state_inference, clock.read()))
            return {}

        def on_train_end(self, *args: Any) -> dict[str, float]:
            return {}

    clock = Clock()
    iterations = job["iterations"] + 2
    model.train(iterations, batch_size=job["batch_size"], valid_freq=job["every"], callbacks=[Keep()])
    return kept


def predicted(controls: ad.AnnData, adata: ad.AnnData, model: Any, asked: Sequence[str], **solver: Any) -> np.ndarray:
    """(conditions, cells, genes)."""
    table = slots(pd.Series(list(asked))).assign(is_control=False)
    latent = model.predict(controls, table, sample_rep="X_pca", condition_id_key="condition", **solver)
    back = adata.varm["PCs"].T
    return np.stack([latent[name] @ back + adata.varm["X_mean"].ravel() for name in asked])


def run(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    clock = Clock()
    adata, model = prepared(folder, job)
    prepare = clock.read()
    kept = checkpoints(model, job)
    controls = adata[adata.obs["is_control"].to_numpy()][: job["n_controls"]].copy()
    means = []
    for _, state, _ in kept:
        model.solver.vf_state_inference = state
        means.append(predicted(controls, adata, model, job["predict"], **fixed_steps()).mean(axis=1))
    clock = Clock()
    adaptive = predicted(controls, adata, model, job["predict"][:N_TIMED]).mean(axis=1)
    predict = clock.read()
    kinds = {"names": np.array(job["predict"]), "genes": np.array(adata.var_names, dtype=str)}
    iterations = np.array([number for number, *_ in kept])
    start = controls.X.mean(axis=0)
    np.savez(folder / "prediction.npz", **kinds, iterations=iterations, mean=means, controls=start)
    ends = [{"seconds": 0.0, "cpu_seconds": 0.0}, *(clock for *_, clock in kept)]
    passes = [
        {"cells": job["batch_size"] * job["every"], **{key: now[key] - before[key] for key in now}}
        for before, now in zip(ends, ends[1:], strict=False)
    ]
    write_measured(
        folder,
        job["threads"],
        PACKAGES,
        prepare=prepare,
        encoder_passes=[],
        training_passes=passes,
        predict=predict,
        n_predicted=len(adaptive),
        solver_difference=float(np.abs(adaptive - means[-1][:N_TIMED]).max()),
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    os.environ["JAX_PLATFORMS"] = "cpu"
    # XLA knows no other limit
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: json.loads((target / "job.json").read_text())["threads"]])
    run(target)
