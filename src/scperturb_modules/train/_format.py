"""A saved model is a folder that is safe to open: JSON, safetensors and h5ad, checked before anything is used.

``model.json`` holds the record, the versions that wrote it, the sha256 of every other file and a checksum of itself;
``weights.safetensors`` the tensors. Nothing in the folder can run code when it is read. There is no time stamp, so that
saving twice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scperturb_modules import __version__
from scperturb_modules._errors import DataError, name_some
from scperturb_modules._files import require_free, whole_file
from scperturb_modules.train._json import from_json, to_json

FORMAT = "scperturb_modules.model"
FORMAT_VERSION = 1
RECORD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
_SUFFIXES = (".json", ".safetensors", ".h5ad")
_ENTRIES = frozenset({"format", "format_version", "versions", "sha256", "record", "checksum"})
# from a version to the next one: takes the content of model.json and gives that of the next version
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


@dataclass(frozen=True)
class SavedFolder:
    """What :func:`read_folder` found, all of it checked.

    Parameters
    ----------
    record
        The record as it was given to :func:`write_folder`; tuples and arrays are such again.
    tensors
        Name to tensor, on the CPU.
    folder
        The folder itself.
    versions
        What wrote it: ``package``, ``python``, ``torch``, ``scvi-tools``, ``anndata``.
    files
        The further files (``training.h5ad``, ...), name to path.
    """

    record: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    folder: Path
    versions: dict[str, str]
    files: dict[str, Path] = field(default_factory=dict)


def write_folder(
    path: str | os.PathLike[str],
    record: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    *,
    files: Mapping[str, Callable[[Path], None]] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model's folder, whole or not at all.

    Parameters
    ----------
    path
        The folder; it must not exist unless ``overwrite``.
    record
        Settings, registry, names: what :func:`to_json` takes.
    tensors
        Name to dense tensor, from any device; two names may share memory.
    files
        Name of a further file (ending in ``.h5ad``, ``.safetensors`` or ``.json``) to a function that writes it to the
        path that it is given.
    overwrite
        Replace a folder that holds a saved model.

    Raises
    ------
    FileExistsError
        The path exists and ``overwrite`` is False, or it holds something else than a saved model.
    TypeError
        An entry of the record or a tensor cannot be saved; the message names it.
    ValueError
        The name of a further file is not allowed.
    """
    require_free(path, what="saved model", overwrite=overwrite)
    writers = dict(files or {})
    for name in writers:
        if not _is_allowed(name) or name in (RECORD_FILE, WEIGHTS_FILE):
            raise ValueError(f"{name!r} cannot be a file of a saved model; its name must end in {_endings()}.")
    plain = {"record": to_json(record), "versions": _versions()}
    ready = _ready_to_save(tensors)
    with whole_file(path) as folder:
        folder.mkdir()
        save_file(ready, folder / WEIGHTS_FILE)
        for name, write in writers.items():
            write(folder / name)
        sums = {name: _sha256(folder / name) for name in (WEIGHTS_FILE, *writers)}
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "sha256": sums, **plain}
        text = json.dumps({**content, "checksum": _checksum(content)}, indent=1, sort_keys=True, allow_nan=False)
        (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def read_folder(path: str | os.PathLike[str]) -> SavedFolder:
    """Read and check what :func:`write_folder` wrote.

    The checksums show a file that was cut, damaged or changed by accident. They are no signature: whoever means harm
    can write new ones. What keeps a stranger's folder harmless is that no format in it can hold code.

    Raises
    ------
    FileNotFoundError
        No saved model is there.
    DataError
        The folder is of a newer format, or a file is missing, foreign, cut or altered; the message names it.
    """
    folder = Path(path)
    if not (folder / RECORD_FILE).is_file():
        raise FileNotFoundError(f"{str(folder)!r} holds no {RECORD_FILE}; save() writes such a folder.")
    content = _read_content(folder)
    _check_files(folder, content["sha256"])
    content = _migrate(content, folder)
    try:
        record = from_json(content["record"])
        tensors = load_file(folder / WEIGHTS_FILE, device="cpu")
    except (ValueError, TypeError, KeyError, SafetensorError) as error:
        raise DataError(f"{str(folder)!r} cannot be read: {error}") from error
    files = {name: folder / name for name in sorted(content["sha256"]) if name != WEIGHTS_FILE}
    return SavedFolder(record, tensors, folder, content["versions"], files)


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "scvi-tools", "anndata")}
    return {"package": __version__, "python": platform.python_version(), **packages}


def _ready_to_save(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Dense, on the CPU, contiguous, no two names on the same memory: safetensors refuses anything else."""
    ready: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout is not torch.strided:
            kind = tensor.layout if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise TypeError(f"tensors[{name!r}] is {kind}; only dense tensors can be saved.")
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        ready[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return ready


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(content: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON (sorted, no blanks) of all entries but the checksum itself."""
    rest = {key: value for key, value in content.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_allowed(name: str) -> bool:
    return Path(name).name == name and "\\" not in name and name.endswith(_SUFFIXES)


def _endings() -> str:
    return ", ".join(_SUFFIXES)


def _read_content(folder: Path) -> dict[str, Any]:
    """The content of model.json, its own checksum verified."""
    name = repr(os.fspath(folder / RECORD_FILE))
    try:
        content = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are such
        raise DataError(f"{name} is cut or damaged: {error}. Get the folder again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{name} was not written by save() of a model of scperturb_modules.")
    wrote = content.get("format_version")
    if not isinstance(wrote, int) or wrote > FORMAT_VERSION:
        versions = content.get("versions")
        package = versions.get("package") if isinstance(versions, dict) else None
        raise DataError(
            f"{name} has format version {wrote}, written by scperturb_modules {package}; this version ({__version__}) "
            f"reads up to {FORMAT_VERSION}. Update scperturb_modules."
        )
    if content.keys() != _ENTRIES:
        raise DataError(f"{name} has entries too many or too few: {name_some(sorted(content.keys() ^ _ENTRIES))}.")
    try:
        unchanged = content["checksum"] == _checksum(content)
    except ValueError:  # a number that is not finite, which write_folder never writes
        unchanged = False
    if not unchanged:
        raise DataError(f"{name} was altered after it was written: its checksum differs. Get the folder again.")
    return content


def _check_files(folder: Path, sums: Mapping[str, str]) -> None:
    """Each listed file is there, allowed and unchanged, and there is no other one."""
    where = repr(os.fspath(folder))
    foreign = sorted(name for name in sums if not _is_allowed(name) or name == RECORD_FILE)
    # hidden files are the file manager's, such as .DS_Store; they are never opened
    beside = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    foreign += sorted(beside - sums.keys() - {RECORD_FILE})
    if foreign:
        raise DataError(f"{where} has files that belong to no saved model: {name_some(foreign)}. Remove them.")
    missing = sorted({WEIGHTS_FILE, *sums} - beside)
    if missing or WEIGHTS_FILE not in sums:
        raise DataError(f"{where} lacks {name_some(missing or [WEIGHTS_FILE])}. Get the folder again.")
    for name, expected in sorted(sums.items()):
        if _sha256(folder / name) != expected:
            raise DataError(f"{where}: {name} is cut or altered: its sha256 differs. Get the folder again.")


def _migrate(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    while content["format_version"] < FORMAT_VERSION:
        found = content["format_version"]
        if found not in _MIGRATIONS:
            raise DataError(
                f"{str(folder)!r} has format version {found}, which scperturb_modules {__version__} no longer reads."
            )
        content = {**_MIGRATIONS[found](content), "format_version": found + 1}
    return content
