"""From the anchors and the network's answer to a Prediction, and into the AnnData that the user gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, regimes_of
from scperturb_modules.baselines import make_prediction
from scperturb_modules.baselines._prediction import MEASURED, OK, UNKNOWN_GENE, Response
from scperturb_modules.baselines._training import control_label

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

CONDITIONS, GENES, OBS = "conditions", "genes", "obs"


@dataclass(frozen=True)
class NetworkAnswer:
    """What a network says of P rows.

    Parameters
    ----------
    residual
        (P, G) float64, what the network adds to the anchor.
    gate
        (P,) float64 in [0, 1], how much of it is added; 0 where it is closed.
    status
        P strings; ``""`` has nothing to say, several words are joined by ``;``.
    tables
        Name to a number, to an array that is not of rows (such as names of columns), or to a DataFrame with P rows in
        the order asked; stored in ``uns["scperturb_modules"]`` of the Prediction.
    obsm
        Name to an array with P rows; stored in ``obsm`` of the Prediction.
    layers
        Name to an array (P, G); stored in ``layers`` of the Prediction. NaN in rows returned as measured.
    """

    residual: NDArray[np.float64]
    gate: NDArray[np.float64]
    status: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame | np.ndarray | float] = field(default_factory=dict)
    obsm: Mapping[str, np.ndarray] = field(default_factory=dict)
    layers: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """P rows, and which of them the network answers.

    Attributes
    ----------
    rows
        (condition, context).
    measured
        (P,) bool, returned as measured: the network's residual is not added.
    unknown
        (P,) bool, a gene is known nowhere: the network is not asked.
    """

    rows: tuple[Row, ...]
    measured: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    @property
    def for_network(self) -> tuple[Row, ...]:
        """The rows that the network is asked; of measured ones attention is of interest."""
        return tuple(row for row, unknown in zip(self.rows, self.unknown, strict=True) if not unknown)


def combine(
    asked: Asked,
    anchors: Sequence[Response],
    answer: NetworkAnswer | None,
    *,
    training: AnnData,
    trained_rows: Iterable[Row],
    model: str,
    settings: Mapping[str, Any],
    gate: bool,
) -> AnnData:
    """The Prediction: anchor + gate x residual.

    Parameters
    ----------
    asked
        The rows.
    anchors
        Of each row.
    answer
        Of the rows ``asked.for_network``; None where there are none.
    training, model, settings
        As in :func:`make_prediction`.
    trained_rows
        The rows measured in training.
    gate
        False: the residual is added in full.
    """
    inside = np.flatnonzero(~asked.unknown)
    factor = np.zeros(len(asked.rows))
    change = np.array([anchor.delta for anchor in anchors]).reshape(len(asked.rows), training.n_vars)
    said = [""] * len(asked.rows)
    if answer is not None:
        _check_answer(answer, len(inside), training.n_vars, model)
        factor[inside] = answer.gate if gate else 1.0
        factor[asked.measured] = 0.0
        opened = factor[inside] != 0  # a closed gate leaves the anchor as it is, to the last bit
        change[inside[opened]] += factor[inside[opened], None] * np.asarray(answer.residual, np.float64)[opened]
        for number, status in zip(inside, answer.status, strict=True):
            said[number] = status
    prediction = make_prediction(
        training,
        asked.rows,
        change,
        seen=regimes_of(asked.rows, trained_rows, control=control_label(training)),
        anchor=[anchor.anchor for anchor in anchors],
        status=[_status(asked, i, anchor.status, said[i]) for i, anchor in enumerate(anchors)],
        model=model,
        settings=settings,
        gate=factor,
    )
    if answer is not None:
        _add_tables(prediction, answer, inside)
        for name, array in answer.layers.items():
            prediction.layers[name] = _over_all_rows(array, prediction.n_obs, inside)
            prediction.layers[name][asked.measured] = np.nan
    return prediction


def _check_answer(answer: NetworkAnswer, n_rows: int, n_genes: int, model: str) -> None:
    shapes = np.shape(answer.residual), np.shape(answer.gate), (len(answer.status),)
    if shapes != ((n_rows, n_genes), (n_rows,), (n_rows,)):
        raise ValueError(f"{model} answered {n_rows} rows of {n_genes} genes with arrays of the shapes {shapes}.")
    tables = {name: table for name, table in answer.tables.items() if isinstance(table, pd.DataFrame)}
    for kind, parts in (("tables", tables), ("obsm", answer.obsm), ("layers", answer.layers)):
        lengths = {name: len(part) for name, part in parts.items()}
        if set(lengths.values()) - {n_rows}:
            raise ValueError(f"{model} answered {n_rows} rows with {kind} of {lengths} rows.")
    if not ((answer.gate >= 0) & (answer.gate <= 1)).all():
        raise ValueError(f"{model} gave gates outside 0 to 1: {answer.gate.min()} to {answer.gate.max()}.")


def _status(asked: Asked, number: int, of_anchor: str, of_network: str) -> str:
    """Words of anchor and network, each once; ``ok`` stands alone."""
    if asked.unknown[number]:
        return UNKNOWN_GENE
    if asked.measured[number]:
        return MEASURED
    words = [word for word in (*of_anchor.split(";"), *of_network.split(";")) if word not in ("", OK)]
    return ";".join(dict.fromkeys(words)) or OK


def _add_tables(prediction: AnnData, answer: NetworkAnswer, inside: NDArray[np.intp]) -> None:
    """Tables and arrays over all rows: those that the network was not asked are 0 in tables and NaN in arrays."""
    for name, table in answer.tables.items():
        if not isinstance(table, pd.DataFrame):
            prediction.uns[keys.ROOT][name] = table
            continue
        values = np.zeros((prediction.n_obs, table.shape[1]), dtype=table.to_numpy().dtype)
        values[inside] = table.to_numpy()
        prediction.uns[keys.ROOT][name] = pd.DataFrame(values, index=prediction.obs_names, columns=table.columns)
    for name, array in answer.obsm.items():
        prediction.obsm[name] = _over_all_rows(array, prediction.n_obs, inside)


def _over_all_rows(array: np.ndarray, n_rows: int, inside: NDArray[np.intp]) -> np.ndarray:
    full = np.full((n_rows, *array.shape[1:]), np.nan, dtype=array.dtype)
    full[inside] = array
    return full


def store_prediction(home: AnnData | MuData, key: str, prediction: AnnData) -> None:
    """Write a Prediction into ``uns["scperturb_modules"][key]["prediction"]`` as plain arrays and a table."""
    home.uns.setdefault(keys.ROOT, {}).setdefault(key, {})[keys.PREDICTION] = {
        OBS: prediction.obs.copy(),
        keys.DELTA: prediction.layers[keys.DELTA].astype(np.float32),
        CONDITIONS: np.array(prediction.obs_names, dtype=str),
        GENES: np.array(prediction.var_names, dtype=str),
    }
