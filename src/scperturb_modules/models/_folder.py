"""Saving a model to a folder, and building it again from there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from mudata import MuData

from scperturb_modules._errors import DataError, require_key
from scperturb_modules.models._setup import MODALITY, SETUP_ARGS, TrainingSide, require_genes
from scperturb_modules.models._storage import (
    CELLS_FILE,
    TRAINING_FILE,
    fit_to_plain,
    history_from_plain,
    history_to_plain,
    read_training,
    training_writer,
)
from scperturb_modules.train import FitResult, SavedFolder, read_folder, write_folder

if TYPE_CHECKING:
    from anndata import AnnData

    from scperturb_modules.models._base import PerturbationModel

Model = TypeVar("Model", bound="PerturbationModel")


def save_model(
    model: PerturbationModel,
    path: str | os.PathLike[str],
    *,
    fitted: Mapping[str, Any],
    cells: AnnData | MuData | None,
    overwrite: bool,
    **write_kwargs: Any,
) -> None:
    """Write the folder, whole or not at all; ``cells`` are added to it where given."""
    if isinstance(cells, MuData):
        raise ValueError("save_anndata=True cannot keep a MuData in the folder; write it beside, mdata.write(path).")
    # the identifier is drawn anew in each session, and the same model is to give the same file
    registry = {name: value for name, value in model.registry.items() if name != "_scvi_uuid"}
    record = {
        "class": model.name,
        "options": model.option_values,
        "fitted": dict(fitted),
        "test_names": list(model.test_names),
        "registry": registry,
        "priors": list(model.sources),
        "history": history_to_plain(model.history),
        "fit": fit_to_plain(model.fit_result),
    }
    files = {TRAINING_FILE: training_writer(model.training, model.sources, model._learned())}
    if cells is not None:
        files[CELLS_FILE] = lambda file: cells.write_h5ad(file, **write_kwargs)
    write_folder(path, record, model.module.state_dict(), files=files, overwrite=overwrite)


def load_model(
    cls: type[Model],
    path: str | os.PathLike[str] | SavedFolder,
    adata: AnnData | MuData | None,
    accelerator: str = "auto",
    device: int | str = "auto",
) -> Model:
    """Build a saved model again; ``path`` may be a folder that was read already."""
    folder = path if isinstance(path, SavedFolder) else read_folder(path)
    record = folder.record
    if record["class"] != cls.name:
        raise DataError(
            f"{str(folder.folder)!r} holds a model of the class {record['class']}, not {cls.name}; call "
            f"{record['class']}.load or spm.load."
        )
    training, sources = read_training(folder.files[TRAINING_FILE], record["priors"])
    if adata is None and CELLS_FILE in folder.files:
        adata = _read_cells(folder.files[CELLS_FILE])
    if adata is not None:
        _check_genes(adata, record["registry"][SETUP_ARGS], training, cls.name)
    side = TrainingSide(training, list(record["test_names"]), adata, adata, record["registry"])
    model = cls(side, priors=sources, **record["options"])
    _load_weights(model, folder)
    history = history_from_plain(record["history"])
    model.history_ = history
    model.fit_result = None if record["fit"] is None else FitResult(history=history, **record["fit"])
    model._restore(record["fitted"])
    model.is_trained_ = True
    model.to_device(device_of(accelerator, device))
    return model


def _read_cells(path: Path) -> AnnData:
    from anndata import read_h5ad

    return read_h5ad(path)


def _check_genes(adata: AnnData | MuData, args: Mapping[str, Any], training: AnnData, model: str) -> None:
    modality = args.get(MODALITY)
    if isinstance(adata, MuData) != (modality is not None):
        wanted = "an AnnData, such as mdata['rna']" if modality is None else f"a MuData with the modality {modality!r}"
        raise TypeError(
            f"{model} was given {type(adata).__name__}, and the saved model was set up on {wanted}; pass one."
        )
    if modality is not None:
        require_key(modality, adata.mod, "mdata.mod", mend="Give the modality with the expression this name.")
    require_genes((adata if modality is None else adata[modality]).var_names, training.var_names, model)


def _load_weights(model: PerturbationModel, folder: SavedFolder) -> None:
    try:
        model.module.load_state_dict(folder.tensors, strict=True)
    except RuntimeError as error:
        raise DataError(
            f"{str(folder.folder)!r}: the weights do not fit the {model.name} of this version of scperturb_modules; it "
            f"was written by {folder.versions.get('package')}. {error}"
        ) from error
    model.module.eval()


def device_of(accelerator: str, device: int | str) -> torch.device:
    """The torch device of scvi-tools' pair of arguments; ``auto`` takes CUDA where there is one, else the CPU."""
    if isinstance(device, str) and device != "auto" and not device.isdigit():
        return torch.device(device)
    kind = accelerator
    if accelerator == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    kind = "cuda" if kind == "gpu" else kind
    return torch.device(kind if device == "auto" or kind == "cpu" else f"{kind}:{device}")
