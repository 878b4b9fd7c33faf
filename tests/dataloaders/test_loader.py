from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders import (
    CellDataset,
    CellGroups,
    PseudobulkDataset,
    StepLoader,
    StepPlan,
    TrainingStepLoader,
)

WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


def loader_of(n_groups=23, *, batch_size=4, num_workers=0, **plan):
    data = PseudobulkDataset({"value": np.arange(n_groups, dtype=np.float32)})
    plan = StepPlan(n_groups, batch_size, **plan)
    return TrainingStepLoader(data, plan, num_workers=num_workers)


def seen(batches):
    return [batch["group"].tolist() for batch in batches]


def planned(loader, epoch):
    return [step.groups.tolist() for step in loader.plan.training_steps(epoch)]


@WORKERS
def test_each_epoch_hands_out_the_steps_of_the_plan(num_workers):
    loader = loader_of(num_workers=num_workers)
    assert len(loader) == 6
    for epoch in (0, 1, 5):
        loader.sampler.set_epoch(epoch)
        assert seen(loader) == planned(loader, epoch)
        assert seen(loader) == planned(loader, epoch)  # the same epoch again


@WORKERS
def test_validation_has_no_sampler_and_the_same_batches_each_time(num_workers, contexts_screen, keys):
    data = CellDataset(contexts_screen.X, CellGroups.of(contexts_screen, keys), n_cells=3)
    loader = StepLoader(data, StepPlan(len(data), 5), num_workers=num_workers)
    assert not hasattr(loader, "sampler")
    first, second = list(loader), list(loader)
    assert len(first) == len(loader) == 4
    for batch, other in zip(first, second, strict=True):
        assert all(torch.equal(batch[key], other[key]) for key in batch)


@WORKERS
def test_the_position_counts_batches_handed_out_not_those_prepared(num_workers):
    loader = loader_of(num_workers=num_workers)
    iterator = iter(loader)
    for count in range(1, 4):
        next(iterator)
        assert loader.state_dict()["position"] == count


@WORKERS
@pytest.mark.parametrize("set_epoch_first", [True, False])
def test_a_fresh_loader_hands_out_the_remaining_steps(num_workers, set_epoch_first):
    loader = loader_of(num_workers=num_workers)
    loader.sampler.set_epoch(2)
    iterator = iter(loader)
    done = seen(next(iterator) for _ in range(2))
    fresh = loader_of(num_workers=num_workers)
    fresh.load_state_dict(loader.state_dict())
    remaining = iter(fresh)  # Lightning sets the epoch after this
    if set_epoch_first:
        fresh.sampler.set_epoch(2)
    assert done + seen(remaining) == planned(loader, 2)
    fresh.sampler.set_epoch(3)
    assert seen(fresh) == planned(loader, 3)


@WORKERS
def test_a_pass_that_was_left_starts_anew(num_workers):
    loader = loader_of(num_workers=num_workers)
    next(iter(loader))
    assert seen(loader) == planned(loader, 0)


def test_at_the_start_of_an_epoch_nothing_was_handed_out():
    loader = loader_of()
    list(loader)
    assert loader.state_dict()["position"] == 6
    loader.sampler.set_epoch(1)
    assert loader.state_dict()["position"] == 0


def test_another_plan_cannot_go_on_inside_an_epoch_but_after_it():
    loader, other = loader_of(), loader_of(batch_size=8)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(DataError, match="after 1 of 6 steps"):
        other.load_state_dict(loader.state_dict())
    list(iterator)
    other.load_state_dict(loader.state_dict())
    assert seen(other) == []
    other.sampler.set_epoch(1)
    assert seen(other) == planned(other, 1)


def test_ranks_of_one_run_have_the_same_state():
    first, second = (loader_of(rank=rank, world_size=2) for rank in range(2))
    assert first.state_dict() == second.state_dict()


def test_no_worker_is_left_when_the_last_batch_is_out():
    import multiprocessing

    loader = loader_of(num_workers=2)
    iterator = iter(loader)
    for _ in range(len(loader) - 1):
        next(iterator)
    assert len(multiprocessing.active_children()) == 2
    next(iterator)
    assert multiprocessing.active_children() == []


def test_the_random_state_of_the_caller_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader_of())
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_read_a_backed_file(contexts_screen, keys, tmp_path):
    import anndata

    contexts_screen.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    groups = CellGroups.of(backed, keys)
    plan = StepPlan(len(groups), 4)
    in_memory = list(TrainingStepLoader(CellDataset(contexts_screen.X, groups, n_cells=3), plan))
    from_file = list(TrainingStepLoader(CellDataset(backed.X, groups, n_cells=3), plan, num_workers=2))
    for batch, other in zip(in_memory, from_file, strict=True):
        assert all(torch.equal(batch[key], other[key]) for key in batch)
    backed.file.close()
