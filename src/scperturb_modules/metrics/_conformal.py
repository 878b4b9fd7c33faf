"""Intervals that hold: split conformal over conditions, with errors in units of what was to be expected.

The unit is the condition. A condition that was left out in training is as good as a new one, so that the quantile of
its errors is the quantile of the errors to come (Vovk et al. 2005; Lei et al. 2018). Errors are divided by a scale
first, so that the intervals are wide where errors are large: for the gene, for the size of the predicted change, and
for the cells that the mean is taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LEVEL = 0.9
"""Of the intervals that a Prediction carries."""

LEVELS = (0.5, 0.6, 0.7, 0.8, LEVEL, 0.95)
"""For which a factor is kept; coverage is looked at for all of them."""

MIN_CONDITIONS = 10
"""Fewer left-out conditions than this give no interval."""

FIRM_CONDITIONS = 30
"""With fewer the quantile is a coarse one."""

N_THIRDS = 3
MIN_THIRD = 50
"""Thirds of the genes by expression have quantiles of their own, unless they have fewer genes than this."""

PRIOR_CONDITIONS = 10
"""Weight of the variance common to all genes in that of a gene, in conditions."""

N_FOLDS = 5
N_ROUNDS = 3
LEAST_SHARE = 0.05
"""Of the common variance, that a gene is given at least."""
LEAST_FACTOR = 1e-6
"""Where nearly all errors are 0: an expected error can be told from a width as long as that is above 0."""


@dataclass(frozen=True)
class ErrorScale:
    """The expected squared error of a predicted change: ``gene + on_effect * prediction**2 + noise``.

    Attributes
    ----------
    gene
        (G,) variance that a gene has in any condition.
    on_effect
        What large predicted changes add.
    """

    gene: Array
    on_effect: float

    @classmethod
    def fit(cls, error: Array, prediction: Array, noise: Array, weight: Array) -> ErrorScale:
        """Weighted least squares of ``error**2 - noise`` on the two parts, neither of them negative.

        Parameters
        ----------
        error, prediction, noise
            (n, G) error and predicted change of left-out conditions, and the squared standard error of what was
            measured.
        weight
            (n,) of the conditions.
        """
        square = error**2 - noise
        total = weight.sum()
        common = float(weight @ square.mean(axis=1) / total)
        common = max(common, 1e-3 * float(noise.mean()), 1e-12)
        gene = (weight @ square + PRIOR_CONDITIONS * common) / (total + PRIOR_CONDITIONS)
        gene = np.maximum(gene, LEAST_SHARE * common)
        effect = prediction**2
        on_gene, on_effect = 1.0, 0.5
        for _ in range(N_ROUNDS):
            trust = weight[:, None] / (on_gene * gene + on_effect * effect + noise) ** 2
            on_gene, on_effect = _two_parts(trust, gene, effect, square)
        return cls(on_gene * gene, on_effect)

    def of(self, prediction: Array, noise: Array) -> Array:
        """(P, G) expected error (its square root) of predicted changes (P, G) measured with ``noise``."""
        return np.sqrt(self.gene + self.on_effect * prediction**2 + noise)


def _two_parts(trust: Array, gene: Array, effect: Array, square: Array) -> tuple[float, float]:
    """Non-negative factors of the two parts."""
    on_gene = float((trust.sum(axis=0) * gene) @ gene)
    both = float((trust * effect).sum(axis=0) @ gene)
    on_effect = float((trust * effect**2).sum())
    told_gene = float((trust * square).sum(axis=0) @ gene)
    told_effect = float((trust * effect * square).sum())
    determinant = on_gene * on_effect - both**2
    if determinant > 1e-9 * on_gene * on_effect:
        first = (told_gene * on_effect - told_effect * both) / determinant
        second = (told_effect * on_gene - told_gene * both) / determinant
        if first >= LEAST_SHARE and second >= 0:
            return first, second
        if first < LEAST_SHARE:
            return LEAST_SHARE, max((told_effect - LEAST_SHARE * both) / on_effect, 0.0)
    return max(told_gene / on_gene, LEAST_SHARE), 0.0


@dataclass(frozen=True)
class Conformal:
    """What makes intervals of one regime.

    Attributes
    ----------
    scale
        Expected errors.
    factors
        (L, B) for each of :data:`LEVELS` and each group of genes: what the expected error is multiplied by.
    constant
        (L,) half width of intervals that are equally wide everywhere: what the scale is compared with.
    bound
        Factor of the bound on the L2 error over the top genes at :data:`LEVEL`.
    n
        Left-out conditions.
    """

    scale: ErrorScale
    factors: Array
    constant: Array
    bound: float
    n: int

    @classmethod
    def fit(
        cls,
        error: Array,
        prediction: Array,
        noise: Array,
        condition: Index,
        groups: Index,
        top: Index,
        *,
        guarantee: bool = False,
    ) -> Conformal | None:
        """Calibrate on left-out conditions.

        Parameters
        ----------
        error, prediction, noise
            (n, G) measured minus predicted change, predicted change, and the squared standard error that measuring
            adds.
        condition
            (n,) number of the condition; one that was left out in several ways counts once.
        groups
            (G,) 0, 1, ...: genes of one group share a factor (:func:`expression_thirds`).
        top
            Columns of the top genes.
        guarantee
            False aims at the level. True counts the new condition as one more, missed, so that coverage is at least
            the level on average over draws of the conditions: for groups of one column and few conditions.

        Returns
        -------
        Conformal or None
            None with fewer than :data:`MIN_CONDITIONS` conditions.

        Notes
        -----
        The factor of a level and group is the smallest one at which the share of its genes outside of the interval,
        averaged over conditions, is at most 1 - level. Each condition's errors are divided by a scale that was fitted
        without its fifth of the conditions. The bound is the ``ceil((n + 1) level)``-th smallest of the L2 errors over
        expected.
        """
        found, number, times = np.unique(condition, return_inverse=True, return_counts=True)
        if len(found) < MIN_CONDITIONS:
            return None
        weight = 1.0 / times[number]
        fold = (np.random.default_rng(0).permutation(len(found)) % N_FOLDS)[number]
        expected = np.empty_like(error)
        for one in range(N_FOLDS):
            rest, own = fold != one, fold == one
            scale = ErrorScale.fit(error[rest], prediction[rest], noise[rest], weight[rest])
            expected[own] = scale.of(prediction[own], noise[own])
        size = np.abs(error)
        relative = np.maximum(size / expected, LEAST_FACTOR)
        levels = np.array(LEVELS)
        if guarantee:
            levels = np.minimum(levels * (len(found) + 1) / len(found), 1.0)
        factors = np.stack(
            [quantiles(relative[:, groups == group], weight, levels) for group in range(int(groups.max()) + 1)], axis=1
        )
        whole = np.sqrt((error[:, top] ** 2).sum(axis=1) / (expected[:, top] ** 2).sum(axis=1))
        # the ways in which a condition was left out are one error
        worst = np.sort(np.bincount(number, weight * whole))
        rank = min(int(np.ceil((len(found) + 1) * LEVEL)), len(found)) - 1
        return cls(
            ErrorScale.fit(error, prediction, noise, weight),
            factors,
            quantiles(size, weight, np.array(LEVELS)),
            float(worst[rank]),
            len(found),
        )

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "gene": self.scale.gene.tolist(), "on_effect": self.scale.on_effect, "factors": self.factors.tolist(),
            "constant": self.constant.tolist(), "bound": self.bound, "n": self.n,
        }  # fmt: skip

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> Conformal:
        """Undo :meth:`to_plain`."""
        scale = ErrorScale(np.array(stored["gene"]), stored["on_effect"])
        return cls(scale, np.array(stored["factors"]), np.array(stored["constant"]), stored["bound"], stored["n"])

    def half_width(self, prediction: Array, noise: Array, groups: Index, level: float = LEVEL) -> Array:
        """(P, G) half width of the intervals of predicted changes (P, G) that are measured with ``noise``."""
        return self.factors[LEVELS.index(level)][groups] * self.scale.of(prediction, noise)

    def error_bound(self, prediction: Array, noise: Array, top: Index) -> Array:
        """(P,) bound on the L2 error over the top genes."""
        expected = self.scale.of(prediction, noise)[:, top]
        return self.bound * np.sqrt((expected**2).sum(axis=1))


def quantiles(values: Array, weight: Array, levels: Array) -> Array:
    """(L,) for each level the smallest value that at least so much of the weight does not exceed.

    Parameters
    ----------
    values
        (n, G) not negative.
    weight
        (n,) of the rows; all columns count the same.
    levels
        (L,) from 0 to 1.

    Examples
    --------
    >>> quantiles(np.arange(1.0, 11.0)[:, None], np.ones(10), np.array([0.5, 0.9])).tolist()
    [5.0, 9.0]
    """
    order = np.argsort(values, axis=None, kind="stable")
    cumulated = np.cumsum(np.repeat(weight, values.shape[1])[order])
    place = np.searchsorted(cumulated, levels * cumulated[-1] * (1 - 1e-12))
    return values.ravel()[order][place]


def expression_thirds(control_mean: Array) -> Index:
    """(G,) third of each gene by mean expression in controls, 0 the lowest; all 0 with too few genes.

    >>> expression_thirds(np.arange(300.0))[[0, 150, 299]].tolist(), set(expression_thirds(np.arange(30.0)).tolist())
    ([0, 1, 2], {0})
    """
    n = len(control_mean)
    thirds = np.zeros(n, dtype=np.intp)
    if n >= N_THIRDS * MIN_THIRD:
        thirds[np.argsort(control_mean, kind="stable")] = N_THIRDS * np.arange(n) // n
    return thirds
