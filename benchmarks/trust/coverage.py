"""Do 90 % intervals cover 90 %? On simulated screens, and on real ones by cross-validation.

`python benchmarks/trust/coverage.py` keeps what it measured in ``results/trust/coverage`` (a table per screen and
predictor) and writes ``docs/benchmarks/coverage.csv``, ``coverage.png`` and ``coverage.md``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from real import CASES
from real_priors import priors_of

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import mean_interval
from scperturb_modules.metrics._conformal import LEVEL
from scperturb_modules.tl._coverage import interval_rows
from scperturb_modules.tl._yardstick import yardstick

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "results" / "trust" / "coverage"
PAGES = ROOT / "docs" / "benchmarks"
N_SEEDS = 20
N_FOLDS = 5
SIZES = {"n_genes": 300, "n_cells": 30, "n_pairs": 250}
BASELINES = {
    one.name: one for one in (spm.baselines.MeanShift, spm.baselines.NearestPrior, spm.baselines.AdditiveShrunk)
}
MODELS = {
    "APP": spm.APP,
    "SCBIG": partial(spm.SCBIG, generate=False),
    "BioDSNN": partial(spm.BioDSNN, use_vae=False, modulation_rank=0),
}
"""What models learn of cells does not move predicted means: left out to save time."""
SIMULATED, ALL = "simulated", "all real"
NUMBERS = ["coverage", "width", "score", "constant_score", "inside_bound"]


@dataclass(frozen=True)
class Fold:
    """One split of one screen: what is trained on, what is true, and what is known of the genes."""

    screen: str
    number: int
    adata: AnnData
    keys: dict[str, Any]
    priors: Any


def simulated(n_seeds: int) -> Iterator[Fold]:
    """A screen for each seed; genes are held out, so that every regime occurs."""
    for seed in range(n_seeds):
        adata = spm.datasets.simulate("default", seed=seed, **SIZES)
        spm.pp.split(adata, "unseen_gene", seed=seed)
        record = adata.uns["scperturb_modules"]["simulation"]
        yield Fold(SIMULATED, seed, adata, {}, [record["graph_partial"]])


def real() -> Iterator[Fold]:
    """Five folds of every real screen, over genes, and over pairs where there are many."""
    cases = {case.name: case for case in CASES}
    plan = (
        ("norman", "norman_pairs_published", "unseen_single"),
        ("norman pairs", "norman_pairs_published", "combination"),
        ("mcfaline", "mcfaline_unseen_line", "unseen_single"),
        ("papalexi", "papalexi_strict", "unseen_single"),
        ("datlinger", "datlinger", "unseen_single"),
        ("schraivogel pairs", "schraivogel_pairs", "combination"),
    )
    for screen, name, scheme in plan:
        adata = cases[name].load()
        priors = priors_of(adata)
        columns = {one: value for one, value in cases[name].settings.items() if one.endswith("_key")}
        for number in range(N_FOLDS):
            spm.pp.split(adata, scheme, seed=0, n_folds=N_FOLDS, fold=number, overwrite=True, **columns)
            yield Fold(screen, number, adata, columns, priors or None)


def measure(fold: Fold, name: str, build: Any) -> pd.DataFrame:
    """A row per test condition and level."""
    if name == "BioDSNN" and "cell_type_key" in fold.keys:
        return pd.DataFrame()  # a model of one cell type
    truth = spm.pp.pseudobulk(fold.adata, **fold.keys)
    against = yardstick(truth)
    is_baseline = name in BASELINES
    if is_baseline:
        data = spm.pp.pseudobulk(fold.adata, cells="training", **fold.keys)
        if name == "NearestPrior" and build.why_not(data, fold.priors, against.names):
            return pd.DataFrame()
        predictor = build(data, priors=fold.priors, seed=0)
    else:
        getattr(build, "func", build).setup_anndata(fold.adata, **fold.keys)
        predictor = build(fold.adata, priors=fold.priors, seed=0)
    predictor.train()
    asked = list(against.names)
    prediction = predictor.predict(asked, intervals=True) if is_baseline else predictor.predict(asked, store=False)
    least = 10 if fold.screen.startswith("schraivogel") else 30
    rows = interval_rows(prediction, against, model=name, min_cells=least)
    return rows.assign(screen=fold.screen, number=fold.number)


def kept(fold: Fold, name: str, build: Any) -> pd.DataFrame:
    """What was measured, now or before."""
    path = KEPT / f"{fold.screen}_{name}_{fold.number}.csv"
    if not path.exists():
        table = measure(fold, name, build)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            table.to_csv(temporary, index=False)
        print(path.name, len(table), flush=True)
    try:
        return pd.read_csv(path, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def pooled(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage at 90 % by screen, regime and predictor; conditions (of all seeds or folds) are the unit."""
    lines = []
    chosen = rows[rows["level"] == LEVEL]
    for (screen, regime, model), block in chosen.groupby(["screen", "regime", "model"], sort=True):
        unit = block["number"].astype(str) + block["stratum"] + block["condition"]
        lines.append((screen, regime, model, *_measured(block, unit)))
    for model, block in chosen[chosen["screen"] != SIMULATED].groupby("model", sort=True):
        # every screen counts the same, whatever the number of its conditions
        means = block.groupby(["screen", "regime"])[NUMBERS].mean().groupby("screen").mean().mean()
        lines.append((ALL, "", model, len(block), means["coverage"], np.nan, np.nan, *means[NUMBERS[1:]]))
    table = pd.DataFrame(lines, columns=["screen", "regime", "model", "n", "coverage", "low", "high", *NUMBERS[1:]])
    rank = table["screen"].map({SIMULATED: 0, ALL: 1}).fillna(2)
    return table.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank").reset_index(drop=True)


