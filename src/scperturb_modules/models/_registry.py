"""The models by name, and one function that loads whatever was saved."""

from __future__ import annotations

import importlib
import json
import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scperturb_modules._errors import DataError
from scperturb_modules.baselines import Baseline
from scperturb_modules.models._base import PerturbationModel
from scperturb_modules.models._folder import load_model
from scperturb_modules.train import read_folder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

MODELS: dict[str, str] = {
    "APP": "scperturb_modules.models.app:APP",
    "BioDSNN": "scperturb_modules.models.biodsnn:BioDSNN",
    "SCBIG": "scperturb_modules.models.scbig:SCBIG",
}
"""Name of each model to where its class is, ``module:class``; the class is imported when it is asked for."""

ENTRY_POINTS = "scperturb_modules.models"
"""The group of entry points in which other packages name their models."""


def model_class(name: str) -> type[PerturbationModel]:
    """The class of a model, of this package or of one that is installed beside it.

    Raises
    ------
    DataError
        There is no such model.
    """
    others = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}
    known = others | MODELS  # a foreign package cannot stand in for a model of ours
    if name not in known:
        raise DataError(f"There is no model {name!r}; known: {', '.join(sorted(known))}. Is its package installed?")
    module, _, attribute = known[name].partition(":")
    found: type[PerturbationModel] = getattr(importlib.import_module(module), attribute)
    return found


def load(path: str | os.PathLike[str], adata: AnnData | MuData | None = None) -> Any:
    """Read a saved model or baseline of any class.

    Parameters
    ----------
    path
        The folder that ``save`` wrote.
    adata
        The cells; see :meth:`PerturbationModel.load`. A baseline has no use for them.

    Raises
    ------
    FileNotFoundError
        Nothing saved is there.
    DataError
        The folder is damaged or newer, or its class is not known here.
    """
    if _holds_baseline(Path(path)):
        return Baseline.load(path)
    folder = read_folder(path)
    return load_model(model_class(str(folder.record["class"])), folder, adata)


def _holds_baseline(folder: Path) -> bool:
    """Whether the record is that of a baseline, which numbers its format; any other is for the reader of models."""
    try:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and isinstance(content.get("format"), int)
