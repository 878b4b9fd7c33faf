from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders import StepPlan

SIZES = [(n, batch, world) for n in (3, 7, 8, 33, 50) for batch in (1, 3, 8, 64) for world in (1, 2, 3)]


def plans(n_groups, batch_size, world_size, seed=0):
    return [StepPlan(n_groups, batch_size, seed, rank, world_size) for rank in range(world_size)]


def groups_of(steps):
    return np.concatenate([step.groups for step in steps])


@pytest.mark.parametrize(("n_groups", "batch_size", "world_size"), SIZES)
def test_ranks_get_equal_steps_and_no_group_twice(n_groups, batch_size, world_size):
    by_rank = [plan.training_steps(2) for plan in plans(n_groups, batch_size, world_size)]
    assert {len(steps) for steps in by_rank} == {plans(n_groups, batch_size, world_size)[0].n_steps}
    sizes = {len(step.groups) for steps in by_rank for step in steps}
    assert len(sizes) == 1
    assert 1 <= sizes.pop() <= batch_size
    groups = np.concatenate([groups_of(steps) for steps in by_rank])
    assert len(np.unique(groups)) == len(groups)
    assert n_groups - len(groups) < len(by_rank[0]) * world_size
    assert all((step.weight == 1).all() for steps in by_rank for step in steps)


@pytest.mark.parametrize(("n_groups", "batch_size", "world_size"), SIZES)
def test_validation_holds_each_group_once_by_weight(n_groups, batch_size, world_size):
    by_rank = [plan.validation_steps() for plan in plans(n_groups, batch_size, world_size)]
    assert len({len(steps) for steps in by_rank}) == 1
    total = np.zeros(n_groups)
    for step in (step for steps in by_rank for step in steps):
        assert len(step.groups) <= batch_size
        np.add.at(total, step.groups, step.weight)
    np.testing.assert_array_equal(total, 1)


def test_fewer_validation_groups_than_processes_are_padded():
    steps = [plan.validation_steps() for plan in plans(1, 4, 3)]
    assert [step.weight.tolist() for (step,) in steps] == [[1.0], [0.0], [0.0]]


def test_fewer_training_groups_than_processes_is_an_error_with_the_numbers():
    with pytest.raises(DataError, match="2 training conditions cannot be shared by 3 processes"):
        StepPlan(2, 4, world_size=3).training_steps(0)


def test_same_arguments_give_the_same_steps_and_epochs_differ():
    plan = StepPlan(40, 8, seed=3)
    first, again, later = (groups_of(plan.training_steps(epoch)) for epoch in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != later).any()
    assert (first != groups_of(StepPlan(40, 8, seed=4).training_steps(1))).any()


def test_what_is_left_out_changes_with_the_epoch():
    plan = StepPlan(33, 8)
    seen = [set(groups_of(plan.training_steps(epoch))) for epoch in range(20)]
    assert all(len(groups) == 30 for groups in seen)
    assert set.union(*seen) == set(range(33))


def test_validation_steps_are_fixed_whatever_the_seed():
    first, second = (groups_of(StepPlan(10, 4, seed=seed).validation_steps()) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_groups": 0, "batch_size": 4}, DataError),
        ({"n_groups": 4, "batch_size": 0}, DataError),
        ({"n_groups": 4, "batch_size": 4, "rank": 1}, ValueError),
    ],
)
def test_impossible_plans_are_refused(arguments, error):
    with pytest.raises(error):
        StepPlan(**arguments)
