"""What models answer, and the hooks that a model fills; nothing here knows scvi-tools."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, genes_of
from scperturb_modules._errors import DataError, NotTrainedError, name_some
from scperturb_modules.baselines import Anchor, TrainingData
from scperturb_modules.baselines._intervals import Intervals
from scperturb_modules.baselines._prediction import Response
from scperturb_modules.baselines._side import rows_asked
from scperturb_modules.baselines._training import control_label
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.models._cells import cells_of
from scperturb_modules.models._results import Asked, NetworkAnswer, combine, store_prediction
from scperturb_modules.models._setup import TrainingSide, screen_of
from scperturb_modules.models._summary import summary_text
from scperturb_modules.priors import PriorSource, knows

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from scperturb_modules.priors import GeneGraph
    from scperturb_modules.train import FitResult


class AnsweringModel(ABC):
    """The part of a model that predicts, and its hooks; :class:`PerturbationModel` has the rest."""

    name: ClassVar[str]
    key: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ("seed",)

    returns_measured: bool = True
    """Whether a condition measured in training is answered by its shrunken measurement."""
    unknown: str = "anchor"
    """What becomes of a gene known nowhere: ``"anchor"`` alone, or an ``"error"``."""

    seed: int
    training: AnnData
    test_names: list[str]
    data: TrainingData
    networks: dict[str, GeneGraph]
    tables: dict[str, pd.DataFrame]
    priors: dict[str, Any]
    sources: dict[str, PriorSource]
    anchor_of: Anchor
    fit_result: FitResult | None
    intervals: Intervals | None = None
    """Of predictions, from conditions left out in training; None where none were."""
    is_trained: bool
    _side: TrainingSide

    @property
    def option_values(self) -> dict[str, Any]:
        """The constructor's settings as plain values, by name."""
        found = {name: getattr(self, name) for name in self.options}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}

    def predict(self, conditions: Sequence[str] | None = None, *, store: bool = True, gate: bool = True) -> AnnData:
        """Predict conditions.

        Parameters
        ----------
        conditions
            ``"A+B"`` (in every context) or ``"A+B|context"``; A+B and B+A are one row. None: the test part of the
            screen.
        store
            Whether to write the result into the object that the model was built from, under
            ``uns["scperturb_modules"][key]["prediction"]``: ``obs`` (table), ``delta`` (P, G) float32, ``conditions``
            and ``genes``.
        gate
            False: the network's part is added in full ("gate off").

        Returns
        -------
        AnnData
            The Prediction, a row per condition and context in the order asked. ``obs["gate"]`` is the factor of the
            network's part, 0 where there is none: a gene is known nowhere (status ``unknown_gene``), or the condition
            was measured (status ``measured``). ``layers["lower"]`` and ``["upper"]`` are 90 % intervals of the change
            that an experiment with a median number of cells would measure, NaN where ``obs["interval"]`` is ``none``:
            too few conditions of the regime were left out in training to tell. ``obs["abstain"]`` marks predictions
            that are not to be believed.

        Raises
        ------
        NotTrainedError
            :meth:`train` was not called.
        DataError
            A name without a gene or with a context that has no training controls; an unknown gene under
            ``unknown="error"``.
        ValueError
            No conditions were given and the test part is unknown.
        """
        self._require_trained("predict()")
        rows = rows_asked(conditions, self.test_names, self.training)
        measured = [self.returns_measured and row in self.data.index for row in rows]
        asked = Asked(rows, np.array(measured, dtype=bool), self._unknown_rows(rows))
        with torch.no_grad():
            answer = self._network_answer(asked.for_network) if asked.for_network else None
        prediction = combine(
            asked,
            self._anchor_responses(rows),
            answer,
            training=self.training,
            trained_rows=self.data.index,
            model=self.name,
            settings={**self.option_values, "gate_off": not gate},
            gate=gate,
        )
        if gate and self.intervals is not None:
            self.intervals.write(prediction, has_priors=bool(self.sources))
        if store and self._side.home is not None:
            store_prediction(self._side.home, self.key, prediction)
        return prediction

    def predict_cells(self, conditions: Sequence[str] | None = None, *, n_cells: int = 200, seed: int = 0) -> AnnData:
        """Predict cells: training control cells of the same context, moved by the predicted change.

        Parameters
        ----------
        conditions
            As in :meth:`predict`.
        n_cells
            Cells per row; drawn with replacement where there are fewer controls.
        seed
            Of the draws.

        Returns
        -------
        AnnData
            Cells x genes, float32, not below 0. ``obs``: ``perturbation``, ``cell_type`` (if any) and
            ``control_cell``, the name of the cell that was moved.

        Raises
        ------
        DataError
            The model has no cells: it was built from a pseudobulk or loaded without them.
        """
        self._require_trained("predict_cells()")
        if self._side.cells is None:
            raise DataError(
                f"predict_cells() needs the cells, and this {self.name} has none: build it from the screen, or load it "
                "with spm.load(path, adata)."
            )
        prediction = self.predict(conditions, store=False)
        screen = screen_of(self._side.cells)
        return cells_of(prediction, screen, n_cells=n_cells, seed=seed, model=self.name, move=self._moved)

    def knows(self, gene: str) -> bool:
        """Whether a gene is measured, was perturbed in training, or is in a prior."""
        if gene in self.data.known_genes or knows(self.sources, gene):
            return True
        return any(gene in genes for genes in self._network_genes)

    def summary(self) -> str:
        """Data, priors, genes that need a fallback, parameters and training, as text of several lines."""
        return summary_text(self, self._facts())

    @property
    def summary_string(self) -> str:
        """What scvi-tools shows of a model."""
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    @abstractmethod
    def _datamodule(self, *, batch_size: int, num_workers: int) -> ConditionDataModule:
        """Batches of groups; with validation groups where some conditions are left out by members."""

    def _after_training(self) -> None:  # noqa: B027 - some models have nothing to add
        """Learn what is not in the module's weights, such as gates."""

    def _fitted(self) -> dict[str, Any]:
        """What :meth:`_after_training` learned, for JSON."""
        return {}

    def _restore(self, fitted: dict[str, Any]) -> None:  # noqa: B027 - the same
        """Undo :meth:`_fitted` on a loaded model."""

    @abstractmethod
    def _network_answer(self, rows: Sequence[Row]) -> NetworkAnswer:
        """What the network says of rows, one at least; runs without gradients and in evaluation mode.

        A row's numbers must not depend on the other rows by a single bit: go row by row or in padded batches of one
        fixed size.
        """

    def _moved(self, prediction: AnnData, cells: NDArray[np.float32]) -> NDArray:
        """(P, n, G) control cells of each row, perturbed; may fall below 0."""
        return cells + prediction.layers[keys.DELTA][:, None, :]

    def _learned(self) -> dict[str, Any]:
        """What was learned of cells before training and is saved with the model: plain arrays and text."""
        return {}

    def _facts(self) -> dict[str, str]:
        """Further lines of :meth:`summary`, such as the gate of each regime."""
        return {}

    def _anchor_responses(self, rows: Sequence[Row]) -> list[Response]:
        """The anchor of each row; of a measured one as if it had not been, where the network is to predict it."""
        control = control_label(self.training)
        anchor = self.anchor_of.of if self.returns_measured else self.anchor_of.leave_one_out
        return [anchor(genes_of(condition, control=control), context) for condition, context in rows]

    @cached_property
    def _network_genes(self) -> tuple[frozenset[str], ...]:
        return tuple(frozenset(network.genes) for network in self.networks.values())

    def _unknown_rows(self, rows: Sequence[Row]) -> NDArray[np.bool_]:
        """(P,) whether a gene of the row is known nowhere."""
        control = control_label(self.training)
        strange = [[gene for gene in genes_of(row[0], control=control) if not self.knows(gene)] for row in rows]
        genes = sorted({gene for some in strange for gene in some})
        if genes and self.unknown == "error":
            raise DataError(
                f"{len(genes)} perturbed genes are known nowhere, neither measured nor in a prior: {name_some(genes)}. "
                'Leave them out, give a prior that has them, or build the model with unknown="anchor".'
            )
        return np.array([bool(some) for some in strange], dtype=bool)

    def _require_trained(self, what: str) -> None:
        if not self.is_trained:
            raise NotTrainedError(f"{what} needs a trained {self.name}; call train() first.")
