from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders import CellDataset, CellGroups, ConditionDataModule, PseudobulkDataset

N_GROUPS, N_STEPS = 23, 6

# lightning 2.6 with torch 2.13, reported in typing_extensions
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


class Recorder(LightningModule):
    """A plan that notes the groups of each step."""

    def __init__(self):
        super().__init__()
        self.module = torch.nn.Linear(1, 1)
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch["group"].tolist()))
        return self.module(batch["value"][:, None]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append((batch["group"].tolist(), batch["weight"].tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


class SaveAt(Callback):
    """Writes a checkpoint in a given hook of a given epoch and step."""

    def __init__(self, path, hook, *, epoch, step=None):
        self.path, self.epoch, self.step = path, epoch, step
        setattr(self, hook, self.save)

    def save(self, trainer, plan, *arguments):
        if trainer.current_epoch == self.epoch and (self.step is None or arguments[-1] == self.step):
            trainer.save_checkpoint(self.path)


def module_of(n_groups=N_GROUPS, *, n_validation=5, first=0, **arguments):
    def data(n, start):
        return PseudobulkDataset({"value": np.arange(start, start + n, dtype=np.float32)})

    validation = data(n_validation, 100) if n_validation else None
    return ConditionDataModule(data(n_groups, first), validation, batch_size=4, **arguments)


def trainer_of(max_epochs, *callbacks, **arguments):
    return Trainer(
        **arguments,
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
    )


def fit(max_epochs, *callbacks, resume=None, **arguments):
    plan, data = Recorder(), module_of(**arguments)
    trainer_of(max_epochs, *callbacks).fit(plan, data, ckpt_path=resume, weights_only=resume and True)
    return plan


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "resume.ckpt"


def test_epochs_follow_the_plan_and_validation_is_fixed():
    plan, data = fit(3), module_of()
    steps = data.train_dataloader().plan
    expected = [(e, i, s.groups.tolist()) for e in range(3) for i, s in enumerate(steps.training_steps(e))]
    assert plan.seen == expected
    assert plan.validated == 3 * [([0, 1, 2], [1, 1, 1]), ([3, 4, 0], [1, 1, 0])]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("step", [0, 3, N_STEPS - 1])
def test_a_resume_in_mid_epoch_goes_on_with_the_remaining_steps(step, num_workers, checkpoint):
    save = SaveAt(checkpoint, "on_train_batch_end", epoch=1, step=step)
    whole = fit(3, save, num_workers=num_workers)
    resumed = fit(3, resume=checkpoint, num_workers=num_workers)
    assert resumed.seen == whole.seen[N_STEPS + step + 1 :]
    assert torch.equal(resumed.module.weight, whole.module.weight)


@pytest.mark.parametrize("hook", ["on_validation_end", "on_train_epoch_end"])
def test_a_resume_at_the_border_of_an_epoch(hook, checkpoint):
    whole = fit(4, SaveAt(checkpoint, hook, epoch=1))
    resumed = fit(4, resume=checkpoint)
    assert resumed.seen == whole.seen[2 * N_STEPS :]


@pytest.mark.parametrize(("other", "message"), [({"first": 1}, "other conditions or cells"), ({"seed": 1}, "seed=0")])
def test_a_resume_with_another_split_or_seed_is_refused(other, message, checkpoint):
    fit(1, SaveAt(checkpoint, "on_train_epoch_end", epoch=0))
    with pytest.raises(DataError, match=message):
        fit(2, resume=checkpoint, **other)


def test_another_split_of_the_same_cells_is_refused(contexts_screen, keys):
    def data():
        return ConditionDataModule(CellDataset(contexts_screen.X, CellGroups.of(contexts_screen, keys), n_cells=3))

    before = data()
    contexts_screen.obs.loc[contexts_screen.obs["perturbation"] == "G01", "split"] = "test"
    with pytest.raises(DataError, match="other conditions or cells"):
        data().load_state_dict(before.state_dict())


def test_rank_and_world_come_from_the_trainer():
    shards = []
    for rank in range(2):
        data = module_of()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)
        data.setup("fit")
        shards.append([group for batch in data.train_dataloader() for group in batch["group"].tolist()])
        assert sum(batch["weight"].sum() for batch in data.val_dataloader()) in (2, 3)
    assert len(shards[0]) == len(shards[1])
    assert not set(shards[0]) & set(shards[1])


def test_without_validation_there_is_no_loader():
    plan, data = Recorder(), module_of(n_validation=0)
    trainer_of(2, limit_val_batches=0).fit(plan, data)
    assert len(plan.seen) == 2 * N_STEPS
    assert data.val_dataloader() == []
    assert (data.n_train, data.n_val, len(data.val_idx)) == (N_GROUPS, 0, 0)


def test_it_is_a_data_splitter_for_scvi():
    from scvi.train import TrainRunner

    plan = Recorder()
    model = SimpleNamespace(module=plan.module, is_trained_=False, history_=None, to_device=lambda device: None)
    data = module_of()
    TrainRunner(
        model,
        training_plan=plan,
        data_splitter=data,
        max_epochs=2,
        accelerator="cpu",
        check_val_every_n_epoch=1,
        enable_progress_bar=False,
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )()
    assert len(plan.seen) == 2 * N_STEPS
    assert len(plan.validated) == 2 * 2
    assert (plan.n_obs_training, plan.n_obs_validation) == (N_GROUPS, 5)
    np.testing.assert_array_equal(model.train_indices, np.arange(N_GROUPS))
    np.testing.assert_array_equal(model.validation_indices, np.arange(5))
    assert len(model.test_indices) == 0
