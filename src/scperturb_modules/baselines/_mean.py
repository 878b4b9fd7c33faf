"""Baselines that know no gene: no change, the mean change, the mean of two profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._prediction import Response, joined, sum_of
from scperturb_modules.baselines._training import Source
from scperturb_modules.priors._fusion import mean_factor

if TYPE_CHECKING:
    from anndata import AnnData

NO_PAIR = "no pair to add up"


class NoChange(Baseline):
    """Predict that nothing happens: a change of zero everywhere.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> spm.baselines.NoChange.setup_anndata(adata)
    >>> model = spm.baselines.NoChange(adata)
    >>> model.train()
    >>> float(abs(model.predict(["G08", "G08+G10"]).layers["delta"]).max())
    0.0
    """

    def _fit(self) -> None:
        pass

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        return Response(np.zeros(len(self._data.var_names)), "none")


class MeanShift(Baseline):
    """Predict the unweighted mean change of the training conditions with as many perturbed genes.

    Singles get the mean of singles; pairs the mean of pairs, and where fewer than five pairs were measured the mean
    of singles. The strongest baseline without any knowledge of the gene (Ahlmann-Eltze et al. 2025).
    """

    def _fit(self) -> None:
        pass

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        return Response(self._data.mean_shift(self._data.source(context), len(genes)), "mean")


class MeanFitted(Baseline):
    """Predict the mean change, times a factor from 0 to 1 that is fitted by leaving each training condition out.

    Where effects have little in common the mean of them is further from a new one than no change is. The factor of
    singles, and of pairs where at least five were measured, minimises squared errors over the size of the effect.
    This is :class:`NearestPrior` without a prior, and what it has to be compared with.
    """

    def _fit(self) -> None:
        data = self._data
        orders = sorted(set(map(int, data.order)))
        self._factors = self._fit_each_source(
            lambda source: {order: self._factor(source, order) for order in orders if data.has_own_mean(source, order)}
        )
        self._record("factor", {source: factors.get(1, 1.0) for source, factors in self._factors.items()})

    def _factor(self, source: Source, order: int) -> float:
        rows = self._data.rows_of(source, order=order)
        effects = self._data.delta[rows]
        return mean_factor(effects @ effects.T, [self._data.rows[row][0] for row in rows])

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        source = self._data.source(context)
        factors = self._factors[source]
        factor = factors.get(len(genes), factors.get(1, 1.0))
        return Response(factor * self._data.mean_shift(source, len(genes)), "mean")


class MatchingMean(Baseline):
    """Average the profiles of the single perturbations, the mean perturbed profile standing in for an unseen one.

    Systema's baseline for pairs (Viñas Torné et al. 2025): an average of profiles, not a sum of changes.
    """

    @classmethod
    def why_not(cls, training: AnnData, priors: Any = None, rows: Sequence[str] | None = None) -> str | None:
        """Say why the baseline has nothing to offer here: without a pair it equals the mean."""
        return NO_PAIR if only_singles(rows) else None

    def _fit(self) -> None:
        data = self._data
        self._perturbed_mean = self._fit_each_source(lambda source: data.delta[data.rows_of(source)].mean(axis=0))

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        data = self._data
        singles = [data.single(gene, context) for gene in genes]
        parts = [
            self._perturbed_mean[data.source(context)] if single is None else data.delta[single] for single in singles
        ]
        origins = ["mean" if single is None else "measured" for single in singles]
        return Response(sum_of(parts) / len(parts), joined(origins))


def only_singles(rows: Sequence[str] | None) -> bool:
    """Whether rows to predict are known and hold no condition of two or more genes."""
    return rows is not None and not any("+" in str(name).partition("|")[0] for name in rows)
