"""SCBIG beside the public scBIG release and CellFlow: errors, learning curves, speed and memory.

``PYTHONPATH=benchmarks:benchmarks/peers python benchmarks/scbig/compare.py --checkout ../scBIG`` writes
``benchmarks/results/scbig.json``. Fits are kept under ``results/scbig``, one file each, so that an interrupted run goes
on where it was; delete that folder to begin anew. All fits of one comparison run one after the other on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from accuracy import METRICS, RESULTS, World
from gears_peer import ROOT, with_own_controls
from peers import CELLFLOW, CHECKOUT, OURS, RELEASE, Knowledge, Settings, fit, training_seconds
from speed import cells_per_second, machine, per_condition

import scperturb_modules as spm
from scperturb_modules._files import whole_file

CACHE = ROOT / "results" / "scbig"
TOOLS = (RELEASE, CELLFLOW, OURS)
PEARSON = "pearson_delta"


@dataclass(frozen=True)
class Fit:
    """One tool on one screen."""

    world: World
    scheme: str
    tool: str
    settings: Settings
    checkout: Path

    @property
    def path(self) -> Path:
        """Its file; a model of ours has its own settings, and only the seed of these."""
        shown = {"seed": self.settings.seed} if self.tool not in (RELEASE, CELLFLOW) else asdict(self.settings)
        named = "-".join(f"{value}_{name}" for name, value in shown.items())
        return CACHE / f"{self.world.name}--{self.scheme}--{self.tool.replace(' ', '_')}--{named}.json"

    def record(self) -> dict[str, Any]:
        """What is in the file; made and written first where there is none."""
        if not self.path.exists():
            with whole_file(self.path) as temporary:
                temporary.write_text(json.dumps(self._run()))
        return json.loads(self.path.read_text())

    def _run(self) -> dict[str, Any]:
        adata, _, (network, sets) = self.world.draw(self.scheme, self.settings.seed)
        truth = spm.pp.pseudobulk(adata)
        test = [str(name) for name in truth.obs_names[truth.obs["split"] == "test"]]
        knowledge = Knowledge.of(network, sets, adata.var_names)
        before = machine()
        with tempfile.TemporaryDirectory() as folder:
            answers, measured = fit(self.tool, adata, knowledge, test, Path(folder), self.settings, self.checkout)
        scores = [
            {"iterations": number, **row}
            for number, answer in answers.items()
            for row in scored(with_own_controls(answer), truth)  # kinder: without the sampling error of few controls
        ]
        return {"measured": measured, "machine": before, "scores": scores}


def scored(prediction: Any, truth: Any) -> list[dict[str, Any]]:
    frame = spm.tl.evaluate(prediction, truth, metrics=list(METRICS))
    return frame[["metric", "regime", "condition", "value"]].astype({"metric": str, "regime": str}).to_dict("records")


def curve(record: dict[str, Any]) -> pd.DataFrame:
    """Mean of each metric in each regime, by iterations, with the seconds of training up to there."""
    table = pd.DataFrame(record["scores"]).groupby(["iterations", "regime", "metric"], as_index=False)["value"].mean()
    numbers = sorted(table["iterations"].unique())
    for clock in ("seconds", "cpu_seconds"):
        table[clock] = table["iterations"].map(
            dict(zip(numbers, training_seconds(record["measured"], clock), strict=True))
        )
    return table


def speeds(record: dict[str, Any]) -> dict[str, Any]:
    measured = record["measured"]
    return {
        "cells_per_second": cells_per_second(measured),
        "predict_seconds_per_condition": per_condition(measured),
        "peak_rss_bytes": measured["peak_rss_bytes"],
        "measured": measured,
        "machine": record["machine"],
    }


def time_to_reach(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """When the release was best in each regime, and when ours was first as good.

    In CPU seconds, which the work of others on the machine lengthens less.
    """
    rows = []
    table = curves[curves["metric"] == PEARSON]
    for (scheme, seed, regime), group in table.groupby(["scheme", "seed", "regime"]):
        theirs, ours = (group[group["tool"] == tool] for tool in (RELEASE, OURS))
        if theirs.empty or ours.empty:
            continue
        best = theirs.loc[theirs["value"].idxmax()]
        as_good = ours.loc[ours["value"] >= best["value"], "cpu_seconds"]
        row = {"scheme": scheme, "seed": seed, "regime": regime, "best": best["value"]}
        row |= {"release_cpu_seconds": best["cpu_seconds"], "ours": ours["value"].max()}
        rows.append(row | {"ours_cpu_seconds": None if as_good.empty else as_good.min()})
    return rows


def compared(fits: Sequence[Fit]) -> dict[str, Any]:
    curves = pd.concat(
        [
            curve(one.record()).assign(scheme=one.scheme, tool=one.tool, seed=one.settings.seed)
            for one in fits
        ]
    )  # fmt: skip
    return {
        "settings": {one.tool: asdict(one.settings) for one in fits},
        "curves": curves.to_dict("records"),
        "time_to_reach": time_to_reach(curves),
        "speed": [
            {"scheme": one.scheme, "tool": one.tool, "seed": one.settings.seed} | speeds(one.record()) for one in fits
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, default=CHECKOUT, help="copy of the release, beside this repository")
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--cells", type=int, default=30, help="per condition")
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--iterations", type=int, default=2000, help="of the flow of the release and of CellFlow")
    parser.add_argument("--every", type=int, default=500, help="iterations between two points of a learning curve")
    parser.add_argument("--release-iterations", type=int, help="of the release alone; its alignment starts at 1,000")
    parser.add_argument("--release-every", type=int)
    parser.add_argument("--batch-size", type=int, default=1024, help="of the same")
    parser.add_argument("--encoder-epochs", type=int, default=100, help="of the release's autoencoder, at most")
    parser.add_argument("--controls", type=int, default=30, help="cells that a predicted mean starts from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--schemes", nargs="+", default=["combination", "unseen_gene"])
    parser.add_argument("--tools", nargs="+", default=TOOLS)
    chosen = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(chosen.threads))
    world = World("simulated", chosen.genes, chosen.cells, chosen.pairs)
    fits = [
        Fit(
            world,
            scheme,
            tool,
            Settings(
                (tool == RELEASE and chosen.release_iterations) or chosen.iterations,
                (tool == RELEASE and chosen.release_every) or chosen.every,
                chosen.batch_size,
                chosen.encoder_epochs,
                chosen.controls,
                seed,
                chosen.threads,
            ),
            chosen.checkout.resolve(),
        )
        for seed in chosen.seeds
        for scheme in chosen.schemes
        for tool in chosen.tools
    ]
    for one in fits:
        spent = training_seconds(one.record()["measured"], "cpu_seconds")
        print(f"{one.path.stem}: {spent[-1]:.0f} CPU s of training", flush=True)
    found = compared(fits)
    with whole_file(RESULTS / "scbig.json") as path:
        path.write_text(json.dumps(found, indent=1) + "\n")
    print(pd.DataFrame(found["curves"]).to_string(index=False))
    print(pd.DataFrame(found["time_to_reach"]).to_string(index=False))


if __name__ == "__main__":
    main()
