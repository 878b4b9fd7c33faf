"""Ceilings, not competitors: what a replicate of the experiment scores, and what a model of rank K could reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import parse_row_name, regimes_of
from scperturb_modules._errors import DataError, name_some
from scperturb_modules.baselines._kernel import principal_components
from scperturb_modules.baselines._prediction import OK, make_prediction
from scperturb_modules.baselines._training import Array, TrainingData, control_label
from scperturb_modules.pp import pseudobulk
from scperturb_modules.pp._screen import ScreenView, resolve_screen

if TYPE_CHECKING:
    from anndata import AnnData

MIN_REPLICATE_CELLS = 20


def replicate_halves(
    adata: AnnData,
    rows: Sequence[str],
    *,
    perturbation_key: str = keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    split_key: str = keys.SPLIT,
    n_repeats: int = 10,
    seed: int = 0,
) -> Iterator[tuple[AnnData, AnnData]]:
    """Split the cells of each row at random into two halves and measure both.

    Scoring one half as if it were a prediction of the other gives what a replicate of the experiment would reach. The
    controls that the truth is measured against are halved too, so that the halves share no noise. Cells are halved
    within batches.

    Parameters
    ----------
    adata
        The screen.
    rows
        Names of the rows of the truth to halve, ``"A+B"`` or ``"A+B|context"``.
    perturbation_key, control, layer, batch_key, cell_type_key, split_key
        As in :func:`scperturb_modules.pp.pseudobulk`.
    n_repeats
        Number of random halvings.
    seed
        Seed of the halvings.

    Yields
    ------
    tuple of AnnData
        The two halves as pseudobulks, rows as asked. A row with fewer than 20 cells is NaN in ``X`` and all layers.

    Raises
    ------
    DataError
        A row without cells, or a context without controls for both halves.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> names = spm.pp.pseudobulk(adata).obs_names[:3]
    >>> [first.shape[0] for first, second in replicate_halves(adata, names, n_repeats=2)]
    [3, 3]
    """
    screen = keys.ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key, split_key)
    view = resolve_screen(adata, screen)
    row_of_cell = view.row_names
    absent = sorted(set(map(str, rows)) - set(row_of_cell))
    if absent:
        raise DataError(f"{len(absent)} rows have no cell in the screen: {name_some(absent)}.")
    few = np.array([np.count_nonzero(row_of_cell == name) < MIN_REPLICATE_CELLS for name in rows], dtype=bool)
    enough = [name for name, is_few in zip(rows, few, strict=True) if not is_few]
    used, halved, group = _cells_to_halve(view, row_of_cell, rows, enough)
    rng = np.random.default_rng(seed)
    for _ in range(n_repeats):
        first = _random_half(group, rng)
        halves = []
        for half in (first, ~first):
            measured = pseudobulk(adata[used & (half | ~halved)], **vars(screen), cells="all")
            halves.append(_rows_in_order(measured, rows, few))
        yield halves[0], halves[1]


def l2_floor(halves: Iterable[tuple[ArrayLike, ArrayLike]], gene_mask: ArrayLike) -> Array:
    """L2 distance that a perfect prediction would still have, from the noise between halves.

    ``0.5 * |half 1 - half 2|``, root mean square over repeats: the squared difference of two halves is four times the
    sampling noise of their full mean.

    Parameters
    ----------
    halves
        Pairs of (P, G) mean expression, one per repeat.
    gene_mask
        (G,) or (P, G) boolean: the genes of the metric.

    Returns
    -------
    ndarray
        (P,) float64, on the scale of the means.

    Raises
    ------
    ValueError
        No halves.

    Examples
    --------
    >>> import numpy as np
    >>> l2_floor([(np.array([[3.0, 9.0]]), np.array([[1.0, 0.0]]))], np.array([True, False]))
    array([1.])
    """
    mask = np.asarray(gene_mask, dtype=bool)
    squares = [
        np.sum(np.where(mask, np.asarray(first) - np.asarray(second), 0.0) ** 2, axis=1) for first, second in halves
    ]
    if not squares:
        raise ValueError("l2_floor needs at least one pair of halves; see replicate_halves.")
    return 0.5 * np.sqrt(np.mean(squares, axis=0))


def oracle_prediction(training: AnnData, truth: AnnData, n_components: int) -> AnnData:
    """Project the truth on the training mean and the first principal components of training changes.

    No model whose output is a combination of so many training components can be closer to the truth.

    Parameters
    ----------
    training
        Training pseudobulk.
    truth
        Pseudobulk with the rows to predict; its change against *training* controls is projected.
    n_components
        Number of components K.

    Returns
    -------
    AnnData
        A Prediction with the rows of ``truth``.

    Raises
    ------
    ValueError
        ``n_components`` is below 1 or above the number of training rows.
    """
    data = TrainingData.from_pseudobulk(training)
    if not 1 <= n_components <= len(data.rows):
        raise ValueError(f"n_components is {n_components}; the training pseudobulk allows 1 to {len(data.rows)}.")
    mean = data.delta.mean(axis=0)
    components = principal_components(data.delta - mean, n_components)
    change = np.asarray(truth.X) - np.asarray(truth.layers[keys.CONTROL_TRAIN]) - mean
    rows = [parse_row_name(str(name)) for name in truth.obs_names]
    control = control_label(training)
    return make_prediction(
        training,
        rows,
        mean + (change @ components.T) @ components,
        seen=regimes_of(rows, data.index, control=control),
        anchor=["oracle"] * len(rows),
        status=[OK] * len(rows),
        model="Oracle",
        settings={"n_components": n_components},
    )


def _cells_to_halve(
    view: ScreenView, row: np.ndarray, asked: Sequence[str], enough: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) cells to use, cells to halve, and the group within which a cell is halved.

    Training controls of the strict protocol are used whole: the truth is not measured against them.
    """
    held_out = view.is_evaluation_control
    halved = np.isin(row, np.array(enough, dtype=object)) | (held_out if held_out.any() else view.is_control)
    within = pd.DataFrame({"row": row, "batch": view.batches, "held_out": held_out})
    group = within.groupby(["row", "batch", "held_out"]).ngroup().to_numpy()
    return np.isin(row, np.array(asked, dtype=object)) | view.is_control, halved, group


def _random_half(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N,) a random half of each group."""
    # within a group in random order; alternating halves then differ by one cell at most
    order = np.lexsort((rng.random(len(group)), group))
    half = np.empty(len(group), dtype=bool)
    half[order] = np.arange(len(group)) % 2 == 0
    return half


def _rows_in_order(measured: AnnData, rows: Sequence[str], few: np.ndarray) -> AnnData:
    """The asked rows, NaN where there are too few cells to halve."""
    ordered = measured[list(rows)].copy()
    ordered.X[few] = np.nan
    for name in [name for name in ordered.layers if name is not None]:
        ordered.layers[name][few] = np.nan
    return ordered
