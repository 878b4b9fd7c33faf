"""Files are written whole or not at all.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and move it there when the block ends without an error.

    Works for a file and for a folder (a folder replaces the old one). On an error nothing is left behind and
    what stood at ``path`` is untouched.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with whole_file(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("all of it")
    >>> (folder / "a.txt").read_text()
    'all of it'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays last: writers such as savefig choose their format by it
    temporary = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def require_free(
    folder: str | os.PathLike[str], *, marker: str = "model.json", what: str = "saved model", overwrite: bool
) -> None:
    """Refuse to write a folder over anything but an older one of its kind.

    Overwriting replaces the folder with all that is in it, so that it has to be empty or hold the file ``marker``.

    Raises
    ------
    FileExistsError
        The folder exists and ``overwrite`` is False, or it is no ``what``.
    """
    target = Path(folder)
    if not target.exists():
        return
    name = repr(os.fspath(folder))
    if not overwrite:
        raise FileExistsError(f"{name} exists; pass overwrite=True or choose another folder.")
    if not target.is_dir() or (any(target.iterdir()) and not (target / marker).is_file()):
        raise FileExistsError(f"{name} is no {what} and would be lost; choose another folder.")
