"""Public files are downloaded once and checked each time they are used.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CACHE_VARIABLE = "SCPERTURB_MODULES_CACHE"
"""Environment variable that names the folder of downloaded files."""

_CHUNK = 1 << 18  # bytes at a time
_TIMEOUT = 60  # seconds without a byte


class DownloadError(OSError):
    """A file could not be fetched, or is not the file that was asked for; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A public file.

    Parameters
    ----------
    url
        Where it is.
    path
        Where it goes, relative to the cache folder; holds the version, so that two versions never mix.
    checksum
        ``"sha256:..."`` or ``"md5:..."`` of what the URL gives, None where it is not known.
    version
        As the publisher names it.
    member
        The file to take out of a ZIP archive, None where the URL is no archive.
    use_local
        For messages: what to call with a copy that was downloaded elsewhere.
    """

    url: str
    path: str
    checksum: str | None = None
    version: str = ""
    member: str | None = None
    use_local: str = ""


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """``folder``, else ``$SCPERTURB_MODULES_CACHE``, else the cache folder of the operating system."""
    import pooch

    return Path(folder or os.environ.get(CACHE_VARIABLE) or pooch.os_cache("scperturb_modules")).expanduser()


def fetch(
    remote: RemoteFile,
    *,
    folder: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """The path of a file, downloaded at the first call.

    Beside the file a record ``<file>.json`` says where it came from, when, and its SHA-256. Later calls use no
    network: they check the file against its record and, for a file that was put there by hand, against the known
    checksum.

    Parameters
    ----------
    remote
        What to fetch.
    folder
        See :func:`cache_folder`.
    force
        Download again.
    progress
        Show a bar, if standard error is a terminal.

    Raises
    ------
    DownloadError
        No network, nothing at the URL, half of a file, or another file than expected. What stood at the path stays.
    """
    target = cache_folder(folder) / remote.path
    if target.is_file() and not force:
        _check_kept(target, remote)
    else:
        _download(target, remote, progress=progress)
    return target


def verify(path: str | os.PathLike[str], checksum: str, *, name: str = "") -> None:
    """Raise :class:`DownloadError` where a file has another checksum; ``name`` stands for the path in the message."""
    wanted, found = _with_algorithm(checksum), _hash(Path(path), checksum)
    if found != wanted:
        raise DownloadError(
            f"{name or os.fspath(path)} is not the file that was expected: expected {wanted}, got {found}. It is not "
            "used. Fetch it again; if it stays so, the publisher replaced it: look at the file, then pass its checksum "
            "as sha256=."
        )


def _check_kept(target: Path, remote: RemoteFile) -> None:
    """Against the record; a file that was put there by hand is checked as a download is, and gets a record."""
    record_file = _record_file(target)
    if not record_file.is_file():
        published = [] if remote.member else _published(target, remote)
        _write_record(record_file, target, remote, published)
        return
    record = json.loads(record_file.read_text())
    again = "Call again with force=True to download it again, or restore the file."
    found = _hash(target, "sha256:")
    if found != record["sha256"]:
        raise DownloadError(
            f"{target} was changed after it was recorded on {record['date']}: the record says {record['sha256']}, the "
            f"file has {found}. {again}"
        )
    wanted = remote.checksum and _with_algorithm(remote.checksum)
    if wanted and record["published"] and wanted not in record["published"]:
        raise DownloadError(
            f"{target} is not the file that was asked for: {wanted} was expected, that of {record['date']} has "
            f"{' and '.join(record['published'])}. {again}"
        )


def _download(target: Path, remote: RemoteFile, *, progress: bool) -> None:
    """Into a folder of its own beside the target, then whole to its place."""
    import pooch

    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
        fetched, record_file = Path(temporary) / "fetched", Path(temporary) / "record"
        with _told(remote), _bar(target.name, shown=progress) as bar:
            pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK, timeout=_TIMEOUT)(remote.url, str(fetched), None)
        if fetched.stat().st_size < bar.total:
            # older versions of urllib3 take an early end of the connection for the end of the file
            raise _cut_short(remote, f"{fetched.stat().st_size} of {bar.total} bytes")
        published = _published(fetched, remote, name=remote.url)
        file = _unpacked(fetched, remote) if remote.member else fetched
        _write_record(record_file, file, remote, published)
        _record_file(target).unlink(missing_ok=True)  # never a record of another file
        os.replace(file, target)
        os.replace(record_file, _record_file(target))


def _published(file: Path, remote: RemoteFile, name: str = "") -> list[str]:
    """Checksums of what the URL gave; raises where the known one is not among them."""
    if remote.checksum is not None:
        verify(file, remote.checksum, name=name)
    return sorted({_hash(file, remote.checksum or "sha256:"), _hash(file, "sha256:")})


def _unpacked(archive: Path, remote: RemoteFile) -> Path:
    try:
        with zipfile.ZipFile(archive) as opened:
            return Path(opened.extract(str(remote.member), archive.parent))
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"{remote.url} is no ZIP archive that holds {remote.member!r}: {error}") from error


@contextmanager
def _told(remote: RemoteFile) -> Iterator[None]:
    """Say what went wrong and what to do."""
    from requests import exceptions

    try:
        yield
    except exceptions.HTTPError as error:
        gone = error.response is not None and error.response.status_code in (404, 410)
        why = "The publisher moved or removed it." if gone else "Try again later."
        raise DownloadError(f"{remote.url} is not to be had ({error}). {why} {_elsewhere(remote)}") from error
    except exceptions.ChunkedEncodingError as error:
        raise _cut_short(remote, str(error)) from error
    except exceptions.RequestException as error:
        raise DownloadError(f"Cannot reach {remote.url} ({type(error).__name__}). {_elsewhere(remote)}") from error


def _cut_short(remote: RemoteFile, found: str) -> DownloadError:
    return DownloadError(
        f"The download of {remote.url} was cut short ({found}). Nothing was kept. Call again. {_elsewhere(remote)}"
    )


def _elsewhere(remote: RemoteFile) -> str:
    return f"Or download it elsewhere and pass its path: {remote.use_local}." if remote.use_local else ""


def _record_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _write_record(record_file: Path, file: Path, remote: RemoteFile, published: list[str]) -> None:
    record = {
        "url": remote.url,
        "version": remote.version,
        "sha256": _hash(file, "sha256:"),
        "published": published,
        "bytes": file.stat().st_size,
        "date": datetime.now(UTC).date().isoformat(),
    }
    record_file.write_text(json.dumps(record, indent=2) + "\n")


def _with_algorithm(checksum: str) -> str:
    return (checksum if ":" in checksum else f"sha256:{checksum}").lower()


def _hash(file: Path, like: str) -> str:
    """``"algorithm:digest"`` by the algorithm of another checksum."""
    import pooch

    algorithm = _with_algorithm(like).partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(file), alg=algorithm)}"


class _Bar:
    """What pooch asks of a progress bar, drawn by rich; pooch sets ``total`` to the announced size, or 0."""

    def __init__(self, progress: Any, name: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def update(self, n_bytes: int) -> None:
        self._progress.update(self._task, advance=n_bytes, total=self.total or None)

    def reset(self) -> None:
        """Pooch fills the bar anew at the end."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """The block of :func:`_bar` ends it, also after an error."""


@contextmanager
def _bar(name: str, *, shown: bool) -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    hidden = not (shown and (console.is_jupyter or sys.stderr.isatty()))
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        yield _Bar(progress, name)
