"""What tested conditions tell of untested ones: a Bayesian linear model of changes, and what it does not know yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from scperturb_modules._conditions import Row
from scperturb_modules._errors import DataError
from scperturb_modules.baselines._anchor import shrink_to_zero
from scperturb_modules.baselines._kernel import principal_components
from scperturb_modules.baselines._priors import fuse_tables
from scperturb_modules.baselines._training import TrainingData
from scperturb_modules.metrics import top_genes
from scperturb_modules.priors import as_tables

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Unit = tuple[str, str | None]
"""A gene in a context."""

OWN = 0.1
"""Share of a gene's effect that no other gene tells."""
COMMON = 0.3
"""Weight of what all interactions have in common, against what only pairs of like genes share."""
MIN_PAIRS = 5
"""Fewer tested pairs with both singles do not tell how strong interactions are."""
USUAL_SCALE = 0.1
"""Squared size of an interaction over the squared sum of the sizes of its singles, where too few pairs tell."""
LEAST_SCALE = 0.01
MAX_COMPONENTS = 50


def singles_and_pairs(training: AnnData) -> TrainingData:
    """The single and paired conditions of a training pseudobulk, over the 1,000 genes highest in controls.

    Raises
    ------
    DataError
        No single perturbation and no pair has a change with a known error.
    """
    data = TrainingData.from_pseudobulk(training)
    kept = np.flatnonzero((data.order <= 2) & np.isfinite(data.se2).all(axis=1))
    if not len(kept):
        raise DataError("No single perturbation and no pair has a known change; train on a screen that holds some.")
    columns = top_genes(training.var["control_mean"], data.var_names)
    block = np.ix_(kept, columns)
    return replace(
        data,
        rows=tuple(data.rows[i] for i in kept),
        genes=tuple(data.genes[i] for i in kept),
        var_names=tuple(data.var_names[i] for i in columns),
        mean=data.mean[block],
        delta=data.delta[block],
        se2=data.se2[block],
    )


class Believed(NamedTuple):
    """Mean (N, G) and total variance over genes (N,) of what is believed of N conditions."""

    mean: Array
    variance: Array


class ChangeRegression:
    """A Gaussian model of the changes of singles and pairs.

    ``h_A = f(A)`` and ``h_AB = f(A) + f(B) + g(A, B)``. Both are linear: f in features of genes, which are the
    principal component scores of their measured single changes and, where given, their prior embedding, each of unit
    length, and one feature of their own; g in symmetric products of the features of A and B, a constant among them.
    The prior variance of f is the squared size of the single's change; that of g is the squared sum of both sizes times
    a scale, which is fitted to the tested pairs. Conditions of N rows are given as (N, 2) positions of genes among the
    units; the second of a single is -1.

    Parameters
    ----------
    data
        Tested conditions.
    units
        Every gene in its context that will be asked for, beside the tested ones.
    priors
        As in :func:`rank_next`.

    Notes
    -----
    All measured genes share one covariance over conditions, so that variances are sums over genes, as squared L2 is.
    It is computed with kernels, which is the same as with features: their products are never formed.
    """

    def __init__(self, data: TrainingData, units: Iterable[Unit], priors: Any = None) -> None:
        self.data = data
        tested = {(gene, context) for genes, (_, context) in zip(data.genes, data.rows, strict=True) for gene in genes}
        self._units = sorted(tested.union(units), key=lambda unit: (unit[0], unit[1] or ""))
        self._position = {unit: i for i, unit in enumerate(self._units)}
        effects = shrink_to_zero(data.delta, data.se2)
        self._size = self._sizes(effects)
        self._features = self._gene_features(effects, priors)
        number = {gene: i for i, gene in enumerate(dict.fromkeys(gene for gene, _ in self._units))}
        self._gene = np.array([number[gene] for gene, _ in self._units] + [-1])
        self.tested = self.positions(zip(data.genes, data.rows, strict=True))
        self.new_noise = float(np.median(data.se2.sum(axis=1)))
        self.n_pairs, self._scale = self._fit_scale()
        noise = np.diag(data.se2.sum(axis=1) + 1e-9 * self.new_noise)
        self._factor = linalg.cholesky(self.covariance(self.tested, self.tested) + noise, lower=True)
        self._whitened = linalg.solve_triangular(self._factor, data.delta, lower=True)

    def positions(self, conditions: Iterable[tuple[Sequence[str], Row]]) -> Index:
        """(N, 2) of conditions given by their genes and rows."""
        found = [[self._position[gene, row[1]] for gene in genes] for genes, row in conditions]
        return np.array([(*at, -1)[:2] for at in found], dtype=np.intp).reshape(-1, 2)

    def changes(self, conditions: Index) -> Believed:
        """What is believed of whole changes."""
        return self._believed(self.covariance(self.tested, conditions), self._own_variance(conditions))

    def interactions(self, conditions: Index) -> Believed:
        """What is believed of the interactions g of pairs; 0 for singles."""
        return self._believed(self._of_pairs(self.tested, conditions), self._of_pairs_alone(conditions))

    def whitened(self, conditions: Index) -> Array:
        """(T, N) what the T tested conditions tell: the posterior covariance is the prior one minus its products."""
        return linalg.solve_triangular(self._factor, self.covariance(self.tested, conditions), lower=True)

    def covariance(self, left: Index, right: Index) -> Array:
        """(N, M) prior covariance of the changes of conditions."""
        like = self._similarity(left, right) * self._size[left][:, None, :, None] * self._size[right][None, :, None, :]
        return like.sum(axis=(2, 3)) + self._of_pairs(left, right)

    def likeness(self, left: Index, right: Index) -> Array:
        """(N, M) correlation of two pairs' interactions, or of two singles' changes; 0 for a pair and a single."""
        paired = np.outer(left[:, 1] >= 0, right[:, 1] >= 0)
        single = np.outer(left[:, 1] < 0, right[:, 1] < 0)
        return np.where(paired, self._products(left, right), 0) + np.where(
            single, self._similarity(left[:, :1], right[:, :1])[..., 0, 0], 0
        )

    def _believed(self, covariance: Array, variance: Array) -> Believed:
        told = linalg.solve_triangular(self._factor, covariance, lower=True)
        return Believed(told.T @ self._whitened, np.maximum(variance - np.sum(told**2, axis=0), 0.0))

    def _own_variance(self, conditions: Index) -> Array:
        own = self._similarity_within(conditions) * self._size[conditions][:, :, None] * self._size[conditions][:, None]
        return own.sum(axis=(1, 2)) + self._of_pairs_alone(conditions)

    def _of_pairs(self, left: Index, right: Index) -> Array:
        return self._scale * np.outer(self._pair_size(left), self._pair_size(right)) * self._products(left, right)

    def _of_pairs_alone(self, conditions: Index) -> Array:
        return self._scale * self._pair_size(conditions) ** 2

    def _pair_size(self, conditions: Index) -> Array:
        return np.where(conditions[:, 1] >= 0, self._size[conditions].sum(axis=1), 0.0)

    def _products(self, left: Index, right: Index) -> Array:
        """(N, M) correlation of symmetric products of the features of two pairs' genes."""
        like = (self._similarity(left, right) + COMMON) / (1 + COMMON)
        product = like[..., 0, 0] * like[..., 1, 1] + like[..., 0, 1] * like[..., 1, 0]
        return product / np.sqrt(np.outer(self._product_norm(left), self._product_norm(right)))

    def _product_norm(self, conditions: Index) -> Array:
        like = (self._similarity_within(conditions) + COMMON) / (1 + COMMON)
        return like[:, 0, 0] * like[:, 1, 1] + like[:, 0, 1] ** 2

    def _similarity(self, left: Index, right: Index) -> Array:
        """(N, M, n, m) of each gene of the conditions on the left with each on the right."""
        across = self._features[left.ravel()] @ self._features[right.ravel()].T
        same = self._gene[left.ravel()][:, None] == self._gene[right.ravel()]
        shape = (len(left), left.shape[1], len(right), right.shape[1])
        return ((1 - OWN) * across + OWN * same).reshape(shape).swapaxes(1, 2)

    def _similarity_within(self, conditions: Index) -> Array:
        """(N, 2, 2) of the genes of one condition."""
        features, gene = self._features[conditions], self._gene[conditions]
        same = gene[:, :, None] == gene[:, None, :]
        return (1 - OWN) * np.einsum("nif,njf->nij", features, features) + OWN * same

    def _sizes(self, effects: Array) -> Array:
        """(units + 1,) L2 size of each single's shrunken change; of an unmeasured one that of the root mean square."""
        norms = np.linalg.norm(effects, axis=1)
        singles = norms[self.data.order == 1] if (self.data.order == 1).any() else norms
        usual = float(np.sqrt(np.mean(singles**2))) or 1.0
        measured = [self.data.index.get(unit) for unit in self._units]
        sizes = [usual if row is None else max(norms[row], 0.05 * usual) for row in measured]
        return np.array([*sizes, 0.0])

    def _gene_features(self, effects: Array, priors: Any) -> Array:
        """(units + 1, F) unit rows of what is known of each gene; zeros where nothing is."""
        blocks = []
        rows = [self.data.index.get(unit) for unit in self._units]
        if (self.data.order == 1).any():
            components = principal_components(effects[self.data.order == 1], MAX_COMPONENTS)
            blocks.append(np.array([np.zeros(len(components)) if i is None else components @ effects[i] for i in rows]))
        embedding = fuse_tables(as_tables(priors))
        if embedding is not None:
            empty = np.zeros(embedding.values.shape[1])
            known = [embedding.row.get(gene) for gene, _ in self._units]
            blocks.append(np.array([empty if i is None else embedding.values[i] for i in known]))
        if not blocks:
            return np.zeros((len(rows) + 1, 1))
        features = _unit_rows(np.hstack([_unit_rows(block) for block in blocks]))
        return np.vstack([features, np.zeros(features.shape[1])])

    def _fit_scale(self) -> tuple[int, float]:
        """How many tested pairs have both singles, and what their measured interactions say of the scale."""
        data = self.data
        found = [
            (i, [data.single(gene, data.rows[i][1]) for gene in data.genes[i]]) for i in np.flatnonzero(data.order == 2)
        ]
        complete = [(i, a, b) for i, (a, b) in found if a is not None and b is not None]
        if len(complete) < MIN_PAIRS:
            return len(complete), USUAL_SCALE
        pair, a, b = np.array(complete).T
        residual = data.delta[pair] - data.delta[a] - data.delta[b]
        excess = residual**2 - data.se2[pair] - data.se2[a] - data.se2[b]
        scale = float(excess.sum() / np.sum(self._pair_size(self.tested[pair]) ** 2))
        return len(complete), max(scale, LEAST_SCALE)


def _unit_rows(values: Array) -> Array:
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
