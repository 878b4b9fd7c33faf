"""What a trained predictor and the tested conditions say of each candidate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import row_name
from scperturb_modules._errors import DataError
from scperturb_modules._protocols import Predictor
from scperturb_modules.tl.design._candidates import Candidates
from scperturb_modules.tl.design._regression import Array, ChangeRegression, Index
from scperturb_modules.tl.interactions._pairs import values_of

if TYPE_CHECKING:
    from anndata import AnnData

BLOCK = 2000
"""Conditions that are predicted at once; bounds memory."""
N_NEAREST = 2
EXACT = 1e-6
"""Interactions smaller than this share of the change are rounding."""


@dataclass(frozen=True)
class Outlook:
    """What is expected of N candidates; sizes are L2 over the 1,000 genes highest in controls.

    Attributes
    ----------
    conditions
        (N, 2) positions for the regression.
    changes
        (N, G) predicted change.
    effect
        (N,) its size.
    interaction
        (N,) size of the predicted interaction; NaN for singles.
    expected_interaction
        (N,) the same with what is not known of it: root of the sum of squares; NaN for singles.
    uncertainty
        (N,) size of what is not known of the change.
    resolvable
        (N,) number of genes whose uncertainty a measurement would take away, parts of genes added up.
    nearest
        For each candidate the tested relatives, the most alike first, with their likeness.
    by_model
        Whether interactions are those of the predictor.
    """

    conditions: Index
    changes: Array
    effect: Array
    interaction: Array
    expected_interaction: Array
    uncertainty: Array
    resolvable: Array
    nearest: list[list[tuple[str, float]]]
    by_model: bool


def outlook(model: Predictor, regression: ChangeRegression, candidates: Candidates) -> Outlook:
    """Ask the predictor, and the regression for what the predictor does not say."""
    conditions = regression.positions(zip(candidates.genes, candidates.rows, strict=True))
    is_pair = conditions[:, 1] >= 0
    changes, variance, gate = _predicted(model, candidates.names, regression)
    sums = _sums_of_singles(model, candidates, regression)
    residual = np.linalg.norm(changes - sums, axis=1)
    effect = np.linalg.norm(changes, axis=1)
    by_model = _says_interactions(gate[is_pair], residual[is_pair], effect[is_pair])
    learned = [regression.interactions(part) for part in _blocks(conditions)]
    unknown = np.concatenate([regression.changes(part).variance for part in _blocks(conditions)])
    if by_model:
        noise = np.nan_to_num(variance).sum(axis=1)
        interaction = np.sqrt(np.maximum(residual**2 - noise, 0.0))
    else:
        interaction = np.concatenate([np.linalg.norm(one.mean, axis=1) for one in learned])
    expected = np.sqrt(interaction**2 + np.concatenate([one.variance for one in learned]))
    spread = np.where(np.isnan(variance), unknown[:, None] / variance.shape[1], variance)
    new = np.median(regression.data.se2, axis=0)
    return Outlook(
        conditions=conditions,
        changes=changes,
        effect=effect,
        interaction=np.where(is_pair, interaction, np.nan),
        expected_interaction=np.where(is_pair, expected, np.nan),
        uncertainty=np.sqrt(spread.sum(axis=1)),
        resolvable=np.sum(spread / np.maximum(spread + new, 1e-300), axis=1),
        nearest=_nearest(regression, conditions, candidates.names),
        by_model=by_model,
    )


def _blocks(conditions: Index) -> list[Index]:
    return [conditions[start : start + BLOCK] for start in range(0, len(conditions), BLOCK)]


def _predicted(model: Predictor, names: list[str], regression: ChangeRegression) -> tuple[Array, Array, Array]:
    """Changes and their squared ensemble spread (N, G), NaN where there is none, and the gate (N,) of each."""
    genes = regression.data.var_names
    changes, variance, gate = [], [], []
    for start in range(0, len(names), BLOCK):
        asked = names[start : start + BLOCK]
        prediction = model.predict(asked)
        _check_rows(prediction, asked, model)
        some = values_of(prediction, keys.DELTA, genes)
        changes.append(some)
        has_spread = keys.SD in prediction.layers
        variance.append(values_of(prediction, keys.SD, genes) ** 2 if has_spread else np.full_like(some, np.nan))
        found = prediction.obs[keys.GATE] if keys.GATE in prediction.obs else np.ones(len(asked))
        gate.append(np.asarray(found, dtype=np.float64))
    return np.concatenate(changes), np.concatenate(variance), np.concatenate(gate)


def _check_rows(prediction: AnnData, asked: list[str], model: Predictor) -> None:
    if list(map(str, prediction.obs_names)) != asked:
        raise DataError(
            f"{type(model).__name__}.predict gave {prediction.n_obs} rows for {len(asked)} conditions, or in another "
            "order; a predictor returns one row per name, in the order asked."
        )


def _sums_of_singles(model: Predictor, candidates: Candidates, regression: ChangeRegression) -> Array:
    """(N, G) sum of the predicted changes of each candidate's genes alone."""
    parts = [
        [row_name(gene, context) for gene in genes]
        for genes, (_, context) in zip(candidates.genes, candidates.rows, strict=True)
    ]
    names = sorted({name for some in parts for name in some})
    alone, _, _ = _predicted(model, names, regression)
    at = {name: i for i, name in enumerate(names)}
    return np.array([sum(alone[at[name]] for name in some) for some in parts])


def _says_interactions(gate: Array, residual: Array, effect: Array) -> bool:
    """Whether a predictor adds something to sums of singles that helped on held-out pairs.

    A model says so by a gate above 0; a baseline, whose gate is NaN, at most scales sums; a predictor without gates
    counts by what it predicts.
    """
    open_gates = gate > 0
    return bool(np.any(open_gates & (residual > EXACT * np.maximum(effect, 1.0))))


def _nearest(regression: ChangeRegression, conditions: Index, names: list[str]) -> list[list[tuple[str, float]]]:
    tested = [row_name(*row) for row in regression.data.rows]
    found = []
    for part in _blocks(conditions):
        likeness = regression.likeness(part, regression.tested)
        same_kind = (part[:, 1] >= 0)[:, None] == (regression.tested[:, 1] >= 0)
        likeness = np.where(same_kind, likeness, -np.inf)
        for row in likeness:
            best = np.argsort(-row, kind="stable")[:N_NEAREST]
            found.append([(tested[i], float(row[i])) for i in best if np.isfinite(row[i])])
    return found


def is_tested(regression: ChangeRegression, candidates: Candidates) -> NDArray[np.bool_]:
    """(N,) whether a candidate was measured in training."""
    return np.array([row in regression.data.index for row in candidates.rows], dtype=bool)
