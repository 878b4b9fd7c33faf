"""What steps of the flow cost and how near they come to its true path: ``docs/benchmarks/scbig_solvers.csv``.

``PYTHONPATH=benchmarks python benchmarks/scbig/solvers.py`` trains SCBIG on a simulated screen (preset ``"programs"``)
and follows the flow of four conditions from the reference controls; the truth is RK4 with 200 steps.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import torch
from cells import DOCS, simulated

import scperturb_modules as spm
from scperturb_modules._files import whole_file
from scperturb_modules.nn import SOLVERS, guided, integrate

N_CONDITIONS, TRUE_STEPS = 4, 200


def main() -> None:
    adata, priors = simulated("programs", 0)
    spm.SCBIG.setup_anndata(adata)
    model = spm.SCBIG(adata, priors=priors, n_folds=2, n_members=1)
    model.train(max_epochs=2, progress=False)
    print(measured(model).to_string(index=False))


@torch.no_grad()
def measured(model: spm.SCBIG) -> pd.DataFrame:
    generator, flows = model.module.generator, []
    for row in model.data.rows[:N_CONDITIONS]:
        rows, change = model._seen(row, model.data.delta[model.data.index[row]])
        start, _ = model._flow(rows, change, generator.reference[:1])
        flows.append((start, generator.condition(rows)))
    start, condition = (torch.cat(parts) for parts in zip(*flows, strict=True))
    field = guided(generator.velocity, condition, None, 1.0)
    decode, n_cells = generator.autoencoder.decode, start.shape[0] * start.shape[1]

    def changes(states: torch.Tensor) -> np.ndarray:
        return (decode(states) - decode(start)).mean(dim=1).numpy()

    truth = integrate(field, start, n_steps=TRUE_STEPS)
    wanted, lines = changes(truth), []
    for solver in SOLVERS:
        for n_steps in (1, 2, 4, 8, 16, 32):
            begin = time.perf_counter()
            end = integrate(field, start, n_steps=n_steps, solver=solver)
            seconds = time.perf_counter() - begin
            found = changes(end)
            pearson = [np.corrcoef(one, other)[0, 1] for one, other in zip(found, wanted, strict=True)]
            lines.append({
                "solver": solver, "steps": n_steps, "latent error": f"{(end - truth).square().mean().sqrt():.1e}",
                "change of Pearson": f"{1 - np.mean(pearson):.1e}",
                "ms per 1,000 cells": f"{1e6 * seconds / n_cells:.1f}",
            })  # fmt: skip
    table = pd.DataFrame(lines)
    with whole_file(DOCS / "scbig_solvers.csv") as path:
        table.to_csv(path, index=False)
    return table


if __name__ == "__main__":
    main()
