"""The same perturbation in another cell type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scperturb_modules._conditions import parse_row_name
from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._prediction import Response
from scperturb_modules.baselines._training import Array, contexts_of

if TYPE_CHECKING:
    from anndata import AnnData


class Transfer(Baseline):
    """Predict the change of the same condition in the other contexts, averaged, times one factor.

    The factor is the least-squares one over conditions measured in more than one training context, each predicted
    from its other contexts; 1 where no condition was. A condition measured in no other context gets the mean shift.
    """

    @classmethod
    def why_not(cls, training: AnnData, priors: Any = None, rows: Sequence[str] | None = None) -> str | None:
        """Say why the baseline has nothing to offer here: it needs a second context."""
        if len(contexts_of(training)) < 2:
            return "one context only"
        if rows is None:
            return None
        measured = [parse_row_name(str(name)) for name in training.obs_names]
        asked = [parse_row_name(str(name)) for name in rows]
        helped = any(one[0] == other[0] and one[1] != other[1] for one in asked for other in measured)
        return None if helped else "no condition was measured in another context"

    def _fit(self) -> None:
        data = self._data
        self._rows_of_condition: dict[str, list[int]] = {}
        for row, (condition, _) in enumerate(data.rows):
            self._rows_of_condition.setdefault(condition, []).append(row)
        product = square = 0.0
        for row, (condition, context) in enumerate(data.rows):
            elsewhere = self._elsewhere(condition, context)
            if elsewhere is not None:
                product += float(elsewhere @ data.delta[row])
                square += float(elsewhere @ elsewhere)
        self._factor = product / square if square > 0 else 1.0
        self.fitted["factor"] = self._factor

    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        elsewhere = self._elsewhere("+".join(genes), context)
        if elsewhere is None:
            return Response(self._data.mean_shift(self._data.source(context), len(genes)), "mean")
        return Response(self._factor * elsewhere, "transfer")

    def _elsewhere(self, condition: str, context: str | None) -> Array | None:
        """(G,) mean change of a condition over the other contexts."""
        data = self._data
        rows = [row for row in self._rows_of_condition.get(condition, []) if data.rows[row][1] != context]
        return np.mean(data.delta[rows], axis=0) if rows else None
