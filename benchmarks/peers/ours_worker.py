"""Train a model of ours on a screen and predict, in a process of its own, measured as GEARS is.

``python ours_worker.py FOLDER MODEL``. The folder holds ``screen.h5ad`` (with a split), ``network.csv``,
``pathways.csv`` and ``job.json`` (``predict``, ``epochs``, ``threads``, ``seed``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anndata as ad
import pandas as pd
import torch
from timing import Clock, write_measured

import scperturb_modules as spm

PACKAGES = ("scperturb_modules", "torch", "numpy", "scipy", "pandas", "anndata")


def run(folder: Path, name: str) -> None:
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])

    clock = Clock()
    adata, network = ad.read_h5ad(folder / "screen.h5ad"), pd.read_csv(folder / "network.csv")
    kind = getattr(spm, name)
    kind.setup_anndata(adata)
    pathways = spm.priors.gene_sets(pd.read_csv(folder / "pathways.csv"), name="pathways")
    model = kind(adata, priors=[network, pathways], seed=job["seed"])
    prepare = clock.read()

    clock = Clock()
    model.train(max_epochs=job["epochs"], progress=False, accelerator="cpu")
    train, fit = clock.read(), model.fit_result

    clock = Clock()
    model.predict(job["predict"], store=False)
    predict = clock.read()
    n_cells = int((adata.obs["split"] != "test").sum())
    write_measured(
        folder,
        torch.get_num_threads(),
        PACKAGES,
        prepare=prepare,
        train=train,
        n_epochs=fit.n_epochs,
        n_cells=n_cells,
        # every condition, in whose mean all its cells are, is gone over once an epoch; the time is that of all of
        # train(), with the data stream and the gates
        training_passes=[{"cells": n_cells * fit.n_epochs, "seconds": train["seconds"]}],
        predict=predict,
        n_predicted=len(job["predict"]),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), sys.argv[2])
