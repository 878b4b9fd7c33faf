"""A sharper sum: effects of genes estimated from singles and pairs together, with nothing in it but sums.

Each gene is in several training pairs, and these say something of its own effect. A model that reads them can be better
than the sum of its measured singles without any interaction; what it has over this reference is not of that kind.
"""

from __future__ import annotations

import anndata as ad
import numpy as np

import scperturb_modules as spm

N_ROUNDS = 5


def joint_sums(training: ad.AnnData, test: list[str]) -> ad.AnnData:
    """Predict pairs of measured genes: conditions x genes with ``layers["delta"]``.

    ``single = b_A``, ``pair = f (b_A + b_B) + offset``: per output gene, a Gaussian prior of mean 0 on each effect with
    the variance of the measured singles beyond their noise, measurements weighed by their squared standard errors; the
    factor f is the least-squares one over all training pairs, in turns with the effects.
    """
    data = spm.baselines.TrainingData.from_pseudobulk(training)
    names = sorted({gene for genes in data.genes for gene in genes})
    one_hot = _design(data.genes, names)
    is_pair = (data.order > 1).astype(float)[:, None]
    single = data.order == 1
    tau2 = np.maximum((data.delta[single] ** 2 - data.se2[single]).mean(axis=0), 1e-6)
    factor = 1.0
    for _ in range(N_ROUNDS):
        scaled = np.hstack([one_hot * np.where(is_pair > 0, factor, 1.0), is_pair])
        effects = _posterior(scaled, data.delta, np.maximum(data.se2, 1e-6), tau2)
        total, rest = one_hot @ effects[:-1], data.delta - effects[-1]
        pairs = ~single
        factor = float((total[pairs] * rest[pairs]).sum() / (total[pairs] ** 2).sum())
    asked = [tuple(name.split("+")) for name in test]
    delta = factor * _design(asked, names) @ effects[:-1] + effects[-1]
    prediction = ad.AnnData(delta.astype(np.float32))
    prediction.obs_names, prediction.var_names = test, list(data.var_names)
    prediction.layers["delta"] = prediction.X.copy()
    return prediction


def _design(conditions: list[tuple[str, ...]] | tuple[tuple[str, ...], ...], names: list[str]) -> np.ndarray:
    return np.array([[float(name in genes) for name in names] for genes in conditions])


def _posterior(design: np.ndarray, change: np.ndarray, se2: np.ndarray, tau2: np.ndarray) -> np.ndarray:
    """(K + 1, G) posterior means, one output gene after the other."""
    found = np.empty((design.shape[1], change.shape[1]))
    for g in range(change.shape[1]):
        weighted = design / se2[:, g, None]
        square = design.T @ weighted + np.eye(design.shape[1]) / tau2[g]
        found[:, g] = np.linalg.solve(square, weighted.T @ change[:, g])
    return found
