"""Sums of single changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from scperturb_modules.baselines._anchor import Anchor, PairFit
from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._mean import NO_PAIR, only_singles
from scperturb_modules.baselines._prediction import Response, joined, sum_of

if TYPE_CHECKING:
    from anndata import AnnData


class Additive(Baseline):
    """Predict a combination as the sum of the measured changes of its single perturbations.

    An unmeasured single is replaced by the mean single. A pair of two unmeasured ones gets the mean of training
    pairs, and where fewer than five were measured twice the mean single. Only training singles of the same context
    are summed.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> spm.baselines.Additive.setup_anndata(adata)
    >>> model = spm.baselines.Additive(adata)
    >>> model.train()
    >>> model.predict(["G10+G08"]).obs_names.tolist()
    ['G08+G10']
    """

    @classmethod
    def why_not(cls, training: AnnData, priors: Any = None, rows: Sequence[str] | None = None) -> str | None:
        """Say why the baseline has nothing to offer here: without a pair it equals the mean."""
        return NO_PAIR if only_singles(rows) else None

    def _fit(self) -> None:
        self._factor = dict.fromkeys(self._data.sources, 1.0)

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        data, source = self._data, self._data.source(context)
        singles = [data.single(gene, context) for gene in genes]
        if len(genes) == 2 and singles == [None, None] and data.has_own_mean(source, 2):
            return Response(data.mean_shift(source, 2), "mean")
        parts = [data.mean_single(source) if single is None else data.delta[single] for single in singles]
        origins = ["mean" if single is None else "measured" for single in singles]
        factor = self._factor[source] if len(genes) > 1 else 1.0
        return Response(factor * sum_of(parts), joined(origins))


class AdditiveFitted(Additive):
    """The additive prediction times one factor: least squares on training pairs with both singles measured.

    With fewer than ten such pairs in a context the factor is 1; ``settings["n_pairs"]`` tells.
    """

    def _fit(self) -> None:
        data = self._data
        fits = self._fit_each_source(lambda source: PairFit.of(data, source, data.delta))
        self._factor = {source: fit.factor() for source, fit in fits.items()}
        self._record("factor", self._factor)
        self._record("n_pairs", {source: len(fit.rows) for source, fit in fits.items()})


class AdditiveShrunk(Additive):
    """The anchor of the models as a baseline: shrunken singles, summed, times a fitted factor.

    The plain sum carries the noise of two conditions, so a model can be better than additive by shrinkage alone,
    with no interaction learned. This baseline has the shrinkage. Each measured single is multiplied per gene by
    ``tau2 / (tau2 + se2)``; an unmeasured one gets the nearest-prior prediction where a prior covers it, else the
    mean single; a condition measured in training is returned as its shrunken measurement (status ``"measured"``).
    See :class:`Anchor`.
    """

    uses_prior = True

    def _fit(self) -> None:
        self.anchor = Anchor(self._data, self.priors, seed=self.seed)
        self.fitted.update(self.anchor.settings())

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        return self.anchor.of(genes, context)
