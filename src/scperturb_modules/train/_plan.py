"""The training plan of all models: optimiser, schedule, losses over ranks, history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule
from scvi.module.base import BaseModuleClass, LossOutput

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.train._history import EpochMeans, History

Batch = Mapping[str, torch.Tensor]
CHECKPOINT_KEY = "scperturb_modules"


class ConditionPlan(LightningModule):
    """How a module of ours is trained: AdamW, cosine decay to 0, weighted losses, every step seeded.

    It logs ``train_loss`` and ``validation_loss`` once per epoch, and each metric of the module as ``<name>_train`` and
    ``<name>_validation``: means over the groups of all ranks.

    Parameters
    ----------
    module
        Called with a batch it returns ``(inference, generative, LossOutput)``. ``LossOutput.loss`` is minimised, the
        scalars of ``extra_metrics`` are logged, and ``extra_metrics["loss_weight"]`` is the weight of the step in the
        epoch's means; without it that is the sum of ``batch["weight"]``. A module with a method
        ``validation_loss(means)`` says itself what the epoch's validation loss is, from the means of the scalars.
    lr
        Learning rate of the first step; after the trainer's last step it is 0.
    weight_decay
        Of AdamW.
    seed
        Torch is seeded at each step from this, the step and the rank, so that a resumed run draws what the
        uninterrupted one would have drawn.
    group_names
        Name of each group, by the number in ``batch["group"]``; for messages.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        seed: int = 0,
        group_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self._lr, self._weight_decay = lr, weight_decay
        self._n_steps: float | None = None
        self._seed = seed
        self._group_names = group_names
        self._history = History()
        self._means = {"train": EpochMeans(), "validation": EpochMeans()}

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate that falls to 0 along half a cosine, step by step."""
        optimizer = torch.optim.AdamW(self.module.parameters(), lr=self._lr, weight_decay=self._weight_decay)
        # a function of the step alone: after a resume the step is all that it needs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed torch by seed, step and rank."""
        key = [self._seed, self.global_step, batch_idx, self.trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of one step."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Take one batch into the validation means."""
        self._step(batch, "validation")

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Close the training means with the last step: what runs at the end of the epoch finds them logged."""
        if self.trainer.is_last_batch:
            self._close("train")

    def on_train_epoch_end(self) -> None:
        """Close the means of an epoch that was cut short."""
        if self._means["train"]:
            self._close("train")

    def on_validation_epoch_end(self) -> None:
        """Close the validation means."""
        self._close("validation")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the history and the running means."""
        means = {stage: mean.state(self._sum_over_ranks) for stage, mean in self._means.items()}
        checkpoint[CHECKPOINT_KEY] = {"history": self._history.state(), "means": means}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the history and the running means."""
        self._history.load(checkpoint[CHECKPOINT_KEY]["history"])
        for stage, mean in self._means.items():
            # they hold the sums of all ranks, so that one rank alone continues them
            mean.load(checkpoint[CHECKPOINT_KEY]["means"][stage] if self.trainer.is_global_zero else {})

    def history(self) -> dict[str, pd.DataFrame]:
        """Metric to a table of one column, indexed by ``epoch``: ``train_loss``, ``validation_loss``, ..."""
        return self._history.frames()

    def _share_of_rate(self, step: int) -> float:
        if step == 0:
            # nothing may be asked of the trainer yet: it would set up the loaders now, before a resume point is read,
            # and an epoch that was interrupted would begin anew
            return 1.0
        if self._n_steps is None:
            self._n_steps = float(self.trainer.estimated_stepping_batches)
        return 0.5 * (1 + math.cos(math.pi * min(step / self._n_steps, 1)))

    def _step(self, batch: Batch, stage: str) -> torch.Tensor:
        _, _, output = self.module(batch)
        values, weight = _scalars(output, batch)
        # validation batches of padding alone have weight 0 and nothing to be finite about
        if not math.isfinite(values["loss"]) and (weight or stage == "train"):
            self._raise_not_finite(values["loss"], batch, stage)
        named = {f"{name}_{stage}": value for name, value in values.items() if name != "loss"}
        self._means[stage].add({f"{stage}_loss": values["loss"], **named}, weight)
        return output.loss

    def _close(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            self._means[stage] = EpochMeans()
            return
        means = self._means[stage].close(self._sum_over_ranks)
        judge = getattr(self.module, "validation_loss", None)
        if stage == "validation" and judge is not None:
            means["validation_loss"] = judge({name.removesuffix("_validation"): value for name, value in means.items()})
        if not math.isfinite(means.get(f"{stage}_loss", 0.0)):
            raise DataError(f"The {stage} batches have the weight 0 in all, so that they have no loss.")
        self._history.add(self.current_epoch, means)
        for name, value in means.items():
            self.log(
                name,
                value,
                on_step=False,
                on_epoch=True,
                prog_bar=name == f"{stage}_loss",
                batch_size=1,
                sync_dist=self.trainer.world_size > 1,
            )

    def _sum_over_ranks(self, numbers: list[float]) -> list[float]:
        if self.trainer.world_size == 1:
            return numbers
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        vector = torch.tensor(numbers, dtype=dtype, device=self.device)
        return list(self.trainer.strategy.reduce(vector, reduce_op="sum").tolist())

    def _raise_not_finite(self, loss: float, batch: Batch, stage: str) -> None:
        group, weight = batch.get("group"), batch.get("weight")
        numbers: list[int] = []
        if group is not None:
            numbers = (group if weight is None else group[weight > 0]).tolist()
        names = [self._group_names[i] for i in numbers] if self._group_names is not None else numbers
        raise FloatingPointError(
            f"The {stage} loss is {loss} in epoch {self.current_epoch}, step {self.global_step}, with the groups "
            f"{name_some(names)}. Look for values there that are not finite or far too large (spm.pp.validate finds "
            'them), lower lr, or train with precision="32-true".'
        )


def _scalars(output: LossOutput, batch: Batch) -> tuple[dict[str, float], float]:
    """Loss and extra metrics as numbers, and the weight of the step, with one transfer from the device."""
    found: dict[str, Any] = {"loss": output.loss, **(output.extra_metrics or {})}
    if "loss_weight" not in found:
        found["loss_weight"] = batch["weight"].sum() if "weight" in batch else output.n_obs_minibatch
    device = output.loss.device
    flat = [torch.as_tensor(value, device=device).detach().float() for value in found.values()]
    for name, value in zip(found, flat, strict=True):
        if value.numel() != 1:
            raise ValueError(f"extra_metrics[{name!r}] has the shape {tuple(value.shape)}; only scalars are logged.")
    values = dict(zip(found, torch.stack([value.reshape(()) for value in flat]).tolist(), strict=True))
    return values, values.pop("loss_weight")
