"""Train the public scBIG release on a folder and predict, in the environment of ``scbig-requirements.txt`` alone.

``python release_worker.py FOLDER CHECKOUT`` with ``benchmarks/peers`` on the ``PYTHONPATH``; CHECKOUT is a copy of the
release. The folder, written by ``peers.py``:

- ``screen.h5ad``: cells that it may see, log1p CP10k, with ``obs["perturbation"]``;
- ``embeddings.csv``: genes x features, a row for each measured and each perturbed gene;
- ``network.csv``: edges (``source``, ``target``); ``pathways.csv``: ``gene``, ``set``;
- ``job.json``: ``predict`` (conditions) and the settings of ``peers.Settings``.

Writes ``prediction.npz`` (``names``, ``genes``, ``iterations``; ``mean``: checkpoints x conditions x genes;
``controls``: mean of the control cells that they start from) and ``measured.json``. ``solver_difference``: the largest
difference between a predicted mean there and one by the adaptive solver of the release, whose time is measured.

The release runs as it is, by its two scripts' own commands; the names of files are those that it asks for. What is
changed is said where it is done.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import runpy
import sys
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
import tqdm
from slots import fixed_steps, slots
from timing import Clock, write_measured

PACKAGES = ("jax", "jaxlib", "flax", "diffrax", "ott-jax", "POT", "torch", "numpy", "scipy", "pandas", "anndata")
N_TIMED = 1
"""Conditions of which the time of a prediction is measured: one takes the release minutes on a CPU."""
DATASET = "norman_additive"
GRC = {"dataset_name": DATASET, "n_clusters": 32, "ppi_min_score": 700, "sinkhorn_reg": 0.1}
TRAINING = {
    "dataset": f"{DATASET}_grc",
    "encoder_config": "genecompass_pe_module",
    "gene_loss_config": "grc_corr_pathway_ot",
    "gene_loss_freq": 1000,
    "n_gene_loss_samples": 3,
    "gene_loss_batch_size": 64,
    "encoder_batch_size": 256,
    "n_pcs": 50,
    "embed_dim": 256,
    "num_layers": 3,
    "num_heads": 8,
    "lambda_corr": 0.1,
    "lambda_ot": 0.1,
    "num_modules": 8,
    "chunk_size": 64,
}
"""Settings of the release's own two scripts."""


class TimedBar(tqdm.tqdm):
    """The release draws a bar for each pass over cells; this one keeps how long each took."""

    passes: list[dict[str, Any]] = []

    def __iter__(self) -> Any:
        clock = Clock()
        yield from super().__iter__()
        self.passes.append({"name": self.desc.split()[0], "steps": self.total, **clock.read()})

    @classmethod
    def named(cls, name: str) -> list[dict[str, Any]]:
        """Passes whose bar begins with this word."""
        return [one for one in cls.passes if one["name"] == name]


def place_cells(folder: Path, raw: Path, asked: Sequence[str]) -> None:
    """Its three files. No cell of a test condition is there: its test file, read for the names of genes, has controls.

    Its validation file, from which it would choose its checkpoint, is one training condition: all checkpoints are
    scored on the test conditions afterwards, and the best one counts, so that it needs no cells for that.
    """
    screen = ad.read_h5ad(folder / "screen.h5ad")
    values = np.asarray(screen.X.toarray() if hasattr(screen.X, "toarray") else screen.X, dtype=np.float32)
    obs = slots(screen.obs["perturbation"])
    controls = np.flatnonzero(obs["is_control"])
    one = obs["condition"] == obs.loc[~obs["is_control"], "condition"].iloc[0]
    rows = controls[np.arange(len(asked)) % len(controls)]
    parts = {
        "train": (values, obs),
        "val": (values[one], obs[one]),
        "test": (values[rows], slots(pd.Series(asked, index=[f"asked{i}" for i in range(len(asked))]))),
    }
    raw.mkdir(exist_ok=True)
    for part, (x, table) in parts.items():
        ad.AnnData(x, obs=table, var=screen.var[[]]).write_h5ad(raw / f"norman_{part}_filtered.h5ad")


