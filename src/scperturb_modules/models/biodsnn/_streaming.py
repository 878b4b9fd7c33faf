"""The part of BioDSNN that learns of single cells: when the data stream is trained, and cells moved by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, parse_row_name
from scperturb_modules.dataloaders._dataset import StepDataset
from scperturb_modules.models._of_cells import CellModel
from scperturb_modules.models.biodsnn._cells import mean_state, shape_to_be_loaded, stream_shape
from scperturb_modules.models.biodsnn._module import BioDsnnModule
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.models.biodsnn._stream import StreamModule, StreamShape

if TYPE_CHECKING:
    from anndata import AnnData

BATCH_SIZE = 8
"""Conditions per step of the knowledge stream."""

STREAM_STEPS = 600
"""Steps that the data stream is trained for."""

STREAM_CONDITIONS = 8
"""Conditions per step of the data stream."""


class StreamingModel(CellModel):
    """A model with a data stream beside its knowledge stream; :class:`BioDSNN` has the rest."""

    module: BioDsnnModule
    settings: BioDsnnSettings

    @property
    def _has_stream(self) -> bool:
        return bool(self.settings.use_vae or self.settings.modulation_rank)

    @property
    def _needs_cells(self) -> bool:
        """Whether anything is learned of single cells."""
        return self._has_stream or self.settings.level == "cell"

    @property
    def _without_cells(self) -> str:
        return "use_vae=False, modulation_rank=0"

    def _stream_shape(self) -> StreamShape | None:
        if not self._has_stream:
            return None
        if self._cells is None:
            return shape_to_be_loaded(len(self.data.var_names), self.settings)
        return stream_shape(self._cells, self.settings, seed=self.seed)

    def train(self, max_epochs: int = 40, **kwargs: Any) -> None:
        """Train the knowledge stream, then the data stream; arguments are those of :meth:`PerturbationModel.train`.

        ``max_epochs``, ``batch_size`` (8 conditions), ``patience`` and the rates are of the knowledge stream. The data
        stream takes 600 steps of 8 conditions; its terms are in ``history`` under ``cells_...``.
        """
        kwargs.setdefault("batch_size", BATCH_SIZE)
        if self.module.stream is not None:
            self.module.stream.n_steps = max_epochs * -(-len(self.data.rows) // kwargs["batch_size"])
        super().train(max_epochs, **kwargs)

    def _dataset(self, rows: NDArray[np.intp]) -> StepDataset:
        if self.settings.level == "mean":
            return super()._dataset(rows)
        return self._with_cells(rows, n_cells=self.settings.n_cells)

    def _after_training(self) -> None:
        super()._after_training()
        if self.module.stream is not None:
            if self.settings.level == "mean" or self.settings.modulation_rank:
                self._train_stream()
            self._centre_stream()

    def _train_stream(self) -> None:
        """The data stream by itself, since what it is trained on does not move the knowledge stream."""
        stream = self.module.stream
        assert stream is not None
        rows = np.flatnonzero(self._members.trains.any(axis=1))
        n_steps = -(-len(rows) // STREAM_CONDITIONS)
        stream.n_steps = n_steps * -(-STREAM_STEPS // n_steps)
        self._train_stage(
            "cells",
            StreamModule(stream, self._encode),
            self._with_cells(rows, n_cells=self.settings.n_cells),
            n_steps=STREAM_STEPS,
            batch_size=STREAM_CONDITIONS,
        )

    def _encode(self, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoded genes of the conditions of a batch, and of the unperturbed cell, for the members that predict."""
        module = self._members_only()
        with torch.no_grad():
            z, z_0, _ = module.encoded(module.read(batch)[0])
        return z, z_0

    def _centre_stream(self) -> None:
        stream = self.module.stream
        assert stream is not None and self._cells is not None
        centre = mean_state(self._cells, stream.state, self.module.device)
        stream.centre.copy_(centre.to(stream.centre.dtype))
        self._predictor = None

    def _moved(self, prediction: AnnData, cells: NDArray[np.float32]) -> NDArray:
        stream = self.module.stream
        if stream is None:
            return super()._moved(prediction, cells)
        moved = np.empty(cells.shape, dtype=np.float32)
        for i, name in enumerate(prediction.obs_names):
            with torch.no_grad():
                change = self._change_of_cells(parse_row_name(str(name)), prediction.layers[keys.DELTA][i], cells[i])
                regenerated = stream.regenerated(torch.as_tensor(cells[i], device=change.device))
                moved[i] = (regenerated + change).cpu().numpy()
        return moved

    def _change_of_cells(self, row: Row, delta: NDArray, cells: NDArray[np.float32]) -> torch.Tensor:
        """(n, G) the change of each cell: that of the condition, and what the cell's state adds."""
        stream, device = self.module.stream, self.module.device
        assert stream is not None
        change = torch.as_tensor(np.asarray(delta, dtype=np.float32), device=device)
        if stream.of_genes is None or self._unknown_rows([row])[0]:
            return change.expand(len(cells), -1)
        # a measured condition as the data stream met it in training
        arrays = self._arrays_of([row], training=row in self.data.index)
        encoded = self._encode(self._batch(arrays, np.arange(1)))
        states = stream.state(torch.as_tensor(cells, device=device))
        return change + stream.deviation(stream.sensitivity(*encoded), states[None], stream.centre)[0]
