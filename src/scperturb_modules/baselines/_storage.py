"""A saved baseline: a folder with ``model.json`` and ``training.h5ad``."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import __version__
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules._files import require_free, whole_file

if TYPE_CHECKING:
    from anndata import AnnData

FORMAT_VERSION = 1


def write_model(
    path: str | os.PathLike[str],
    record: Mapping[str, Any],
    training: AnnData,
    tables: Mapping[str, pd.DataFrame],
    *,
    overwrite: bool,
) -> None:
    """Write the folder, whole or not at all.

    Raises
    ------
    FileExistsError
        The path exists and ``overwrite`` is False, or it holds something else than a saved baseline.
    """
    require_free(path, what="saved baseline", overwrite=overwrite)
    header = {"format": FORMAT_VERSION, "package_version": __version__, "priors": list(tables)}
    stored = training.copy()
    # names of priors may hold characters that a key of h5ad may not, and tables more columns than it likes
    stored.uns[keys.ROOT][keys.PRIORS] = {
        f"table_{i}": {"genes": table.index.to_numpy(dtype=str), "values": table.to_numpy(dtype=np.float64)}
        for i, table in enumerate(tables.values())
    }
    with whole_file(path) as folder:
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps({**header, **record}, indent=2, sort_keys=True))
        stored.write_h5ad(folder / "training.h5ad")


def read_model(
    path: str | os.PathLike[str], classes: Collection[str]
) -> tuple[dict[str, Any], AnnData, dict[str, pd.DataFrame]]:
    """Read what :func:`write_model` wrote: record, training pseudobulk, prior tables.

    Raises
    ------
    FileNotFoundError
        No saved baseline is there.
    DataError
        It has a newer format, or its class is not one of ``classes``.
    """
    from anndata import read_h5ad

    folder, name = Path(path), repr(os.fspath(path))
    if not (folder / "model.json").is_file():
        raise FileNotFoundError(f"{name} holds no model.json; save() writes such a folder.")
    record = json.loads((folder / "model.json").read_text())
    if record.get("format", 0) > FORMAT_VERSION:
        raise DataError(
            f"{name} has format {record['format']}, written by scperturb_modules {record.get('package_version')}; this "
            f"version ({__version__}) reads up to {FORMAT_VERSION}. Update scperturb_modules."
        )
    if record.get("class") not in classes:
        known = ", ".join(sorted(classes))
        raise DataError(f"{name} holds a {record.get('class')!r}, which is no baseline. Known: {known}.")
    training = read_h5ad(folder / "training.h5ad")
    stored = training.uns[keys.ROOT].pop(keys.PRIORS, {})
    tables = [stored[f"table_{i}"] for i in range(len(record["priors"]))]
    frames = [
        pd.DataFrame(np.asarray(table["values"]), index=[str(gene) for gene in table["genes"]]) for table in tables
    ]
    return record, training, dict(zip(record["priors"], frames, strict=True))
