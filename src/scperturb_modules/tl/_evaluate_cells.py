"""Score predicted cells against the true cells of each condition."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import parse_row_name, row_name
from scperturb_modules._errors import DataError, ScreenWarning, name_some, require_key
from scperturb_modules.metrics import CELL_METRICS, Metric
from scperturb_modules.metrics._status import MISSING, OK
from scperturb_modules.pp._pseudobulk import pseudobulk
from scperturb_modules.pp._screen import ScreenView, expression_of, resolve_screen
from scperturb_modules.tl._evaluate import choose_metrics
from scperturb_modules.tl._to_cells import GENERATOR, columns_of, dense_rows, to_cells
from scperturb_modules.tl._yardstick import Yardstick, yardstick

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Project = Callable[[Array], Array]

CELL_CORE = ("edist", "des", "inrange_de20")
"""What ``metrics="core"`` means for cells; the others say much the same at more cost."""
N_CELLS, N_COMPONENTS = 500, 50
FIT_CELLS = 5000
"""Training cells, drawn at random, to which the principal components are fitted."""


@dataclass(frozen=True)
class Population:
    """Cells of a condition, and the control cells that they are tested against; (n, G) and (m, G)."""

    cells: Array
    controls: Array


def evaluate_cells(
    pred_cells: AnnData,
    adata: AnnData,
    *,
    metrics: str | Sequence[str] = "core",
    n_cells: int = N_CELLS,
    n_components: int = N_COMPONENTS,
    generator: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score predicted cells against the true cells of each condition.

    Parameters
    ----------
    pred_cells
        Cells x genes (log1p CP10k): the result of ``predict_cells``, of :func:`to_cells`, or any cells with
        ``obs["perturbation"]`` (and ``obs["cell_type"]``). A Prediction, which has no cells, is turned into some by
        :func:`to_cells`. Genes are matched by name.
    adata
        The screen. With a split its test conditions are scored, and those that ``pred_cells`` lacks count as control
        cells (status ``missing``); without one, the conditions of ``pred_cells``. Is not changed.
    metrics
        ``"core"`` (:data:`CELL_CORE`), ``"all"``, or ids of :data:`scperturb_modules.metrics.CELL_METRICS`.
    n_cells
        At most so many cells a side, drawn at random.
    n_components
        Principal components of training cells in which populations are compared.
    generator
        How the cells were made, for the name of the metric; None reads it from ``uns``, or says ``cells``.
    seed
        Of the draws and of the components.

    Returns
    -------
    DataFrame
        A row per condition and metric: ``model, regime, stratum, condition, metric`` (``des[shift]``), ``value``,
        ``status``, ``better``, ``perfect``, the scale: ``control_value`` (training control cells in place of the
        prediction) and ``replicate_value`` (one half of the true cells against the other), and ``n_cells_test,
        n_cells_predicted, n_cells_control, n_genes, protocol``. NaN with ``few_cells`` (below 10), ``degenerate``,
        ``no_true_de`` or ``few_genes``.

    Raises
    ------
    DataError
        ``pred_cells`` lacks genes, has values that are not finite, or none of its conditions is measured.
    ValueError
        An unknown metric.

    Notes
    -----
    True cells are tested against the held-out controls, predicted cells against training controls: noise of controls
    that serve both sides would make the same genes look changed. In the published protocol both are all controls.

    A half has half of the cells, so that its ``edist_v`` and ``des`` are worse than those of a replicate of full size;
    ``edist`` and ``mmd`` are unbiased.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> spm.pp.split(adata, "combination", seed=0)
    >>> spm.baselines.Additive.setup_anndata(adata)
    >>> model = spm.baselines.Additive(adata)
    >>> model.train()
    >>> spm.tl.evaluate_cells(model.predict(), adata)["metric"].unique().tolist()
    ['edist[shift]', 'des[shift]', 'inrange_de20[shift]']
    """
    chosen = choose_metrics(metrics, CELL_METRICS, CELL_CORE)
    if keys.DELTA in pred_cells.layers:
        pred_cells = to_cells(pred_cells, adata, n_cells, seed=seed)
    told = pred_cells.uns.get(keys.ROOT, {})
    record = told.get(keys.PREDICTION, {})
    setup = keys.ScreenKeys.from_uns(told[keys.SETUP]) if keys.SETUP in told else keys.ScreenKeys()
    predicted = _predicted_rows(pred_cells)
    against = yardstick(pseudobulk(adata, **vars(setup)), list(predicted))
    _warn_unscored(predicted, against, setup)
    sides = _Sides(expression_of(adata, setup.layer), resolve_screen(adata, setup), n_cells, seed)
    matrix = expression_of(pred_cells, None)
    columns = columns_of(pred_cells, pd.Index(against.var_names), "pred_cells")
    project = sides.components(n_components) if any(one.gene_set == "components" for one in chosen) else _as_it_is
    name = generator or str(record.get(GENERATOR, "cells"))
    lines: list[dict[str, Any]] = []
    for p, row in enumerate(against.names):
        at = predicted.get(row)
        populations = sides.of(against, p)
        controls = populations["control"].controls
        if at is not None:
            cells = dense_rows(matrix, sides.draw(at, row, "predicted"), columns)
            if not np.isfinite(cells).all():
                raise DataError(f"pred_cells has NaN or infinite values in cells of {row!r}.")
            populations["predicted"] = Population(cells, controls)
        else:
            populations["predicted"] = populations["control"]
        lines += _lines(against, p, chosen, populations, project, name, at is None)
    return pd.DataFrame(lines).assign(model=str(record.get("model", "")))[COLUMNS]