def place_priors(folder: Path, resources: Path) -> None:
    """What it reads from STRING, GeneCompass, ESM2 and Reactome, from our tables; both embeddings are the same one."""
    resources.mkdir(exist_ok=True)
    table = pd.read_csv(folder / "embeddings.csv", index_col=0).astype(np.float32)
    vectors = {str(gene): row for gene, row in zip(table.index, table.to_numpy(), strict=True)}
    store = {"gene_embeddings": {}, "gene_symbol_embeddings": vectors, "symbol_to_ensembl": {}}
    path = resources / "genecompass_gene_embeddings_full.pkl"
    path.write_bytes(pickle.dumps(store | {"embedding_dim": table.shape[1]}))
    torch.save({gene: torch.from_numpy(row) for gene, row in vectors.items()}, resources / "ESM2_pert_features.pt")

    edges = pd.read_csv(folder / "network.csv", dtype=str)
    genes = sorted({*edges["source"], *edges["target"]})
    info = pd.DataFrame({"#string_protein_id": genes, "preferred_name": genes})
    info.to_csv(resources / "9606.protein.info.v12.0.txt.gz", sep="\t", index=False)
    links = pd.DataFrame({"protein1": edges["source"], "protein2": edges["target"], "combined_score": 999})
    with gzip.open(resources / "9606.protein.links.v12.0.txt.gz", "wt") as file:
        links.to_csv(file, sep=" ", index=False)
    sets = pd.read_csv(folder / "pathways.csv", dtype=str).groupby("set")["gene"]
    lines = ["\t".join([name, name, *members]) for name, members in sets]
    with zipfile.ZipFile(resources / "ReactomePathways.gmt.zip", "w") as file:
        file.writestr("ReactomePathways.gmt", "\n".join(lines) + "\n")


def cluster(raw: Path, data: Path, resources: Path) -> None:
    """Gene-relation clustering, ``scripts/prepare_norman_grc.sh``."""
    places = {
        "data_dir": raw,
        "output_dir": data,
        "genecompass_path": resources / "genecompass_gene_embeddings_full.pkl",
        "ppi_info_path": resources / "9606.protein.info.v12.0.txt.gz",
        "ppi_links_path": resources / "9606.protein.links.v12.0.txt.gz",
    }
    sys.argv = ["prepare_norman_grc", *flags(places | GRC)]
    runpy.run_module("scbig.experiments.prepare_norman_grc", run_name="__main__")


def train(data: Path, out: Path, resources: Path, job: dict[str, Any]) -> None:
    """Autoencoder, flow and alignment, ``scripts/train_norman_additive.sh``, with a checkpoint every so often."""
    places = {
        "data_dir_override": data,
        "output_dir": out,
        "resource_dir": resources,
        "genecompass_path": resources / "genecompass_gene_embeddings_full.pkl",
        "cellflow_src": "",
        "n_iterations": job["iterations"],
        "valid_freq": job["every"],
        "batch_size": job["batch_size"],
        "encoder_n_epochs": job["encoder_epochs"],
        "seed": job["seed"],
    }
    sys.argv = ["train_norman_additive", *flags(places | TRAINING)]
    script = import_module("scbig.experiments.train_norman_additive")
    from cellflow.model import CellFlow

    # at each checkpoint it predicts its validation condition from every control, minutes on a CPU; nobody reads that
    predict, CellFlow.predict = CellFlow.predict, unmoved
    script.run_training()
    CellFlow.predict = predict


def unmoved(model: Any, adata: ad.AnnData, covariate_data: pd.DataFrame, **kwargs: Any) -> dict[str, np.ndarray]:
    """Controls as they are, in place of a prediction."""
    return {"controls": adata.obsm["X_pca"]}


def flags(values: dict[str, Any]) -> list[str]:
    return [text for name, value in values.items() for text in (f"--{name}", str(value))]


