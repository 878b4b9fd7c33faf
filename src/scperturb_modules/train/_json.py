"""Plain values and numpy arrays as JSON and back: what scvi's registry and a model's settings are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY, _DTYPE, _SHAPE = "__array__", "__dtype__", "__shape__"
_TUPLE, _FLOAT = "__tuple__", "__float__"
_MARKS = frozenset({_ARRAY, _TUPLE, _FLOAT})
# bool, integers, floats, text, objects: all that JSON can hold without loss
_KINDS = "biufUO"


def to_json(value: Any, path: str = "record") -> Any:
    """Turn a nested value into what :mod:`json` writes without loss.

    Parameters
    ----------
    value
        Text, numbers, bool, None, mappings with text keys, lists, tuples, numpy scalars and arrays, nested at will.
        A numpy scalar becomes the Python number, so it comes back as such. Arrays and tuples get a mark.
    path
        Where the value stands; for messages.

    Raises
    ------
    TypeError
        A value of another kind; the message names the path of the entry.

    Examples
    --------
    >>> to_json({"genes": np.array(["A", "B"], dtype=object), "n": np.int64(2)})
    {'genes': {'__array__': ['A', 'B'], '__dtype__': 'object', '__shape__': [2]}, 'n': 2}
    """
    if isinstance(value, np.ndarray):
        return _array_to_json(value, path)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        # JSON has no word for these, and a strict reader refuses Python's own
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, Mapping):
        return {_key(key, path): to_json(entry, f"{path}[{key!r}]") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [to_json(entry, f"{path}[{i}]") for i, entry in enumerate(value)]
        return entries if isinstance(value, list) else {_TUPLE: entries}
    raise TypeError(f"{path} is a {type(value).__name__}, which cannot be saved as JSON.")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{path} has the key {key!r}; only text can be a key in JSON.")
    if key in _MARKS:
        raise TypeError(f"{path} has the key {key!r}, which marks arrays, tuples and floats in the file.")
    return str(key)


def _array_to_json(array: np.ndarray, path: str) -> dict[str, Any]:
    if array.dtype.kind not in _KINDS or array.dtype.names or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        raise TypeError(f"{path} is an array of {array.dtype}, which cannot be saved as JSON.")
    flat = [to_json(entry, f"{path}[{i}]") for i, entry in enumerate(array.ravel().tolist())]
    # the byte order is the machine's, the value is not
    dtype = array.dtype.newbyteorder("=").str.lstrip("<>=|") if array.dtype.kind != "O" else "object"
    return {_ARRAY: flat, _DTYPE: dtype, _SHAPE: list(array.shape)}


def from_json(value: Any) -> Any:
    """Turn back what :func:`to_json` made.

    Raises
    ------
    ValueError
        A marked entry is not one that :func:`to_json` writes.

    Examples
    --------
    >>> from_json(to_json((1, np.array([0.5, np.nan]))))
    (1, array([0.5, nan]))
    """
    if isinstance(value, list):
        return [from_json(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return _array_from_json(value)
    if _TUPLE in value:
        return tuple(from_json(entry) for entry in value[_TUPLE])
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: from_json(entry) for key, entry in value.items()}


def _array_from_json(value: dict[str, Any]) -> np.ndarray:
    name, shape = value.get(_DTYPE), value.get(_SHAPE)
    dtype = np.dtype(object) if name == "object" else np.dtype(str(name))
    if dtype.kind not in _KINDS or not isinstance(shape, list):
        raise ValueError(f"an array of {name} and shape {shape} is not one that was saved here.")
    # filled one by one: numpy would turn equally long lists inside an object array into further axes
    flat = np.empty(len(value[_ARRAY]), dtype=dtype)
    for i, entry in enumerate(value[_ARRAY]):
        flat[i] = from_json(entry)
    return flat.reshape(shape)
