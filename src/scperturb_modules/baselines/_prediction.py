"""Which rows are asked for, and the AnnData that answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scperturb_modules import __version__
from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, canonical_condition, genes_of, parse_row_name
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.baselines._training import Array, contexts_of, control_label, named_rows
from scperturb_modules.pp._screen import resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

OK, MEASURED, NO_EMBEDDING, UNKNOWN_GENE = "ok", "measured", "no_embedding", "unknown_gene"

NO_INTERVAL = "none"
"""Value of ``obs["interval"]``."""

KNOWS_NOTHING = frozenset({"mean", "none", "zero"})
"""Values of ``obs["anchor"]`` of predictions that are the same for any condition."""

NOT_KNOWN = "a gene is known nowhere: neither measured nor perturbed nor in a prior"
LIKE_NOTHING = "neither a measured single of its genes nor neighbours of them enter: any other condition gets the same"


class Response(NamedTuple):
    """The answer for one row: (G,) change, what it rests on, status."""

    delta: Array
    anchor: str
    status: str = OK


def sum_of(parts: Sequence[Array]) -> Array:
    """Sum (G,) vectors in the order given, which is the sorted order of genes: same bits for A+B and B+A."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def joined(origins: Iterable[str]) -> str:
    """Name what the parts of a sum rest on, for ``obs["anchor"]``."""
    return "+".join(sorted(set(origins)))


def resolve_rows(names: Iterable[str], contexts: Sequence[str | None], *, control: str = "control") -> tuple[Row, ...]:
    """Turn names into (condition, context) rows, in the order asked and each once.

    Parameters
    ----------
    names
        ``"A+B|context"``, or ``"A+B"`` for every context; genes in any order.
    contexts
        The contexts with controls; ``(None,)`` where the screen has one only.
    control
        Label of the control.

    Raises
    ------
    DataError
        A name without a gene, or a context without controls in training.
    """
    rows: dict[Row, None] = {}
    strange, empty = [], []
    for name in names:
        condition, context = parse_row_name(str(name))
        genes = genes_of(condition, control=control)
        if not genes:
            empty.append(name)
        elif context is not None and context not in contexts:
            strange.append(name)
        else:
            chosen = contexts if context is None else (context,)
            rows.update(dict.fromkeys((canonical_condition(genes), one) for one in chosen))
    if empty:
        raise DataError(f"{len(empty)} conditions name no perturbed gene: {name_some(empty)}. Leave the control out.")
    if strange:
        known = "the screen has no cell_type_key" if None in contexts else f"known: {name_some(contexts, most=12)}"
        raise DataError(
            f"{len(strange)} conditions are in a context without training controls: {name_some(strange)}; {known}."
        )
    return tuple(rows)


def names_of_test_part(adata: AnnData, screen: keys.ScreenKeys) -> list[str]:
    """Sorted names of the perturbed conditions in the test part of a screen; none without a split column."""
    view = resolve_screen(adata, screen)
    return sorted(set(view.row_names[~(view.is_training | view.is_control)]))


