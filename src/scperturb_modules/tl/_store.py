"""A benchmark as a folder of plain files."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import pandas as pd

from scperturb_modules._files import whole_file
from scperturb_modules.tl._frame import read_results, write_table

if TYPE_CHECKING:
    from anndata import AnnData

    from scperturb_modules.tl._board import Benchmark

RESULTS, RUN = "results.csv", "run.json"
PREDICTIONS, TRUTH = "predictions", "truth"
NUMBERS = (
    "replicate", "mean_shift", "no_change", "error", "baseline_error", "difference", "se", "level", "coverage", "width",
    "score", "constant_coverage", "constant_width", "constant_score", "expected_error", "error_bound",
)  # fmt: skip
FLAGS = ("abstain",)
COUNTS = ("fold", "split_seed", "model_seed", "n_cells")
PACKAGES = ("scperturb_modules", "numpy", "pandas", "scipy", "scikit-learn", "anndata")


def write_board(board: Benchmark, folder: str | os.PathLike[str], *, overwrite: bool) -> None:
    """See ``Benchmark.save``."""
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise FileExistsError(f"{os.fspath(folder)!r} is not empty; pass overwrite=True or choose another folder.")
    target.mkdir(parents=True, exist_ok=True)
    tables = {
        "leaderboard": board.summary(),
        "gains": board.gains(),
        "by_effect": board.by_effect(),
        "room": board.room(),
        "quality": board.quality(),
        "replicates": board.replicates,
        "margins": board.margins,
        "calibration": board.calibration,
        "coverage": board.coverage(),
        "errors": board.errors,
        "skipped": board.skipped,
    }
    for name, table in tables.items():
        write_table(table, target / f"{name}.csv")
    _write_text(target / "verdict.txt", board.verdict() + "\n")
    predictions = {f"{name}__{split}": adata for (name, split), adata in board.predictions.items()}
    _write_all(target / PREDICTIONS, predictions)
    _write_all(target / TRUTH, board.truths)
    run = {
        "settings": dict(board.settings),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "written": pd.Timestamp.now(tz="UTC").isoformat(timespec="seconds"),
        "timings": board.timings.to_dict(orient="records"),
    }
    _write_text(target / RUN, json.dumps(run, indent=1) + "\n")
    # last: a folder with this file is complete
    write_table(board.frame, target / RESULTS)


def read_board(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a ``Benchmark``."""
    source = Path(folder)
    if not (source / RESULTS).is_file() or not (source / RUN).is_file():
        raise FileNotFoundError(f"{os.fspath(folder)!r} holds no {RESULTS} and {RUN}; Benchmark.save() writes them.")
    run = json.loads((source / RUN).read_text())
    predictions = {}
    for name, adata in _read_all(source / PREDICTIONS).items():
        predictor, _, split = name.rpartition("__")
        predictions[predictor, split] = adata
    return {
        "frame": read_results(source / RESULTS),
        "predictions": predictions,
        "truths": _read_all(source / TRUTH),
        "replicates": _read_table(source / "replicates.csv"),
        "margins": _read_table(source / "margins.csv"),
        "calibration": _read_table(source / "calibration.csv"),
        "errors": _read_table(source / "errors.csv"),
        "skipped": _read_table(source / "skipped.csv"),
        "timings": pd.DataFrame(run["timings"]),
        "settings": run["settings"],
    }


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(
            f"{os.fspath(path.parent)!r} holds no {path.name}: an older version wrote it. Run the benchmark again."
        )
    numbers: dict[str, Callable[[str], float]] = {}
    table = pd.read_csv(path, keep_default_na=False, dtype=str, converters=numbers)
    for name in table:
        if name in NUMBERS:
            table[name] = table[name].replace("", "nan").map(float)
        elif name in COUNTS:
            table[name] = table[name].astype("int64")
        elif name in FLAGS:
            table[name] = table[name] == "True"
    return table


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_all(folder: Path, objects: Mapping[str, AnnData]) -> None:
    with whole_file(folder) as temporary:
        temporary.mkdir()
        for name, adata in objects.items():
            adata.write_h5ad(temporary / f"{quote(name, safe=' +|,')}.h5ad")


def _read_all(folder: Path) -> dict[str, AnnData]:
    from anndata import read_h5ad

    return {unquote(path.stem): read_h5ad(path) for path in sorted(folder.glob("*.h5ad"))}
