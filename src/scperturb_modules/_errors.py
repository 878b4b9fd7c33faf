"""Errors and warnings that a caller may want to catch, and how messages name rows.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterable


class DataError(ValueError):
    """The content of the user's data cannot be used as it is; the message says which rows and what mends it."""


class MissingKeyError(KeyError):
    """A column, layer or stored record is absent; the message lists what is there."""

    def __str__(self) -> str:
        # KeyError prints the repr of its message, with quotes and escapes; users read this text
        return str(self.args[0]) if self.args else ""


class LeakError(ValueError):
    """Test information reached the training side; raised before any score is computed."""


class NotTrainedError(RuntimeError):
    """``predict`` or ``save`` was called before ``train``."""


class ScreenWarning(UserWarning):
    """Something about the data that does not stop the analysis but that the user should know."""


def name_some(items: Iterable[object], *, most: int = 5) -> str:
    """The first few of many as text, with the count of the rest.

    >>> name_some(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    listed = [str(item) for item in items]
    text = ", ".join(repr(item) for item in listed[:most])
    rest = len(listed) - most
    return text if rest <= 0 else f"{text} and {rest} more"


def require_key(key: str, available: Iterable[object], where: str, *, mend: str = "") -> None:
    """Raise :class:`MissingKeyError` naming what is there when ``key`` is not.

    Parameters
    ----------
    key
        The wanted column or layer.
    available
        The names that exist.
    where
        For the message, for example ``"obs"`` or ``"layers"``.
    mend
        What the user should call, for example ``"Call spm.pp.split(adata, ...) first."``.
    """
    names = [str(name) for name in available if name is not None]
    if key not in names:
        found = name_some(names, most=12) if names else "nothing"
        raise MissingKeyError(f"{where}[{key!r}] does not exist; {where} has {found}. {mend}".rstrip())
