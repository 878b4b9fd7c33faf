"""Predict what a genetic perturbation does to a cell, and know whether the prediction can be believed.

``import scperturb_modules as spm`` is light: the sub-packages, and with them anndata, scanpy, matplotlib and torch,
load when they are first touched.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scperturb_modules import baselines, datasets, metrics, pl, pp, priors, tl

__version__ = version("scperturb_modules")

_SUBPACKAGES = ("baselines", "datasets", "metrics", "pl", "pp", "priors", "tl")

__all__ = ["__version__", "baselines", "datasets", "metrics", "pl", "pp", "priors", "tl"]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
