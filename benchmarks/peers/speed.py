"""Speed and memory of a model of ours beside GEARS, on one screen, one split, the same number of threads.

``python benchmarks/peers/speed.py`` writes ``benchmarks/results/gears.json``. Each tool runs in a process of its own;
what both leave behind stays under ``results/peers/speed``. Ratios are ours over theirs, larger is better.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
from gears_peer import PYTHON, ROOT, Settings, gears, write_job

import scperturb_modules as spm
from scperturb_modules._files import whole_file

WORK = ROOT / "results" / "peers" / "speed"
RESULT = ROOT / "benchmarks" / "results" / "gears.json"
SCREEN = {"n_genes": 5045, "n_perturbable": 40, "n_pairs": 20, "n_cells": 100, "n_modules": 20}
PATHWAY_SIZE = 40
GEARS_EPOCHS = 20
"""Its default; what it needs for all of them is computed from a few batches."""


def new_pairs(adata: ad.AnnData, n: int) -> list[str]:
    """The first pairs of perturbed genes that were not measured."""
    measured = set(adata.obs["perturbation"].astype(str))
    genes = sorted(label for label in measured if "+" not in label and label != "control")
    return [pair for pair in map("+".join, combinations(genes, 2)) if pair not in measured][:n]


def pathways_of(adata: ad.AnnData) -> pd.DataFrame:
    """Genes of a module, 40 at a time, as pathways: about as many pairs of genes as Reactome has for so many genes."""
    order = adata.var_names[adata.var["module"].argsort(kind="stable")]
    return pd.DataFrame({"gene": order, "set": [f"pathway {i // PATHWAY_SIZE}" for i in range(len(order))]})


def run_ours(adata: ad.AnnData, network: Any, job: Mapping[str, Any], model: str, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(folder / "screen.h5ad")
    network.to_csv(folder / "network.csv", index=False)
    pathways_of(adata).to_csv(folder / "pathways.csv", index=False)
    (folder / "job.json").write_text(json.dumps(job))
    subprocess.run([sys.executable, Path(__file__).with_name("ours_worker.py"), folder, model], check=True)
    return json.loads((folder / "measured.json").read_text())


def cells_per_second(measured: Mapping[str, Any]) -> float:
    passes = measured["training_passes"]
    return sum(one["cells"] for one in passes) / sum(one["seconds"] for one in passes)


def ratios(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """``fit_ratio`` compares whole trainings, each over its own number of epochs.

    GEARS also goes over all training cells after each epoch, to score itself; that is left out in its favour.
    """
    their_fit = GEARS_EPOCHS * theirs["n_cells"] / cells_per_second(theirs)
    return {
        "train_ratio": cells_per_second(ours) / cells_per_second(theirs),
        "predict_ratio": per_condition(theirs) / per_condition(ours),
        "memory_ratio": theirs["peak_rss_bytes"] / ours["peak_rss_bytes"],
        "fit_ratio": their_fit / ours["train"]["seconds"],
    }


def per_condition(measured: Mapping[str, Any]) -> float:
    return measured["predict"]["seconds"] / measured["n_predicted"]


def released(
    adata: ad.AnnData, network: Any, pairs: list[str], chosen: argparse.Namespace, ours: float
) -> dict[str, Any]:
    """Training cells per second of the released BioDSNN, from a few cells: it takes about 1 GB for each."""
    folder = (WORK / "released").resolve()
    settings = Settings(batch_size=2, max_batches=4, threads=chosen.threads)
    write_job(adata, network, pairs, folder, settings)
    worker = Path(__file__).with_name("released_worker.py")
    with (folder / "log.txt").open("w") as log:
        command = [chosen.python, worker, chosen.released.resolve(), folder]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    measured = json.loads((folder / "measured.json").read_text())
    return {"released": measured, "released_train_ratio": ours / cells_per_second(measured)}


def machine() -> dict[str, Any]:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"processor": names[0], "cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="BioDSNN", help="name of the model in spm")
    parser.add_argument("--python", type=Path, default=PYTHON, help="of the environment of GEARS")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batches", type=int, default=60, help="that GEARS trains on")
    parser.add_argument("--epochs", type=int, default=60, help="of our model")
    parser.add_argument("--pairs", type=int, default=100, help="to predict")
    parser.add_argument("--genes", type=int, default=SCREEN["n_genes"])
    parser.add_argument("--released", type=Path, help="checkout of the released BioDSNN, beside this repository")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(chosen.threads))
    before = machine()
    adata = spm.datasets.simulate("default", seed=0, **SCREEN | {"n_genes": chosen.genes})
    network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    spm.pp.split(adata, "combination", seed=0)
    pairs = new_pairs(adata, chosen.pairs)
    shutil.rmtree(WORK, ignore_errors=True)

    settings = Settings(epochs=1, max_batches=chosen.batches, threads=chosen.threads)
    _, theirs = gears(adata, network, pairs, WORK / "gears", settings, chosen.python)
    job = {"predict": pairs, "epochs": chosen.epochs, "threads": chosen.threads, "seed": 0}
    ours = run_ours(adata, network, job, chosen.model, WORK / "ours")
    found = ratios(ours, theirs) | {
        "model": chosen.model,
        "screen": {"conditions": adata.obs["perturbation"].nunique() - 1, "cells": adata.n_obs, "genes": adata.n_vars},
        "ours_cells_per_second": cells_per_second(ours),
        "gears_cells_per_second": cells_per_second(theirs),
        "ours": ours,
        "gears": theirs,
        "machine": before,
    }
    if chosen.released is not None:
        found |= released(adata, network, pairs[:1], chosen, cells_per_second(ours))
    with whole_file(chosen.out) as path:
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
