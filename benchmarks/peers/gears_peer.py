"""GEARS 0.1.2 as one more predictor: hands it our cells, our split and our prior, and reads back a Prediction of ours.

GEARS lives in an environment of its own (``gears-requirements.txt``, by default ``.venv-gears`` in the root of the
repository); ``gears_worker.py`` runs there.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._conditions import CONTROL, genes_of, regimes_of
from scperturb_modules.baselines._prediction import make_prediction

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-gears" / "bin" / "python"
WORKER = Path(__file__).with_name("gears_worker.py")
VAL_SHARE = 0.1
DRAWN = "drawn_controls"


@dataclass(frozen=True)
class Settings:
    """Settings of a fit; those of the network and of its training are GEARS's own defaults.

    ``max_batches`` cuts each pass over the cells short, to measure speed.
    """

    epochs: int = 20
    seed: int = 0
    hidden_size: int = 64
    batch_size: int = 32
    max_batches: int | None = None
    threads: int = 1


def gears(
    adata: ad.AnnData,
    network: pd.DataFrame,
    conditions: Sequence[str],
    folder: Path,
    settings: Settings,
    python: Path = PYTHON,
) -> tuple[ad.AnnData, dict[str, Any]]:
    """Train GEARS on the training cells of a screen and predict.

    Parameters
    ----------
    adata
        Cells x genes of one context, log1p CP10k in ``X``, with ``obs["perturbation"]`` and ``obs["split"]``.
    network
        Edges between genes (``source``, ``target``, ``weight``), each once; takes the place of GEARS's graph of genes
        with similar GO terms. Perturbed genes without an edge stay in it as single nodes.
    conditions
        One or two genes each, ``"A"`` or ``"A+B"``.
    folder
        Where the two environments meet; made if it is not there.

    Returns
    -------
    Prediction
        Its change is the predicted mean minus the mean of the training controls; ``layers["drawn_controls"]`` has the
        means of the control cells to which GEARS added its own change.
    measured
        Seconds, cells per second, peak memory, versions.
    """
    write_job(adata, network, conditions, folder, settings)
    with (folder / "log.txt").open("w") as log:
        subprocess.run([python, WORKER, folder], check=True, stdout=log, stderr=subprocess.STDOUT)
    return read_prediction(adata, folder), json.loads((folder / "measured.json").read_text())


def write_job(
    adata: ad.AnnData, network: pd.DataFrame, conditions: Sequence[str], folder: Path, settings: Settings
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cells = adata[adata.obs[keys.SPLIT] != keys.TEST]
    labels = cells.obs[keys.PERTURBATION].astype(str).map(gears_name)
    obs = pd.DataFrame({"condition": labels, "cell_type": "cells"}, index=cells.obs_names)
    var = pd.DataFrame({"gene_name": cells.var_names}, index=cells.var_names)
    ad.AnnData(sparse.csr_matrix(cells.X, dtype=np.float32), obs=obs, var=var).write_h5ad(folder / "screen.h5ad")

    genes = perturbable([*adata.obs[keys.PERTURBATION].unique(), *conditions], network)
    (folder / "genes.json").write_text(json.dumps(genes))
    directed(network, genes).to_csv(folder / "graph.csv", index=False)
    train, val = parts(cells.obs, conditions, settings.seed)
    job = asdict(settings) | {"train": train, "val": val, "predict": [gears_name(name) for name in conditions]}
    (folder / "job.json").write_text(json.dumps(job))


def gears_name(condition: str) -> str:
    """``ctrl``, ``A+ctrl`` or ``A+B``."""
    if condition == CONTROL:
        return "ctrl"
    genes = genes_of(condition)
    if len(genes) > 2:
        raise ValueError(f"GEARS takes one or two genes, not {condition!r}.")
    return "+".join([*genes, "ctrl"][:2])


def parts(cells: pd.DataFrame, conditions: Iterable[str], seed: int) -> tuple[list[str], list[str]]:
    """Training and validation conditions; a tenth of the training ones where the split has no validation part.

    These are drawn from the conditions that share no gene with those asked for, while there are any: GEARS does not
    train on them.
    """
    table = cells.loc[cells[keys.PERTURBATION] != CONTROL, [keys.PERTURBATION, keys.SPLIT]].drop_duplicates()
    labels = table[keys.PERTURBATION].astype(str).to_numpy()
    is_val = (table[keys.SPLIT] == keys.VAL).to_numpy()
    if not is_val.any():
        asked = {gene for name in conditions for gene in genes_of(name)}
        drawn = sorted(
            np.random.default_rng(seed).permutation(sorted(labels)),
            key=lambda name: not asked.isdisjoint(genes_of(name)),
        )
        is_val = np.isin(labels, drawn[: max(1, round(VAL_SHARE * len(labels)))])
    train, val = (sorted(map(gears_name, labels[chosen])) for chosen in (~is_val, is_val))
    return train, val


def perturbable(conditions: Iterable[str], network: pd.DataFrame) -> list[str]:
    """Genes that GEARS gets a node for: those asked for or perturbed, and those of the network."""
    asked = {gene for name in conditions for gene in genes_of(str(name))}
    return sorted(asked | set(network["source"]) | set(network["target"]))


def directed(network: pd.DataFrame, genes: Sequence[str]) -> pd.DataFrame:
    """Both directions of each edge and a loop of weight one at each gene, as the graph that GEARS would download."""
    columns = {"source": "source", "target": "target", "weight": "importance"}
    edges = network[list(columns)].rename(columns=columns)
    back = edges.rename(columns={"source": "target", "target": "source"})
    loops = pd.DataFrame({"source": genes, "target": genes, "importance": 1.0})
    return pd.concat([edges, back, loops])[["source", "target", "importance"]]


def read_prediction(adata: ad.AnnData, folder: Path) -> ad.AnnData:
    """The prediction in ``folder`` for the screen that it was asked for."""
    training = spm.pp.pseudobulk(adata, cells="training")
    with np.load(folder / "prediction.npz") as file:
        names, genes = file["names"], file["genes"]
        mean, drawn = file["mean"].astype(np.float64), file["controls"].astype(np.float64)
    rows = [("+".join(gene for gene in name.split("+") if gene != "ctrl"), None) for name in names]
    columns = pd.Index(genes).get_indexer(training.var_names)
    known = [(str(name), None) for name in training.obs[keys.PERTURBATION]]
    prediction = make_prediction(
        training,
        rows,
        mean[:, columns] - training.varm[keys.CONTROL_MEAN].T,
        seen=regimes_of(rows, known),
        anchor=["none"] * len(rows),
        status=["ok"] * len(rows),
        model="GEARS",
        settings=json.loads((folder / "job.json").read_text()),
    )
    prediction.layers[DRAWN] = drawn[:, columns]
    return prediction


def with_own_controls(prediction: ad.AnnData) -> ad.AnnData:
    """The same with the change that GEARS made, without the sampling error of the cells that it was added to."""
    kinder = prediction.copy()
    kinder.layers[keys.DELTA] = prediction.X - prediction.layers[DRAWN]
    kinder.X = kinder.layers[keys.CONTROL_LAYER] + kinder.layers[keys.DELTA]
    return kinder
