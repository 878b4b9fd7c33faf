"""Leave the caller's session as it was: random states, torch's settings, log levels, warning filters."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.seed import isolate_rng

# what the libraries say about choices that are made here on purpose
_CHATTER = (
    r"early_stopping was automatically disabled",
    r".*does not have many workers",
    r"GPU available but not used",
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
    """Seed torch for the block; afterwards random states and torch's settings are what they were.

    numpy's, Python's and torch's global generators are put back, those of CUDA devices too where CUDA is in use, and
    torch's choice of deterministic algorithms, which a trainer changes for the whole process.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get(_CUBLAS)
    # asking an unused CUDA for its state would start it, and processes could no longer be forked
    with isolate_rng(include_cuda=torch.cuda.is_available() and torch.cuda.is_initialized()):
        try:
            torch.manual_seed(seed)
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            if workspace is None:
                os.environ.pop(_CUBLAS, None)
            else:
                os.environ[_CUBLAS] = workspace


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
