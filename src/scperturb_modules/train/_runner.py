"""One function trains every model, on scvi-tools' runner."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from scvi.module.base import BaseModuleClass
from scvi.train import TrainRunner

from scperturb_modules._errors import name_some
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.train._callbacks import BestWeights, SaveResumePoint, read_resume_point
from scperturb_modules.train._plan import ConditionPlan
from scperturb_modules.train._surroundings import caller_left_alone, interrupt_is_interrupt, libraries_quiet

# what depends on each other: data modules share out their steps themselves, scvi's own early stopping is off under
# several processes, and checkpoints and logs of scvi-tools are pickles
_FIXED: dict[str, Any] = {
    "use_distributed_sampler": False,
    "enable_checkpointing": False,
    "early_stopping": False,
    "log_save_dir": None,
}


@dataclass(frozen=True)
class FitResult:
    """What happened in a training run.

    Parameters
    ----------
    history
        Metric to a table with one column and one row per epoch, index ``epoch`` from 0.
    best_epoch, best_score
        The epoch whose weights the module has now, and its validation loss; None without validation data.
    n_epochs
        Epochs run, with those before a resume.
    seconds
        Wall time of this call.
    stopped_early
        Whether it ended before ``max_epochs``.
    """

    history: dict[str, pd.DataFrame]
    best_epoch: int | None
    best_score: float | None
    n_epochs: int
    seconds: float
    stopped_early: bool


def fit(
    model: Any,
    module: BaseModuleClass,
    datamodule: ConditionDataModule,
    *,
    max_epochs: int = 200,
    patience: int | None = 20,
    lr: float = 3e-3,
    weight_decay: float = 1e-4,
    gradient_clip: float | None = 1.0,
    accelerator: str = "auto",
    devices: int | str | list[int] = "auto",
    strategy: Any = "auto",
    precision: Any = "32-true",
    seed: int = 0,
    progress: bool | None = None,
    callbacks: Iterable[Callback] = (),
    resume_from: str | os.PathLike[str] | None = None,
    save_resume_point: str | os.PathLike[str] | None = None,
    every_n_steps: int | None = None,
    deterministic: bool = True,
    group_names: Sequence[str] | None = None,
    **trainer_kwargs: Any,
) -> FitResult:
    """Train a module and leave it with the weights of its best validation epoch.

    Parameters
    ----------
    model
        The scvi-tools model whose ``module`` is trained. Its ``is_trained_`` and ``history_`` are set; its ``trainer``
        is dropped, so that copies of the model hold no data.
    module
        The module; see :class:`ConditionPlan` for what it returns.
    datamodule
        Batches; ``datamodule.n_val`` says whether there is validation data. Without it there is no early stopping and
        the weights are those of the last epoch.
    max_epochs
        The most epochs.
    patience
        Validation epochs without improvement after which training stops; None never stops. An ``EarlyStopping`` among
        ``callbacks`` takes its place.
    lr, weight_decay
        Of AdamW; the learning rate falls to 0 along half a cosine over ``max_epochs``.
    gradient_clip
        The largest norm of the gradient; None does not clip.
    accelerator, devices, strategy, precision
        As in scvi-tools and Lightning; ``"auto"`` takes one device.
    seed
        Of all draws in training. The caller's random states are the same afterwards.
    progress
        Show a progress bar; None shows it on a terminal only.
    callbacks
        Further Lightning callbacks.
    resume_from
        A file written by ``save_resume_point``; the run goes on as if it had not been interrupted.
    save_resume_point
        Where to write such a file: after each epoch, or after every ``every_n_steps`` steps.
    every_n_steps
        See ``save_resume_point``.
    deterministic
        Choose deterministic algorithms; where an operation has none, torch warns.
    group_names
        Name of each group, by the number in ``batch["group"]``; for messages.
    trainer_kwargs
        Further arguments of scvi-tools' trainer, for example ``num_nodes``.

    Raises
    ------
    ValueError
        A callback writes checkpoints of its own, or an argument is one that is set here.
    DataError
        ``resume_from`` is no whole resume point.
    FloatingPointError
        A loss is not finite; the message names epoch, step and groups.
    """
    if max_epochs < 1:
        raise ValueError(f"max_epochs={max_epochs}; train for at least one epoch.")
    given = list(callbacks)
    _refuse(given, trainer_kwargs)
    if every_n_steps is not None and save_resume_point is None:
        raise ValueError("every_n_steps says how often a resume point is written; pass save_resume_point=PATH too.")
    best = BestWeights()
    plan = ConditionPlan(module, lr=lr, weight_decay=weight_decay, seed=seed, group_names=group_names)
    settings = {
        "callbacks": [
            *given,
            *_early_stopping(patience if datamodule.n_val else None, given),
            best,
            # last, so that it writes what the others have just noted
            *_resume_points(save_resume_point, every_n_steps),
        ],
        "strategy": strategy,
        "precision": precision,
        "gradient_clip_val": gradient_clip,
        "check_val_every_n_epoch": 1,
        # Lightning warns about an empty loader unless it is told that there is none
        **({} if datamodule.n_val else {"limit_val_batches": 0}),
        "deterministic": "warn" if deterministic else False,
        "benchmark": not deterministic,
        "enable_progress_bar": sys.stdout.isatty() if progress is None else progress,
        "logger": False,  # the plan keeps the history; scvi's logger writes a pickle under several processes
        "ckpt_path": None if resume_from is None else read_resume_point(resume_from),
        **trainer_kwargs,
        **_FIXED,
    }
    start = time.perf_counter()
    with libraries_quiet(), caller_left_alone(seed), interrupt_is_interrupt():
        module.train()
        runner = TrainRunner(model, plan, datamodule, max_epochs, accelerator, devices, **settings)
        runner()
    # a whole trainer with its loaders, which would travel with every copy of the model
    vars(model).pop("trainer", None)
    model.history_ = plan.history()
    n_epochs = len(model.history_["train_loss"])
    seconds = time.perf_counter() - start
    return FitResult(model.history_, best.best_epoch, best.best_score, n_epochs, seconds, n_epochs < max_epochs)


def _refuse(callbacks: Sequence[Callback], trainer_kwargs: dict[str, Any]) -> None:
    # scvi's SaveCheckpoint and Lightning's ModelCheckpoint are both of this kind
    checkpoints = [type(callback).__name__ for callback in callbacks if isinstance(callback, Checkpoint)]
    if checkpoints:
        raise ValueError(
            f"{name_some(checkpoints)} cannot be used: the best weights are kept anyway, save_resume_point=PATH writes "
            "what a run is resumed from, and save() writes the model."
        )
    fixed = sorted(_FIXED.keys() & trainer_kwargs.keys())
    if fixed:
        raise ValueError(f"{name_some(fixed)} cannot be chosen: training depends on how it is set here.")


def _early_stopping(patience: int | None, given: Sequence[Callback]) -> list[Callback]:
    if patience is None or any(isinstance(callback, EarlyStopping) for callback in given):
        return []
    # Lightning's own: it decides on a loss that is the same on all ranks, and stops all of them
    return [EarlyStopping("validation_loss", patience=patience, check_on_train_epoch_end=False)]


def _resume_points(path: str | os.PathLike[str] | None, every_n_steps: int | None) -> list[Callback]:
    if path is None:
        return []
    every = {"every_n_epochs": 1} if every_n_steps is None else {"every_n_steps": every_n_steps}
    return [SaveResumePoint(path, **every)]
