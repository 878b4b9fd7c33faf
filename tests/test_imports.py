"""The import contract: light, public names only, one direction (the last is checked by import-linter)."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
FOREIGN = ("scvi", "anndata", "lightning", "scanpy", "mudata", "torch_geometric", "sklearn", "scipy", "statsmodels")
HEAVY = ("torch", "scvi", "scanpy", "anndata", "matplotlib", "torch_geometric", "lightning", "mudata", "sklearn")


def private_imports(source: str) -> list[str]:
    """Names of other packages in ``source`` that begin with an underscore, whatever the form of the import."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            if package in FOREIGN and any(part.startswith("_") for part in rest):
                found.append(name)
    return found


@pytest.mark.parametrize(
    "line",
    [
        "from scvi.data._constants import X",
        "from scvi.train import _config",
        "import scvi.model._utils",
        "from scvi.train import (\n    TrainRunner,\n    _config,\n)",
    ],
)
def test_the_check_catches_each_form(line):
    assert private_imports(line)


def test_no_private_name_of_another_package():
    found = {str(path): private_imports(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_nothing_heavy():
    loaded = json.loads(_run("import sys, json, scperturb_modules; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_import_is_as_light_as_numpy_and_pandas():
    code = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"
    ours = min(float(_run(code.format("import scperturb_modules"))) for _ in range(3))
    reference = min(float(_run(code.format("import numpy, pandas"))) for _ in range(3))
    assert ours <= 1.5 * reference


def test_every_public_subpackage_loads_and_unknown_names_fail():
    import scperturb_modules as spm

    for name in spm.__all__:
        assert getattr(spm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = spm.nonsense


# what scvi-tools' own guide tells subclasses to use; if one goes, models/_base.py is the place to mend
INHERITED = {"_get_setup_method_args": {"setup_locals"}}
NOT_CLASS_ATTRIBUTES = {"_adata", "_adata_manager", "_model_summary_string", "_module_init_on_train"}


def protected_uses(source: str, inherited: set[str]) -> set[str]:
    """Names that a module uses, or defines in a class, although they are scvi-tools' own."""
    nodes = list(ast.walk(ast.parse(source)))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return inherited & (used | {node.name for node in nodes if isinstance(node, ast.FunctionDef)})


def test_of_scvis_protected_methods_the_base_alone_uses_the_allowed_ones():
    from scvi.model.base import BaseModelClass

    names = {name for name in dir(BaseModelClass) if name.startswith("_") and not name.startswith(("__", "_abc_"))}
    names |= NOT_CLASS_ATTRIBUTES
    assert protected_uses("class A(B):\n    def f(self):\n        self._adata", names) == {"_adata"}
    models = SOURCE / "scperturb_modules" / "models"
    found = {
        path.relative_to(models).as_posix(): protected_uses(path.read_text(), names) for path in models.rglob("*.py")
    }
    assert {path: used for path, used in found.items() if used} == {"_base.py": set(INHERITED)}


def test_scvis_protected_methods_are_as_we_know_them():
    from scvi.model.base import BaseModelClass

    for name, parameters in INHERITED.items():
        method = getattr(BaseModelClass, name, None)
        assert method is not None, f"scvi-tools has no {name} any more; see how models/_base.py uses it"
        assert set(inspect.signature(method).parameters) == parameters, f"scvi-tools changed {name}"