COLUMNS = [
    "model", "regime", "stratum", "condition", "metric", "value", "status", "better", "perfect", "control_value",
    "replicate_value", "n_cells_test", "n_cells_predicted", "n_cells_control", "n_genes", "protocol",
]  # fmt: skip


class _Sides:
    """Draws the cells of a screen, the same ones whatever else is scored."""

    def __init__(self, matrix: Any, view: ScreenView, n_cells: int, seed: int) -> None:
        self.matrix, self.view = matrix, view
        self.all_genes = np.arange(matrix.shape[1])
        self.names, self.n_cells, self.seed = view.row_names, n_cells, seed

    def components(self, n: int) -> Project:
        """The projection on principal components of training cells."""
        from sklearn.decomposition import PCA

        rng = np.random.default_rng(self.seed)
        training = np.flatnonzero(self.view.is_training)
        cells = self.dense(rng.choice(training, min(FIT_CELLS, len(training)), replace=False))
        n = min(n, *cells.shape)
        project: Project = PCA(n, random_state=self.seed).fit(cells).transform
        return project

    def of(self, against: Yardstick, p: int) -> dict[str, Population]:
        """True cells, both halves of them, and training controls in place of a prediction."""
        name, (_, context) = against.names[p], against.rows[p]
        here = np.ones(len(self.names), dtype=bool) if context is None else self.view.contexts == context
        held_out = here & self.view.is_evaluation_control
        training = here & self.view.is_control & self.view.is_training
        tests = self.read(held_out if held_out.any() else training, name, "truth's controls")
        trains = self.read(training, name, "controls")
        own = np.flatnonzero(self.names == name)
        halves = self.rng(name, "halves").permutation(own)[: 2 * self.n_cells]
        first, second = (self.dense(half) for half in (halves[::2], halves[1::2]))
        return {
            "truth": Population(self.read(self.names == name, name, "truth"), tests),
            "control": Population(trains, trains),
            "half": Population(first, tests),
            "other half": Population(second, trains),
        }

    def dense(self, rows: Index) -> Array:
        return dense_rows(self.matrix, rows, self.all_genes)

    def read(self, mask: NDArray[np.bool_], name: str, what: str) -> Array:
        return self.dense(self.draw(np.flatnonzero(mask), name, what))

    def draw(self, rows: Index, name: str, what: str) -> Index:
        if len(rows) <= self.n_cells:
            return rows
        return np.sort(self.rng(name, what).choice(rows, self.n_cells, replace=False))

    def rng(self, name: str, what: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(f"{what}|{name}".encode())])


def _lines(
    against: Yardstick,
    p: int,
    chosen: Sequence[Metric],
    populations: dict[str, Population],
    project: Project,
    generator: str,
    missing: bool,
) -> Iterator[dict[str, Any]]:
    for metric in chosen:

        def value(left: str, right: str, metric: Metric = metric) -> tuple[float, str]:
            return _compare(metric, populations[left], populations[right], against.de[p], project)

        score, status = value("truth", "predicted")
        yield {
            "regime": against.regimes[p],
            "stratum": against.contexts[p],
            "condition": against.rows[p][0],
            "metric": f"{metric.id}[{generator}]",
            "value": score,
            "status": MISSING if missing and status == OK else status,
            "better": metric.better,
            "perfect": metric.perfect,
            "control_value": value("truth", "control")[0],
            "replicate_value": value("half", "other half")[0],
            "n_cells_test": len(populations["truth"].cells),
            "n_cells_predicted": 0 if missing else len(populations["predicted"].cells),
            "n_cells_control": len(populations["truth"].controls),
            "n_genes": len(against.de[p]) if metric.gene_set == "de20" else len(against.var_names),
            "protocol": against.protocol,
        }


def _compare(metric: Metric, truth: Population, said: Population, de: Index, project: Project) -> tuple[float, str]:
    if metric.gene_set == "components":
        return metric.function(*(project(side.cells) if len(side.cells) else side.cells for side in (truth, said)))
    if metric.gene_set == "de20":
        return metric.function(truth.cells[:, de], said.cells[:, de])
    return metric.function(truth.cells, said.cells, truth.controls, said.controls)


def _predicted_rows(cells: AnnData) -> dict[str, Index]:
    """The cells of each row by the row's name."""
    require_key(keys.PERTURBATION, cells.obs, "obs of pred_cells")
    labels = cells.obs[keys.PERTURBATION].astype(str).to_numpy()
    contexts = cells.obs[keys.CELL_TYPE].astype(str).to_numpy() if keys.CELL_TYPE in cells.obs else [None] * len(labels)
    names = [row_name(label, context) for label, context in zip(labels, contexts, strict=True)]
    return {str(name): np.asarray(at, dtype=np.intp) for name, at in pd.Series(names).groupby(names).indices.items()}


def _warn_unscored(predicted: dict[str, Index], against: Yardstick, setup: keys.ScreenKeys) -> None:
    scored = set(against.names)
    rest = [name for name in predicted if name not in scored and parse_row_name(name)[0] != setup.control]
    if rest:
        warnings.warn(
            f"{len(rest)} conditions of pred_cells are not among the measured test conditions and are not scored: "
            f"{name_some(rest)}.",
            ScreenWarning,
            stacklevel=3,
        )


def _as_it_is(values: Array) -> Array:
    return values
