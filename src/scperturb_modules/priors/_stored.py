"""Priors in ``uns``: the plain form that h5ad and zarr keep, and how they get there and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some

KIND = "kind"
"""Key of the class' name in the stored form."""


class Storable(Protocol):
    """What every prior has."""

    @property
    def name(self) -> str:
        """As the user knows it."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene symbols."""

    @property
    def attrs(self) -> dict[str, Any]:
        """Provenance."""


def common_to_uns(prior: Storable) -> dict[str, Any]:
    """What the stored forms of all priors share: ``kind``, ``name``, ``genes`` and ``attrs``; others are added to it.

    Raises
    ------
    DataError
        ``attrs`` hold something that is not plain (:func:`attrs_to_text`).
    """
    return {
        KIND: type(prior).__name__,
        "name": prior.name,
        "genes": text_array(prior.genes),
        "attrs": attrs_to_text(prior.attrs),
    }


def common_from_uns(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments ``name``, ``genes`` and ``attrs`` of a prior, from what :func:`common_to_uns` wrote."""
    return {
        "name": str(stored["name"]),
        "genes": texts(stored["genes"]),
        "attrs": attrs_from_text(str(stored["attrs"])),
    }


def text_array(names: Iterable[str]) -> NDArray[np.str_]:
    """Names as the array of text that h5ad and zarr keep, also where there are none."""
    return np.array([str(name) for name in names], dtype=str)


def texts(array: Iterable[Any]) -> tuple[str, ...]:
    """Names from an array of text as it was read."""
    return tuple(str(name) for name in array)


def attrs_to_text(attrs: Mapping[str, Any]) -> str:
    """Provenance as JSON. Numpy scalars become numbers, arrays and tuples lists.

    Raises
    ------
    DataError
        An entry is of another kind; the message names it.

    Examples
    --------
    >>> attrs_to_text({"version": "12.0", "n_rows": np.int64(3), "cutoffs": (0.4, 0.7)})
    '{"version": "12.0", "n_rows": 3, "cutoffs": [0.4, 0.7]}'
    """
    wrong = [key for key, value in attrs.items() if not (isinstance(key, str) and _is_plain(value))]
    if wrong:
        raise DataError(
            f"attrs hold what cannot be stored, under {name_some(wrong)}. Use text, numbers, lists and dictionaries, "
            "named by text; or str(value)."
        )
    return json.dumps(attrs, default=_plain)


def attrs_from_text(text: str) -> dict[str, Any]:
    """Undo :func:`attrs_to_text`."""
    return dict(json.loads(text))


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError
