"""The shared-control trap, measured on screens without any effect and on real ones: the training mean looks excellent.

`python benchmarks/trust/trap.py` reads the screens in ``../shared/data`` and writes
``docs/benchmarks/shared_control_trap.md`` with its tables and picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from real import datlinger, norman_k562, papalexi, schraivogel

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.tl._trap import expected_pearson

PAGES = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
DESIGNS = ((50, 50), (200, 100), (60, 600))  # cells per condition, control cells
N_SEEDS = 50
N_CONDITIONS = 25  # a fifth is held out
REAL = {
    "Datlinger 2021, Jurkat, two states": (datlinger, {"cell_type_key": "stimulation"}),
    "Norman 2019, K562, excerpt": (norman_k562, {}),
    "Papalexi 2021, THP-1": (papalexi, {}),
    "Schraivogel 2020, K562": (schraivogel, {}),
}
PROTOCOLS = {"published": 0.0, "strict": 0.3}


def null_screen(n_cells: int, n_controls: int, seed: int) -> AnnData:
    """Cells of one kind under 25 labels that do nothing."""
    return spm.datasets.simulate(
        "null",
        seed=seed,
        n_genes=300,
        n_perturbable=N_CONDITIONS,
        n_pairs=0,
        n_cells=n_cells,
        n_controls=n_controls,
        n_batches=1,
        programme_sd=0.0,
        batch_sd=0.0,
    )


def measure(n_seeds: int = N_SEEDS) -> Iterator[dict[str, float | str]]:
    """Mean Pearson of change of MeanShift on the held-out conditions of each screen."""
    for n_cells, n_controls in DESIGNS:
        for seed in range(n_seeds):
            adata = null_screen(n_cells, n_controls, seed)
            for protocol, held_out in PROTOCOLS.items():
                spm.pp.split(adata, "unseen_single", seed=seed, holdout_controls=held_out, overwrite=True)
                spm.baselines.MeanShift.setup_anndata(adata)
                model = spm.baselines.MeanShift(adata)
                model.train()
                frame = spm.tl.evaluate(model.predict(), spm.pp.pseudobulk(adata), metrics=["pearson_delta"])
                yield {
                    "n_cells": n_cells,
                    "n_controls": n_controls,
                    "protocol": protocol,
                    "seed": seed,
                    "pearson_delta": frame["value"].mean(),
                    "expected": expected_pearson(n_cells, n_controls, 1 / (n_cells * model.training.n_obs))
                    if protocol == "published"
                    else 0.0,
                }


def measure_real() -> pd.DataFrame:
    """The trap on each real screen, with its sentence."""
    tables = []
    for name, (load, settings) in REAL.items():
        table = spm.tl.shared_control_trap(load(), n_boot=2000, **settings)
        tables.append(table.assign(screen=name, text=spm.tl.shared_control_verdict(table)))
    return pd.concat(tables, ignore_index=True)


def draw(runs: pd.DataFrame, ax: Axes) -> None:
    """A point per screen, the formula as a line."""
    rng = np.random.default_rng(0)
    for i, (protocol, colour) in enumerate((("published", "#D55E00"), ("strict", "#0072B2"))):
        for j, (n_cells, n_controls) in enumerate(DESIGNS):
            chosen = runs[(runs["n_cells"] == n_cells) & (runs["n_controls"] == n_controls)]
            chosen = chosen[chosen["protocol"] == protocol]
            at = j + 0.36 * (i - 0.5)
            ax.scatter(at + rng.uniform(-0.1, 0.1, len(chosen)), chosen["pearson_delta"], s=8, color=colour, alpha=0.5)
            label = "expected" if i == j == 0 else None
            ax.hlines(chosen["expected"].mean(), at - 0.16, at + 0.16, color="black", linewidth=2, label=label)
        ax.scatter([], [], s=20, color=colour, label=f"{protocol} protocol")
    ax.set_xticks(
        range(len(DESIGNS)), [f"{cells} cells per condition,\n{controls} controls" for cells, controls in DESIGNS]
    )
    ax.set_ylabel("Pearson of change, training mean")
    ax.set_title("Screens without any effect")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)


def real_part(table: pd.DataFrame) -> str:
    rows = "\n".join(
        f"| {row.screen} | {row.n_cells} | {row.n_controls} | {row.protocol} | {row.expected:.2f} | {row.pearson:.2f} "
        f"({row.low:.2f} to {row.high:.2f}) | {row.halves:.2f} ({row.halves_low:.2f} to {row.halves_high:.2f}) |"
        for row in table.itertuples()
    )
    sentences = "\n".join(
        f"- {name}: {text}" for name, text in table.groupby("screen", sort=False)["text"].first().items()
    )
    return (
        "## Real screens\n\n"
        "The same on screens of cells, by `spm.tl.shared_control_trap(adata)`: each condition is held out "
        "once, *Pearson of change* is that of the training mean (with a 95 % interval over conditions), "
        "*expected* what would come from noise alone, and *halves* the Pearson of change between two halves "
        "of the cells of a condition, each against a half of the controls of its own. A prediction that knows "
        "nothing of a gene and scores more than one half of the data says of the other is no prediction.\n\n"
        "| screen | cells per condition | controls | protocol | expected | Pearson of change | halves |\n"
        f"|---|---|---|---|---|---|---|\n{rows}\n\n{sentences}\n"
    )


def page(table: pd.DataFrame, real: pd.DataFrame) -> str:
    rows = "\n".join(
        f"| {row.n_cells} | {row.n_controls} | {row.protocol} | {row.expected:.3f} | {row.pearson:.3f} | {row.sd:.3f} |"
        for row in table.itertuples()
    )
    return (
        "# The shared-control trap\n\n"
        "Made by `python benchmarks/trust/trap.py`. In these simulated screens no perturbation does anything. "
        f"Mean over {N_SEEDS} screens of the Pearson of change that the training mean reaches on held-out conditions; "
        "*expected* is the formula in [How predictions are judged](../evaluation.md).\n\n"
        "```{image} shared_control_trap.png\n:alt: Pearson of the training mean on screens without effect; high under "
        "the published protocol, zero under the strict one\n```\n\n"
        "| cells per condition | controls | protocol | expected | Pearson of change | sd over screens |\n"
        f"|---|---|---|---|---|---|\n{rows}\n\n{real_part(real)}"
    )


def main() -> None:
    runs = pd.DataFrame(measure())
    groups = runs.groupby(["n_cells", "n_controls", "protocol"], sort=False)
    table = groups.agg(
        expected=("expected", "mean"), pearson=("pearson_delta", "mean"), sd=("pearson_delta", "std")
    ).reset_index()
    real = measure_real()
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    draw(runs, ax)
    with whole_file(PAGES / "shared_control_trap.png") as path:
        figure.savefig(path, dpi=120)
    with whole_file(PAGES / "shared_control_trap.csv") as path:
        table.round(4).to_csv(path, index=False)
    with whole_file(PAGES / "shared_control_trap.md") as path:
        path.write_text(page(table, real))
    with whole_file(PAGES / "shared_control_trap_real.csv") as path:
        real.drop(columns="text").round(4).to_csv(path, index=False)


if __name__ == "__main__":
    main()
