"""The part of SCBIG that learns to generate cells: its stages of training, and cells moved by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, parse_row_name
from scperturb_modules.baselines._training import named_rows
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.models._anchored_module import Rows
from scperturb_modules.models._features import as_float
from scperturb_modules.models._of_cells import CellModel
from scperturb_modules.models._rescale import rescaled
from scperturb_modules.models.scbig._alignment import program_covariances
from scperturb_modules.models.scbig._encoder import PretrainModule
from scperturb_modules.models.scbig._flow import FlowModule
from scperturb_modules.models.scbig._generator import CellGenerator, log_ratio
from scperturb_modules.models.scbig._module import ScbigModule
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.models.scbig.programs import GenePrograms

if TYPE_CHECKING:
    from anndata import AnnData

BATCH_SIZE = 8
"""Conditions per step of the network over programs, and of the autoencoder."""

AUTOENCODER_RATE, FLOW_RATE = 3e-3, 1e-3
"""First learning rates of the two."""


class GeneratingModel(CellModel):
    """A model that generates cells after it has learned the means of conditions; :class:`SCBIG` has the rest."""

    module: ScbigModule
    settings: ScbigSettings
    programs: GenePrograms

    @property
    def _needs_cells(self) -> bool:
        return self.settings.generate

    @property
    def _without_cells(self) -> str:
        return 'generate=False, relations=("response", "priors")'

    # -- training ----------------------------------------------------------------------------------------------------

    def train(self, max_epochs: int = 40, **kwargs: Any) -> None:
        """Train the network over programs, then the autoencoder of cells, then the flow.

        Arguments are those of :meth:`PerturbationModel.train`; ``max_epochs``, ``batch_size`` (8 conditions),
        ``patience`` and the rates are of the network over programs. The others take ``autoencoder_steps`` and
        ``flow_steps``; their terms are in ``history`` under ``autoencoder_...`` and ``flow_...``.
        """
        kwargs.setdefault("batch_size", BATCH_SIZE)
        super().train(max_epochs, **kwargs)

    def _fit(self, datamodule: ConditionDataModule, **kwargs: Any) -> None:
        if self.settings.mean_of == "programs":
            super()._fit(datamodule, **kwargs)
        else:
            self.history_ = {}

    def _after_training(self) -> None:
        super()._after_training()
        if self.module.generator is not None:
            self._train_generator()
            self._predictor = None

    def _train_generator(self) -> None:
        settings, generator = self.settings, self._generator
        rows = np.flatnonzero(self._members.trains.any(axis=1))
        generator.autoencoder.requires_grad_(True)
        self._train_stage(
            "autoencoder",
            PretrainModule(generator.autoencoder),
            self._with_cells(rows, n_cells=settings.n_cells),
            n_steps=settings.autoencoder_steps,
            batch_size=BATCH_SIZE,
            lr=AUTOENCODER_RATE,
        )
        states = self._states_of_training_cells()
        change, shift = self._starts(rows)
        of_flow = self._train_stage(
            "flow",
            FlowModule(generator, self.module.read, change, shift, self._covariance(states, rows)),
            self._with_cells(rows, n_cells=settings.n_cells, matrix=states),
            n_steps=settings.flow_steps,
            batch_size=settings.flow_conditions,
            lr=FLOW_RATE,
        )
        if settings.mean_of == "cells":
            self.fit_result = of_flow

    @property
    def _generator(self) -> CellGenerator:
        assert self.module.generator is not None
        return self.module.generator

    @torch.no_grad()
    def _states_of_training_cells(self) -> NDArray[np.float32]:
        """(N, q + K) latent states and program activities of training cells; other cells, never read, are 0.

        From here on the latent is in units of the standard deviations of training cells.
        """
        assert self._cells is not None
        cells, network = self._cells, self._generator.autoencoder
        rows, found = cells.rows(), []
        for block in cells.blocks(rows):
            latent = network.encode(torch.as_tensor(block, device=self.module.device)).cpu().numpy()
            found.append(np.concatenate([latent, self.programs.activity(block)], axis=1))
        own, n = np.concatenate(found), self._generator.n_latent
        network.standardise(torch.tensor(own[:, :n], device=self.module.device))
        centre, spread = own[:, :n].mean(axis=0, dtype=np.float64), own[:, :n].std(axis=0, dtype=np.float64)
        own[:, :n] = (own[:, :n] - centre) / np.maximum(spread, 1e-3)
        states = np.zeros((cells.screen.n_obs, own.shape[1]), dtype=np.float32)
        states[rows] = own
        return states

    @torch.no_grad()
    def _starts(self, rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
        """(P, G) changes from which the flow of training rows starts, and (P, q) how far they move the latent.

        The measured change where another network predicts means, so that the flow has only to say what else is
        different; else the anchor.
        """
        batch = self._batch(self._arrays, rows)
        change = batch["target"]
        if self.settings.mean_of == "cells":
            change = self.module.read(batch)[1][0]
        return change, self._generator.shift(change, batch["context"])

    def _covariance(self, states: NDArray[np.float32], rows: NDArray[np.intp]) -> torch.Tensor:
        """(P, K, K) covariance of program activities among the training cells of each row."""
        assert self._cells is not None
        groups, n = self._cells.groups, self._generator.n_latent
        number = {name: i for i, name in enumerate(np.asarray(named_rows(self.data.rows), dtype=object)[rows])}
        own = [
            (number[label], cells) for label, cells in zip(groups.labels, groups.cells, strict=True) if label in number
        ]
        of_row = np.concatenate([np.full(len(cells), i) for i, cells in own])
        activity = states[np.concatenate([cells for _, cells in own]), n:].astype(np.float64)
        return as_float(program_covariances(activity, of_row, len(rows))).to(self.module.device)

    # -- prediction --------------------------------------------------------------------------------------------------

    def _run(self, batches: Iterable[dict[str, torch.Tensor]]) -> tuple[NDArray[np.float64], list[Any]]:
        if self.settings.mean_of == "programs":
            return super()._run(batches)
        means = [self._mean_of_cells(*self.module.read(batch)) for batch in batches]
        return np.stack(means), [None] * len(means)

    @torch.no_grad()
    def _mean_of_cells(self, rows: Rows, anchor: torch.Tensor) -> NDArray[np.float64]:
        """(G,) change of one condition, minus the anchor, in cells that are generated from the reference."""
        controls = self._generator.reference[rows.context]
        start, end = self._flow(rows, anchor[0], controls)
        if self.settings.decode == "direct":
            mean = self._generator.autoencoder.decode(end) - controls
        else:
            mean = self._generator.deviation(start, end)
        return mean[0].double().mean(dim=0).cpu().numpy()

    def _flow(self, rows: Rows, change: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, n, q) latent states of controls (B, n, G) where the flow of their condition starts, and where it ends."""
        start = self._generator.autoencoder.encode(cells) + self._generator.shift(change, rows.context)[:, None]
        return start, self._generator.transport(start, self._generator.condition(rows))

    def _moved(self, prediction: AnnData, cells: NDArray[np.float32]) -> NDArray:
        if self.module.generator is None:
            return super()._moved(prediction, cells)
        moved = [
            self._generated(parse_row_name(str(name)), delta, own)
            for name, delta, own in zip(prediction.obs_names, prediction.layers[keys.DELTA], cells, strict=True)
        ]
        return np.stack(moved) if moved else np.empty(cells.shape, dtype=np.float32)

    @torch.no_grad()
    def _generated(self, row: Row, delta: NDArray, cells: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """(n, G) control cells (n, G) of a condition, perturbed; None: those of the reference.

        The mean over the reference changes by delta. A gene that is known nowhere has no flow: cells are moved by delta
        alone.
        """
        generator, change = self._generator, np.asarray(delta, dtype=np.float32)
        reference = generator.reference[self.data.contexts.index(row[1])]
        n_own = 0 if cells is None else len(cells)
        own = reference if cells is None else torch.as_tensor(cells, device=reference.device)
        if self._unknown_rows([row])[0]:
            return self._without_flow(own, reference, change)
        both = reference if cells is None else torch.cat([own, reference])
        rows, start = self._seen(row, change)
        begin, end = self._flow(rows, start, both[None])
        before, after = (generator.autoencoder.decode(states)[0] for states in (begin, end))
        moved, n = torch.as_tensor(change, device=own.device), len(own)
        if self.settings.decode == "direct":
            found = after[:n]
        elif self.settings.decode == "rescaled":
            stronger = log_ratio(before, after)
            found = rescaled(own, stronger[:n], reference, stronger[n_own:], moved)
        else:
            deviation = after - before
            found = own + moved + deviation[:n] - deviation[n_own:].mean(dim=0)
        return found.cpu().numpy()

    def _without_flow(self, own: torch.Tensor, reference: torch.Tensor, change: NDArray[np.float32]) -> NDArray:
        moved = torch.as_tensor(change, device=own.device)
        if self.settings.decode != "rescaled":
            return (own + moved).cpu().numpy()
        alike = torch.zeros_like(reference)
        return rescaled(own, torch.zeros_like(own), reference, alike, moved).cpu().numpy()

    def _seen(self, row: Row, delta: NDArray) -> tuple[Rows, torch.Tensor]:
        """A condition as the flow met it in training, and the (1, G) change from which it starts."""
        arrays = self._arrays_of([row], training=row in self.data.index)
        rows, anchor = self.module.read(self._batch(arrays, np.arange(1)))
        if self.settings.mean_of == "cells":
            return rows, anchor[0]
        return rows, torch.as_tensor(np.asarray(delta, dtype=np.float32), device=anchor.device)[None]
