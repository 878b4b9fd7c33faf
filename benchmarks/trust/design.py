"""Planning the next experiments, tested on screens whose interactions are known.

`python benchmarks/trust/design.py` writes ``docs/benchmarks/design.md`` with its tables and picture. A part of the
screen of Norman et al. is read from ``../shared/data``; `--only norman_full` downloads all of it. `--only` runs some of
the cases and keeps the others as they were.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from real import norman_k562

import scperturb_modules as spm
from scperturb_modules._files import whole_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "benchmarks"
RUNS = ROOT / "results" / "trust" / "design_runs.csv"
SIZE = {"n_genes": 300, "n_perturbable": 40, "n_pairs": 200, "n_cells": 50, "n_controls": 600}
OBJECTIVES = ("interaction", "information", "uncertainty", "diverse")


@dataclass(frozen=True)
class Case:
    """A kind of screen, a predictor and a plan; ``screen`` is a preset of the simulator or loads a real one."""

    name: str
    title: str
    screen: str | Callable[[], AnnData]
    build: Callable[..., Any]
    note: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    plan: Mapping[str, Any] = field(default_factory=lambda: {"n_start": 30, "n_test": 20, "batch": 10, "rounds": 8})
    objectives: tuple[str, ...] = OBJECTIVES
    n_seeds: int = 20
    n_pairs: int = 200
    is_judged: bool = True


def norman_full() -> AnnData:
    """All cells of the screen, normalised."""
    adata = spm.datasets.norman_2019()
    spm.pp.normalize(adata)
    return adata


CASES = (
    Case(
        "simulator",
        "Simulator, default",
        "default",
        spm.baselines.AdditiveShrunk,
        "Interactions depend on the modules of the two genes, so they can be learned from tested pairs.",
    ),
    Case(
        "simulator_app",
        "Simulator, default; APP",
        "default",
        spm.APP,
        "The same screens with a network, which is trained again after every round; larger rounds, fewer seeds.",
        plan={"n_start": 30, "n_test": 0, "batch": 20, "rounds": 4},
        objectives=("interaction",),
        n_seeds=10,
    ),
    Case(
        "unpredictable",
        "Simulator, unpredictable",
        "unpredictable",
        spm.baselines.AdditiveShrunk,
        "The class of an interaction is drawn at random. Strong effects still leave room for strong interactions, so "
        "rankings by effect size beat random choice here; nothing may beat effect size.",
    ),
    Case(
        "unpredictable_equal",
        "Simulator, unpredictable, effects of equal size",
        "unpredictable",
        spm.baselines.AdditiveShrunk,
        "With singles of one size even effect size tells little: nothing is left to be known.",
        settings={"effect_spread": 0.0},
    ),
    Case(
        "norman_part",
        "Norman et al. 2019, K562: the five pairs of the part at hand",
        norman_k562,
        spm.baselines.AdditiveShrunk,
        "The part of the screen that this repository is tested with holds 15 pairs, and only of five both singles were "
        "measured. The curve is shown, and it tells nothing: five candidates, the two strongest measured interactions "
        "(minus their noise) to be found, no pair known at the start, so every ranking but the random one is the same "
        "in all repetitions. No verdict is given.",
        plan={"n_start": 0, "n_test": 0, "batch": 1, "rounds": 5, "n_strong": 2},
        n_pairs=5,
        is_judged=False,
    ),
    Case(
        "norman_full",
        "Norman et al. 2019, K562: all pairs",
        norman_full,
        spm.baselines.AdditiveShrunk,
        "Measured interactions, minus their noise. All repetitions draw from the same 131 pairs, so the intervals tell "
        "how much the start matters, not how another screen would turn out.",
        plan={"n_start": 20, "n_test": 15, "batch": 8, "rounds": 6},
        n_pairs=131,
    ),
)


def true_interactions(adata: AnnData) -> dict[str, float]:
    """L2 size of every planted interaction, without noise."""
    change = spm.datasets.simulated_truth(adata)
    pairs = {name: name.split("+") for name in change.index if "+" in name}
    return {
        name: float(np.linalg.norm(change.loc[name] - change.loc[a] - change.loc[b])) for name, (a, b) in pairs.items()
    }


def runs_of(case: Case) -> pd.DataFrame:
    """All seeds of a case; a simulated screen per seed, or the real one divided anew."""
    if not isinstance(case.screen, str):
        return spm.tl.backtest(case.screen(), case.build, case.objectives, seeds=case.n_seeds, **case.plan).assign(
            case=case.name
        )
    parts = []
    for seed in range(case.n_seeds):
        adata = spm.datasets.simulate(case.screen, seed=seed, **{**SIZE, **case.settings})
        truth = true_interactions(adata)
        parts.append(spm.tl.backtest(adata, case.build, case.objectives, seeds=[seed], truth=truth, **case.plan))
    return pd.concat(parts, ignore_index=True).assign(case=case.name)


def of_case(runs: pd.DataFrame, case: Case) -> pd.DataFrame:
    return runs[runs["case"] == case.name]


def summary_of(case: Case, runs: pd.DataFrame) -> pd.DataFrame:
    """What the curves say; only what was counted where that is not enough for a verdict."""
    table = spm.tl.backtest_summary(of_case(runs, case)).assign(case=case.name)
    if not case.is_judged:
        numbers = table.columns[table.columns.str.match("ratio|area|saved")]
        table[numbers] = np.nan
        table = table.assign(word="cannot tell", text="")
    return table


def draw(runs: pd.DataFrame, cases: list[Case]) -> plt.Figure:
    n_rows = -(-len(cases) // 2)
    figure, axes = plt.subplots(n_rows, 2, figsize=(11.5, 4.6 * n_rows), layout="constrained")
    for ax, case in zip(axes.ravel(), cases, strict=False):
        spm.pl.budget_curve(of_case(runs, case), ax=ax)
        ax.annotate(case.title, (0, 1), (0, 70), "axes fraction", textcoords="offset points", weight="bold")
    for ax in axes.ravel()[len(cases) :]:
        ax.set_axis_off()
    return figure


def section(case: Case, runs: pd.DataFrame, summary: pd.DataFrame) -> str:
    rows = of_case(runs, case)
    plan = case.plan
    budget = plan["batch"] * plan["rounds"]
    n_candidates = case.n_pairs - plan["n_start"] - plan["n_test"]
    of_test = rows[rows["n_tested"].isin([0, budget])].groupby(["method", "n_tested"])["test_l2"].mean().unstack()
    table = [
        judged(row) if case.is_judged else counted(row) for row in summary[summary["case"] == case.name].itertuples()
    ]
    lines = [
        f"## {case.title}",
        "",
        f"{case.note} Predictor: {case.build.__name__}. {rows['seed'].nunique()} repetitions, {plan['n_start']} pairs "
        f"known at the start, {n_candidates} candidates, a budget of {budget} experiments in rounds of "
        f"{plan['batch']}; half the budget is {100 * budget / 2 / n_candidates:.0f} % of the candidates.",
        "",
        "| ranking | against | found at half the budget | reference | ratio (95 % CI) | area (95 % CI) | "
        "experiments saved, % (95 % CI) | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *table,
        "",
    ]
    if case.is_judged and plan["n_test"]:
        errors = ", ".join(f"{method} {of_test.loc[method, budget]:.3f}" for method in of_test.index)
        start = of_test[0].mean()
        lines += [f"L2 error on {plan['n_test']} test pairs: {start:.3f} at the start; at the end {errors}.", ""]
    if case.is_judged:
        of_first = (summary["case"] == case.name) & (summary["method"] == case.objectives[0])
        lines += [f"- {text}" for text in summary.loc[of_first, "text"]] + [""]
    return "\n".join(lines)


def judged(row: Any) -> str:
    return (
        f"| {row.method} | {row.against} | {row.found:.1f} | {row.found_against:.1f} | "
        f"{row.ratio:.2f} ({row.ratio_low:.2f}, {row.ratio_high:.2f}) | "
        f"{row.area:.2f} ({row.area_low:.2f}, {row.area_high:.2f}) | "
        f"{100 * row.saved:.0f} ({100 * row.saved_low:.0f}, {100 * row.saved_high:.0f}) | {row.word} |"
    )


def counted(row: Any) -> str:
    return f"| {row.method} | {row.against} | {row.found:.1f} | {row.found_against:.1f} | | | | |"


def page(runs: pd.DataFrame, summary: pd.DataFrame, cases: list[Case]) -> str:
    text = (
        "Made by `make bench-trust`. A screen that was measured already is planned again: all singles and a few pairs "
        "are known, `tl.rank_next` chooses the next pairs, their cells are revealed, the predictor is "
        "trained again. What counts is how many of the strongest interactions among the candidates are found: 20 "
        "unless said otherwise, by the planted truth without noise on simulated screens. Every ranking of a repetition "
        "starts from the same pairs. *Area*: 0 is the reference, 1 an oracle that picks the strongest interactions "
        "first. Settings were chosen on other simulated screens (seeds from 100 on) than those shown (0 to 19). "
        "Information, uncertainty and diverse choose what to learn from, not what is strong: they beat random choice "
        "as far as they prefer large effects, and do not beat ranking by effect size."
    )
    image = "```{image} design.png\n:alt: Share of strong interactions found against experiments done, per ranking\n```"
    head = ["# Planning the next experiments", "", text, "", image, ""]
    return "\n".join(head + [section(case, runs, summary) for case in cases])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[case.name for case in CASES if case.name != "norman_full"])
    asked = parser.parse_args().only
    logging.getLogger("scperturb_modules").setLevel(logging.WARNING)
    for case in CASES:
        if case.name not in asked:
            continue
        start = time.perf_counter()
        new = runs_of(case)
        kept = pd.read_csv(RUNS) if RUNS.exists() else pd.DataFrame({"case": []})
        kept = pd.concat([kept[kept["case"] != case.name], new], ignore_index=True)
        with whole_file(RUNS) as path:
            kept.round(5).to_csv(path, index=False)
        print(f"{case.name}: {time.perf_counter() - start:.0f} s", flush=True)
    kept = pd.read_csv(RUNS)
    cases = [case for case in CASES if case.name in set(kept["case"])]
    summary = pd.concat([summary_of(case, kept) for case in cases], ignore_index=True)
    with whole_file(PAGES / "design.csv") as path:
        summary.round(4).to_csv(path, index=False)
    with whole_file(PAGES / "design.png") as path:
        draw(kept, cases).savefig(path, dpi=110)
    with whole_file(PAGES / "design.md") as path:
        path.write_text(page(kept, summary, cases))


if __name__ == "__main__":
    main()
