"""Which groups make up each step of an epoch: pure numpy, the same list on every machine.

A *group* is one unit of learning, a condition in a context, numbered from 0; a *step* is one batch of groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scperturb_modules._errors import DataError

VALIDATION_EPOCH = 0
"""The epoch of all validation steps: what is drawn by epoch is drawn once for them."""


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of C groups.

    Attributes
    ----------
    groups
        (C,) intp.
    weight
        (C,) float32; 0 marks a copy that only fills up the step, 1 all others.
    epoch
        From which a dataset derives its random draws.
    """

    groups: np.ndarray
    weight: np.ndarray
    epoch: int


@dataclass(frozen=True)
class StepPlan:
    """The steps of one process out of ``world_size`` that train together.

    Training takes each group at most once per epoch, and every process gets the same number of equally large steps:
    another number would leave the others waiting for ever. For this some groups are left out of an epoch, fewer than
    ``n_steps * world_size``; which ones changes with the epoch. Validation leaves nothing out: it repeats
    groups with weight 0 instead, so a weighted mean over all processes does not depend on their number.

    Parameters
    ----------
    n_groups
        Number of groups.
    batch_size
        The most groups in a step of one process. Steps are balanced: 33 groups in batches of at most 32 make two
        steps of 16.
    seed
        Of the order of the groups.
    rank, world_size
        Number of this process, from 0, and of all.

    Raises
    ------
    DataError
        There is no group, or ``batch_size`` is below 1.

    Examples
    --------
    >>> plan = StepPlan(7, batch_size=3)
    >>> [len(step.groups) for step in plan.training_steps(epoch=0)]
    [2, 2, 2]
    >>> [step.weight.tolist() for step in plan.validation_steps()]
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    """

    n_groups: int
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.n_groups < 1:
            raise DataError("There is nothing to learn from: the data has no condition with cells.")
        if self.batch_size < 1:
            raise DataError(f"batch_size={self.batch_size}; a step needs at least one condition.")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} of world_size={self.world_size} processes does not exist.")

    @property
    def n_steps(self) -> int:
        """Training steps per epoch and process.

        Raises
        ------
        DataError
            There are fewer groups than processes.
        """
        if self.n_groups < self.world_size:
            raise DataError(
                f"{self.n_groups} training conditions cannot be shared by {self.world_size} processes; train on at "
                f"most {self.n_groups}: devices={self.n_groups}."
            )
        # the second number matters for batch_size=1 only, where the first would leave steps without a group
        return min(self.n_validation_steps, self.n_groups // self.world_size)

    @property
    def n_validation_steps(self) -> int:
        """Validation steps per process."""
        return -(-self.n_groups // (self.batch_size * self.world_size))

    def training_steps(self, epoch: int) -> list[Step]:
        """The ``n_steps`` steps of this process in one epoch."""
        size = self.n_groups // (self.n_steps * self.world_size)
        order = np.random.default_rng([self.seed, epoch]).permutation(self.n_groups)
        kept = order[: self.n_steps * size * self.world_size]
        own = kept[self.rank :: self.world_size].reshape(self.n_steps, size)
        return [Step(groups, np.ones(size, np.float32), epoch) for groups in own]

    def validation_steps(self) -> list[Step]:
        """The validation steps of this process: the same at each call, together all groups."""
        shape = (self.n_validation_steps, -(-self.n_groups // (self.n_validation_steps * self.world_size)))
        position = np.arange(shape[0] * shape[1] * self.world_size)
        own = position[self.rank :: self.world_size].reshape(shape)
        weight = (own < self.n_groups).astype(np.float32)
        steps = zip(own % self.n_groups, weight, strict=True)
        return [Step(groups, weights, VALIDATION_EPOCH) for groups, weights in steps]
