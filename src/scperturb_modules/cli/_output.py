"""What the commands share: where text goes, what a failure looks like, and the table of results."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from scperturb_modules._errors import DataError, LeakError, MissingKeyError, ScreenWarning

# Newer typer carries its own copy of click, so click's class is reached through a public subclass of it.
_UsageError: Any = typer.BadParameter.__mro__[1]

console = Console(highlight=False)
"""Standard output."""

WRONG_INPUT, BUG, INTERRUPTED = 2, 1, 130


class InputError(ValueError):
    """A file, folder or option on the command line cannot be used; the message is one readable line."""


_INPUT_ERRORS = (InputError, DataError, MissingKeyError, LeakError, PermissionError, NotADirectoryError)


class Commands(TyperGroup):
    """The one place where an error becomes a line on stderr and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        given = kwargs.get("args") or (args[0] if args else sys.argv[1:])
        with _only_our_warnings():
            code = self._code(given, *args, **kwargs)
        sys.exit(code)

    def _code(self, given: Any, *args: Any, **kwargs: Any) -> int:
        try:
            return super().main(*args, **kwargs) or 0
        except _UsageError as error:
            return _fail(f"{error.format_message()} (spm --help lists what there is)", WRONG_INPUT)
        except _INPUT_ERRORS as error:
            return _fail(str(error), WRONG_INPUT)
        except typer.Abort:  # typer makes it, or code 130, of Ctrl-C
            return _fail("interrupted", INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - a user must never meet a traceback unasked
            if "--debug" in given:
                traceback.print_exc()
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            return _fail(f"unexpected {what}. For the details to report run spm --debug ...", BUG)


def _fail(message: str, code: int) -> int:
    typer.echo(f"spm: {message}", err=True)
    return code


@contextmanager
def _only_our_warnings() -> Iterator[None]:
    """Show what the user should know of the data as one line each; other libraries' warnings are for developers."""

    def show(message: Any, *_: Any, **__: Any) -> None:
        typer.echo(f"spm: note: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", ScreenWarning)
        warnings.showwarning = show
        yield


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something is under way, and for how long; elsewhere nothing."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        progress.add_task(what, total=None)
        yield
