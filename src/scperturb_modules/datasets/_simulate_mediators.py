"""A screen in which every response passes through a few mediator genes: the truth for tests of attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scperturb_modules import _keys

if TYPE_CHECKING:
    from anndata import AnnData

N_MEDIATORS = 3
SIGNATURE_SD = 0.5
CELL_SD = 0.4


def simulate_mediators(
    *,
    n_perturbations: int = 300,
    n_mediators: int = 10,
    n_others: int = 40,
    n_cells: int = 10,
    n_controls: int = 400,
    seed: int = 0,
) -> AnnData:
    """Simulate perturbations that act through three of a few mediator genes each, and through nothing else.

    The change of a perturbation is the sum of the signatures of its three mediators, which are its neighbours in the
    graph. So whoever knows the graph and the signatures can predict perturbations that were never measured, and a model
    that attends to the mediators has found what matters.

    Parameters
    ----------
    n_perturbations
        Single perturbations, of the genes ``P000``, ``P001``, ...
    n_mediators
        Mediators in all, the genes ``M00``, ``M01``, ...; nobody perturbs them.
    n_others
        Genes ``B000``, ... that have no part in it. As many further edges as half the genes join random genes, but no
        perturbed gene with a mediator.
    n_cells, n_controls
        Cells per perturbation, and control cells.
    seed
        Same seed, same cells.

    Returns
    -------
    AnnData
        ``X`` float32, dense, on the scale of log1p CP10k with Gaussian noise (standard deviation 0.4 per cell, cut at
        0); ``obs["perturbation"]``. ``uns["scperturb_modules"]["simulation"]``: ``graph``, a table of ``source``,
        ``target``, ``weight``, and ``mediators``, three genes per perturbed gene.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate_mediators(n_perturbations=20, seed=0)
    >>> adata.shape, list(adata.uns["scperturb_modules"]["simulation"]["mediators"].loc["P000"])
    ((600, 70), ['M05', 'M06', 'M09'])
    """
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    mediators = np.array([f"M{i:02d}" for i in range(n_mediators)])
    perturbed = np.array([f"P{i:03d}" for i in range(n_perturbations)])
    genes = np.concatenate([mediators, perturbed, [f"B{i:03d}" for i in range(n_others)]])
    chosen = np.array([np.sort(rng.choice(n_mediators, N_MEDIATORS, replace=False)) for _ in perturbed])
    signatures = rng.normal(scale=SIGNATURE_SD, size=(n_mediators, len(genes)))
    graph = _graph(genes, perturbed, mediators[chosen], rng)
    labels = np.concatenate([np.repeat("control", n_controls), np.repeat(perturbed, n_cells)])
    change = np.concatenate([np.zeros((n_controls, len(genes))), np.repeat(signatures[chosen].sum(1), n_cells, axis=0)])
    values = rng.uniform(4, 6, len(genes)) + change + rng.normal(scale=CELL_SD, size=change.shape)
    obs = pd.DataFrame({"perturbation": labels}, index=[f"cell{i}" for i in range(len(labels))])
    adata = AnnData(np.maximum(values, 0).astype(np.float32), obs=obs, var=pd.DataFrame(index=genes))
    of_gene = pd.DataFrame(mediators[chosen], index=perturbed, columns=[f"mediator{i + 1}" for i in range(N_MEDIATORS)])
    adata.uns[_keys.ROOT] = {_keys.SIMULATION: {"graph": graph, "mediators": of_gene, "seed": seed}}
    return adata


def _graph(genes: np.ndarray, perturbed: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Edges from perturbed genes to their mediators, and random ones that tell nothing."""
    planted = np.column_stack([np.repeat(perturbed, N_MEDIATORS), chosen.ravel()])
    pairs = genes[rng.integers(0, len(genes), (len(genes) // 2, 2))]
    kinds = np.array([{one[0], other[0]} == {"P", "M"} for one, other in pairs])
    others = pairs[~kinds & (pairs[:, 0] != pairs[:, 1])]
    ends = np.concatenate([planted, others])
    table = pd.DataFrame({"source": ends[:, 0], "target": ends[:, 1], "weight": 1.0})
    table.index = table.index.astype(str)
    return table
