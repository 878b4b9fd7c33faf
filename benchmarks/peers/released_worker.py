"""Speed and memory of the released BioDSNN, from a checkout beside this repository; its predictions are not scored.

``python released_worker.py CHECKOUT FOLDER``, in the environment of ``gears-requirements.txt`` (its code is that of
GEARS, with other networks). The folder is that of ``gears_worker.py``; ``job.json`` has its ``batch_size`` and
``max_batches``. Writes ``measured.json``. None of its code is here, for it has no licence.

What it needs to run at all:

- 5,042 genes or more: it reads the pathways of Norman et al., as positions among their genes, whatever the screen;
- ``torchvision``, which it imports and does not use: an empty module is put in its place;
- the split set by hand, since its ``custom`` split expects another form than it says;
- small batches: attention over all genes takes about 1 GB a cell at 5,045 genes, so that its own 32 cells, and the 64
  with which it predicts a condition, need more than 24 GB. Predictions are made with ``CELLS`` of the 64, and the time
  of 64 is computed. ``LIMIT`` bytes are the most that this process takes.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import torch
from gears_worker import PACKAGES, place_prior
from timing import Clock, TimedLoader, write_measured

LIMIT = 12 * 2**30
CELLS, CELLS_OF_ITS_OWN = 2, 64


def prepared(folder: Path, job: dict[str, Any]) -> Any:
    """Cells as it holds them: one dense graph object per cell."""
    from pertdata import PertData

    place_prior(folder)
    data = PertData(str(folder))
    data.new_data_process("screen", adata=ad.read_h5ad(folder / "screen.h5ad"))
    data.split, data.seed = "no_test", job["seed"]
    data.set2conditions = {"train": ["ctrl", *job["train"]], "val": job["val"]}
    data.get_dataloader(batch_size=job["batch_size"])
    return data


def stand_in(checkout: Path, folder: Path) -> None:
    """Its modules on the path, its pathways in the working folder, which it also writes to."""
    for name in ("torchvision", "torchvision.datasets"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.datasets"].MNIST = None
    sys.path.insert(0, str(checkout))
    (folder / "pathway").unlink(missing_ok=True)
    (folder / "pathway").symlink_to(checkout / "pathway")
    os.chdir(folder)


def run(checkout: Path, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    job = json.loads((folder / "job.json").read_text())
    stand_in(checkout, folder)
    import biodsnn

    torch.set_num_threads(job["threads"])
    clock = Clock()
    data = prepared(folder, job)
    data.dataloader = {part: TimedLoader(loader, job["max_batches"]) for part, loader in data.dataloader.items()}
    model = biodsnn.BioDSNN(data, "screen", "no_test", device="cpu")
    model.model_initialize(hidden_size=job["hidden_size"])
    prepare = clock.read()

    clock = Clock()
    model.train(epochs=1)
    train = clock.read()
    training, scoring = data.dataloader["train_loader"].passes[:2]

    biodsnn.create_cell_graph_dataset_for_prediction = partial(
        biodsnn.create_cell_graph_dataset_for_prediction, num_samples=CELLS
    )
    clock = Clock()
    model.predict([job["predict"][0].split("+")])
    predict = clock.read()
    write_measured(
        folder,
        torch.get_num_threads(),
        PACKAGES[1:],
        prepare=prepare,
        train=train,
        training_passes=[training],
        scoring_pass=scoring,
        predict=predict,
        cells_predicted=CELLS,
        predict_seconds_per_condition=predict["seconds"] * CELLS_OF_ITS_OWN / CELLS,
        batch_size=job["batch_size"],
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
