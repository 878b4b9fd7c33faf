import pytest
from typer.testing import CliRunner

from scperturb_modules.cli._main import app


@pytest.fixture
def spm():
    """Call the command in this process: ``spm("validate", path)`` gives exit code, stdout and stderr."""

    def call(*args: object):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return call


@pytest.fixture
def one_line():
    """Assert that a command refused its input in one readable line, and return the line."""

    def check(result) -> str:
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("spm: ")
        return lines[0]

    return check


@pytest.fixture
def screen_file(screen, tmp_path):
    """The small screen as a file, its labels in the column ``guide``, controls called NT, pairs joined by ``_``."""
    labels = screen.obs.pop("perturbation").str.replace("+", "_").replace("control", "NT")
    screen.obs["guide"] = labels
    path = tmp_path / "screen.h5ad"
    screen.write_h5ad(path)
    return path
