"""Which conditions to perturb next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, require_key
from scperturb_modules._protocols import Predictor
from scperturb_modules.tl.design._candidates import COST, Candidates, candidates_from
from scperturb_modules.tl.design._pick import Array, Centres, Constraints, Fixed, Information, Worth, pick
from scperturb_modules.tl.design._regression import ChangeRegression, singles_and_pairs
from scperturb_modules.tl.design._view import Outlook, is_tested, outlook

if TYPE_CHECKING:
    from anndata import AnnData

Objective = Literal["information", "interaction", "effect", "uncertainty", "diverse", "random"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

ALIKE, UNLIKE = 0.8, 0.5
"""Likeness from which on a tested relative is called like the candidate, and below which unlike it."""


def rank_next(
    model: Predictor,
    candidates: Sequence[str] | pd.DataFrame | None = None,
    *,
    objective: Objective = "information",
    budget: int | None = None,
    batch_size: int | None = None,
    constraints: Constraints | Mapping[str, Any] | None = None,
    priors: Any = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank untested single and paired perturbations by what an experiment with them would give.

    Parameters
    ----------
    model
        A trained model or baseline; any predictor with ``predict(names)`` and ``training``, the pseudobulk of its
        training conditions (log1p CP10k). What is in ``training`` counts as tested, so before planning train on all
        that was measured: a condition held out as test counts as untested.
    candidates
        Names ``"A+B"`` or ``"A+B|context"``; a table with the columns ``condition`` and optionally ``cost``; None: all
        untested pairs of singles measured in training, and with ``priors`` also every untested single that these cover.
    objective
        What the experiment is for, see Notes.
    budget
        How many to return; None: all. ``"information"`` and ``"diverse"`` then choose the first 500 one given the
        other.
    batch_size
        Experiments done at the same time, the column ``batch``; None: all in one.
    constraints
        ``{"include": genes, "exclude": genes or conditions, "max_per_gene": 3, "max_cost": 100.0}``, all optional:
        every choice perturbs one of ``include``; none perturbs or is one of ``exclude``; one gene is in at most
        ``max_per_gene`` choices; all cost ``max_cost`` at most together.
    priors
        Networks, gene sets or gene x feature tables, as the models take them: genes that are alike there are expected
        to act alike. Needed for genes without a measured single.
    seed
        Of ``objective="random"``.

    Returns
    -------
    DataFrame
        A row per choice, best first: ``rank`` (1, 2, ...), ``condition``, ``score`` (larger is better; what the choice
        was worth given those before it), ``reason`` (in words), ``effect`` (L2 size of the predicted change, log1p
        CP10k, over the 1,000 genes highest in controls), ``interaction`` (L2 size of the predicted interaction, the
        change of the pair minus those of its singles, minus the spread of the model's ensemble where there is one; NaN
        for singles), ``uncertainty`` (L2 size of what is not known of the change), ``nearest`` (tested relatives with
        their likeness, 1 = the same), ``batch``, and ``cost`` where candidates have one. Fewer rows than ``budget``
        where constraints allow no more. It survives ``to_csv`` and ``read_csv``.

    Raises
    ------
    DataError
        An impossible constraint, a candidate of three genes or more, no candidate, a budget below 1, or a predictor
        without ``training``.
    MissingKeyError
        A table of candidates without ``condition``.
    ValueError
        An unknown objective.

    Notes
    -----
    ================= ================================================================================================
    objective         score
    ================= ================================================================================================
    ``"information"`` what a measurement would tell of the responses, in nats: ``.5 log(1 + C / s2)``, C the variance
                      of the change given the tested conditions and all choices before, s2 the noise of a usual
                      condition. Two near duplicates are not both chosen.
    ``"interaction"`` expected size of the interaction, for those who look for strong ones
    ``"effect"``      size of the predicted change, for those who look for strong phenotypes
    ``"uncertainty"`` over genes, the sum of ``v / (v + se2)``: the share of the uncertainty v that a measurement of
                      usual noise would take away
    ``"diverse"``     distance of the predicted change to the nearest tested or chosen one (greedy k-centre)
    ``"random"``      a uniform number; the reference that any other must beat
    ================= ================================================================================================

    **Where interactions come from.** A model of this package says with its gate whether what it adds to the sum of
    singles helped on held-out pairs. Where it did, its prediction is taken. Where it did not, and for baselines, which
    predict sums, interactions are learned from the tested pairs by a Bayesian linear model (:class:`ChangeRegression`):
    pairs of like genes are expected to interact alike, in proportion to the sizes of their effects. The column
    ``reason`` says which of the two it was. The score is ``sqrt(interaction**2 + v)``, v the variance that the linear
    model leaves to the interaction; without tested pairs this is a ranking by effect size. Information, uncertainty
    (unless the model has an ensemble) and likeness always come from the linear model.

    Whether an objective finds more than chance on a screen of yours is measured by :func:`backtest`.

    References
    ----------
    MacKay (1992), Neural Computation 4, 590 (information); Gonzalez (1985), Theor. Comput. Sci. 38, 293 (k-centre).

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.baselines.Additive.setup_anndata(adata)
    >>> model = spm.baselines.Additive(adata)
    >>> model.train()
    >>> table = spm.tl.rank_next(model, budget=3, batch_size=2, constraints={"max_per_gene": 2})
    >>> table[["rank", "batch"]].to_numpy().tolist()
    [[1, 1], [2, 1], [3, 2]]
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective!r} is unknown; use one of {', '.join(OBJECTIVES)}.")
    for name, value in (("budget", budget), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise DataError(f"{name}={value}, but at least one experiment is planned; pass 1 or more, or None.")
    training = _training_of(model)
    tested = singles_and_pairs(training)
    found = candidates_from(candidates, training, tested, priors)
    rules = Constraints.of(constraints)
    found = found.take(rules.allowed(found.names, found.genes))
    if objective == "interaction":
        found = _pairs_alone(found, was_given=candidates is not None)
    units = [(gene, row[1]) for genes, row in zip(found.genes, found.rows, strict=True) for gene in genes]
    regression = ChangeRegression(tested, units, priors)
    view = outlook(model, regression, found)
    worth = _worth(objective, view, regression, seed)
    chosen, scores = pick(worth, found.genes, rules, budget=budget, cost=found.cost)
    return _table(objective, chosen, scores, found, view, regression, batch_size)


def _training_of(model: Predictor) -> AnnData:
    training = getattr(model, "training", None)
    if training is None:
        raise DataError(
            f"{type(model).__name__} has no attribute 'training'; rank_next reads the tested conditions there. Set it "
            'to spm.pp.pseudobulk(adata, cells="training").'
        )
    require_key("delta", training.layers, "training.layers", mend="It is what spm.pp.pseudobulk gives.")
    return training


def _pairs_alone(found: Candidates, *, was_given: bool) -> Candidates:
    """Singles do not interact: those that were listed by default are left out, those that were named are an error."""
    is_pair = np.array([len(genes) == 2 for genes in found.genes])
    if not is_pair.any() or (was_given and not is_pair.all()):
        raise DataError(
            f"{(~is_pair).sum()} of {len(is_pair)} candidates are single genes, which have no interaction; leave them "
            'out, or use objective="information".'
        )
    return found.take(is_pair)


def _worth(objective: Objective, view: Outlook, regression: ChangeRegression, seed: int) -> Worth:
    if objective == "information":
        return _information(view, regression)
    if objective == "diverse":
        return Centres(view.changes, regression.data.delta)
    values = {
        "interaction": view.expected_interaction,
        "effect": view.effect,
        "uncertainty": view.resolvable,
        "random": np.random.default_rng(seed).random(len(view.effect)),
    }
    return Fixed(values[objective])


def _information(view: Outlook, regression: ChangeRegression) -> Information:
    conditions = view.conditions
    told = regression.whitened(conditions)

    def column(at: int) -> Array:
        prior = regression.covariance(conditions, conditions[at : at + 1])[:, 0]
        return np.asarray(prior - told.T @ told[:, at])

    return Information(regression.changes(conditions).variance, column, regression.new_noise)


def _table(
    objective: Objective,
    chosen: list[int],
    scores: list[float],
    found: Candidates,
    view: Outlook,
    regression: ChangeRegression,
    batch_size: int | None,
) -> pd.DataFrame:
    rank = np.arange(1, len(chosen) + 1)
    names, tested = found.names, is_tested(regression, found)
    frame = pd.DataFrame(
        {
            "rank": rank,
            "condition": [names[i] for i in chosen],
            "score": scores,
            "reason": [
                _reason(objective, place, score, view, i, regression, tested=bool(tested[i]))
                for place, (i, score) in enumerate(zip(chosen, scores, strict=True))
            ],
            "effect": view.effect[chosen],
            "interaction": view.interaction[chosen],
            "uncertainty": view.uncertainty[chosen],
            "nearest": [", ".join(f"{name} ({like:.2f})" for name, like in view.nearest[i]) for i in chosen],
            "batch": 1 if batch_size is None else (rank - 1) // batch_size + 1,
        }
    )
    if found.cost is not None:
        frame[COST] = found.cost[chosen]
    return frame


def _reason(
    objective: Objective,
    place: int,
    score: float,
    view: Outlook,
    at: int,
    regression: ChangeRegression,
    *,
    tested: bool,
) -> str:
    first = place == 0
    if objective == "random":
        return "drawn at random"
    said = {
        "information": f"{'tells most' if first else 'still tells'}: {score:.2f} nats",
        "interaction": f"{'largest expected' if first else 'expected'} interaction {score:.2g}",
        "effect": f"{'largest predicted' if first else 'predicted'} change {score:.2g}",
        "uncertainty": f"{'least' if first else 'little'} known: off by {view.uncertainty[at]:.2g} as expected",
        "diverse": f"predicted change is {score:.2g} away from all tested{'' if first else ' or chosen'}",
    }[objective]
    parts = [
        said,
        "measured already" if tested else _relation(view.nearest[at], regression, view.conditions[at, 1] >= 0),
    ]
    if objective == "interaction":
        parts.append("predicted by the model" if view.by_model else _learned_from(regression))
    return ", ".join(parts)


def _relation(nearest: list[tuple[str, float]], regression: ChangeRegression, is_pair: bool) -> str:
    if not nearest:
        return f"no {'pair' if is_pair else 'single'} was tested yet"
    name, like = nearest[0]
    if like < UNLIKE:
        return f"unlike any tested {'pair' if is_pair else 'single'} (nearest {name}, {like:.2f})"
    return f"{'like' if like >= ALIKE else 'related to'} {name} ({like:.2f})"


def _learned_from(regression: ChangeRegression) -> str:
    if not regression.n_pairs:
        return "from effect sizes, as no pair was tested"
    return f"learned from {regression.n_pairs} tested pairs"
