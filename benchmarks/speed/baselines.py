"""Seconds and memory of every baseline on a training pseudobulk of 2000 conditions x 5000 genes.

Run ``python benchmarks/speed/baselines.py``; the limit is 60 seconds per baseline on 2 cores. Memory is the peak of
the process so far, so it only grows down the table.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import pandas as pd
from anndata import AnnData

from scperturb_modules import baselines

LIMIT_SECONDS = 60.0


def training_pseudobulk(n_conditions: int, n_genes: int, seed: int = 0) -> AnnData:
    """Random changes in the form of ``spm.pp.pseudobulk(adata, cells="training")``; every fifth row is a pair.

    Two contexts, so that all baselines apply; the second holds a tenth of the rows.
    """
    rng = np.random.default_rng(seed)
    genes = [f"G{i:05d}" for i in range(n_genes)]
    n_pairs = n_conditions // 5
    n_other = n_conditions // 10
    singles = genes[: n_conditions - n_pairs - n_other]
    pairs = {tuple(sorted(rng.choice(singles, 2, replace=False))) for _ in range(2 * n_pairs)}
    names = [(gene, "a") for gene in singles] + [("+".join(pair), "a") for pair in sorted(pairs)[:n_pairs]]
    names += [(gene, "b") for gene in singles[:n_other]]
    names.sort(key="|".join)
    obs = pd.DataFrame(names, columns=["perturbation", "cell_type"], index=["|".join(name) for name in names])
    obs["n_cells"], obs["n_controls"] = 100, 1000
    control = rng.random(n_genes)
    delta = rng.normal(scale=0.2, size=(len(obs), n_genes))
    noise = np.full(delta.shape, 0.01)
    training = AnnData(control + delta, obs=obs, var=pd.DataFrame({"control_mean": control}, index=genes))
    training.layers.update({"delta": delta, "se2": noise, "se2_control": 0.1 * noise})
    training.varm["control_mean"] = np.stack([control, control], axis=1)
    record = {"contexts": np.array(["a", "b"]), "cells": "training", "protocol": "strict", "fingerprint": ""}
    setup = {"perturbation_key": "perturbation", "control": "control", "split_key": "split"}
    training.uns["scperturb_modules"] = {"pseudobulk": record, "setup": setup}
    return training


def main() -> None:
    """Time each baseline: training, and 200 predicted rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conditions", type=int, default=2000)
    parser.add_argument("--genes", type=int, default=5000)
    arguments = parser.parse_args()
    training = training_pseudobulk(arguments.conditions, arguments.genes)
    rng = np.random.default_rng(1)
    prior = pd.DataFrame(rng.normal(size=(training.n_vars, 128)), index=training.var_names)
    genes = training.var_names[-200:]
    asked = [f"{gene}|a" for gene in genes[:100]] + [f"G00000+{gene}|b" for gene in genes[100:]]
    print(f"{'baseline':<16} {'train s':>8} {'predict s':>10} {'peak GB':>8}")
    slow = []
    for baseline in baselines.ALL:
        model = baseline(training, priors=prior)
        start = time.perf_counter()
        model.train()
        trained = time.perf_counter()
        model.predict(asked)
        done = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{baseline.name:<16} {trained - start:>8.1f} {done - trained:>10.1f} {peak:>8.2f}", flush=True)
        if done - start > LIMIT_SECONDS:
            slow.append(baseline.name)
    if slow:
        raise SystemExit(f"over {LIMIT_SECONDS:.0f} seconds: {', '.join(slow)}")


if __name__ == "__main__":
    main()
