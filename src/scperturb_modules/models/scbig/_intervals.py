"""How far predicted changes of programs may be off, from conditions that were left out in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scperturb_modules.baselines._intervals import LeftOut, by_regime
from scperturb_modules.metrics._conformal import Conformal

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ProgramIntervals:
    """90 % intervals of program changes, by regime; made like those of genes, with programs in their place.

    Attributes
    ----------
    regimes
        Regime to what makes its intervals; a regime with fewer than ten left-out conditions has none.
    noise
        (K,) squared standard error of a program's change in the median training condition.
    """

    regimes: Mapping[str, Conformal]
    noise: Array

    @classmethod
    def fit(cls, left_out: Iterable[LeftOut], noise: Array, project: Callable[[Array], Array]) -> ProgramIntervals:
        """Calibrate on left-out conditions.

        Parameters
        ----------
        left_out
            Left-out conditions of all regimes, their changes and errors over genes.
        noise
            (P, K) squared standard error of the measured change of each training condition.
        project
            From changes (G,) to programs (K,).
        """
        projected = (LeftOut(one.row, one.regime, project(one.prediction), project(one.error)) for one in left_out)
        each = np.arange(noise.shape[1], dtype=np.intp)  # programs differ more than genes do: a factor for each
        return cls(by_regime(projected, noise, each, each, guarantee=True), np.median(noise, axis=0))

    @classmethod
    def none(cls) -> ProgramIntervals:
        """Of a model that left nothing out."""
        return cls({}, np.zeros(0))

    def half_width(self, regime: str, change: Array) -> Array:
        """(K,) of a predicted change (K,); NaN where the regime has no interval."""
        if regime not in self.regimes:
            return np.full(len(change), np.nan)
        return self.regimes[regime].half_width(change[None], self.noise, np.arange(len(change)))[0]

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"noise": self.noise.tolist(), "regimes": {name: one.to_plain() for name, one in self.regimes.items()}}

    @classmethod
    def from_plain(cls, stored: Mapping[str, Any]) -> ProgramIntervals:
        """Undo :meth:`to_plain`."""
        regimes = {regime: Conformal.from_plain(one) for regime, one in stored["regimes"].items()}
        return cls(regimes, np.array(stored["noise"], dtype=np.float64))
