"""Models on an anchor that learn of single cells too: where the cells are, and training in stages."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scvi.module.base import BaseModuleClass

from scperturb_modules._errors import DataError
from scperturb_modules.baselines._training import named_rows
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.dataloaders._dataset import StepDataset
from scperturb_modules.models._anchored import AnchoredModel
from scperturb_modules.models._setup import require_genes, screen_of
from scperturb_modules.models._training_cells import TrainingCells
from scperturb_modules.train import FitResult, fit

if TYPE_CHECKING:
    from anndata import AnnData

_RUN = ("accelerator", "devices", "strategy", "precision", "progress", "num_workers")


class CellModel(AnchoredModel):
    """A model that is trained on means of conditions, and then on cells.

    Attributes
    ----------
    _cells
        The training cells; None where none are needed, or of a saved model until it is trained further.
    _run_settings
        What the user asked of training that holds for every stage.
    """

    _cells: TrainingCells | None
    _run_settings: dict[str, Any]

    @property
    @abstractmethod
    def _needs_cells(self) -> bool:
        """Whether anything is learned of single cells."""

    @property
    @abstractmethod
    def _without_cells(self) -> str:
        """Settings with which nothing is, for a message."""

    def _group_cells(self, screen: AnnData | None) -> TrainingCells:
        if screen is None:
            raise DataError(
                f"{self.name} learns from cells, and there are none: build the model from the screen (a saved one: "
                f"spm.load(path, adata)), or pass {self._without_cells}."
            )
        order = require_genes(screen.var_names, self.training.var_names, self.name)
        return TrainingCells.of(screen if order is None else screen[:, order].copy())

    def train(self, max_epochs: int = 40, **kwargs: Any) -> None:
        """Train on means of conditions, then on cells."""
        if self._cells is None and self._needs_cells:
            self._cells = self._group_cells(None if self._side.cells is None else screen_of(self._side.cells))
        self._run_settings = {name: kwargs[name] for name in _RUN if name in kwargs}
        super().train(max_epochs, **kwargs)

    def _with_cells(self, rows: NDArray[np.intp], *, n_cells: int, matrix: Any = None) -> StepDataset:
        """Training rows with cells of theirs, as expression or as rows of another matrix."""
        assert self._cells is not None
        names = np.asarray(named_rows(self.data.rows), dtype=object)[rows]
        return self._cells.joined(
            self._pseudobulks(rows), [str(name) for name in names], n_cells=n_cells, seed=self.seed, matrix=matrix
        )

    def _train_stage(
        self, stage: str, module: BaseModuleClass, data: StepDataset, *, n_steps: int, batch_size: int, **kwargs: Any
    ) -> FitResult:
        """Train a part of the model by itself; its terms join the history under ``<stage>_...``.

        The number of steps is rounded up to whole passes over the data.
        """
        run = dict(self._run_settings)
        datamodule = ConditionDataModule(
            data, batch_size=batch_size, seed=self.seed, num_workers=run.pop("num_workers", 0)
        )
        per_epoch = -(-len(data) // batch_size)
        history, is_trained = getattr(self, "history_", None) or {}, self.is_trained_
        result = fit(self, module, datamodule, max_epochs=-(-n_steps // per_epoch), seed=self.seed, **run, **kwargs)
        own = {f"{stage}_{name}": table.add_prefix(f"{stage}_") for name, table in self.history.items()}
        self.history_ = history | own
        self.is_trained_ = is_trained
        self.module.eval()
        return result
