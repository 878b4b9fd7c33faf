"""Train GEARS on a folder and predict: runs in the environment of ``gears-requirements.txt``, not in ours.

``python gears_worker.py FOLDER``. The folder, written by ``gears_peer.py``:

- ``screen.h5ad``: cells that GEARS may see, log1p CP10k; ``obs["condition"]`` as ``ctrl``, ``A+ctrl`` or ``A+B``;
- ``job.json``: ``train``, ``val`` and ``predict`` (lists of conditions as above), and the settings ``epochs``,
  ``seed``, ``hidden_size``, ``batch_size``, ``max_batches`` (batches of each pass over the cells, or null for all),
  ``threads``;
- ``graph.csv``: directed edges between perturbable genes (``source``, ``target``, ``importance``), loops included;
- ``genes.json``: the perturbable genes.

Writes ``prediction.npz`` (``names``, ``genes``, ``mean`` and ``controls``: conditions x genes) and ``measured.json``
there. GEARS adds its change to control cells that it draws anew for each condition; ``controls`` are their means.

GEARS runs as it is on PyPI, but for what its constructor would download: the genes and the graph are put where it
looks for them first. Its own test conditions stay empty, so that it never holds a cell we test on.
"""

from __future__ import annotations

import json
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from gears import GEARS, PertData
from timing import Clock, TimedLoader, write_measured

N_DRAWN = 300
"""Control cells of a prediction; GEARS's own number."""
PACKAGES = ("cell-gears", "torch", "torch-geometric", "numpy", "scipy", "pandas", "anndata", "scanpy")


def prepared(folder: Path, job: dict[str, Any]) -> PertData:
    """Cells as GEARS holds them: one dense graph object per cell."""
    place_prior(folder)
    data = PertData(str(folder))
    data.new_data_process("screen", adata=ad.read_h5ad(folder / "screen.h5ad"))
    parts = folder / "split.pkl"
    parts.write_bytes(pickle.dumps({"train": ["ctrl", *job["train"]], "val": job["val"], "test": []}))
    data.prepare_split("custom", seed=job["seed"], split_dict_path=str(parts))
    data.split = "no_test"  # else it scores itself on its test conditions at the end; there are none
    data.get_dataloader(batch_size=job["batch_size"])
    return data


def place_prior(folder: Path) -> None:
    """The three files that GEARS would download."""
    genes = json.loads((folder / "genes.json").read_text())
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps({gene: set() for gene in genes}))
    (folder / "essential_all_data_pert_genes.pkl").write_bytes(pickle.dumps(genes))
    graph = folder / "go_essential_all"
    graph.mkdir(exist_ok=True)
    (graph / "go_essential_all.csv").write_bytes((folder / "graph.csv").read_bytes())


def drawn_controls(model: GEARS) -> np.ndarray:
    """(G,) mean of the control cells that GEARS draws next."""
    cells = model.ctrl_adata
    return np.asarray(cells.X[np.random.randint(0, cells.n_obs, N_DRAWN)].mean(axis=0)).ravel()  # noqa: NPY002


def run(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    random.seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002 - GEARS draws from this one
    torch.manual_seed(job["seed"])

    clock = Clock()
    data = prepared(folder, job)
    data.dataloader = {part: TimedLoader(loader, job["max_batches"]) for part, loader in data.dataloader.items()}
    model = GEARS(data, device="cpu")
    model.model_initialize(hidden_size=job["hidden_size"])
    prepare = clock.read()

    clock = Clock()
    model.train(epochs=job["epochs"])
    train = clock.read()

    state = np.random.get_state()  # noqa: NPY002
    clock = Clock()
    asked = [[gene for gene in name.split("+") if gene != "ctrl"] for name in job["predict"]]
    answers = model.predict(asked)
    predict = clock.read()
    mean = np.array([answers["_".join(genes)] for genes in asked], dtype=np.float32).reshape(len(asked), -1)
    np.random.set_state(state)  # noqa: NPY002
    controls = np.array([drawn_controls(model) for _ in asked], dtype=np.float32).reshape(mean.shape)
    names, genes = np.array(job["predict"]), np.array(model.gene_list)
    np.savez(folder / "prediction.npz", names=names, genes=genes, mean=mean, controls=controls)
    write_measured(
        folder,
        torch.get_num_threads(),
        PACKAGES,
        prepare=prepare,
        train=train,
        n_epochs=job["epochs"],
        n_cells=sum(map(len, (data.dataset_processed[name] for name in ["ctrl", *job["train"]]))),
        training_passes=data.dataloader["train_loader"].passes[::2],  # the others are those in which it scores itself
        predict=predict,
        n_predicted=len(asked),
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve())
