"""Models by the name that the command line gives, and the folder that holds a saved one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from scperturb_modules._files import require_free
from scperturb_modules.cli._output import InputError, working
from scperturb_modules.cli._results import check_folder


def find_model(name: str) -> Any:
    """The class of a model; small and capital letters are alike."""
    with working("Loading torch"):
        from scperturb_modules.models import MODELS, model_class

    spelled = {known.lower(): known for known in MODELS}
    return model_class(spelled.get(name.lower(), name))


def check_model_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that a model could not be saved in, before it is trained."""
    check_folder(out, overwrite=overwrite)
    try:
        # an empty folder is as good as none
        require_free(out, overwrite=True)
    except FileExistsError as error:
        raise InputError(f"--overwrite replaces the whole folder, and {error}") from error


def load_saved(folder: Path, adata: Any = None) -> Any:
    """A saved model or baseline."""
    if not (folder / "model.json").is_file():
        what = f"{folder} holds no saved model" if folder.is_dir() else f"{folder} is no folder of a saved model"
        raise InputError(f"{what}; spm fit writes one")
    with working(f"Loading {os.fspath(folder)}"):
        from scperturb_modules.models import load

        return load(folder, adata)
