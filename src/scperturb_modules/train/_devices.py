"""Where training runs: whether the device that was asked for is there, and which of several processes writes."""

from __future__ import annotations

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from scperturb_modules._errors import DataError
from scperturb_modules.train._surroundings import libraries_quiet


def require_device(accelerator: str = "auto", devices: int | str | list[int] = "auto") -> None:
    """Raise where training on a device would fail at its start.

    Parameters
    ----------
    accelerator, devices
        As in Lightning.

    Raises
    ------
    DataError
        Lightning knows no such accelerator, or this machine has none, or not as many devices.

    Examples
    --------
    >>> require_device("cpu", 1)
    """
    try:
        with libraries_quiet():
            Trainer(accelerator=accelerator, devices=devices, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ImportError, ValueError, RuntimeError, TypeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"accelerator={accelerator!r} with devices={devices!r} cannot be used here ({said[0]}). accelerator='auto' "
            "takes what there is."
        ) from error


def is_first_process() -> bool:
    """Whether this is the process that writes, of several that train on a device each.

    Examples
    --------
    >>> is_first_process()
    True
    """
    # the decorator calls its function in the first process alone; in others it gives None
    return bool(rank_zero_only(lambda: True)())
