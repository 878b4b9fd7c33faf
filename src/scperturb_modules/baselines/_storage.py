"""A saved baseline: a folder with ``model.json`` and ``training.h5ad``."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import __version__
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules._files import require_free, whole_file
from scperturb_modules.priors import PriorSource
from scperturb_modules.priors._stored import attrs_from_text, attrs_to_text, prior_from_uns

if TYPE_CHECKING:
    from anndata import AnnData

FORMAT_VERSION = 1
_GENES, _VALUES, _COLUMNS, _ATTRS, _PRIOR = "genes", "values", "columns", "attrs", "prior"


def write_model(
    path: str | os.PathLike[str],
    record: Mapping[str, Any],
    training: AnnData,
    priors: Mapping[str, PriorSource],
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
    header = {"format": FORMAT_VERSION, "package_version": __version__, "priors": list(priors)}
    stored = training.copy()
    # names of priors may hold characters that a key of h5ad may not
    stored.uns[keys.ROOT][keys.PRIORS] = {f"prior_{i}": source_to_uns(one) for i, one in enumerate(priors.values())}
    with whole_file(path) as folder:
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps({**header, **record}, indent=2, sort_keys=True))
        stored.write_h5ad(folder / "training.h5ad")


def read_model(
    path: str | os.PathLike[str], classes: Collection[str]
) -> tuple[dict[str, Any], AnnData, dict[str, PriorSource]]:
    """Read what :func:`write_model` wrote: record, training pseudobulk, priors.

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
    priors = {name: source_from_uns(stored[f"prior_{i}"]) for i, name in enumerate(record["priors"])}
    return record, training, priors


def source_to_uns(source: PriorSource) -> dict[str, Any]:
    """Plain arrays of a prior: the table, and the network or the sets that it is made from.

    The table of a network hangs on the solver of the machine, so that it is kept.
    """
    # a table has more columns than h5ad likes
    table = source.table
    plain: dict[str, Any] = {
        _GENES: table.index.to_numpy(dtype=str),
        _VALUES: table.to_numpy(dtype=np.float64),
        _COLUMNS: np.array([str(column) for column in table.columns], dtype=str),
        _ATTRS: attrs_to_text(_plain(table.attrs)),
    }
    if not isinstance(source.prior, pd.DataFrame):
        plain[_PRIOR] = replace(source.prior, attrs=_plain(source.prior.attrs)).to_uns()
    return plain


def source_from_uns(plain: Mapping[str, Any]) -> PriorSource:
    """Undo :func:`source_to_uns`; names of columns are text."""
    genes, columns = ([str(name) for name in plain[key]] for key in (_GENES, _COLUMNS))
    table = pd.DataFrame(np.asarray(plain[_VALUES]), index=genes, columns=columns)
    table.attrs.update(attrs_from_text(str(plain[_ATTRS])))
    return PriorSource(prior_from_uns(plain[_PRIOR]) if _PRIOR in plain else table, table)


def _plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Provenance as JSON can hold it; anything else by its text."""
    plain = {}
    for name, value in attrs.items():
        try:
            attrs_to_text({str(name): value})
        except DataError:
            value = str(value)
        plain[str(name)] = value
    return plain
