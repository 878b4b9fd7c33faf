"""Errors of GEARS and of predictors of ours on the same screens, splits, training cells and networks.

``python benchmarks/peers/accuracy.py simulated`` or ``... norman``. Fits are kept
under ``results/peers/accuracy``, one file each, so that an interrupted run goes on where it was; delete that folder to
begin anew. Writes ``benchmarks/results/gears_accuracy_<world>.csv``; with
``--model SCBIG`` gains are those of SCBIG, in ``scbig_accuracy_<world>.csv``.

GEARS trains on what our models train on, without the validation conditions of the split, from which it chooses its
epoch (a tenth of the training conditions where the split has none). Ours train on these too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from gears_peer import PYTHON, ROOT, Settings, gears, with_own_controls

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.metrics import PRIMARY
from scperturb_modules.models import biodsnn, scbig

CACHE = ROOT / "results" / "peers" / "accuracy"
RESULTS = ROOT / "benchmarks" / "results"
SHARED = ROOT.parent / "shared"
GEARS, OWN_CONTROLS = "GEARS", "GEARS, own controls"
"""As it answers, and with the control cells taken off that it draws for each answer, which is kinder to it."""
BASELINES = (
    "AdditiveShrunk", "Additive", "AdditiveFitted", "NearestPrior", "MeanFitted", "MeanShift", "Linear", "NoChange"
)  # fmt: skip
PREDICTORS = (GEARS, "SCBIG", "BioDSNN", "APP", *BASELINES)
UNGATED = ", gate off"
WITHOUT_CELLS = {"BioDSNN": {"use_vae": False, "modulation_rank": 0}, "SCBIG": {"generate": False}}
"""What is learned of cells does not move predicted means: left out to save time."""
VARIANTS = {
    **{name: (spm.BioDSNN, changed) for name, changed in biodsnn.ABLATIONS.items() if name != "noVAE"},
    **{
        f"SCBIG, {name}": (spm.SCBIG, changed)
        for name, changed in scbig.ABLATIONS.items()
        if name not in ("noCorrelation", "noDistribution", "noFlow")
    },
}
"""Ablations of the models; those that change cells alone have the predicted means of their model."""
METRICS = (PRIMARY, "mse_de20", "pearson_delta")
ERRORS = METRICS[:2]
"""Metrics of which a gain is a share."""


@dataclass(frozen=True)
class World:
    """Screens, one for each seed, or a measured one for all."""

    kind: str
    n_genes: int
    n_cells: int
    n_pairs: int

    @property
    def name(self) -> str:
        """For files."""
        return self.kind if self.kind == "norman" else f"{self.kind}_{self.n_genes}_{self.n_cells}_{self.n_pairs}"

    @property
    def schemes(self) -> tuple[str, ...]:
        """Splits that show every regime that the screen has."""
        return ("pairs",) if self.kind == "norman" else ("combination", "unseen_gene")

    def draw(self, scheme: str, seed: int) -> tuple[ad.AnnData, pd.DataFrame, list[Any]]:
        """Cells with their split, what is known before as a network for GEARS, and the same as priors of ours."""
        if self.kind == "norman":
            return norman()
        sizes = {"n_genes": self.n_genes, "n_cells": self.n_cells, "n_pairs": self.n_pairs}
        adata = spm.datasets.simulate("default", seed=seed, **sizes)
        spm.pp.split(adata, scheme, seed=seed)
        partial = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
        pathways = modules(adata)
        return adata, joined(partial, pathways.to_graph().to_table()), [partial, pathways]


@dataclass(frozen=True)
class Fit:
    """One predictor on one screen."""

    world: World
    scheme: str
    seed: int
    predictor: str
    epochs: int
    python: Path

    @property
    def path(self) -> Path:
        """Its file."""
        epochs = f"-{self.epochs}_epochs" if self.predictor == GEARS else ""
        return CACHE / f"{self.world.name}--{self.scheme}--{self.predictor}{epochs}--{self.seed}.json"

    def record(self) -> dict[str, Any]:
        """What is in the file; made and written first where there is none."""
        if not self.path.exists():
            with whole_file(self.path) as temporary:
                temporary.write_text(json.dumps(self._run()))
        return json.loads(self.path.read_text())

    def _run(self) -> dict[str, Any]:
        adata, network, priors = self.world.draw(self.scheme, self.seed)
        truth = spm.pp.pseudobulk(adata)
        test = [str(name) for name in truth.obs_names[truth.obs["split"] == "test"]]
        start = time.perf_counter()
        answer = self._gears if self.predictor == GEARS else self._ours
        answers, measured = answer(adata, network if self.predictor == GEARS else priors, test)
        seconds = time.perf_counter() - start
        with whole_file(self.path.with_suffix(".h5ad")) as temporary:  # for metrics thought of later
            answers[self.predictor].write_h5ad(temporary)
        scores = [row for name, one in answers.items() for row in scored(name, one, truth)]
        return {"seconds": seconds, "measured": measured, "scores": scores}

    def _gears(
        self, adata: ad.AnnData, network: pd.DataFrame, test: Sequence[str]
    ) -> tuple[dict[str, ad.AnnData], Any]:
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(epochs=self.epochs, seed=self.seed)
            prediction, measured = gears(adata, network, test, Path(folder), settings, self.python)
        return {GEARS: prediction, OWN_CONTROLS: with_own_controls(prediction)}, measured

    def _ours(self, adata: ad.AnnData, priors: list[Any], test: Sequence[str]) -> tuple[dict[str, ad.AnnData], Any]:
        kind, settings = variant_of(self.predictor)
        kind.setup_anndata(adata)
        model = kind(adata, priors=priors, seed=self.seed, **settings)
        model.train()
        answers = {self.predictor: model.predict(test)}
        gates = getattr(model, "gates", {})
        if gates:
            answers[f"{self.predictor}{UNGATED}"] = model.predict(test, gate=False)
        return answers, {"gates": {regime: [gate.factor, gate.n] for regime, gate in gates.items()}}


def variant_of(predictor: str) -> tuple[Any, dict[str, Any]]:
    """The class of a predictor of ours, and its settings."""
    plain = getattr(spm.baselines, predictor, None) or getattr(spm, predictor, None)
    kind, changed = VARIANTS.get(predictor, (plain, {}))
    without = {} if changed.get("mean_of") == "cells" else WITHOUT_CELLS.get(kind.__name__, {})
    return kind, {**changed, **without}


def modules(adata: ad.AnnData) -> spm.priors.GeneSets:
    """The modules of a simulated screen as pathways: a complete and correct data base."""
    return spm.priors.gene_sets(
        {f"module {number}": list(genes) for number, genes in adata.var_names.groupby(adata.var["module"]).items()},
        name="modules",
    )


def joined(*networks: pd.DataFrame) -> pd.DataFrame:
    """Edges of several networks; of an edge that stands in several the largest weight counts."""
    edges = pd.concat(networks)[["source", "target", "weight"]]
    ends = np.sort(edges[["source", "target"]].to_numpy(dtype=str), axis=1)
    edges = edges.assign(source=ends[:, 0], target=ends[:, 1])
    return edges.groupby(["source", "target"], as_index=False)["weight"].max()


def scored(name: str, prediction: ad.AnnData, truth: ad.AnnData) -> list[dict[str, Any]]:
    frame = spm.tl.evaluate(prediction, truth, metrics=list(METRICS))
    columns = frame[["metric", "regime", "condition", "value"]].astype({"metric": str, "regime": str})
    return columns.assign(predictor=name).to_dict("records")


def norman() -> tuple[ad.AnnData, pd.DataFrame, list[Any]]:
    """CRISPRa in K562: all singles train, all 15 pairs test; genes with similar GO terms, as GEARS chooses them.

    Ours have Reactome too, of which GEARS cannot make use.
    """
    adata = ad.read_h5ad(SHARED / "data" / "norman_mcfaline_devel" / "devel_with_counts.h5ad")
    adata = adata[adata.obs["dataset"] == "norman19"].copy()
    spm.pp.standardize_perturbations(adata, "condition", overwrite=True)
    labels = adata.obs["perturbation"].cat.categories.drop("control")
    assignment = {label: "test" if "+" in label else "train" for label in labels}
    spm.pp.split(adata, "custom", assignment=assignment, holdout_controls=0)  # of 100 controls
    priors = SHARED / "priors"
    graph = spm.priors.gene_ontology(
        sorted({*adata.var_names, *(gene for label in labels for gene in label.split("+"))}),
        priors / "go_gene2term.tsv.gz",
        priors / "go_terms.tsv.gz",
        aspects=("BP", "MF", "CC"),
        names=spm.priors.GeneNames.from_tables(priors / "gene_ids.tsv.gz", priors / "gene_alias.tsv.gz"),
    )
    pathways = spm.priors.reactome(
        list(adata.var_names), priors / "reactome_pathways.gmt.gz", priors / "reactome_pathway_relation.tsv.gz"
    )
    return adata, graph.to_table(), [graph, pathways]


def score_table(fits: Sequence[Fit]) -> pd.DataFrame:
    """A row for each score of each fit."""
    rows = [{"scheme": fit.scheme, "seed": fit.seed, **row} for fit in fits for row in fit.record()["scores"]]
    return pd.DataFrame(rows).dropna(subset="value")  # conditions of too few cells


def summary(scores: pd.DataFrame, model: str) -> pd.DataFrame:
    """Mean of each predictor by scheme, regime and metric, and how much lower the error of the model is.

    A condition of one seed is one unit of the interval.
    """
    return pd.DataFrame(_lines(scores, model))


def _lines(scores: pd.DataFrame, model: str) -> Iterator[dict[str, Any]]:
    for (scheme, regime, metric), group in scores.groupby(["scheme", "regime", "metric"]):
        table = group.pivot(index=["seed", "condition"], columns="predictor", values="value")
        units = [f"{seed}|{condition}" for seed, condition in table.index]
        for name, values in table.items():
            line = {"scheme": scheme, "regime": regime, "metric": metric, "predictor": name, "mean": values.mean()}
            line |= {"n": len(values), "seeds": table.index.get_level_values("seed").nunique()}
            if metric in ERRORS and model in table and name != model:
                gain = spm.metrics.compare(table[model].to_numpy(), values.to_numpy(), units)
                line |= {f"gain_of_{model.lower()}": gain.gain, "low": gain.low, "high": gain.high}
            yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("world", choices=("simulated", "norman"))
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--cells", type=int, default=30, help="per condition")
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--epochs", type=int, default=10, help="of GEARS; it halves its rate after each")
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--schemes", nargs="+", help="default: all of the world")
    parser.add_argument("--predictors", nargs="+", default=PREDICTORS)
    parser.add_argument("--model", default="BioDSNN", help="whose gains over the others are asked for")
    parser.add_argument("--python", type=Path, default=PYTHON, help="of the environment of GEARS")
    chosen = parser.parse_args()
    world = World(chosen.world, chosen.genes, chosen.cells, chosen.pairs)
    fits = [
        Fit(world, scheme, seed, predictor, chosen.epochs, chosen.python)
        for seed in chosen.seeds
        for scheme in chosen.schemes or world.schemes
        for predictor in chosen.predictors
    ]
    for fit in fits:
        print(f"{fit.path.stem}: {fit.record()['seconds']:.0f} s", flush=True)
    table = summary(score_table(fits), chosen.model)
    prefix = "gears" if chosen.model == "BioDSNN" else chosen.model.lower()
    with whole_file(RESULTS / f"{prefix}_accuracy_{world.name}.csv") as path:
        table.to_csv(path, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
