"""Leaderboards of real screens: `make bench-real`.

Reads the screens in ``../shared/data`` and writes ``docs/benchmarks/real.md``, one table per case beside it, and each
benchmark with its report to ``results/real``. No screen is copied, and nothing on the page is edited by hand.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from real_priors import in_words, priors_of
from real_summary import ANCHOR, APP, UNGATED, Outcome, first_line, table
from rich.console import Console

import scperturb_modules as spm
from scperturb_modules._files import whole_file

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PAGES = ROOT / "docs" / "benchmarks"
CONTROL_SPLITS = 30


class AnchorEverywhere(spm.baselines.AdditiveShrunk):
    """The anchor of APP, also where a benchmark leaves it out because no pair is asked for."""

    @classmethod
    def why_not(cls, training: ad.AnnData, priors: Any = None, rows: Sequence[str] | None = None) -> str | None:
        """It always has something to offer."""
        return None


PREDICTORS: Mapping[str, Callable[..., Any]] = {
    **{one.name: one for one in spm.baselines.ALL},
    ANCHOR: AnchorEverywhere,
    APP: spm.APP,
    UNGATED: functools.partial(spm.APP, gate=False),
}


@dataclass(frozen=True)
class Case:
    """One screen, one question."""

    name: str
    question: str
    load: Callable[[], ad.AnnData]
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def norman_k562() -> ad.AnnData:
    """CRISPRa in K562, X as published (log1p of counts per 10,000)."""
    adata = ad.read_h5ad(DATA / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "norman19"].copy()
    # three pair labels are not in alphabetical order
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


def norman_pairs_held_out() -> ad.AnnData:
    """All singles train, all pairs test, so that each regime of pairs occurs."""
    adata = norman_k562()
    labels = adata.obs["perturbation"].cat.categories
    assignment = {label: "test" if "+" in label else "train" for label in labels if label != "control"}
    spm.pp.split(adata, "custom", assignment=assignment, holdout_controls=0)
    return adata


def mcfaline() -> ad.AnnData:
    """CRISPRi of nine genes in three glioma lines."""
    adata = ad.read_h5ad(DATA / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "mcfaline23"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    return adata


def papalexi() -> ad.AnnData:
    """Knock-outs in THP-1; 299 genes are read, so counts are scaled to 1,000 and not to 10,000."""
    adata = ad.read_h5ad(DATA / "papalexi2021" / "papalexi_299genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata, target_sum=1e3)
    return adata


def datlinger() -> ad.AnnData:
    """Knock-outs in Jurkat; the library is that of all genes, a well is a guide and no batch."""
    adata = ad.read_h5ad(DATA / "datlinger2021" / "datlinger_2000genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata, library_size_key="ncounts_full")
    return adata


def schraivogel() -> ad.AnnData:
    """CRISPRi with chance pairs; target names hold an underscore; 72 genes are the library."""
    adata = ad.read_h5ad(DATA / "schraivogel2020_tapseq_k562" / "schraivogel2020_tapseq_k562.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation")
    spm.pp.normalize(adata)
    return adata


CASES = (
    Case(
        "norman_pairs_published",
        "Norman, K562: pairs, when every single is measured",
        norman_pairs_held_out,
        {"scheme": None, "protocol": "published"},
    ),
    Case(
        "mcfaline_unseen_line",
        "McFaline-Figueroa: one cell line held out",
        mcfaline,
        {"scheme": "unseen_context", "n_folds": 3, "cell_type_key": "cell_type"},
    ),
    Case(
        "papalexi_published",
        "Papalexi, THP-1: one target left out, shared controls",
        papalexi,
        {"scheme": "unseen_single", "n_folds": 25, "batch_key": "replicate", "protocol": "published"},
    ),
    Case(
        "papalexi_strict",
        "Papalexi, THP-1: one target left out, held-out controls",
        papalexi,
        {"scheme": "unseen_single", "n_folds": 25, "batch_key": "replicate"},
    ),
    Case(
        "datlinger",
        "Datlinger, Jurkat: unseen targets in two stimulation states",
        datlinger,
        {"scheme": "unseen_single", "cell_type_key": "stimulation"},
    ),
    Case(
        "schraivogel_pairs",
        "Schraivogel, TAP-seq: half of the chance pairs held out",
        schraivogel,
        {"scheme": "combination", "min_cells": 10},
        note="Chance co-infections with 10 to 28 cells each: this exercises the code path for pairs and says nothing "
        "about interactions.",
    ),
)


def strict_spread(n_splits: int = CONTROL_SPLITS) -> pd.DataFrame:
    """Additive on the Norman pairs with both singles, over splits of the 100 control cells: one row a split."""
    adata = norman_k562()
    labels = [label for label in adata.obs["perturbation"].cat.categories if label != "control"]
    assignment = {label: "test" if "+" in label else "train" for label in labels}
    rows = []
    for seed in range(n_splits):
        spm.pp.split(adata, "custom", assignment=assignment, seed=seed, overwrite=True)
        spm.baselines.Additive.setup_anndata(adata)
        model = spm.baselines.Additive(adata)
        model.train()
        frame = spm.tl.evaluate(model.predict(), spm.pp.pseudobulk(adata))
        chosen = frame[(frame["metric"] == "pearson_delta") & (frame["regime"] == "pair_2of2")]
        rows.append({"control_split": seed, "n": len(chosen), "pearson_delta": chosen["value"].mean()})
    return pd.DataFrame(rows)


def leaderboard(summary: pd.DataFrame) -> pd.DataFrame:
    """The primary metric with intervals, and the Pearson of change beside it."""
    primary = summary[summary["metric"] == "l2_top1000"]
    pearson = summary[summary["metric"] == "pearson_delta"].set_index(["regime", "model"])["mean"]
    beside = [pearson.get((row["regime"], row["model"]), np.nan) for _, row in primary.iterrows()]
    return pd.DataFrame(
        {
            "regime": primary["regime"],
            "predictor": primary["model"],
            "L2 (95 % CI)": interval(primary, "mean", "ci_low", "ci_high", digits=3),
            "gain % (95 % CI)": interval(primary, "gain", "gain_low", "gain_high", scale=100, digits=1),
            "over": primary["gain_vs"],
            "Pearson of change": ["" if np.isnan(value) else f"{value:.2f}" for value in beside],
            "n": primary["n"],
        }
    )


def interval(rows: pd.DataFrame, value: str, low: str, high: str, *, digits: int, scale: float = 1.0) -> list[str]:
    """``value (low, high)``; nothing where there is no value, no bounds where there is no interval."""
    texts = []
    for numbers in (scale * rows[[value, low, high]]).to_numpy(dtype=float):
        mean, *bounds = (f"{number:z.{digits}f}" for number in numbers)
        known = ~np.isnan(numbers)
        texts.append("" if not known[0] else f"{mean} ({', '.join(bounds)})" if known.all() else mean)
    return texts


def intervals_in_words(board: Any) -> str:
    """Coverage of the 90 % intervals of APP and its anchor, and how many predictions of APP abstain."""
    table = board.coverage()
    said = [
        f"{row['model']} {100 * row['coverage']:.1f} %"
        + (
            ""
            if np.isnan(row["coverage_low"])
            else f" ({100 * row['coverage_low']:.1f} to {100 * row['coverage_high']:.1f})"
        )
        + f" on {row['regime']} (n = {row['n']})"
        for row in table[table["model"].isin([APP, ANCHOR])].to_dict(orient="records")
    ]
    own = [one.obs["abstain"] for (name, _), one in board.predictions.items() if name == APP]
    held = (
        f"90 % intervals hold: {', '.join(said)}."
        if said
        else "No regime has enough left-out conditions for intervals."
    )
    return f"{held} Of {sum(map(len, own))} predictions of {APP} {sum(one.sum() for one in own)} abstain."


def markdown(table: pd.DataFrame) -> str:
    lines = [table.columns, ["---"] * table.shape[1], *table.astype(str).to_numpy()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run(case: Case) -> tuple[Any, str]:
    """The board of one case, and which priors every predictor was given."""
    adata = case.load()
    priors = priors_of(adata)
    board = spm.tl.benchmark(adata, PREDICTORS, priors=priors, **case.settings)
    if len(board.errors):
        # a failed run is scored as "no change"
        raise SystemExit(f"{case.name}: {board.errors['message'].iloc[0]}\n{board.errors['traceback'].iloc[0]}")
    return board, in_words(priors, adata)


def section(case: Case, board: Any, priors: str) -> str:
    """Verdict first, then the leaderboard and whether intervals hold."""
    verdict = board.verdict().replace("\n", "\n\n")
    parts = [f"## {case.question}", *([case.note] if case.note else []), priors, verdict]
    parts.append(markdown(leaderboard(board.summary())))
    parts.append(intervals_in_words(board))
    return "\n\n".join([*parts, f"All metrics: [`{case.name}.csv`]({case.name}.csv)."])


def write(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text)


def strict_section() -> str:
    spread = strict_spread()
    values = spread["pearson_delta"].to_numpy()
    write(PAGES / "norman_strict_spread.csv", spread.to_csv(index=False))
    return (
        "## Norman, K562: the same pairs against held-out controls\n\n"
        f"K562 has 100 control cells. Over {len(values)} splits of them, Additive's Pearson of change on the pairs "
        f"with both singles measured is {np.mean(values):.2f} on average, from {np.min(values):.2f} to "
        f"{np.max(values):.2f}: with so few controls a single split says little. "
        "All splits: [`norman_strict_spread.csv`](norman_strict_spread.csv)."
    )


def head(outcomes: list[Outcome]) -> str:
    """Where a baseline wins comes first."""
    return (
        f"# Real screens\n\n{first_line(outcomes)}\n\n{markdown(table(outcomes))}\n\n"
        "Made by `make bench-real`; nothing here is edited by hand. The defaults of APP's network were chosen on "
        "simulated screens, but the form of its anchor's shrinkage on halves of the singles of these five screens "
        "(`benchmarks/accuracy/shrinkage.py`): to the anchor they are not new. Above, test conditions are pooled "
        "over regimes, and gains are paired comparisons with *AdditiveShrunk* with the same priors, which is the "
        "anchor that APP adds its network to (where no pair is asked for, it is the nearest-neighbour or mean "
        "single); intervals are 95 %, none with fewer than ten conditions. Gate off: another APP, whose network is "
        "added in full. Below, gains are relative to the named baseline on the L2 distance (log1p scale, the 1,000 "
        "genes highest in controls, or all if fewer), with 95 % intervals over conditions. All predictors get the "
        "same priors: STRING links without text mining (CC BY 4.0), TRRUST regulations (CC BY-SA 4.0) and GO "
        "biological processes (CC BY 4.0), cut to measured and perturbed genes, each where it covers at least three"
        " perturbed ones."
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[case.name for case in CASES], help="run one case and print it")
    chosen = parser.parse_args(argv).only
    console = Console()
    parts, outcomes = [], []
    for case in CASES:
        if chosen in (None, case.name):
            console.rule(case.question)
            start = time.perf_counter()
            board, priors = run(case)
            board.save(ROOT / "results" / "real" / case.name, overwrite=True)
            board.to_html(ROOT / "results" / "real" / case.name / "report.html")
            outcomes.append(Outcome.of(case.question, board))
            parts.append(section(case, board, priors))
            console.print(board.verdict())
            console.print(first_line(outcomes[-1:]), f"{time.perf_counter() - start:.0f} s")
            if chosen is None:
                write(PAGES / f"{case.name}.csv", board.summary().to_csv(index=False))
    if chosen is None:
        write(PAGES / "real.md", "\n\n".join([head(outcomes), *parts, strict_section()]) + "\n")


if __name__ == "__main__":
    main()