def _measured(block: pd.DataFrame, unit: pd.Series) -> list[float]:
    found = mean_interval(block["coverage"], unit, seed=0)
    means = block[NUMBERS].mean()
    return [len(block), found.value, found.low, found.high, *means[NUMBERS[1:]]]


def page(table: pd.DataFrame) -> str:
    """The table in words and numbers."""
    return (
        "# Do 90 % intervals cover 90 %?\n\n"
        f"Test conditions of {N_SEEDS} simulated screens (300 genes, 30 cells per condition, a quarter of the "
        f"genes held out), and of real screens by {N_FOLDS}-fold cross-validation. *Coverage* is the share of "
        "measured changes inside of the interval, averaged over conditions, with its 95 % bootstrap interval over "
        "them; *score* is the interval score (width plus 20 times what is missed; lower is better) beside that of "
        "intervals equally wide for all genes and conditions, calibrated on the same left-out conditions; *bound* is "
        "the share of conditions whose L2 error is below its 90 % bound. *all real* weighs every screen the same. "
        "Made by `make bench-trust`.\n\n"
        "```{image} coverage.png\n:alt: Promised against measured coverage on simulated screens\n```\n\n"
        f"{markdown(table)}\n\n"
        "[How intervals are made](../uncertainty.md)\n"
    )


def markdown(table: pd.DataFrame) -> str:
    """Shares in percent."""
    lines = [
        "| screen | regime | predictor | n | coverage % | width | score | score, one width for all | bound % |",
        "| " + "--- | " * 9,
    ]
    for row in table.to_dict(orient="records"):
        interval = "" if np.isnan(row["low"]) else f" ({100 * row['low']:.1f} to {100 * row['high']:.1f})"
        cells = [row["screen"], row["regime"], row["model"], row["n"], f"{100 * row['coverage']:.1f}{interval}"]
        cells += [f"{row[name]:.3f}" for name in ("width", "score", "constant_score")]
        lines.append("| " + " | ".join(map(str, [*cells, f"{100 * row['inside_bound']:.0f}"])) + " |")
    return "\n".join(lines)


def write(rows: pd.DataFrame) -> None:
    table = pooled(rows)
    with whole_file(PAGES / "coverage.csv") as temporary:
        table.round(4).to_csv(temporary, index=False)
    with whole_file(PAGES / "coverage.md") as temporary:
        temporary.write_text(page(table))
    simulated_rows = rows[rows["screen"] == SIMULATED]
    simulated_rows = simulated_rows.assign(
        condition=simulated_rows["number"].astype(str) + " " + simulated_rows["condition"]
    )
    ax = spm.pl.calibration(simulated_rows.assign(split_kind="unseen_gene"))
    with whole_file(PAGES / "coverage.png") as temporary:
        ax.figure.savefig(temporary, dpi=130)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=N_SEEDS)
    parser.add_argument("--predictors", nargs="*", default=[*BASELINES, *MODELS])
    parser.add_argument("--only", choices=["simulated", "real"], help="measure one part and write no page")
    asked = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    tables = []
    for fold in [] if asked.only == "real" else simulated(asked.seeds):
        tables += [kept(fold, name, (BASELINES | MODELS)[name]) for name in asked.predictors]
    for fold in [] if asked.only == "simulated" else real():
        tables += [kept(fold, name, (BASELINES | MODELS)[name]) for name in asked.predictors]
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    rows["inside_bound"] = (rows["error"] <= rows["error_bound"]).astype(float)
    print(pooled(rows).round(3).to_string())
    if asked.only is None:
        write(rows)


if __name__ == "__main__":
    main()
