"""The public scBIG release, CellFlow and a model of ours on one screen: same cells, split, embeddings, threads.

Each trains in a process of its own (``release_worker.py``, ``cellflow_worker.py``, ``ours_worker.py``), two in
environments of their own (``scbig-requirements.txt``, ``cellflow-requirements.txt``); they meet in a folder. Run with
``PYTHONPATH=benchmarks:benchmarks/peers``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from gears_peer import DRAWN, ROOT

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of, regimes_of
from scperturb_modules.baselines._prediction import make_prediction

HERE = Path(__file__).parent
CHECKOUT = ROOT.parent / "scBIG"
"""A copy of the release, beside this repository."""
RELEASE, CELLFLOW, OURS = "scBIG release", "CellFlow", "SCBIG"
PYTHONS = {RELEASE: ROOT / ".venv-scbig" / "bin" / "python", CELLFLOW: ROOT / ".venv-cellflow" / "bin" / "python"}


@dataclass(frozen=True)
class Settings:
    """Settings of a fit; what is not here are the release's own defaults.

    Parameters
    ----------
    iterations
        Of the flow: batches of one condition each; the release and CellFlow move their weights after each 20.
    every
        A prediction after each so many, for the learning curve.
    batch_size
        Cells of a batch, drawn with replacement.
    encoder_epochs
        At most; the release stops earlier when its held-out controls are no longer decoded better.
    n_controls
        Control cells that a predicted mean starts from.
    """

    iterations: int
    every: int
    batch_size: int = 1024
    encoder_epochs: int = 100
    n_controls: int = 100
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class Knowledge:
    """What is known of genes before: a network, gene sets, and both as one table of genes x features."""

    network: pd.DataFrame
    sets: spm.priors.GeneSets
    embeddings: pd.DataFrame

    @classmethod
    def of(cls, network: pd.DataFrame, sets: spm.priors.GeneSets, genes: Sequence[str]) -> Knowledge:
        """Features have mean 0 and standard deviation 1; a gene that one of the priors does not have is 0 there."""
        tables = [(table - table.mean()) / table.std() for table in spm.priors.as_tables([network, sets]).values()]
        joined = pd.concat(tables, axis=1).reindex(sorted(genes)).fillna(0.0)
        return cls(network, sets, joined.set_axis([f"feature{i}" for i in range(joined.shape[1])], axis=1))


def fit(
    tool: str,
    adata: ad.AnnData,
    knowledge: Knowledge,
    conditions: Sequence[str],
    folder: Path,
    settings: Settings,
    checkout: Path = CHECKOUT,
) -> tuple[dict[int, ad.AnnData], dict[str, Any]]:
    """Train one of them on the training cells of a screen, and predict.

    Parameters
    ----------
    tool
        ``"scBIG release"``, ``"CellFlow"``, or the name of a model in ``spm``.
    adata
        Cells x genes of one context, log1p CP10k in ``X``, with ``obs["perturbation"]`` and ``obs["split"]``. Test
        cells stay here; validation cells train, for the best checkpoint on the test conditions counts anyway.
    conditions
        One or two genes each, ``"A"`` or ``"A+B"``.
    folder
        Where the two environments meet; made if it is not there.

    Returns
    -------
    predictions
        By iterations; ``layers["drawn_controls"]`` is the mean of the control cells that they start from
        (``gears_peer.with_own_controls``).
    measured
        Seconds of each part, peak memory, versions.
    """
    write_job(adata, knowledge, conditions, folder, settings)
    command = {
        RELEASE: [PYTHONS[RELEASE], HERE / "release_worker.py", folder, checkout],
        CELLFLOW: [PYTHONS[CELLFLOW], HERE / "cellflow_worker.py", folder],
    }.get(tool, [sys.executable, HERE / "ours_worker.py", folder, tool])
    path = f"{HERE}{os.pathsep}{HERE.parent / 'peers'}"
    with (folder / "log.txt").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": path})
    return read_predictions(adata, folder, tool), json.loads((folder / "measured.json").read_text())


def write_job(
    adata: ad.AnnData, knowledge: Knowledge, conditions: Sequence[str], folder: Path, settings: Settings
) -> None:
    long = [name for name in conditions if len(genes_of(name)) > 2]
    if long:
        raise ValueError(f"The release takes one or two genes, not {long[0]!r}.")
    folder.mkdir(parents=True, exist_ok=True)
    cells = adata[adata.obs[keys.SPLIT] != keys.TEST]
    obs = cells.obs[[keys.PERTURBATION, keys.SPLIT]]
    ad.AnnData(cells.X, obs=obs, var=cells.var[[]]).write_h5ad(folder / "screen.h5ad")
    knowledge.embeddings.to_csv(folder / "embeddings.csv")
    knowledge.network.to_csv(folder / "network.csv", index=False)
    of_gene, of_set = knowledge.sets.membership.nonzero()
    members = pd.DataFrame(
        {"gene": np.array(knowledge.sets.genes)[of_gene], "set": np.array(knowledge.sets.sets)[of_set]}
    )
    members.to_csv(folder / "pathways.csv", index=False)
    (folder / "job.json").write_text(json.dumps(asdict(settings) | {"predict": list(conditions)}))


def read_predictions(adata: ad.AnnData, folder: Path, tool: str) -> dict[int, ad.AnnData]:
    """The predictions in ``folder``, by iterations, for the screen that they were asked for."""
    training = spm.pp.pseudobulk(adata, cells="training")
    with np.load(folder / "prediction.npz") as file:
        rows = [(str(name), None) for name in file["names"]]
        columns = pd.Index(file["genes"]).get_indexer(training.var_names)
        means, controls, iterations = file["mean"][..., columns], file["controls"][columns], file["iterations"]
    known = [(str(name), None) for name in training.obs[keys.PERTURBATION]]
    predictions = {}
    for number, mean in zip(iterations.tolist(), means.astype(np.float64), strict=True):
        prediction = make_prediction(
            training,
            rows,
            mean - training.varm[keys.CONTROL_MEAN].T,
            seen=regimes_of(rows, known),
            anchor=["none"] * len(rows),
            status=["ok"] * len(rows),
            model=tool,
            settings=json.loads((folder / "job.json").read_text()) | {"iterations": number},
        )
        prediction.layers[DRAWN] = np.tile(controls, (len(rows), 1))
        predictions[number] = prediction
    return predictions


def training_seconds(measured: Mapping[str, Any], clock: str = "seconds") -> list[float]:
    """Up to each prediction, with clustering and autoencoder; ``clock`` may be ``cpu_seconds``."""
    before = measured["prepare"][clock] + sum(one[clock] for one in measured["encoder_passes"])
    return (before + np.cumsum([one[clock] for one in measured["training_passes"]])).tolist()