class Predictor:
    """Its own steps from controls to predicted cells, those of its validation, for any condition and checkpoint."""

    def __init__(self, data: Path, out: Path, n_controls: int) -> None:
        from scbig.models.gcae import GCAEWrapper

        self.out = out
        self.encoder = GCAEWrapper.load(str(out / "best_encoder.pkl"))  # the flow leaves it as it is
        cells = ad.read_h5ad(data / "train.h5ad")
        self.genes = np.array(cells.var_names, dtype=str)
        self.controls = cells[cells.obs["is_control"].to_numpy()][:n_controls].copy()
        self.controls.obsm["X_pca"] = self.encoder.transform(self.controls.X, batch_size=256)

    def flow(self, number: int) -> Any:
        """The flow after so many checkpoints."""
        from cellflow.model import CellFlow

        model = CellFlow.load(str(self.out / "checkpoints" / f"model_epoch{number}_CellFlow.pkl"))
        self.controls.uns["pert_embeddings"] = model.adata.uns["pert_embeddings"]
        return model

    def cells(self, flow: Any, asked: Sequence[str]) -> np.ndarray:
        """(conditions, cells, genes), as the release predicts: it compiles anew for each call."""
        table = slots(pd.Series(list(asked))).assign(is_control=False)
        latent = flow.predict(self.controls, table, sample_rep="X_pca", condition_id_key="condition")
        return self._decoded(latent, asked)

    def cells_at_once(self, flow: Any, asked: Sequence[str]) -> np.ndarray:
        """Nearly the same in a tenth of the time: compiled once for all conditions, and with steps of one size."""
        from cellflow.data import PredictionSampler

        table = slots(pd.Series(list(asked))).assign(is_control=False)
        kinds = {"sample_rep": "X_pca", "condition_id_key": "condition"}
        data = flow.data_manager.get_prediction_data(self.controls, covariate_data=table, **kinds)
        batch = PredictionSampler(data).sample()
        latent = flow.solver.predict(batch["source"], batch["condition"], batched=True, **fixed_steps())
        return self._decoded(latent, asked)

    def _decoded(self, latent: dict[str, Any], asked: Sequence[str]) -> np.ndarray:
        return np.stack([self.encoder.inverse_transform(np.asarray(latent[name])) for name in asked])


def run(folder: Path, checkout: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])  # XLA knows no other limit
    os.environ["JAX_PLATFORMS"] = "cpu"
    torch.set_num_threads(job["threads"])
    sys.path.insert(0, str(checkout))
    tqdm.tqdm = TimedBar  # times only
    raw, data, resources, out = (folder / name for name in ("raw", "data", "resources", "out"))
    place_cells(folder, raw, job["predict"])
    place_priors(folder, resources)

    clock = Clock()
    cluster(raw, data, resources)
    clustering = clock.read()
    train(data, out, resources, job)

    predictor = Predictor(data, out, job["n_controls"])
    numbers = range(1, job["iterations"] // job["every"] + 1)
    means = []
    for number in numbers:
        flow = predictor.flow(number)
        means.append(predictor.cells_at_once(flow, job["predict"]).mean(axis=1))
    clock = Clock()
    adaptive = predictor.cells(flow, job["predict"][:N_TIMED]).mean(axis=1)
    predict = clock.read()
    iterations = job["every"] * np.array(numbers)
    names = np.array(job["predict"])
    controls = predictor.controls.X.mean(axis=0)
    kept = {"names": names, "genes": predictor.genes, "iterations": iterations, "mean": means, "controls": controls}
    np.savez(folder / "prediction.npz", **kept)
    encoder, flows = TimedBar.named("Epoch"), TimedBar.named("Training")
    write_measured(
        folder,
        job["threads"],
        PACKAGES,
        prepare=clustering,
        encoder_passes=encoder,
        training_passes=[{"cells": job["batch_size"] * one["steps"], **one} for one in flows],
        predict=predict,
        n_predicted=len(adaptive),
        solver_difference=float(np.abs(adaptive - means[-1][:N_TIMED]).max()),
    )


if __name__ == "__main__":
    run(*(Path(argument).resolve() for argument in sys.argv[1:3]))
