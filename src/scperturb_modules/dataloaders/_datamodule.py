"""The data module of every model: training and validation steps for the processes that train together."""

from __future__ import annotations

from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders._dataset import StepDataset
from scperturb_modules.dataloaders._loader import StepLoader, TrainingStepLoader
from scperturb_modules.dataloaders._plan import StepPlan


class ConditionDataModule(LightningDataModule):
    """Steps of conditions for ``scvi.train.TrainRunner`` (as ``data_splitter=``) or a Lightning trainer.

    Pass ``use_distributed_sampler=False`` to the trainer: the steps are shared out here.

    Parameters
    ----------
    training
        Groups to learn from.
    validation
        Groups for the validation loss. None means no validation; pass ``limit_val_batches=0`` to the trainer too.
    batch_size
        The most groups in a step of one process.
    seed
        Of the order of the training groups.
    num_workers
        Processes per loader that prepare batches ahead.

    Attributes
    ----------
    n_train, n_val
        Number of groups.
    train_idx, val_idx, test_idx
        Rows of the data that the groups consist of; ``test_idx`` is empty, test data never comes here.
    """

    def __init__(
        self,
        training: StepDataset,
        validation: StepDataset | None = None,
        *,
        batch_size: int = 32,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.training, self.validation = training, validation
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        nothing = np.empty(0, np.int64)
        self.n_train, self.train_idx = len(training), training.indices
        self.n_val = 0 if validation is None else len(validation)
        self.val_idx = nothing if validation is None else validation.indices
        self.test_idx = nothing
        self._rank, self._world_size = 0, 1

    def setup(self, stage: str) -> None:
        """Learn from the trainer which of how many processes this is; without a trainer it is the only one."""
        if self.trainer is not None:
            self._rank, self._world_size = self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> TrainingStepLoader:
        return TrainingStepLoader(self.training, self._plan(self.training), num_workers=self.num_workers)

    def val_dataloader(self) -> StepLoader | list[Any]:
        if self.validation is None:
            return []
        return StepLoader(self.validation, self._plan(self.validation), num_workers=self.num_workers)

    def _plan(self, dataset: StepDataset) -> StepPlan:
        return StepPlan(len(dataset), self.batch_size, self.seed, self._rank, self._world_size)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must agree on."""
        return {"seed": self.seed, "fingerprint": self.training.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint of other training data: with another split, test cells would have been learned.

        Raises
        ------
        DataError
            The seed or the training data differ.
        """
        own = self.state_dict()
        if state_dict["fingerprint"] != own["fingerprint"]:
            raise DataError(
                "The checkpoint was written in a training on other conditions or cells "
                f"({state_dict['fingerprint'][:12]}, here {own['fingerprint'][:12]}). Resume with the same data and "
                "split, or train anew."
            )
        if state_dict["seed"] != own["seed"]:
            raise DataError(
                f"The checkpoint was written with seed={state_dict['seed']}; resume with it, not with {own['seed']}."
            )
