"""A module of a few parameters with dropout, data for it, and one call that trains it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from scvi.module.base import BaseModuleClass, LossOutput

from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.train import fit


class Toy(BaseModuleClass):
    """Predicts y (C, 5) from x (C, 5); the loss is the mean squared error weighted by ``batch["weight"]``."""

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.encoder, self.decoder = torch.nn.Linear(5, 8), torch.nn.Linear(8, 5)
        self.dropout = torch.nn.Dropout(dropout)

    def _get_inference_input(self, tensors, **kwargs):
        return {"x": tensors["x"]}

    def _get_generative_input(self, tensors, inference_outputs, **kwargs):
        return inference_outputs

    def inference(self, x):
        return {"z": self.dropout(torch.tanh(self.encoder(x)))}

    def generative(self, z):
        return {"y": self.decoder(z)}

    def loss(self, tensors, inference_outputs, generative_outputs):
        error = (generative_outputs["y"].float() - tensors["y"]).square().mean(1)
        loss = (tensors["weight"] * error).sum() / tensors["weight"].sum()
        metrics = {"largest": error.max()}
        if "mass" in tensors:  # the weight of a step need not be that of its groups
            metrics["loss_weight"] = (tensors["weight"] * tensors["mass"]).sum()
        return LossOutput(loss=loss, extra_metrics=metrics, n_obs_minibatch=len(error))


class PowerCut(Callback):
    """Ends a run before the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.step:
            raise InterruptedError("power cut")


def make_data(n: int, *, seed: int = 0, sign: float = 1.0, **columns) -> PseudobulkDataset:
    """n groups with y = x W for one W, up to the sign."""
    x = np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)
    table = np.random.default_rng(99).normal(size=(5, 5)).astype(np.float32)
    return PseudobulkDataset({"x": x, "y": sign * x @ table, **columns})


def make_datamodule(training=None, validation="default", *, batch_size: int = 8) -> ConditionDataModule:
    training = make_data(22) if training is None else training
    validation = make_data(8, seed=1) if validation == "default" else validation
    return ConditionDataModule(training, validation, batch_size=batch_size)


def train(datamodule=None, *, module=None, **kwargs) -> SimpleNamespace:
    """Train a toy for four epochs of three steps; the result with the model and the weights."""
    module = Toy() if module is None else module
    model = SimpleNamespace(module=module, is_trained_=False, history_=None, to_device=module.to)
    settings = {"max_epochs": 4, "lr": 0.02, "accelerator": "cpu", **kwargs}
    result = fit(model, module, make_datamodule() if datamodule is None else datamodule, **settings)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    return SimpleNamespace(result=result, model=model, module=module, weights=weights)


def loss_of(module: Toy, data: PseudobulkDataset) -> float:
    """The plain mean over all groups, without dropout."""
    with torch.no_grad():
        module.eval()
        predicted = module.generative(**module.inference(torch.as_tensor(data.arrays["x"])))["y"]
    return float((predicted - torch.as_tensor(data.arrays["y"])).square().mean())


def equal(first: dict, second: dict) -> bool:
    """Bit-equal weights."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def toy() -> SimpleNamespace:
    """The helpers of this file; importing a conftest is not possible."""
    return SimpleNamespace(
        Toy=Toy,
        PowerCut=PowerCut,
        data=make_data,
        datamodule=make_datamodule,
        train=train,
        loss_of=loss_of,
        equal=equal,
    )
