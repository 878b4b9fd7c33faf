"""One sentence per model and regime: whether it beats the baselines that are simpler than it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scperturb_modules import _conditions
from scperturb_modules.metrics._bootstrap import ALPHA, FIRM_CLUSTERS, MIN_CLUSTERS
from scperturb_modules.metrics._power import plan, plan_power
from scperturb_modules.metrics._statistics import Gain

__all__ = ["MANDATORY", "Verdict", "cannot_tell", "claim_p", "plan", "plan_power", "verdict"]

Word = Literal["beats", "no better", "worse", "cannot tell", "shrinkage only"]

_EVERYWHERE = ("NoChange", "MeanShift", "MeanFitted")
_GENE_UNSEEN = (*_EVERYWHERE, "Additive", "AdditiveShrunk", "NearestPrior")

MANDATORY: dict[str, tuple[str, ...]] = {
    _conditions.PAIR_2OF2: (*_EVERYWHERE, "Additive", "AdditiveFitted", "AdditiveShrunk"),
    _conditions.PAIR_1OF2: _GENE_UNSEEN,
    _conditions.PAIR_0OF2: _GENE_UNSEEN,
    _conditions.HIGHER_ORDER: _GENE_UNSEEN,
    _conditions.SINGLE_UNSEEN: (*_EVERYWHERE, "NearestPrior", "Linear"),
    _conditions.CONTEXT_UNSEEN: (*_EVERYWHERE, "Transfer"),
    _conditions.MEASURED: _EVERYWHERE,
}
"""The baselines that a model must beat, each of them, in a regime.

