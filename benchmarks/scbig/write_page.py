"""What SCBIG is worth: ``docs/benchmarks/scbig.md``, from the fits and tables that are kept.

``PYTHONPATH=benchmarks:benchmarks/peers python benchmarks/scbig/write_page.py`` after ``accuracy.py --model SCBIG`` and
the other scripts of this folder; ``make bench-scbig`` runs all. Nothing on the page is edited by hand; a part whose
measurements are missing is left out.
"""

from __future__ import annotations

import json

import pandas as pd
from accuracy import VARIANTS
from comparisons import markdown
from page import PAGES, ROOT, ablations, simulated, write
from scipy import stats

from scperturb_modules._files import whole_file

MODEL = "SCBIG"
HEAD = """# SCBIG

Made by `make bench-scbig`; nothing here is edited by hand. Default settings of `spm.SCBIG` were chosen on screens of
seeds from 100 on; simulated screens here have the seeds 0 to 4. Errors are L2 distances over all genes (log1p scale) of
test conditions pooled over the seeds; a gain of 5 means an error 5 % lower; intervals are 95 % bootstrap intervals of
paired comparisons. Simulated screens follow rules that a model can learn: a gain there says that the model finds what
is there, not that your screen holds it."""


def table_of(name: str) -> pd.DataFrame:
    path = PAGES / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def recovery() -> str:
    found, real = table_of("scbig_recovery"), table_of("scbig_programs_real")
    if found.empty:
        return ""
    groups = found.groupby(["sizes", "balance"], as_index=False)
    rows = groups.agg(ARI=("ARI", "mean"), lowest=("ARI", "min"), found=("found", "median"), planted=("planted", "max"))
    text = (
        "600 genes in modules whose activity varies between cells (`module_sd=0.5`), 10,600 cells, "
        f"{found['seed'].nunique()} seeds; programs from cells and responses alone, number of programs chosen by the "
        '"auto" rule. `balance="equal"` is the published form: where sizes differ it cannot be right.'
    )
    parts = ["## Programs: are they the planted ones?", text, markdown(rows.round(3))]
    if not real.empty:
        text = (
            "On real data nobody knows the programs. *named*: programs with an over-represented set (5 % FDR); *p*: "
            "against 200 random partitions of the same sizes, .005 is the smallest possible; ARI of two seeds, and of "
            "two halves of the cells. Where the ARI of halves is near 0, do not build on single programs: Datlinger's "
            "cells have 85 counts each in these 2,000 genes, and no programs that could be told from chance."
        )
        parts += ["### Real data", text, markdown(real.round(3).set_index("data").T.reset_index(names=""))]
    return "\n\n".join(parts)


def real() -> str:
    found = table_of("scbig_real")
    text = (
        "Screens, splits and priors of `make bench-real`; Papalexi in five folds. Where the error is exactly that of "
        "the anchor the gates are closed: too few pairs to learn from, or what a network learns of 20 singles "
        'does not carry over to others. SCBIG then says so in `obs["gate"]` and answers as its anchor.'
    )
    return "" if found.empty else "\n\n".join(["## Real screens: means against the anchor", text, markdown(found)])


def cells() -> str:
    found, wiring = table_of("scbig_cells"), table_of("scbig_rewiring")
    if found.empty:
        return ""
    rows, numbers = [], found.columns.drop(["screen", "seed", "condition"])
    for screen, group in _screens(found):
        rows.append({"screen": f"{screen} (n = {len(group)})", **group[numbers].mean().round(3)})
    said = [_wins(screen, group) for screen, group in _screens(found)]
    text = (
        "Energy distance (first 30 principal components) of 300 generated cells of held-out conditions to real ones; "
        "lower is better, *two halves* is that of the real cells among themselves. All others move the same control "
        "cells by a predicted mean change; *SCBIG, shifted controls* by that of SCBIG, without flow and without "
        "rescaling. *variance*: total variance of generated cells over that of real ones."
    )
    turned = pd.DataFrame(rows).T.reset_index().set_axis(["", *(str(row["screen"]) for row in rows)], axis=1)[1:]
    parts = ["## Generated cells", text, markdown(turned)]
    parts += ["\n".join(f"- {one}" for one in said)]
    if not wiring.empty:
        means = wiring.drop(columns=["seed", "condition"])
        by_seed = wiring.groupby("seed")["change, predicted"].mean()
        text = (
            "Perturbations change which programs go together (preset `programs`). Correlation over pairs of programs "
            "of the change predicted for held-out pairs of genes with the planted one, and of the predicted matrix "
            "itself beside that of control cells; *measured* is what the 150 real cells of a condition say, the most "
            f"that can be asked for. Mean over {len(wiring)} held-out conditions; by seed the change is recovered at "
            f"{by_seed.min():.2f} to {by_seed.max():.2f}."
        )
        parts += ["### Coordination of programs", text, markdown(means.mean().round(3).rename("mean").reset_index())]
    return "\n\n".join(parts)


