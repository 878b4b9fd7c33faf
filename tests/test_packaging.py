"""The project's files agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _name(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]).lower()


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {_name(line): line.split("==")[1] for line in lines if "==" in line}


def test_every_direct_requirement_is_pinned_for_ci():
    optional = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *optional["dev"], *optional["docs"]]
    assert [name for name in map(_name, needed) if name not in _pinned()] == []


def test_no_exact_pin_in_the_metadata():
    optional = [item for items in PROJECT["optional-dependencies"].values() for item in items]
    assert [item for item in [*PROJECT["dependencies"], *optional] if "==" in item.split(";")[0]] == []


def test_the_design_cards_packages_are_plain_dependencies():
    card = {"anndata", "scanpy", "scvi-tools", "torch", "torch-geometric", "mudata", "gseapy", "matplotlib"}
    assert card <= {_name(item) for item in PROJECT["dependencies"]}


def test_torch_pin_of_the_makefile_is_that_of_the_constraints():
    assert f"torch$(if $(IS_311),=={_pinned()['torch']}" in (ROOT / "Makefile").read_text()


def test_the_installed_version_is_that_of_the_project():
    import scperturb_modules

    assert scperturb_modules.__version__ == PROJECT["version"]


def test_the_changelog_has_an_unreleased_section_on_top():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert headings[0] == "[Unreleased]"
