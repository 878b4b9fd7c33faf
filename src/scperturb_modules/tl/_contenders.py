"""The predictors of a benchmark: their names, what is known about them, and one run that cannot stop the others."""

from __future__ import annotations

import functools
import logging
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scperturb_modules import _keys as keys
from scperturb_modules import baselines
from scperturb_modules._errors import name_some
from scperturb_modules._protocols import Predictor
from scperturb_modules.priors import named_priors
from scperturb_modules.tl._evaluate import ERROR, Answer, answer
from scperturb_modules.tl._yardstick import Yardstick

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

Build = Callable[..., Predictor]
Predictors = Sequence[Build] | Mapping[str, Build] | Build | None
"""Classes, or callables that build an object (``functools.partial(Model, n_layers=3)``), with or without names."""


@dataclass(frozen=True)
class Contender:
    """A predictor to be run: ``build(adata, priors=..., seed=...)`` gives an object with ``train`` and ``predict``."""

    name: str
    build: Build

    def fact(self, name: str, default: Any) -> Any:
        """An attribute of the class behind a partial."""
        build: Any = self.build
        while isinstance(build, functools.partial):
            build = build.func
        return getattr(build, name, default)

    @property
    def is_baseline(self) -> bool:
        """Built on the training pseudobulk, which all baselines share; others get the training cells."""
        return bool(self.fact("is_baseline", False))

    @property
    def deterministic(self) -> bool:
        """The seed changes nothing, so one run is enough."""
        return bool(self.fact("deterministic", False))

    def why_not(self, training: AnnData, priors: Any, rows: Sequence[str]) -> str | None:
        """Why the predictor has nothing to offer on these data; None when it applies."""
        return self.fact("why_not", _always)(training, priors, rows) if self.is_baseline else None

    def uses_perturbation_prior(self, priors: Any) -> bool:
        """Whether it may look at a prior that was made from another perturbation screen."""
        if not self.fact("uses_prior", True):
            return False
        said = [getattr(prior, "attrs", {}) for prior in named_priors(priors).values()]
        return any(attrs.get("derived_from") in keys.FROM_A_SCREEN for attrs in said)


@dataclass(frozen=True)
class Run:
    """What one run gave: an answer to score, the Prediction (None after an error), seconds, and what went wrong."""

    answer: Answer
    prediction: AnnData | None
    fit_seconds: float
    predict_seconds: float
    message: str = ""
    traceback: str = ""


def contenders_from(predictors: Predictors) -> tuple[Contender, ...]:
    """Name every predictor.

    Raises
    ------
    TypeError
        Something that cannot be called, such as an object that was already built.
    ValueError
        Two of the same name, or none.
    """
    if predictors is None:
        predictors = baselines.ALL
    if callable(predictors):
        predictors = [predictors]
    named: Iterable[tuple[str, Any]]
    named = predictors.items() if isinstance(predictors, Mapping) else [(_name(one), one) for one in predictors]
    found = tuple(Contender(str(name), build) for name, build in named)
    wrong = [one.name for one in found if not callable(one.build)]
    if wrong:
        raise TypeError(
            f"{name_some(wrong)} cannot be called: pass classes (spm.baselines.Additive), not objects. A benchmark "
            "trains each predictor anew in every fold."
        )
    names = [one.name for one in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or not found:
        what = f"the name {name_some(repeated)} stands for several predictors" if repeated else "there is no predictor"
        raise ValueError(f"{what}; pass a dict of names and classes.")
    return found


def _always(training: AnnData, priors: Any, rows: Sequence[str]) -> None:
    """For a baseline that does not say when it applies."""


def _name(build: Any) -> str:
    while isinstance(build, functools.partial):
        build = build.func
    return str(getattr(build, "name", None) or getattr(build, "__name__", None) or type(build).__name__)


def run(
    contender: Contender,
    *,
    training: AnnData,
    cells: Callable[[], AnnData],
    screen: keys.ScreenKeys,
    against: Yardstick,
    priors: Any,
    seed: int,
    intervals: bool = False,
) -> Run:
    """Build, train, predict; whatever goes wrong becomes an answer of no change with status ``error``.

    Parameters
    ----------
    contender
        The predictor.
    training
        Training pseudobulk, for baselines.
    cells
        Gives the training cells anew, for all others: none can spoil the data of the next.
    screen
        Passed to ``setup_anndata``.
    against
        The truth; its row names alone are passed on.
    priors, seed
        Passed to the constructor.
    intervals
        Whether baselines are to give intervals, for which they are fitted anew in folds; this is not timed. Models
        give them in any case.
    """
    start = middle = time.perf_counter()
    try:
        data = training if contender.is_baseline else cells()
        setup = contender.fact("setup_anndata", None)
        if setup is not None and not contender.is_baseline:
            setup(data, **vars(screen))
        model = contender.build(data, priors=priors, seed=seed)
        model.train()
        middle = time.perf_counter()
        prediction = model.predict(list(against.names))
        end = time.perf_counter()
        if intervals and isinstance(model, baselines.Baseline):
            prediction = model.predict(list(against.names), intervals=True)
        said = answer(prediction, against)
    except Exception as error:  # noqa: BLE001 - one predictor's bug must not cost the results of the others
        logger.warning("%s failed: %s: %s", contender.name, type(error).__name__, error)
        text = "".join(traceback.format_exception(error))
        nothing = Answer.none(against, ERROR)
        return Run(nothing, None, middle - start, 0.0, f"{type(error).__name__}: {error}", text)
    return Run(said, prediction, middle - start, end - middle)
