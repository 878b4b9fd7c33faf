"""Generated cells of held-out conditions against real ones: energy distance, spread, coordination of programs.

``PYTHONPATH=benchmarks python benchmarks/scbig/cells.py`` writes ``docs/benchmarks/scbig_cells.csv`` and
``scbig_rewiring.csv``. Simulated screens (presets ``"programs"`` and ``"default"``, all singles and half of the pairs
train) and Papalexi's knock-outs, each held out once in folds.

Energy distances are of the first 30 principal components of training cells (log1p CP10k), U-statistic, of 300
generated and at most 300 real cells; "two halves" is that of the real cells among themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.nn import energy_distance

ROOT = Path(__file__).parents[2]
DOCS, SHARED = ROOT / "docs" / "benchmarks", ROOT.parent / "shared"
N_CELLS, N_COMPONENTS = 300, 30
FOLDS = (
    ("IFNGR1", "STAT3", "CD86", "SMAD4", "ATF2"),
    ("IFNGR2", "IRF1", "CAV1", "NFKBIA", "STAT5A"),
    ("JAK2", "STAT2", "CUL3", "MARCH8", "PDCD1LG2"),
    ("STAT1", "BRD4", "IRF7", "TNFRSF14", "ETV7"),
)
"""Papalexi: each has one of the four targets that carry the interferon-gamma signal."""
INTERFERON = ("IFNGR1", "IFNGR2", "JAK2", "STAT1")


def papalexi(fold: int) -> tuple[ad.AnnData, list[Any]]:
    """THP-1 knock-outs with a fold held out, and STRING among the targets and measured genes."""
    adata = ad.read_h5ad(SHARED / "data" / "papalexi2021" / "papalexi_299genes.h5ad")
    spm.pp.standardize_perturbations(adata, "perturbation", control="non-targeting", overwrite=True)
    spm.pp.normalize(adata)
    labels = set(adata.obs["perturbation"].astype(str)) - {"control"}
    held_out = dict.fromkeys(labels, "train") | dict.fromkeys(FOLDS[fold], "test")
    spm.pp.split(adata, "custom", assignment=held_out, seed=fold)
    edges = pd.read_csv(SHARED / "priors" / "string_v12_scored_no_textmining.tsv.gz", sep="\t")
    return adata, [spm.priors.interactions(edges, sorted(labels | set(adata.var_names)))]


def simulated(preset: str, seed: int) -> tuple[ad.AnnData, list[Any]]:
    adata = spm.datasets.simulate(preset, seed=seed, n_genes=300 if preset == "programs" else 600)
    spm.pp.split(adata, "combination", seed=seed)
    return adata, [adata.uns["scperturb_modules"]["simulation"]["graph_partial"]]


def predictors(adata: ad.AnnData, priors: list[Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """SCBIG, and the baselines whose changes move the same control cells."""
    spm.SCBIG.setup_anndata(adata)
    model = spm.SCBIG(adata, priors=priors, seed=seed)
    model.train(progress=False)
    others = {}
    for name in ("Additive", "AdditiveShrunk", "MeanShift"):
        kind = getattr(spm.baselines, name)
        kind.setup_anndata(adata)
        others[name] = kind(adata, seed=seed)
        others[name].train()
    return model, others


def judged(adata: ad.AnnData, model: Any, others: dict[str, Any], test: list[str]) -> Iterator[dict[str, Any]]:
    """A row for each test condition."""
    project = _components(adata)
    generated = model.predict_cells(test, n_cells=N_CELLS)
    changes = {name: other.predict(test).layers["delta"] for name, other in others.items()}
    changes["SCBIG, shifted controls"] = model.predict(test, store=False).layers["delta"]
    rng = np.random.default_rng(0)
    for i, name in enumerate(test):
        cells = adata[(adata.obs["perturbation"] == name).to_numpy()]
        real = _dense(cells)[rng.permutation(cells.n_obs)[:N_CELLS]]
        own = generated[(generated.obs["perturbation"] == name).to_numpy()]
        controls = _dense(adata[own.obs["control_cell"].tolist()])
        candidates = {"SCBIG": _dense(own), "controls": controls}
        candidates |= {of: np.maximum(controls + np.asarray(change[i]), 0) for of, change in changes.items()}
        distances = {of: _energy(project(cells), project(real)) for of, cells in candidates.items()}
        half = len(real) // 2
        yield {
            "condition": name,
            **distances,
            "two halves": _energy(project(real[:half]), project(real[half:])),
            "variance": candidates["SCBIG"].var(axis=0).sum() / real.var(axis=0).sum(),
            "variance, shifted": candidates["SCBIG, shifted controls"].var(axis=0).sum() / real.var(axis=0).sum(),
        }


def rewiring(adata: ad.AnnData, model: Any, test: list[str]) -> Iterator[dict[str, Any]]:
    """How well planted changes of the correlation between programs are recovered, for each condition."""
    truth = adata.uns["scperturb_modules"]["simulation"]
    planted, found = adata.var["module"].to_numpy(), model.programs.code
    shared = np.zeros((planted.max() + 1, found.max() + 1))
    np.add.at(shared, (planted, found), 1)
    of_planted, of_found = linear_sum_assignment(-shared)
    upper = np.triu_indices(len(of_planted), 1)
    answer, rows = model.module_correlation(test, store=False), list(truth["rows"])
    for i, name in enumerate(test):
        change = truth["program_correlation"][rows.index(name)] - truth["program_correlation_control"]
        wanted = change[np.ix_(of_planted, of_planted)][upper]

        def own(matrix: np.ndarray) -> np.ndarray:
            return matrix[np.ix_(of_found, of_found)][upper]

        control, predicted, observed = (own(answer[name][i]) for name in ("control", "predicted", "observed"))
        truly = truth["program_correlation"][rows.index(name)][np.ix_(of_planted, of_planted)][upper]
        yield {
            "condition": name,
            "change, predicted": np.corrcoef(wanted, predicted - control)[0, 1],
            "change, measured": np.corrcoef(wanted, observed - control)[0, 1],
            "matrix, predicted": np.corrcoef(truly, predicted)[0, 1],
            "matrix, control's": np.corrcoef(truly, control)[0, 1],
        }


def _components(adata: ad.AnnData) -> Callable[[np.ndarray], np.ndarray]:
    training = np.flatnonzero((adata.obs["split"] != "test").to_numpy())
    cells = _dense(adata[np.random.default_rng(0).permutation(training)[:4000]])
    mean = cells.mean(axis=0)
    axes = np.linalg.svd(cells - mean, full_matrices=False)[2][:N_COMPONENTS].T
    return lambda x: (x - mean) @ axes


def _energy(x: np.ndarray, y: np.ndarray) -> float:
    return float(energy_distance(torch.tensor(x), torch.tensor(y), unbiased=True))


def _dense(adata: ad.AnnData) -> np.ndarray:
    return np.asarray(adata.X.toarray() if hasattr(adata.X, "toarray") else adata.X, dtype=np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--presets", nargs="+", default=["programs", "default"])
    parser.add_argument("--folds", type=int, nargs="+", default=range(len(FOLDS)))
    chosen = parser.parse_args()
    screens = [(preset, seed, simulated) for seed in chosen.seeds for preset in chosen.presets]
    screens += [("Papalexi", fold, lambda _, fold: papalexi(fold)) for fold in chosen.folds]
    cells, wiring = [], []
    for name, seed, draw in screens:
        adata, priors = draw(name, seed)
        model, others = predictors(adata, priors, seed)
        truth = adata.obs["perturbation"][adata.obs["split"] == "test"].astype(str).unique()
        test = sorted(one for one in truth if one != "control")
        cells += [{"screen": name, "seed": seed, **row} for row in judged(adata, model, others, test)]
        if name == "programs":
            wiring += [{"seed": seed, **row} for row in rewiring(adata, model, test)]
        print(pd.DataFrame(cells).groupby("screen").mean(numeric_only=True).round(3).T, flush=True)
        # after each screen, so that an interrupted run leaves what it found
        for file, rows in (("scbig_cells.csv", cells), ("scbig_rewiring.csv", wiring)):
            with whole_file(DOCS / file) as path:
                pd.DataFrame(rows).to_csv(path, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
