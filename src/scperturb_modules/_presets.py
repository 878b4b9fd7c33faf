"""Named sets of settings, with the user's own on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from scperturb_modules._errors import DataError, name_some

S = TypeVar("S")


def with_preset(
    kind: type[S], presets: Mapping[str, Mapping[str, Any]], preset: str, overrides: Mapping[str, Any], *, owner: str
) -> S:
    """Settings of a preset, with ``overrides`` on top.

    Parameters
    ----------
    kind
        The dataclass of the settings; its defaults are what presets start from.
    presets
        Name to the settings in which it differs from the defaults.
    preset
        The name that the user gave.
    overrides
        Settings that the user gave.
    owner
        What has these settings, for messages.

    Raises
    ------
    DataError
        Unknown preset, or values that ``kind`` does not allow.
    TypeError
        A setting that does not exist.
    """
    if preset not in presets:
        raise DataError(f"preset={preset!r}; choose one of {name_some(presets, most=len(presets))}.")
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in overrides if name not in known]
    if unknown:
        raise TypeError(f"{owner} has no setting {name_some(unknown)}; settings are {', '.join(known)}.")
    return kind(**{**presets[preset], **overrides})
