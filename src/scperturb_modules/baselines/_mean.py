"""Baselines that know no gene: no change, the mean change, the mean of two profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._prediction import Response, joined, sum_of

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
