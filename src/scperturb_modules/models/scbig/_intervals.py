"""How far predicted changes of programs may be off, from conditions that were left out in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scperturb_modules.models._left_out import Judged

Array = NDArray[np.float64]

LEVEL = 0.9
"""Of the intervals."""

LEAST_CONDITIONS = 10
"""A regime with fewer left-out conditions has no interval."""


@dataclass(frozen=True)
class ProgramIntervals:
    """Half widths of intervals of program changes.

    Parameters
    ----------
    scale
        (K,) root mean square error of each program's change over the left-out conditions.
    factor
        Regime to what the scale is multiplied by.

    Notes
    -----
    Split-conformal over left-out conditions with errors in units of each program's own; all programs of a regime share
    one quantile. Left-out conditions carry the noise of their measurement, so that an interval is one of what would be
    measured.
    """

    scale: Array
    factor: Mapping[str, float]

    @classmethod
    def fit(
        cls, left_out: Iterable[Judged], factor_of: Callable[[str], float], project: Callable[[Array], Array]
    ) -> ProgramIntervals:
        """From left-out rows, the gate of each regime, and the map from changes (G,) to programs (K,)."""
        errors: dict[str, list[Array]] = {}
        for one in left_out:
            error = project(one.difference - factor_of(one.regime) * one.residual)
            errors.setdefault(one.regime, []).append(error)
        if not errors:
            return cls(np.zeros(0), {})
        scale = np.sqrt(np.mean(np.square(np.concatenate([np.stack(one) for one in errors.values()])), axis=0))
        scale = np.maximum(scale, 1e-12)
        return cls(scale, {regime: _quantile(np.abs(np.stack(one)) / scale) for regime, one in errors.items()})

    def half_width(self, regime: str) -> Array:
        """(K,); NaN where the regime has no interval."""
        return self.factor.get(regime, np.nan) * self.scale

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"scale": self.scale.tolist(), "factor": {k: v for k, v in self.factor.items() if np.isfinite(v)}}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> ProgramIntervals:
        """Undo :meth:`to_plain`."""
        return cls(np.array(stored["scale"], dtype=np.float64), dict(stored["factor"]))


def _quantile(relative: Array) -> float:
    """Of errors (n, K): the quantile over conditions, with the correction for n, averaged over programs."""
    n = len(relative)
    if n < LEAST_CONDITIONS:
        return float("nan")
    rank = min(int(np.ceil((n + 1) * LEVEL)), n) - 1
    return float(np.sort(relative, axis=0)[rank].mean())
