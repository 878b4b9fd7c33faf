"""Trains on two processes; each writes what it saw as ``rank{n}.json``. Run as ``python two_ranks.py CASE FOLDER``.

Lightning starts this file again for the second rank. A further model is a further function in ``CASES``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from scvi.module.base import BaseModuleClass, LossOutput

import scperturb_modules as spm
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.train import fit, write_folder

DEVICES: dict[str, Any] = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}


class Seen(Callback):
    """The groups that this rank trained on, by epoch."""

    def __init__(self) -> None:
        self.groups: dict[int, list[list[int]]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.groups.setdefault(trainer.current_epoch, []).append(batch["group"].tolist())


class Toy(BaseModuleClass):
    """A linear map with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.dropout, self.map = torch.nn.Dropout(0.3), torch.nn.Linear(5, 5)

    def _get_inference_input(self, tensors, **kwargs):
        return {"x": tensors["x"]}

    def _get_generative_input(self, tensors, inference_outputs, **kwargs):
        return inference_outputs

    def inference(self, x):
        return {"y": self.map(self.dropout(x))}

    def generative(self, y):
        return {"y": y}

    def loss(self, tensors, inference_outputs, generative_outputs):
        error = (generative_outputs["y"] - tensors["y"]).square().mean(1)
        loss = (tensors["weight"] * error).sum() / tensors["weight"].sum().clamp_min(1)
        return LossOutput(loss=loss, n_obs_minibatch=len(error))


def toy_data(n: int, sign: float) -> PseudobulkDataset:
    x = np.random.default_rng(n).normal(size=(n, 5)).astype(np.float32)
    return PseudobulkDataset({"x": x, "y": sign * x})


def train_toy(seen: Seen, **kwargs: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    # the better the training data are learned, the worse the validation data become: training stops early
    datamodule = ConditionDataModule(toy_data(25, 1.0), toy_data(7, -1.0), batch_size=4)
    module = Toy()
    model = SimpleNamespace(module=module, is_trained_=False, history_=None, to_device=module.to)
    settings = {"max_epochs": 30, "patience": 3, "lr": 0.05, **DEVICES, **kwargs}
    result = fit(model, module, datamodule, callbacks=[seen], **settings)
    return result, module.state_dict()


def app_model() -> spm.APP:
    adata = spm.datasets.simulate("tiny", seed=1, n_perturbable=12, n_pairs=18, n_cells=20, n_controls=60)
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(["G12", "G02+G10"]), "test", "train")
    network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
    spm.APP.setup_anndata(adata)
    # without dropout two processes draw what one draws: nothing
    still = dict.fromkeys(("dropout", "id_dropout", "prior_dropout", "edge_dropout", "p_mask"), 0.0)
    return spm.APP(adata, priors=[network], d=8, rank=6, n_members=2, n_folds=3, **still)


def train_app(seen: Seen, **kwargs: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    model = app_model()
    settings = {"max_epochs": 30, "patience": 3, "lr": 0.01, "batch_size": 4, **DEVICES, **kwargs}
    model.train(callbacks=[seen], **settings)
    return model.fit_result, answers_beside(model)


def answers_beside(model: spm.APP) -> dict[str, torch.Tensor]:
    """The weights, and what the model predicts; both are compared between the ranks."""
    prediction = model.predict(["G12", "G02+G10"], store=False, gate=False)
    return {**model.module.state_dict(), "prediction": torch.tensor(prediction.layers["delta"])}


# takes the callback and further arguments of fit; gives its result and the weights
CASES: dict[str, Callable[..., tuple[Any, dict[str, torch.Tensor]]]] = {
    "toy": train_toy,
    "app": train_app,
}


def numbers(weights: dict[str, torch.Tensor]) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in weights.items()}


def main(case: str, folder: Path) -> None:
    torch.set_num_threads(1)
    seen = Seen()
    # five is no multiple of the steps of an epoch, so that the point that is left lies inside one
    point = folder / "resume.ckpt"
    result, weights = CASES[case](seen, save_resume_point=point, every_n_steps=5)
    rank = torch.distributed.get_rank()
    again, resumed = CASES[case](Seen(), resume_from=point)
    if rank == 0:
        write_folder(folder / "model", {"case": case}, weights)
    report = {
        "backend": torch.distributed.get_backend(),
        "groups": seen.groups,
        "weights": numbers(weights),
        "resumed": numbers(resumed),
        "n_epochs": [result.n_epochs, again.n_epochs],
        "stopped_early": result.stopped_early,
        "best_epoch": result.best_epoch,
        "history": {name: frame[name].tolist() for name, frame in result.history.items()},
        "resumed_history": {name: frame[name].tolist() for name, frame in again.history.items()},
    }
    (folder / f"rank{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
