import subprocess
import sys
from pathlib import Path

import pytest

from scperturb_modules import __version__


def spm_process(*args: object) -> subprocess.CompletedProcess:
    code = "from scperturb_modules.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=60)


def test_version(spm):
    result = spm("--version")
    assert (result.exit_code, result.stdout) == (0, f"scperturb_modules {__version__}\n")


def test_help_names_the_commands_and_how_to_begin(spm):
    result = spm("--help")
    assert result.exit_code == 0
    for text in (
        "demo",
        "validate",
        "benchmark",
        "fit",
        "predict",
        "spm benchmark screen.h5ad --perturbation-key guide_ids",
    ):
        assert text in result.stdout


@pytest.mark.parametrize("command", ["demo", "validate", "benchmark", "fit", "predict"])
def test_each_command_has_help(spm, command):
    assert spm(command, "--help").exit_code == 0


def test_nothing_asked_shows_help_but_is_not_done(spm):
    result = spm()
    assert result.exit_code == 2
    assert "spm demo" in result.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["fly"], "No such command 'fly'"),
        (["--fly"], "--fly"),
        (["demo", "--seed", "x"], "--seed"),
        (["demo", "--seed", "-1"], "--seed"),
        (["validate"], "SCREEN.h5ad"),
        (["validate", "screen.h5ad"], "--perturbation-key"),
        (["benchmark", "a.h5ad", "--perturbation-key", "x", "--out", "y", "--scheme", "magic"], "--scheme"),
        (["benchmark", "a.h5ad", "--perturbation-key", "x", "--out", "y", "--n-folds", "0"], "--n-folds"),
    ],
)
def test_a_wrong_line_is_answered_in_one_line(spm, one_line, args, text):
    assert text in one_line(spm(*args))


def test_help_imports_nothing_heavy():
    code = """
import sys
sys.argv = ["spm", "--help"]
from scperturb_modules.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 0
heavy = {"numpy", "pandas", "scipy", "anndata", "scanpy", "matplotlib", "sklearn", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_exit_codes_of_the_process(tmp_path: Path):
    assert spm_process("--version").returncode == 0
    absent = spm_process("validate", tmp_path / "absent.h5ad", "--perturbation-key", "guide")
    assert absent.returncode == 2
    assert absent.stderr == f"spm: {tmp_path / 'absent.h5ad'} does not exist\n"