def make_prediction(
    training: AnnData,
    rows: Sequence[Row],
    delta: ArrayLike,
    *,
    seen: Sequence[str],
    anchor: Sequence[str],
    status: Sequence[str],
    model: str,
    settings: Mapping[str, Any],
    gate: ArrayLike = np.nan,
) -> AnnData:
    """Build the Prediction that every predictor returns.

    Parameters
    ----------
    training
        The training pseudobulk that the predictor was fitted on; gives genes, controls and fingerprint.
    rows
        (condition, context) of each of the P predicted rows.
    delta
        (P, G) predicted change of mean log1p expression against control.
    seen, anchor, status
        P values each: regime, what the prediction rests on, ``"ok"`` or what was missing.
    model, settings
        Name of the predictor and its settings, plain values that JSON can hold.
    gate
        Weight of the network's part; NaN for predictors without a network.

    Returns
    -------
    AnnData
        Conditions x genes, float64: ``X`` mean log1p expression, ``layers`` ``control``, ``delta``, ``lower`` and
        ``upper`` (NaN until calibrated). ``obs["abstain"]`` says which predictions are not to be believed, and
        ``obs["abstain_reason"]`` why.

    Raises
    ------
    DataError
        A predicted value is not finite.
    """
    from anndata import AnnData

    changes = np.asarray(delta, dtype=np.float64).reshape(len(rows), training.n_vars)
    names = named_rows(tuple(rows))
    broken = [names[row] for row in np.flatnonzero(~np.isfinite(changes).all(axis=1))]
    if broken:
        raise DataError(
            f"{model} gave values that are not finite for {len(broken)} conditions: {name_some(broken)}. "
            "Look for NaN in the training data with spm.pp.validate(adata)."
        )
    contexts = contexts_of(training)
    columns = [contexts.index(context) for _, context in rows]
    control = np.asarray(training.varm[keys.CONTROL_MEAN], dtype=np.float64).T[columns]
    factor = np.broadcast_to(np.asarray(gate, dtype=np.float64), len(rows))
    reasons = why_not_believed(anchor, status, factor)
    said = {keys.SEEN: seen, keys.ANCHOR: anchor, keys.STATUS: status, keys.ABSTAIN_REASON: reasons}
    columns_of_obs = _counts(training, rows) | {key: np.array(value, dtype=object) for key, value in said.items()}
    columns_of_obs[keys.GATE] = factor
    columns_of_obs[keys.ABSTAIN] = np.array([bool(reason) for reason in reasons], dtype=bool)
    columns_of_obs[keys.INTERVAL] = np.full(len(rows), NO_INTERVAL, dtype=object)
    columns_of_obs[keys.ERROR_BOUND] = np.full(len(rows), np.nan)
    # at once: column by column is slower than a small network
    obs = pd.DataFrame(columns_of_obs, index=names)
    prediction = AnnData(control + changes, obs=obs, var=training.var.copy())
    prediction.varm[keys.CONTROL_MEAN] = np.array(training.varm[keys.CONTROL_MEAN])
    unknown = np.full(changes.shape, np.nan)
    prediction.layers.update({keys.CONTROL_LAYER: control, keys.DELTA: changes})
    prediction.layers.update({keys.LOWER: unknown, keys.UPPER: unknown.copy()})
    prediction.uns[keys.ROOT] = {
        keys.SETUP: dict(training.uns[keys.ROOT][keys.SETUP]),
        keys.PREDICTION: _record(training, model, settings),
    }
    return prediction


def why_not_believed(anchor: Sequence[str], status: Sequence[str], gate: np.ndarray) -> list[str]:
    """For each prediction why it is not to be believed, "" where nothing speaks against it.

    A gene is known nowhere; or the prediction is one that any other condition would get too: the anchor is a mean, and
    no network adds to it.
    """
    reasons = []
    for of_anchor, said, factor in zip(anchor, status, gate, strict=True):
        if UNKNOWN_GENE in said.split(";"):
            reasons.append(NOT_KNOWN)
        elif of_anchor in KNOWS_NOTHING and not factor > 0:
            reasons.append(LIKE_NOTHING)
        else:
            reasons.append("")
    return reasons


def _counts(training: AnnData, rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Conditions, contexts and counts of the predicted rows."""
    columns = {keys.PERTURBATION: np.array([condition for condition, _ in rows], dtype=object)}
    if None not in contexts_of(training):
        columns[keys.CELL_TYPE] = np.array([context for _, context in rows], dtype=object)
    controls = _controls_per_context(training)
    label = control_label(training)
    orders = [len(genes_of(condition, control=label)) for condition, _ in rows]
    return columns | {
        keys.N_CELLS: np.zeros(len(rows), dtype=np.int64),
        keys.N_CONTROLS: np.array([controls.get(context, 0) for _, context in rows], dtype=np.int64),
        keys.N_PERTURBED: np.array(orders, dtype=np.int64),
    }


def _controls_per_context(training: AnnData) -> dict[str | None, int]:
    """Training controls per context; a row matched by batch may have used only some of them."""
    controls: dict[str | None, int] = {}
    for name, n_controls in training.obs[keys.N_CONTROLS].items():
        _, context = parse_row_name(str(name))
        controls[context] = max(controls.get(context, 0), int(n_controls))
    return controls


def _record(training: AnnData, model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    pseudobulk = training.uns[keys.ROOT][keys.PSEUDOBULK]
    return {
        "model": model,
        "settings": json.dumps(dict(settings), sort_keys=True),
        "fingerprint": str(pseudobulk["fingerprint"]),
        "package_version": __version__,
        "contexts": np.array([str(context) for context in pseudobulk["contexts"]], dtype=object),
    }


def require_screen_columns(adata: AnnData, screen: keys.ScreenKeys, method: str) -> None:
    """Raise :class:`MissingKeyError` for a named column or layer that does not exist; the split may come later.

    ``method`` is the setup method in which the user named them.
    """
    for key in (screen.perturbation_key, screen.batch_key, screen.cell_type_key):
        if key is not None:
            require_key(key, adata.obs.columns, "obs", mend=f"Name the right column in {method}(...).")
    if screen.layer is not None:
        require_key(screen.layer, adata.layers, "layers", mend=f"Name the right layer in {method}(...).")
