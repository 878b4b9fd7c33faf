"""The plan: learning rate, weighted losses, losses that are not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from scperturb_modules._errors import DataError


class LearningRates(Callback):
    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer, *args):
        # the optimiser has stepped and so has the schedule: this is the rate of the next step
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_learning_rate_falls_to_zero_along_a_cosine(toy):
    seen = LearningRates()
    toy.train(lr=0.5, callbacks=[seen])
    expected = [0.25 * (1 + math.cos(math.pi * step / 12)) for step in range(1, 13)]
    np.testing.assert_allclose(seen.rates, expected, atol=1e-15)
    assert seen.rates[-1] == 0


def test_losses_are_plain_means_over_the_groups(toy):
    # 21 groups in steps of 7, and 8 in padded steps of 3: copies that pad must not count
    training, validation = toy.data(21), toy.data(8, seed=1)
    module = toy.Toy(dropout=0)
    expected = toy.loss_of(module, training), toy.loss_of(module, validation)
    for batch_size in (3, 8):
        history = toy.train(
            toy.datamodule(training, validation, batch_size=batch_size), module=module, lr=0.0, max_epochs=1
        ).result.history
        found = history["train_loss"]["train_loss"][0], history["validation_loss"]["validation_loss"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_module_may_weigh_its_steps(toy):
    mass = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=np.float32)
    weighed, heavy = toy.data(8, mass=mass), toy.data(8)
    module = toy.Toy(dropout=0)
    run = toy.train(toy.datamodule(validation=weighed, batch_size=4), module=module, lr=0.0, max_epochs=1)
    heavy.arrays = {name: array[:4] for name, array in heavy.arrays.items()}
    assert run.result.history["validation_loss"].iloc[0, 0] == pytest.approx(toy.loss_of(module, heavy), rel=1e-6)


def test_validation_without_any_weight_says_so(toy):
    nothing = toy.data(8, mass=np.zeros(8, np.float32))
    with pytest.raises(DataError, match="validation batches have the weight 0"):
        toy.train(toy.datamodule(validation=nothing))


@pytest.mark.parametrize("bad", ["training", "validation"])
def test_a_loss_that_is_not_finite_names_epoch_step_and_groups(toy, bad):
    data = {"training": toy.data(21), "validation": toy.data(8, seed=1)}
    data[bad].arrays["y"][3] = np.nan
    names = [f"gene{i}" for i in range(21)]
    with pytest.raises(
        FloatingPointError, match=r"loss is nan in epoch 0, step \d, with the groups .*lower lr"
    ) as caught:
        toy.train(toy.datamodule(data["training"], data["validation"], batch_size=4), group_names=names)
    assert "'gene3'" in str(caught.value) and bad[:5] in str(caught.value)
    with pytest.raises(FloatingPointError, match="with the groups '"):
        toy.train(toy.datamodule(data["training"], data["validation"]))


def test_a_metric_that_is_no_scalar_is_refused_by_name(toy):
    class Wrong(toy.Toy):
        def loss(self, *args):
            output = super().loss(*args)
            output.extra_metrics["per_gene"] = torch.zeros(5)
            return output

    with pytest.raises(ValueError, match=r"extra_metrics\['per_gene'\] has the shape \(5,\)"):
        toy.train(module=Wrong())
