"""One training run: what it returns, what it leaves behind, what it refuses."""

from __future__ import annotations

import logging
import random
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from scvi.train import SaveCheckpoint


def test_history_has_both_losses_and_one_row_per_epoch(toy):
    run = toy.train()
    assert {"train_loss", "validation_loss", "largest_train", "largest_validation"} == run.result.history.keys()
    for name, frame in run.result.history.items():
        assert list(frame.columns) == [name] and frame.index.name == "epoch" and frame.index.tolist() == [0, 1, 2, 3]
    assert run.result.n_epochs == 4 and not run.result.stopped_early and run.result.seconds > 0
    assert run.model.history_ is run.result.history and run.model.is_trained_ and not run.module.training


def test_the_loss_falls(toy):
    losses = toy.train(max_epochs=40, module=toy.Toy(dropout=0)).result.history["train_loss"]["train_loss"]
    assert losses.iloc[-1] < 0.2 * losses.iloc[0]


def test_same_seed_same_bits_whatever_the_caller_drew(toy):
    torch.manual_seed(1)
    first = toy.train()
    torch.manual_seed(2)
    second = toy.train()
    assert toy.equal(first.weights, second.weights)
    assert all(frame.equals(second.result.history[name]) for name, frame in first.result.history.items())
    assert not toy.equal(first.weights, toy.train(seed=1).weights)


def test_early_stopping_ends_before_max_epochs(toy):
    run = toy.train(max_epochs=50, patience=3, lr=0.0)
    assert run.result.n_epochs == 4 and run.result.stopped_early and run.result.best_epoch == 0
    own = toy.train(max_epochs=50, patience=3, lr=0.0, callbacks=[EarlyStopping("validation_loss", patience=1)])
    assert own.result.n_epochs == 2
    assert toy.train(max_epochs=6, patience=None, lr=0.0).result.n_epochs == 6


def test_without_validation_there_are_the_weights_of_the_last_epoch(toy, caplog):
    class LastWeights(toy.PowerCut):
        def on_train_end(self, trainer, pl_module):
            self.weights = {name: value.clone() for name, value in pl_module.module.state_dict().items()}

    last = LastWeights(step=-1)
    with caplog.at_level(logging.INFO, logger="scperturb_modules"):
        run = toy.train(toy.datamodule(validation=None), callbacks=[last], patience=1)
    assert "weights are those of the last epoch" in caplog.text
    assert (run.result.best_epoch, run.result.best_score, run.result.n_epochs) == (None, None, 4)
    assert "validation_loss" not in run.result.history and toy.equal(run.weights, last.weights)


def test_the_trainer_is_dropped_and_the_callers_list_stays(toy):
    callbacks = [toy.PowerCut(step=-1)]
    run = toy.train(callbacks=callbacks)
    assert len(callbacks) == 1 and not hasattr(run.model, "trainer")


def test_no_file_is_left(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy.train()
    assert list(tmp_path.rglob("*")) == []


def session() -> dict:
    """Everything global that a run could change."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    return {
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 the caller's generator is the legacy one
        "python": random.getstate(),
        "torch": torch.get_rng_state().tolist(),
        "scvi": (scvi.settings.seed, scvi.settings.logging_dir, scvi.settings.verbosity),
        "algorithms": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "filters": list(warnings.filters),
        "levels": [logging.getLogger(name).level for name in names],
    }


def test_the_callers_session_is_left_alone(toy):
    np.random.seed(3)  # noqa: NPY002
    before = session()
    toy.train()
    assert session() == before
    with pytest.raises(InterruptedError):
        toy.train(callbacks=[toy.PowerCut(step=2)])
    assert session() == before


@pytest.fixture
def interruptible():
    """Where tests run in the background, the shell has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stays_one_and_the_next_one_works(toy):
    class Key(toy.PowerCut):
        def on_train_batch_start(self, trainer, *args):
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            toy.train(callbacks=[Key(step=0)])
    assert signal.getsignal(signal.SIGINT) is handler


def test_training_in_another_thread_works(toy):
    with ThreadPoolExecutor(1) as pool:
        assert toy.equal(pool.submit(toy.train).result().weights, toy.train().weights)


def test_algorithms_are_deterministic_inside(toy):
    class Look(toy.PowerCut):
        def on_train_start(self, *args):
            self.seen = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    look = Look(step=-1)
    toy.train(callbacks=[look])
    assert look.seen == (True, False)
    toy.train(callbacks=[look], deterministic=False)
    assert look.seen[0] is False


def test_quiet_unless_a_bar_is_wanted(toy, capfd):
    toy.train()
    assert capfd.readouterr() == ("", "")
    toy.train(progress=True)
    assert "Epoch 4/4" in "".join(capfd.readouterr())


def test_a_warning_of_the_module_is_not_swallowed(toy):
    class Loud(toy.Toy):
        def inference(self, x):
            warnings.warn("two of your genes are constant", UserWarning, stacklevel=2)
            return super().inference(x)

    with pytest.warns(UserWarning, match="genes are constant"):
        toy.train(module=Loud())


def test_mixed_precision_leaves_float32_weights(toy):
    run = toy.train(precision="bf16-mixed")
    assert {value.dtype for value in run.weights.values()} == {torch.float32}
    assert not toy.equal(run.weights, toy.train().weights)


def test_clipping_reaches_the_optimiser(toy):
    start = toy.Toy().state_dict()
    # below AdamW's epsilon a clipped gradient moves nothing
    clipped = toy.train(gradient_clip=1e-14, weight_decay=0.0, lr=1e-3).weights
    free = toy.train(gradient_clip=None, weight_decay=0.0, lr=1e-3).weights
    moved = [max(float((w[name] - start[name]).abs().max()) for name in start) for w in (clipped, free)]
    assert moved[0] < 1e-6 < 1e-3 < moved[1]


@pytest.mark.parametrize("kind", [ModelCheckpoint, SaveCheckpoint])
def test_callbacks_that_write_checkpoints_are_refused(toy, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"'{kind.__name__}' cannot be used.*save_resume_point=PATH"):
        toy.train(callbacks=[kind(monitor="validation_loss")])


def test_arguments_that_cannot_work_are_refused(toy):
    with pytest.raises(ValueError, match="'enable_checkpointing' and|'enable_checkpointing' cannot be chosen"):
        toy.train(enable_checkpointing=True)
    with pytest.raises(ValueError, match="pass save_resume_point=PATH"):
        toy.train(every_n_steps=3)
    with pytest.raises(ValueError, match="max_epochs=0"):
        toy.train(max_epochs=0)
