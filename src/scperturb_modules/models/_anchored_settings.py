"""The settings that every model on an anchor has, and how settings are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from scperturb_modules._errors import DataError, name_some


@dataclass(frozen=True)
class AnchoredSettings:
    """Settings of anchor, gate and ensemble.

    Parameters
    ----------
    anchor
        ``"auto"``: the anchor of :class:`scperturb_modules.baselines.Anchor` with all priors; ``"mean"``: the same
        without priors; ``"additive"``: measured singles only, nothing for the others; ``"zero"``: the network alone.
    gate
        Whether the network's part is multiplied by the factor that cross-fitting allows; off: by 1.
    n_members
        Members that are trained on all conditions; the prediction is their mean.
    n_folds
        Folds of genes, and of combinations; each is left out by one further member, whose predictions for it choose the
        epoch and the gates. 0: neither.
    p_mask
        Share of measured singles that a training combination is shown as not measured.
    gamma
        How much more responding genes count in the loss; see :func:`scperturb_modules.nn.effect_weights`.
    unknown
        What a gene that nothing is known of gets: ``"anchor"`` or an ``"error"``.
    """

    CHOICES: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "anchor": ("auto", "mean", "additive", "zero"),
        "unknown": ("anchor", "error"),
    }
    LEAST: ClassVar[Mapping[str, float]] = {"n_members": 1, "n_folds": 0, "gamma": 0}
    SHARES: ClassVar[tuple[str, ...]] = ("p_mask",)

    anchor: str = "auto"
    gate: bool = True
    n_members: int = 5
    n_folds: int = 5
    p_mask: float = 0.3
    gamma: float = 0.0
    unknown: str = "anchor"

    def __post_init__(self) -> None:
        for name, allowed in self.CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise DataError(f"{name}={value!r}; choose one of {name_some(allowed, most=len(allowed))}.")
        for name, least in self.LEAST.items():
            if not getattr(self, name) >= least:
                raise DataError(f"{name}={getattr(self, name)}, but it must be at least {least}.")
        for name in self.SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"{name}={getattr(self, name)}, but it is a share from 0 to below 1.")
        if self.n_folds == 1:
            raise DataError("n_folds=1 leaves everything out; use 0, or 2 and more.")
        if self.gate and not self.n_folds:
            raise DataError("gate=True is fitted on left-out folds; set n_folds=5, or gate=False.")
