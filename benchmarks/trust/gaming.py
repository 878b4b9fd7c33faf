"""What tricks do to every metric: inflating, shrinking, noise, and predictions that know nothing of the condition.

`python benchmarks/trust/gaming.py` writes ``docs/benchmarks/gaming.csv`` and ``gaming.md``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import CELL_METRICS, INTERACTION_METRICS, METRICS, gaming_warnings

PAGES = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
HONEST = "honest"
TIMID, NOISE = 0.4, 0.15
"""The honest predictor knows 40 % of every change, and errs by so much per gene (standard deviation)."""
TRICKS = ("x10", "x0.1", "noise", "training_mean", "control", "all_up")


def screen(preset: str = "default", seed: int = 0) -> AnnData:
    """A simulated screen with unseen pairs."""
    adata = spm.datasets.simulate(preset, seed=seed)
    spm.pp.split(adata, "combination", seed=seed)
    return adata


def predictions(adata: AnnData, truth: AnnData, seed: int = 0) -> dict[str, AnnData]:
    """The honest prediction, and what each trick makes of it."""
    spm.baselines.MeanShift.setup_anndata(adata)
    mean = spm.baselines.MeanShift(adata)
    mean.train()
    template = mean.predict()
    rng = np.random.default_rng(seed)
    known = truth[template.obs_names]
    change = np.asarray(known.X) - known.layers["control_train"]
    honest = TIMID * (change + rng.normal(0, NOISE, change.shape))
    made = {
        HONEST: honest,
        "x10": 10 * honest,
        "x0.1": 0.1 * honest,
        "noise": honest + rng.normal(0, 2 * NOISE, change.shape),
        "training_mean": template.layers["delta"],
        "control": np.zeros_like(change),
        "all_up": np.ones_like(change),
    }
    result = {}
    for name, delta in made.items():
        result[name] = template.copy()
        result[name].layers["delta"] = delta
    return result


def interactions(prediction: AnnData, observed: pd.DataFrame) -> dict[str, float]:
    """Metrics of interactions: per pair, or over all pairs and genes where they are calls."""
    delta = prediction.to_df("delta").stack()
    said = delta.loc[pd.MultiIndex.from_frame(observed[["perturbation", "gene"]])].to_numpy()
    table = observed.assign(said=said - observed["a"] - observed["b"])
    values = {}
    for name, metric in INTERACTION_METRICS.items():
        if metric.target == "calls":
            values[name] = metric.function(table["call"] != "", table["said"].abs())[0]
        else:
            pairs = table.groupby("perturbation")
            values[name] = np.mean([metric.function(pair["interaction"], pair["said"])[0] for _, pair in pairs])
    return values


def measure(adata: AnnData, *, cells: bool = True) -> pd.DataFrame:
    """A row per metric: its facts and its mean value for the honest prediction and for each trick."""
    truth = spm.pp.pseudobulk(adata)
    said = predictions(adata, truth)
    measured = set(truth.obs_names)
    pairs = [name for name in said[HONEST].obs_names if set(name.split("+")) <= measured]
    observed = spm.tl.interaction_genes(truth, pairs=pairs)
    values = {}
    for name, prediction in said.items():
        values[name] = (
            spm.tl.evaluate(prediction, truth, metrics="all").groupby("metric", observed=True)["value"].mean()
        )
        values[name] = pd.concat([values[name], pd.Series(interactions(prediction, observed))])
        if cells:
            frame = spm.tl.evaluate_cells(spm.tl.to_cells(prediction, adata, 100), adata, metrics="all")
            means = frame.groupby("metric")["value"].mean()
            values[name] = pd.concat([values[name], means.rename(lambda text: text.partition("[")[0])])
    metrics = {**METRICS, **INTERACTION_METRICS, **(CELL_METRICS if cells else {})}
    table = pd.DataFrame(values).reindex(list(metrics))
    table.insert(0, "better", [metric.better for metric in metrics.values()])
    return table.rename_axis("metric")


def improves(table: pd.DataFrame) -> pd.DataFrame:
    """Whether each trick looks better than honesty: 1 better, -1 worse, 0 the same, NaN undefined."""
    facts = {**METRICS, **INTERACTION_METRICS, **CELL_METRICS}
    loss = pd.DataFrame(
        [facts[name].loss(row) for name, row in zip(table.index, table[[HONEST, *TRICKS]].to_numpy(), strict=True)],
        index=table.index,
        columns=[HONEST, *TRICKS],
    )
    change = (-loss[list(TRICKS)]).add(loss[HONEST], axis=0)
    return np.sign(change.where(change.abs() > 1e-9 * (1 + loss[HONEST].abs().to_numpy()[:, None]), change * 0))


def warnings_of(table: pd.DataFrame) -> dict[str, list[str]]:
    """What the leaderboard says of each trick that improves some metric of the benchmark."""
    better = improves(table)
    return {
        trick: gaming_warnings(
            trick,
            [name for name in METRICS if better.loc[name, trick] > 0],
            slope=table.loc["slope", trick],
            collapse=table.loc["collapse", trick],
        )
        for trick in TRICKS
    }


def page(table: pd.DataFrame) -> str:
    better = improves(table)
    marks = {1.0: " **+**", 0.0: " =", -1.0: ""}
    rows = []
    for name, row in table.iterrows():
        cells = [f"{row[HONEST]:.3g}"]
        for trick in TRICKS:
            cells.append("undefined" if np.isnan(row[trick]) else f"{row[trick]:.3g}{marks[better.loc[name, trick]]}")
        rows.append(f"| `{name}` | {row['better']} | " + " | ".join(cells) + " |")
    said = [text for texts in warnings_of(table).values() for text in texts]
    return (
        "# Which tricks fool which metric\n\n"
        "Made by `python benchmarks/trust/gaming.py` on the simulated screen. *Honest* is a timid predictor, which "
        f"knows {TIMID:.0%} of every change and adds noise. Each trick makes something of it that knows no more: ten "
        "times or a tenth of it, more noise; or something that knows nothing of the condition: the training mean, the "
        "control, all genes up. **+**: the trick looks better than honesty; **=**: the metric does not notice it.\n\n"
        "No metric is safe alone. Perturbation discrimination rises when a timid prediction is inflated, correlations "
        "and rankings of genes do not see the size, shares of means within a range reward the prediction of nothing "
        "where effects are small. So an error (`l2_top1000`), `slope` and `collapse` stand beside every other number, "
        "and a leaderboard warns where a secondary metric improves while these are off:\n\n"
        + "".join(f"> {text}\n>\n" for text in said)
        + f"\n| metric | better | honest | {' | '.join(trick.replace('_', ' ') for trick in TRICKS)} |\n"
        + "|---" * (3 + len(TRICKS))
        + "|\n"
        + "\n".join(rows)
        + '\n\nMetrics of cells are those of cells made by `to_cells(how="shift")`; what each metric is: '
        "[Metrics](../metrics.md).\n"
    )


def main() -> None:
    table = measure(screen())
    with whole_file(PAGES / "gaming.csv") as path:
        table.round(6).to_csv(path, lineterminator="\n")
    with whole_file(PAGES / "gaming.md") as path:
        path.write_text(page(table))


if __name__ == "__main__":
    main()
