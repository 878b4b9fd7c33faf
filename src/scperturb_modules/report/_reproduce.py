"""Section 9: everything that is needed to make the same numbers again."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from scperturb_modules import _keys as keys
from scperturb_modules.report._source import Source
from scperturb_modules.report._table import Column, Table, make_table

MODELS = ("APP", "BioDSNN", "SCBIG")
"""The models that ``spm benchmark --model`` knows."""

_PYTHON_ONLY = ("metrics", "allow_leak", "n_seeds", "perturbation_key", "control", "split_key")
_FLAGS = ("n_folds", "seed", "protocol", "min_cells", "n_boot", "n_top_genes", "layer", "batch_key", "cell_type_key")

FACTS = (Column("name", "What", "A setting or a version"), Column("value", "Value", "As used in this run"))


def python_call(settings: Mapping[str, Any]) -> str:
    """The call of ``spm.tl.benchmark`` with every setting."""
    names = list(settings.get("predictors", []))
    baselines = "{one.name: one for one in spm.baselines.ALL}"
    models = [f"    {name!r}: spm.{name},\n" for name in names if name in MODELS]
    other = [f"    {name!r}: ...,  # your own class or settings\n" for name in names if _is_other(name)]
    lines = [f"    {name}={value!r},\n" for name, value in settings.items() if name not in ("predictors", "priors")]
    priors = "".join(f"{name!r}: ..., " for name in settings.get("priors", []))
    lines.append(f"    priors={{{priors.rstrip(', ')}}},\n" if priors else "    priors=None,\n")
    extra = f" | {{\n{''.join(models + other)}}}" if models or other else ""
    return (
        "import scperturb_modules as spm\n\n"
        f"predictors = {baselines}{extra}\n"
        f"board = spm.tl.benchmark(\n    adata,\n    predictors,\n{''.join(lines)})\n"
        'board.save("results")\n'
        'spm.report.write_report("results", "report.html")\n'
    )


def _is_other(name: str) -> bool:
    from scperturb_modules import baselines

    return name not in MODELS and name not in {one.name for one in baselines.ALL}


def command_line(settings: Mapping[str, Any]) -> str:
    """The command that makes the same benchmark, and what it cannot express."""
    parts = ["spm", "benchmark", "SCREEN.h5ad", "--perturbation-key", str(settings.get("perturbation_key", "COLUMN"))]
    parts += ["--control", str(settings.get("control", "control"))]
    for name in settings.get("scheme", []):
        parts += ["--scheme", str(name)]
    for name in _FLAGS:
        if settings.get(name) is not None:
            parts += [f"--{name.replace('_', '-')}", str(settings[name])]
    for name in settings.get("priors", []):
        parts += ["--prior", f"{name}.csv"]
    names = list(settings.get("predictors", []))
    for name in names:
        if name in MODELS:
            parts += ["--model", name.lower()]
    text = f"{shlex.join([*parts, '--out', 'results'])}\nspm report results --out report.html\n"
    other = [name for name in names if _is_other(name)]
    return text + (f"# in Python only: {', '.join(other)}\n" if other else "")


def facts(source: Source) -> Table:
    """Versions, settings and fingerprints, a row each."""
    board = source.board
    splits = [f"{label} ({truth.n_obs:,} conditions)" for label, truth in board.truths.items()]
    leaks = ", ".join(sorted(set(board.frame["leak_status"].astype(str))))
    named: dict[str, Any] = {f"version of {name}": value for name, value in source.versions.items()}
    named |= {"date of the run": source.written, "fingerprint of the data": fingerprint(source)}
    named |= {"splits": ", ".join(splits), "leak check": leaks}
    named |= dict(board.settings)
    rows = [{"name": name, "value": _text(value)} for name, value in named.items()]
    return make_table("facts", "Versions, settings and fingerprint of the data", FACTS, rows, page=200)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def fingerprint(source: Source) -> str:
    """SHA-256 of names, numbers of cells and measured changes of every split, as stored (first 16 digits)."""
    digest = hashlib.sha256()
    for label, truth in sorted(source.board.truths.items()):
        for text in (label, *truth.obs_names, *truth.var_names):
            digest.update(f"{text}\n".encode())
        for values in (truth.obs[keys.N_CELLS].to_numpy(), truth.layers[keys.DELTA]):
            digest.update(np.ascontiguousarray(values, dtype=np.float32).tobytes())
    return digest.hexdigest()[:16] if source.board.truths else "not known: the truths were not kept"
