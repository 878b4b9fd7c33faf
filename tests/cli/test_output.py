import warnings

import pytest
import typer
from typer.testing import CliRunner

from scperturb_modules._errors import DataError, LeakError, MissingKeyError, ScreenWarning
from scperturb_modules.cli._output import Commands, InputError


def run(error: BaseException | None = None, *, debug: bool = False, warning: Warning | None = None):
    """A command that raises or warns, inside the group that the real commands are in."""
    app = typer.Typer(cls=Commands)

    @app.callback()
    def group(debug: bool = False) -> None: ...

    @app.command()
    def work() -> None:
        typer.echo("begun")
        if warning is not None:
            warnings.warn(warning, stacklevel=1)
        if error is not None:
            raise error
        typer.echo("done")

    return CliRunner().invoke(app, ["--debug", "work"] if debug else ["work"])


def test_a_finished_command_ends_with_zero():
    result = run()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "begun\ndone\n", "")


@pytest.mark.parametrize("kind", [InputError, DataError, MissingKeyError, LeakError, PermissionError])
def test_wrong_input_is_one_line_and_two(kind):
    result = run(kind("obs has no column 'x'"))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "begun\n", "spm: obs has no column 'x'\n")


def test_several_problems_keep_their_lines():
    assert run(DataError("2 problems:\n1. this\n2. that")).stderr == "spm: 2 problems:\n1. this\n2. that\n"


@pytest.mark.parametrize("error", [ValueError("x\ny"), KeyError("x"), ZeroDivisionError("x"), AssertionError("x")])
def test_a_bug_is_one_line_and_one_with_the_way_to_the_traceback(error):
    result = run(error)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert type(error).__name__ in lines[0] and "spm --debug" in lines[0]


def test_debug_shows_the_traceback():
    result = run(ZeroDivisionError("x"), debug=True)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "raise error" in result.stderr


def test_an_interrupted_command_is_not_done():
    assert run(KeyboardInterrupt()).exit_code == 130


def test_a_command_may_end_with_its_own_code():
    assert run(typer.Exit(3)).exit_code == 3


def test_what_the_user_should_know_is_a_note_and_other_warnings_are_silent():
    assert run(warning=ScreenWarning("3 cells are odd")).stderr == "spm: note: 3 cells are odd\n"
    assert run(warning=RuntimeWarning("divide by zero")).stderr == ""
