"""Train a model of ours on a folder and predict, in a process of its own, measured as the others are.

``python ours_worker.py FOLDER MODEL`` with ``benchmarks/peers`` on the ``PYTHONPATH``. Reads and writes what
``release_worker.py`` does; its priors are the same table of embeddings and the network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from timing import Clock, write_measured

import scperturb_modules as spm

PACKAGES = ("scperturb_modules", "torch", "numpy", "scipy", "pandas", "anndata")


def run(folder: Path, name: str) -> None:
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])

    clock = Clock()
    adata = ad.read_h5ad(folder / "screen.h5ad")
    embeddings, network = pd.read_csv(folder / "embeddings.csv", index_col=0), pd.read_csv(folder / "network.csv")
    kind = getattr(spm, name)
    kind.setup_anndata(adata)
    model = kind(adata, priors={"embeddings": embeddings, "network": network}, seed=job["seed"])
    prepare = clock.read()

    clock = Clock()
    model.train(progress=False, accelerator="cpu")
    train = clock.read()

    clock = Clock()
    prediction = model.predict(job["predict"], store=False)
    predict = clock.read()
    controls = spm.pp.pseudobulk(adata, cells="training").varm["control_mean"].mean(axis=1)
    np.savez(
        folder / "prediction.npz",
        names=np.array(prediction.obs["perturbation"], dtype=str),
        genes=np.array(prediction.var_names, dtype=str),
        iterations=np.array([0]),
        mean=np.asarray(prediction.X)[None],
        controls=controls,
    )
    write_measured(
        folder,
        torch.get_num_threads(),
        PACKAGES,
        prepare=prepare,
        encoder_passes=[],
        training_passes=[{"cells": adata.n_obs * model.fit_result.n_epochs, **train}],
        predict=predict,
        n_predicted=len(job["predict"]),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), sys.argv[2])