Beating every one at 5 % needs no correction for their number (an intersection-union test). No change and the mean
shift, plain and times a fitted factor, stand everywhere: on weak screens they are the strongest, and beating a sum that
is worse than them means nothing. AdditiveShrunk is the anchor that the models add to: a gain over all but that is none
of the network.
"""

ENOUGH_ROOM = 0.2
"""With less room (``1 - floor^2 / error^2``) replicate noise explains most of the error of the best baselines."""

ENOUGH_REPLICATES = 0.5
"""Where a replicate of the experiment (half of the cells) is closer to the truth than the training mean in fewer
conditions than this, small gains come from handling noise, and no ranking is trusted."""

BEATS = (
    "{model} beats the baselines on {regime}: L2 {gain} % lower than {closest} "
    "(95 % CI {low} to {high}, n = {n} conditions)."
)
NO_BETTER = (
    "{model} is no better than {baseline} on {regime} ({gain} %, CI {low} to {high}, n = {n}). "
    "Use {baseline}: it is simpler."
)
WORSE = "{model} is worse than {baseline} on {regime} ({gain} %, CI {low} to {high}). Do not use it here."
CANNOT_TELL = "Cannot tell on {regime}: {n} test conditions, replicate noise explains {noise} % of the error."
CANNOT_TELL_NO_FLOOR = "Cannot tell on {regime}: {n} test conditions."
CANNOT_RANK = (
    " These data cannot rank models: one half of the cells is closer to the other than the training mean is in only "
    "{share} % of conditions."
)
NOT_AMONG_SEVERAL = (
    "{model} is not shown to beat {baseline} on {regime}: L2 {gain} % lower (95 % CI {low} to {high}, n = {n} "
    "conditions), but {n_models} models were compared, and the best of several looks better than it is (p = {p} by "
    "Holm's correction)."
)
SHRINKAGE_ONLY = "{model} beats plain additive, but not the shrunken sum: no evidence that interactions were learned."
PUBLISHED = " Scores use shared controls and are comparable to the literature only."
PROVISIONAL = " Provisional: fewer than 20 conditions."
SEED_NOISE = " The gain is within seed noise (standard deviation over seeds {seed_sd} %)."
NOT_COMPARED = " Not compared with {absent}."


@dataclass(frozen=True)
class Verdict:
    """A word for tables and a sentence for people."""

    word: Word
    text: str

    def __str__(self) -> str:
        return self.text


def verdict(
    model: str,
    regime: str,
    comparisons: Mapping[str, Gain],
    *,
    n: int,
    room: float | None,
    replicate_wins: float | None = None,
    protocol: str = "strict",
    seed_sd: float | None = None,
    n_models: int = 1,
    p_adjusted: float = 0.0,
) -> Verdict:
    """Say whether a model beats the mandatory baselines of a regime.

    Parameters
    ----------
    model
        Its name.
    regime
        One of :data:`scperturb_modules._conditions.REGIMES`.
    comparisons
        By baseline, the result of :func:`compare` on the primary metric. Baselines that are not mandatory here are
        ignored; a mandatory one that is absent is named in the text.
    n
        Test conditions (clusters).
    room
        ``1 - floor^2 / error^2`` of the best baseline: the share of its squared error that replicate noise does not
        explain. None or NaN where it is not known.
    replicate_wins
        Share of conditions in which a replicate is better than the training mean on the primary metric, if known.
    protocol
        ``"strict"`` or ``"published"``.
    seed_sd
        Standard deviation of the gain over training seeds, as a share like the gain itself.
    n_models
        Models that are judged together in this regime.
    p_adjusted
        :func:`claim_p` of the model, by :func:`holm` over these models; counts only where there are several.

    Returns
    -------
    Verdict
        The word and the sentence. Rules, first match:

        - fewer than 10 conditions, no interval, room below .2, or a replicate that wins in less than half of the
          conditions: *cannot tell*;
        - the interval against a baseline lies below 0: *worse*, the baseline it loses to most is named;
        - all intervals lie above 0: *beats*, the baseline with the smallest gain is named; but *no better* where
          several models are judged and ``p_adjusted`` is .05 or more (the text says so);
        - only the shrunken or fitted sum is not beaten, the shrunken one among them: *shrinkage only*;
        - else *no better*, with the unbeaten baseline of smallest gain.

    Raises
    ------
    ValueError
        The regime is unknown, or no mandatory baseline was compared with.

    Examples
    --------
    >>> import numpy as np
    >>> from scperturb_modules.metrics import compare
    >>> base = np.linspace(1, 2, 30)
    >>> gains = {name: compare(0.9 * base, base) for name in MANDATORY["measured"]}
    >>> print(verdict("SCBIG", "measured", gains, n=30, room=0.6))
    SCBIG beats the baselines on measured: L2 10.0 % lower than NoChange (95 % CI 10.0 to 10.0, n = 30 conditions).
    """
    mandatory = _mandatory(model, regime, comparisons)
    no_interval = any(math.isnan(gain.low) or math.isnan(gain.high) for gain in mandatory.values())
    silent = cannot_tell(regime, n=n, room=room, replicate_wins=replicate_wins, no_interval=no_interval)
    suffix = PUBLISHED if protocol == "published" else ""
    if silent is not None:
        return Verdict("cannot tell", silent + suffix)
    word, text = _judge(model, regime, mandatory, n)
    if word == "beats" and n_models > 1 and not p_adjusted < ALPHA:
        closest = min(mandatory, key=lambda name: mandatory[name].gain)
        said = {"n_models": n_models, "p": f"{p_adjusted:.3f}"}
        word, text = "no better", _fill(NOT_AMONG_SEVERAL, model, regime, closest, mandatory, n, **said)
    if seed_sd is not None and word == "beats" and min(gain.gain for gain in mandatory.values()) < seed_sd:
        text += SEED_NOISE.format(seed_sd=_percent(seed_sd))
    if n < FIRM_CLUSTERS:
        text += PROVISIONAL
    absent = [name for name in MANDATORY[regime] if name not in comparisons and name != model]
    if absent:
        text += NOT_COMPARED.format(absent=", ".join(absent))
    return Verdict(word, text + suffix)


def claim_p(model: str, regime: str, comparisons: Mapping[str, Gain]) -> float:
    """P value of the claim that a model beats every mandatory baseline of a regime: the largest of the single ones.

    An intersection-union test. Each p comes from the bootstrap of the interval (:attr:`Gain.p_gain`), so that the
    claim of one model stands at .05 exactly where all of its intervals lie above 0. For several models Holm's method
    adjusts these numbers, which is to ask the same of wider intervals: it holds whatever the models share, and leaves
    one model alone as it was. NaN where a comparison has no interval.

    Parameters and errors are those of :func:`verdict`.

    Examples
    --------
    >>> import numpy as np
    >>> from scperturb_modules.metrics import compare
    >>> base = np.linspace(1, 2, 30)
    >>> gains = {"NoChange": compare(0.9 * base, base), "MeanShift": compare(1.1 * base, base)}
    >>> claim_p("SCBIG", "measured", gains)
    1.0
    """
    p_values = [gain.p_gain for gain in _mandatory(model, regime, comparisons).values()]
    return math.nan if any(math.isnan(p) for p in p_values) else max(p_values)


def cannot_tell(
    regime: str,
    *,
    n: int,
    room: float | None,
    replicate_wins: float | None = None,
    no_interval: bool = False,
) -> str | None:
    """The sentence for a regime in which the data cannot rank predictors; None where they can.

    Parameters are those of :func:`verdict`; ``no_interval`` says that a comparison has none.

    Examples
    --------
    >>> cannot_tell("pair_2of2", n=9, room=0.75)
    'Cannot tell on pair_2of2: 9 test conditions, replicate noise explains 25.0 % of the error.'
    """
    known_room = room is not None and not math.isnan(room)
    little_room = room is not None and room < ENOUGH_ROOM
    lost = replicate_wins is not None and replicate_wins < ENOUGH_REPLICATES
    if not (n < MIN_CLUSTERS or no_interval or little_room or lost):
        return None
    text = CANNOT_TELL_NO_FLOOR.format(regime=regime, n=n)
    if room is not None and known_room:
        text = CANNOT_TELL.format(regime=regime, n=n, noise=_percent(min(1.0, max(0.0, 1.0 - room))))
    return (
        text + CANNOT_RANK.format(share=f"{100 * replicate_wins:.0f}") if lost and replicate_wins is not None else text
    )


def _mandatory(model: str, regime: str, comparisons: Mapping[str, Gain]) -> dict[str, Gain]:
    if regime not in MANDATORY:
        raise ValueError(f"regime {regime!r} is not known; use one of {', '.join(MANDATORY)}.")
    found = {name: comparisons[name] for name in MANDATORY[regime] if name in comparisons and name != model}
    if not found:
        raise ValueError(
            f"{model!r} was compared with none of the baselines that count on {regime} "
            f"({', '.join(MANDATORY[regime])}). Add them to the benchmark (spm.baselines.ALL)."
        )
    return found


def _judge(model: str, regime: str, gains: dict[str, Gain], n: int) -> tuple[Word, str]:
    hardest_first = sorted(gains, key=lambda name: gains[name].gain)
    losing = [name for name in hardest_first if gains[name].high < 0]
    unbeaten = [name for name in hardest_first if gains[name].low <= 0]
    if losing:
        return "worse", _fill(WORSE, model, regime, losing[0], gains, n)
    if not unbeaten:
        return "beats", _fill(BEATS, model, regime, hardest_first[0], gains, n)
    if "Additive" in gains and "AdditiveShrunk" in unbeaten and set(unbeaten) <= {"AdditiveFitted", "AdditiveShrunk"}:
        return "shrinkage only", SHRINKAGE_ONLY.format(model=model)
    return "no better", _fill(NO_BETTER, model, regime, unbeaten[0], gains, n)


def _fill(template: str, model: str, regime: str, baseline: str, gains: dict[str, Gain], n: int, **more: object) -> str:
    gain = gains[baseline]
    return template.format(
        model=model,
        regime=regime,
        baseline=baseline,
        closest=baseline,
        gain=_percent(gain.gain),
        low=_percent(gain.low),
        high=_percent(gain.high),
        n=n,
        **more,
    )


def _percent(share: float) -> str:
    """One decimal; never ``-0.0``."""
    return f"{round(100.0 * share, 1) + 0.0:.1f}"
