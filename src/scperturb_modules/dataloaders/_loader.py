"""The loader that Lightning drives: steps of a plan in, batches out, and a place in the epoch that can be saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders._dataset import Batch, StepDataset
from scperturb_modules.dataloaders._plan import Step, StepPlan


class EpochPosition:
    """Where training is: the epoch, and how many of its steps were handed out.

    Lightning calls ``set_epoch`` at the start of each epoch, and after a resume with the epoch that was loaded.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.position = 0
        self._resumed = False

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; where it is the current one, stay."""
        if epoch != self.epoch:
            self.epoch, self.position, self._resumed = epoch, 0, False

    def resume(self, epoch: int, position: int) -> None:
        """Let the next pass begin at ``position`` of ``epoch``."""
        self.epoch, self.position, self._resumed = epoch, position, True

    def begin(self) -> int:
        """The first step of a new pass: 0 but right after a resume."""
        if not self._resumed:
            self.position = 0
        self._resumed = False
        return self.position


class StepLoader:
    """Hands out the batches of a plan's validation steps, the same in each pass.

    It has no ``sampler``, through which Lightning would tell it the epoch: early stopping would follow the draw of
    cells.

    Parameters
    ----------
    dataset
        Makes the batch of a step.
    plan
        The steps.
    num_workers
        Processes that prepare batches ahead; 0 prepares them when they are asked for. The batches are the same. They
        are started anew in each pass, which pays for data in files, hardly for data in memory.
    """

    def __init__(self, dataset: StepDataset, plan: StepPlan, *, num_workers: int = 0) -> None:
        self.dataset, self.plan, self.num_workers = dataset, plan, num_workers

    def __len__(self) -> int:
        return self.plan.n_validation_steps

    def __iter__(self) -> Iterator[Batch]:
        return self._batches_of(self.plan.validation_steps())

    def _batches_of(self, steps: list[Step]) -> Iterator[Batch]:
        loader: DataLoader[Batch] = DataLoader(
            cast("Dataset[Batch]", self.dataset),  # indexed by steps
            sampler=steps,
            batch_size=None,  # a step is a whole batch
            num_workers=self.num_workers,
            # of its own, because a DataLoader draws a number at each pass, and the model's dropout would shift
            generator=torch.Generator(),
        )
        batches: Iterator[Batch] = iter(loader) if steps else iter(())
        for n_left in reversed(range(len(steps))):
            batch = next(batches)
            if n_left == 0:
                # Ends the workers. Lightning counts and asks for no more than the last batch; workers that are left
                # to the garbage collector hold it up for five seconds each.
                next(batches, None)
            yield batch


class TrainingStepLoader(StepLoader):
    """Hands out the batches of a plan's training steps, epoch by epoch, and can be resumed inside one.

    Parameters are those of :class:`StepLoader`.

    Attributes
    ----------
    sampler
        Has ``set_epoch``, which Lightning calls.

    Raises
    ------
    DataError
        There are fewer groups than processes.

    Notes
    -----
    The saved position counts the batches handed out. A checkpoint is to be written after the optimizer's step
    (``on_train_batch_end`` or later): one written before it counts a batch that was not learned from.
    """

    def __init__(self, dataset: StepDataset, plan: StepPlan, *, num_workers: int = 0) -> None:
        super().__init__(dataset, plan, num_workers=num_workers)
        self.sampler = EpochPosition()
        self._n_steps = plan.n_steps

    def __len__(self) -> int:
        return self._n_steps

    def __iter__(self) -> Iterator[Batch]:
        # A generator on purpose: Lightning makes the iterator before it sets the epoch, so nothing may be looked up
        # before the first batch is asked for.
        start = self.sampler.begin()
        steps = self.plan.training_steps(self.sampler.epoch)[start:]
        for position, batch in enumerate(self._batches_of(steps), start + 1):
            self.sampler.position = position
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, number of steps handed out (not those that workers have prepared), and the plan."""
        return {"epoch": self.sampler.epoch, "position": self.sampler.position, "plan": self._plan_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved loader stood.

        Raises
        ------
        DataError
            It stood inside an epoch of another plan, whose remaining steps are unknown here.
        """
        position, saved = state["position"], state["plan"]
        if saved != self._plan_state() and 0 < position < saved["n_steps"]:
            raise DataError(
                f"The checkpoint was written after {position} of {saved['n_steps']} steps of an epoch of {saved}; here "
                f"the steps are those of {self._plan_state()}. Resume with the same settings and devices, or from a "
                "checkpoint written at the end of an epoch."
            )
        self.sampler.resume(state["epoch"], len(self) if position == saved["n_steps"] else position)

    def _plan_state(self) -> dict[str, int]:
        """What decides on the steps, and their number; the same on all ranks."""
        return {name: value for name, value in asdict(self.plan).items() if name != "rank"} | {"n_steps": len(self)}