def _screens(found: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    parts = list(found.groupby("screen"))
    own = found[found["condition"].isin(["IFNGR1", "IFNGR2", "JAK2", "STAT1"])]
    return [*parts, ("Papalexi, interferon-gamma targets", own)] if len(own) else parts


def _wins(screen: str, group: pd.DataFrame) -> str:
    """Against Additive and MeanShift: mean difference with its 95 % interval over conditions."""
    texts = []
    for name in ("Additive", "MeanShift"):
        difference = group["SCBIG"] - group[name]
        half = stats.t.ppf(0.975, len(difference) - 1) * difference.sem()
        low, high = difference.mean() - half, difference.mean() + half
        texts.append(f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f}) from {name}")
    return f"{screen}: {', '.join(texts)}; nearer than Additive in {(group['SCBIG'] < group['Additive']).mean():.0%}."


def solvers() -> str:
    found = table_of("scbig_solvers")
    text = (
        "Latent error is the root mean square distance from RK4 with 200 steps, in units of the standardised latent; "
        "change of the Pearson correlation of mean changes; time per 1,000 cells. The default is the cheapest row with "
        "a change below 1e-4."
    )
    return "" if found.empty else "\n\n".join(["## Solvers and steps", text, markdown(found)])


def peers() -> str:
    path = ROOT / "benchmarks" / "results" / "scbig.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    curves = pd.DataFrame(found["curves"])
    # errors are best where they are least
    curves["rank"] = curves["value"].where(curves["metric"].str.startswith("pearson"), -curves["value"])
    curves = curves.loc[curves.groupby(["scheme", "regime", "metric", "tool"])["rank"].idxmax()]
    best = curves.pivot_table(index=["scheme", "regime", "metric"], columns="tool", values="value")
    speed = [
        {
            "split": one["scheme"],
            "tool": one["tool"],
            "training, cells per s": f"{one['cells_per_second']:.0f}",
            "prediction of a condition, s": f"{one['predict_seconds_per_condition']:.3f}",
            "peak memory, GB": f"{one['peak_rss_bytes'] / 1e9:.2f}",
        }
        for one in found["speed"]
    ]
    reach = pd.DataFrame(found["time_to_reach"])
    settings = found["settings"]
    iterations = ", ".join(f"{tool} {one['iterations']:,}" for tool, one in settings.items() if tool != MODEL)
    text = (
        "Same cells, split and gene embeddings (tables of the simulator's network and modules), one seed, one thread "
        f"each. Iterations of the flow: {iterations}, of {settings[MODEL]['batch_size']} cells each, where the "
        "published schedule is 500,000 of 1,024, about three days of one core: this compares what they reach in "
        "minutes, not what they can reach. Others are judged by their best checkpoint on the test conditions, ours by "
        "its last. Times are CPU seconds."
    )
    if "scBIG release" not in settings:
        text += (
            " There is no figure of the release: its alignment, which starts at iteration 1,000, had not come back "
            "from its first call after eight minutes of a core, and without it (900 iterations) predicting the 125 "
            "test conditions had not come back after ten."
        )
    parts = ["## Beside the public scBIG release and CellFlow", text, markdown(best.round(3).reset_index())]
    parts += ["### Speed and memory", markdown(pd.DataFrame(speed))]
    if not reach.empty:
        parts += ["### Time to the release's best Pearson correlation of changes", markdown(reach.round(3))]
    return "\n\n".join(parts)


def main() -> None:
    text, short = simulated(MODEL)
    frame, n_seeds = ablations(MODEL, [name for name in VARIANTS if name.startswith(MODEL)])
    of_parts = ""
    if n_seeds:
        write(frame, "scbig_ablations")
        said = (
            f"One part left out at a time, split `unseen_gene`, {n_seeds} of the five seeds, with the gate off. "
            "*Against full*: a negative number says what the part is worth. Without alignment, flow or rescaling "
            "predicted means are the same: what they are worth is in the table of cells."
        )
        of_parts = "\n\n".join(["## Ablations: means", said, markdown(frame)])
    of_cells = table_of("scbig_cells_ablations")
    if not of_cells.empty:
        said = (
            "A screen of preset `programs` (seed 0, held-out pairs) with one part of what generates cells left out; "
            "all predict the means of the anchor. *change of correlation*: of predicted with planted changes."
        )
        of_parts += "\n\n" + "\n\n".join(["## Ablations: cells", said, markdown(of_cells)])
    parts = [HEAD, "\n".join(short), text, real(), recovery(), cells(), peers(), of_parts, solvers()]
    with whole_file(PAGES / "scbig.md") as path:
        path.write_text("\n\n".join(part for part in parts if part) + "\n")


if __name__ == "__main__":
    main()
