"""Callbacks of a training run: the best weights, and points from which a run can be resumed."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from scperturb_modules._errors import DataError
from scperturb_modules._files import whole_file
from scperturb_modules.train._plan import CHECKPOINT_KEY

logger = logging.getLogger(__name__)


class BestWeights(Callback):
    """Keep the weights of the best validation epoch on the CPU, and put them back when the fit ends.

    Parameters
    ----------
    monitor
        The logged metric; smaller is better.

    Attributes
    ----------
    best_epoch, best_score
        Of the best epoch so far, counted from 0; None before the first validation.
    """

    def __init__(self, monitor: str = "validation_loss") -> None:
        self.monitor = monitor
        self.best_epoch: int | None = None
        self.best_score: float | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare, and keep a copy of the weights if they are better."""
        score = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or score is None:
            return
        if self.best_score is None or float(score) < self.best_score:
            self.best_epoch, self.best_score = trainer.current_epoch, float(score)
            state = _module_of(pl_module).state_dict()
            self._weights = {name: value.detach().to("cpu", copy=True) for name, value in state.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back."""
        if self.best_epoch is None:
            logger.info("There are no validation conditions: the weights are those of the last epoch.")
            return
        _module_of(pl_module).load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """What a resume point keeps."""
        return {"best_epoch": self.best_epoch, "best_score": self.best_score, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a resume point."""
        self.best_epoch, self.best_score = state_dict["best_epoch"], state_dict["best_score"]
        self._weights = state_dict["weights"]


def _module_of(plan: LightningModule) -> torch.nn.Module:
    if not isinstance(plan.module, torch.nn.Module):
        raise TypeError(f"{type(plan).__name__}.module is no torch module; BestWeights needs a plan that has one.")
    return plan.module


class SaveResumePoint(Callback):
    """Write, now and then, all that a run needs to be resumed bit for bit. The file is replaced each time.

    The file is Lightning's own. It is for continuing one's own run; to share a model, save it.

    Parameters
    ----------
    path
        The file, for example ``"resume.ckpt"``.
    every_n_steps, every_n_epochs
        How often; exactly one of them.

    Raises
    ------
    ValueError
        Both or neither is given, or it is below 1.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, every_n_steps: int | None = None, every_n_epochs: int | None = None
    ) -> None:
        if (every_n_steps is None) == (every_n_epochs is None) or (every_n_steps or every_n_epochs or 0) < 1:
            raise ValueError("Give either every_n_steps or every_n_epochs, at least 1.")
        self.path = Path(path)
        self._steps, self._epochs = every_n_steps, every_n_epochs
        self._due, self._last = False, 0

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Write after every so many steps; after the last step of an epoch it waits for the validation."""
        step = trainer.global_step
        # a batch that only adds to the gradients makes no step, and half a sum of gradients is in no file
        if self._steps is None or step % self._steps or step == self._last:
            return
        self._last = step
        if trainer.is_last_batch:
            self._due = True
        else:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write after every so many epochs."""
        if self._due or (self._epochs is not None and (trainer.current_epoch + 1) % self._epochs == 0):
            self._due = False
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        # every rank has to call: Lightning waits for all of them, and only the first one writes
        if trainer.is_global_zero:
            with whole_file(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)


def read_resume_point(path: str | os.PathLike[str]) -> Path:
    """Check that the file is a whole resume point of ours with nothing in it but tensors and plain values.

    Returns
    -------
    The path, to be handed to the trainer.

    Raises
    ------
    DataError
        It is not there, cut, holds objects that could run code, or was written by something else.
    """
    name = repr(os.fspath(path))
    if not Path(path).is_file():
        raise DataError(f"There is no resume point {name}; train(save_resume_point=...) writes one.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch on foreign files; they are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{name} is cut, or no resume point that is safe to open: {first}") from error
    if not isinstance(content, dict) or not {"state_dict", "loops", CHECKPOINT_KEY} <= content.keys():
        raise DataError(f"{name} was not written by train(save_resume_point=...) of scperturb_modules.")
    return Path(path)
