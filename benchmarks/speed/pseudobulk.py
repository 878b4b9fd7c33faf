"""Seconds and memory of ``spm.pp.pseudobulk`` against a plain loop over conditions and batches.

Run ``python benchmarks/speed/pseudobulk.py``; 20,000 cells x 2,000 genes, a tenth of the values above zero. The limit
is one second, and less memory than one dense cells x genes array of float64.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scperturb_modules.pp import pseudobulk

LIMIT_SECONDS = 1.0


def random_screen(n_cells: int, n_genes: int, n_conditions: int, seed: int = 0) -> AnnData:
    """Sparse random values; a tenth of the cells are controls, three batches."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([f"P{i}" for i in range(n_conditions)], n_cells).astype(object)
    labels[: n_cells // 10] = "control"
    obs = pd.DataFrame({"perturbation": labels, "batch": rng.choice(list("xyz"), n_cells)})
    obs.index = obs.index.astype(str)
    values = sparse.random(n_cells, n_genes, 0.1, format="csr", dtype=np.float32, random_state=seed)
    return AnnData(values, obs=obs)


def plain_loop(adata: AnnData) -> np.ndarray:
    """Delta and its squared standard error, one condition after the other, from dense slices."""
    label, batch = (adata.obs[key].to_numpy() for key in ("perturbation", "batch"))

    def dense(mask: np.ndarray) -> np.ndarray:
        part = adata.X[mask]
        return np.asarray(part.toarray() if sparse.issparse(part) else part, dtype=np.float64)

    result = []
    for condition in sorted(set(label) - {"control"}):
        cells = label == condition
        own = dense(cells)
        control, noise = 0.0, own.var(0, ddof=1) / len(own)
        for name in np.unique(batch[cells]):
            weight = (batch[cells] == name).mean()
            matched = dense((label == "control") & (batch == name))
            control = control + weight * matched.mean(0)
            noise = noise + weight**2 * matched.var(0, ddof=1) / len(matched)
        result.append([own.mean(0) - control, noise])
    return np.array(result).swapaxes(0, 1)


def seconds(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_mib(function: Callable[[], object]) -> float:
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--conditions", type=int, default=200)
    options = parser.parse_args()
    adata = random_screen(options.cells, options.genes, options.conditions)
    values = adata.X
    dense_mib = options.cells * options.genes * 8 / 2**20
    print(f"{options.cells} cells x {options.genes} genes, {options.conditions} conditions; dense: {dense_mib:.0f} MiB")
    for name, matrix in (("csr", values), ("csc", values.tocsc()), ("dense", values.toarray())):
        adata.X = matrix

        def ours(adata: AnnData = adata) -> AnnData:
            return pseudobulk(adata, batch_key="batch")

        truth, expected = ours(), plain_loop(adata)
        for layer, loop in zip(("delta", "se2"), expected, strict=True):
            np.testing.assert_allclose(truth.layers[layer], loop, rtol=1e-9, atol=1e-12)
        fast, slow = seconds(ours, 3), seconds(lambda: plain_loop(adata), 1)
        verdict = "ok" if fast < LIMIT_SECONDS else "TOO SLOW"
        print(f"{name:6} {fast:6.2f} s  loop {slow:6.2f} s  {slow / fast:5.1f}x  {peak_mib(ours):6.0f} MiB  {verdict}")


if __name__ == "__main__":
    main()
