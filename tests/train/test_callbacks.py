"""Best weights, and runs that are interrupted and go on."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from scperturb_modules._errors import DataError
from scperturb_modules.train import SaveResumePoint, read_resume_point


def test_the_best_weights_are_put_back(toy):
    # the better the training data are learned, the worse this validation data become
    against = toy.data(8, seed=1, sign=-1.0)
    run = toy.train(toy.datamodule(validation=against), max_epochs=12, lr=0.05)
    losses = run.result.history["validation_loss"]["validation_loss"]
    assert run.result.best_epoch == losses.idxmin() < losses.index[-1]
    assert losses.iloc[-1] > 1.1 * losses.min()
    assert run.result.best_score == pytest.approx(losses.min(), rel=1e-6)
    assert toy.loss_of(run.module, against) == pytest.approx(losses.min(), rel=1e-5)


def same_run(toy, first, second) -> None:
    assert toy.equal(first.weights, second.weights)
    assert first.result.history.keys() == second.result.history.keys()
    for name, frame in first.result.history.items():
        assert frame.equals(second.result.history[name]), name
    assert (first.result.best_epoch, first.result.best_score) == (second.result.best_epoch, second.result.best_score)


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize(
    ("every", "cut"),
    [
        (None, 7),  # written at the end of an epoch of three steps
        (3, 7),  # the same, asked for by steps
        (4, 7),  # in the middle of an epoch, after its first step
        (5, 7),  # after its last but one
        (1, 7),
    ],
)
def test_an_interrupted_run_goes_on_bit_by_bit(toy, tmp_path, every, cut, validation):
    chosen = {} if validation else {"validation": None}
    whole = toy.train(toy.datamodule(**chosen))
    point = {"save_resume_point": tmp_path / "resume.ckpt", "every_n_steps": every}
    with pytest.raises(InterruptedError):
        toy.train(toy.datamodule(**chosen), callbacks=[toy.PowerCut(cut)], **point)
    assert [path.name for path in tmp_path.iterdir()] == ["resume.ckpt"]
    torch.manual_seed(123)
    same_run(toy, whole, toy.train(toy.datamodule(**chosen), resume_from=tmp_path / "resume.ckpt"))


def test_steps_that_accumulate_gradients_go_on_too(toy, tmp_path):
    settings = {"accumulate_grad_batches": 2}
    whole = toy.train(toy.datamodule(batch_size=4), **settings)
    with pytest.raises(InterruptedError):
        cut = toy.PowerCut(5)
        path = tmp_path / "resume.ckpt"
        toy.train(toy.datamodule(batch_size=4), callbacks=[cut], save_resume_point=path, every_n_steps=4, **settings)
    same_run(toy, whole, toy.train(toy.datamodule(batch_size=4), resume_from=path, **settings))


def test_patience_counts_on_after_a_resume(toy, tmp_path):
    settings = {"lr": 0.0, "patience": 3, "max_epochs": 9}
    with pytest.raises(InterruptedError):
        toy.train(callbacks=[toy.PowerCut(7)], save_resume_point=tmp_path / "resume.ckpt", **settings)
    resumed = toy.train(resume_from=tmp_path / "resume.ckpt", **settings)
    assert resumed.result.n_epochs == 4 and resumed.result.best_epoch == 0


def test_resuming_a_finished_run_changes_nothing(toy, tmp_path):
    against = toy.data(8, seed=1, sign=-1.0)
    whole = toy.train(toy.datamodule(validation=against), save_resume_point=tmp_path / "resume.ckpt")
    again = toy.train(toy.datamodule(validation=against), resume_from=tmp_path / "resume.ckpt")
    same_run(toy, whole, again)


def test_other_training_data_are_refused(toy, tmp_path):
    toy.train(save_resume_point=tmp_path / "resume.ckpt", max_epochs=1)
    with pytest.raises(DataError, match="on other conditions or cells"):
        toy.train(toy.datamodule(toy.data(22, seed=5)), resume_from=tmp_path / "resume.ckpt")


class RunsCode:
    def __reduce__(self):
        return (print, ("code was run",))


def test_files_that_are_no_resume_points_are_refused(toy, tmp_path, capsys):
    path = tmp_path / "resume.ckpt"
    with pytest.raises(DataError, match="There is no resume point"):
        read_resume_point(path)
    toy.train(save_resume_point=path, max_epochs=1)
    assert read_resume_point(str(path)) == path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="is cut, or no resume point that is safe to open"):
        toy.train(resume_from=path)
    torch.save({"state_dict": RunsCode(), "loops": {}, "scperturb_modules": {}}, path)
    with pytest.raises(DataError, match="safe to open"):
        read_resume_point(path)
    path.write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(DataError, match="safe to open"):
        read_resume_point(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(DataError, match="was not written by train"):
        read_resume_point(path)
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{}, {"every_n_steps": 2, "every_n_epochs": 2}, {"every_n_epochs": 0}])
def test_one_interval_is_needed(wrong):
    with pytest.raises(ValueError, match="either every_n_steps or every_n_epochs"):
        SaveResumePoint("resume.ckpt", **wrong)
