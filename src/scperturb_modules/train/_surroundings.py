"""Leave the caller's session as it was: random states, torch's settings, log levels, warning filters."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# what the libraries say about choices that are made here on purpose
_CHATTER = (
    r"early_stopping was automatically disabled",
    r".*does not have many workers",
    r"GPU available but not used",
    # no validation data
    r"Total length of `list` across ranks is zero",
    # Lightning with a newer torch
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # all ranks log the same number, which is synchronised before
    r".*recommended to use `self.log\(.*sync_dist=True\)`",
)
_LOGGERS = (
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric",
    "lightning.fabric.utilities.rank_zero",
)
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def caller_left_alone(seed: int) -> Iterator[None]:
    """Seed torch for the block; afterwards, also after an error, the session is what it was.

    numpy's, Python's and torch's global generators are put back, those of CUDA devices too where CUDA is in use, and
    torch's choice of deterministic algorithms, which a trainer changes for the whole process.
    """
    # asking an unused CUDA for its state would start it, and processes could no longer be forked
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 the caller's own
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(_CUBLAS)
    try:
        torch.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop(_CUBLAS, None)
        if workspace is not None:
            os.environ[_CUBLAS] = workspace


@contextmanager
def interrupt_is_interrupt() -> Iterator[None]:
    """A user's interrupt ends the training alone: it stays a KeyboardInterrupt, and the next one works too.

    Lightning turns it into the end of the process, and from then on lets the process ignore the key.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        # only the main thread may set a handler, and no other one is interrupted by the key
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def libraries_quiet() -> Iterator[None]:
    """Silence what Lightning and scvi-tools say about choices made here; other warnings pass as ever."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [found.level for found in loggers]
    with warnings.catch_warnings():
        for message in _CHATTER:
            warnings.filterwarnings("ignore", message=message)
        try:
            for found in loggers:
                found.setLevel(max(logging.WARNING, found.level))
            yield
        finally:
            for found, level in zip(loggers, levels, strict=True):
                found.setLevel(level)
