"""Predict what a genetic perturbation does to a cell, and know whether the prediction can be believed.

``import scperturb_modules as spm`` is light: the sub-packages, and with them anndata, scanpy, matplotlib and torch,
load when they are first touched.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scperturb_modules import baselines, datasets, metrics, models, pl, pp, priors, report, tl
    from scperturb_modules.models import load
    from scperturb_modules.models.app import APP
    from scperturb_modules.models.biodsnn import BioDSNN
    from scperturb_modules.models.scbig import SCBIG

__version__ = version("scperturb_modules")

_SUBPACKAGES = ("baselines", "datasets", "metrics", "models", "pl", "pp", "priors", "report", "tl")
_FROM = {
    "APP": "scperturb_modules.models.app",
    "BioDSNN": "scperturb_modules.models.biodsnn",
    "SCBIG": "scperturb_modules.models.scbig",
    "load": "scperturb_modules.models",
}

__all__ = [
    "APP",
    "SCBIG",
    "BioDSNN",
    "__version__",
    "baselines",
    "datasets",
    "load",
    "metrics",
    "models",
    "pl",
    "pp",
    "priors",
    "report",
    "tl",
]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
