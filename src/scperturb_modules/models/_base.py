"""What all models share: scvi-tools' verbs on the training side of a screen, and anchor + gate x residual."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scvi.model.base import BaseModelClass

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import Row, genes_of
from scperturb_modules._errors import DataError, NotTrainedError, name_some
from scperturb_modules.baselines import Anchor, TrainingData, as_tables, fuse_tables
from scperturb_modules.baselines._prediction import Response
from scperturb_modules.baselines._side import rows_asked
from scperturb_modules.baselines._training import control_label
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.models._cells import cells_of
from scperturb_modules.models._folder import load_model, save_model
from scperturb_modules.models._results import Asked, NetworkAnswer, combine, store_prediction
from scperturb_modules.models._setup import (
    MODALITY,
    SETUP_ARGS,
    TrainingSide,
    pseudobulk_registry,
    recorded_setup,
    register,
    screen_of,
)
from scperturb_modules.models._summary import priors_table, summary_text
from scperturb_modules.priors import as_networks, named_priors
from scperturb_modules.train import FitResult, fit, to_json

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from scperturb_modules.priors import Network

__all__ = ["NetworkAnswer", "PerturbationModel"]


class PerturbationModel(BaseModelClass):
    """A model that predicts ``anchor + gate x residual`` for conditions, with the verbs of scvi-tools.

    Parameters
    ----------
    adata
        A screen (AnnData or MuData) after :meth:`setup_anndata` or :meth:`setup_mudata`, of which the training side
        alone is read; or a training pseudobulk, made by ``spm.pp.pseudobulk(adata, cells="training")``.
    priors
        Networks (edge tables or ``spm.priors.Network``) and gene x feature DataFrames: one, a sequence, or a mapping
        from names.
    seed
        Of everything random.

    Attributes
    ----------
    training
        The training pseudobulk, and ``data``, the same as plain arrays.
    networks, tables
        The priors by kind and name. ``embedding`` fuses both, networks by their spectral embedding; None without.
    anchor_of
        The anchor of the training data.
    fit_result
        The last training run; None before.

    Notes
    -----
    A subclass names its settings in ``options`` (each a plain value and an attribute), builds ``module`` between
    ``super().__init__(...)`` and ``_finish()``, passes ``adata`` on without looking at it, and has the hooks
    ``_datamodule``, ``_after_training``, ``_fitted``, ``_restore`` and ``_network_answer``.

    The constructor writes the priors used to ``uns["scperturb_modules"][key]["priors"]``.
    """

    name: ClassVar[str]
    key: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ("seed",)
    is_baseline: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    needs_prior: ClassVar[bool] = False
    uses_prior: ClassVar[bool] = True

    returns_measured: bool = True
    """Whether a condition measured in training is answered by its shrunken measurement."""
    unknown: str = "anchor"
    """What becomes of a gene known nowhere: ``"anchor"`` alone, or an ``"error"``."""

    module: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__
        if "key" not in vars(cls):
            cls.key = cls.__name__.lower()

    def __init__(self, adata: AnnData | MuData | TrainingSide, *, priors: Any = None, seed: int = 0) -> None:
        side = self._side = self._register(adata)
        self.seed = int(seed)
        self.training, self.test_names = side.training, side.test_names
        given = named_priors(priors)
        self.networks: dict[str, Network] = as_networks(given)
        tables = as_tables(given)
        self.tables: dict[str, pd.DataFrame] = {
            name: table for name, table in tables.items() if name not in self.networks
        }
        self.priors: dict[str, Any] = {**tables, **self.networks}
        self.embedding = fuse_tables(tables) if side.saved is None else side.saved.embedding
        self.data = TrainingData.from_pseudobulk(self.training)
        self.anchor_of = Anchor(self.data, self.embedding, seed=self.seed)
        self.fit_result: FitResult | None = None

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        perturbation_key: str = keys.PERTURBATION,
        control: str = "control",
        layer: str | None = None,
        batch_key: str | None = None,
        cell_type_key: str | None = None,
        split_key: str = keys.SPLIT,
        **kwargs: Any,
    ) -> None:
        """Record which columns hold what, for scvi-tools and in ``uns["scperturb_modules"]["setup"]``.

        Raises
        ------
        MissingKeyError
            A named column or layer does not exist.
        DataError
            ``adata`` is a view, or a cell has no value in a named column.

        Notes
        -----
        scvi-tools writes ``obs["_scvi_perturbation"]``, ``["_scvi_batch"]``, ``["_scvi_labels"]`` and two identifiers
        in ``uns``. Categories without a cell are dropped from the named columns.
        """
        cls.register_manager(register(adata, cls._get_setup_method_args(**locals()), **kwargs))

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        rna_modality: str = "rna",
        perturbation_key: str = keys.PERTURBATION,
        control: str = "control",
        layer: str | None = None,
        batch_key: str | None = None,
        cell_type_key: str | None = None,
        split_key: str = keys.SPLIT,
        **kwargs: Any,
    ) -> None:
        """The same for a MuData: expression is in one modality, columns are in ``mdata.obs`` or in that modality's."""
        cls.register_manager(register(mdata, cls._get_setup_method_args(**locals()), **kwargs))

    def _register(self, given: AnnData | MuData | TrainingSide) -> TrainingSide:
        """Find or renew scvi-tools' registration, and let go of it: its lists would hold the data in memory for good."""
        side = TrainingSide.of(given)
        saved = None if side.saved is None else side.saved.registry
        if side.cells is None:
            super().__init__(registry=saved or pseudobulk_registry(side.training, type(self).__name__))
            return side
        if saved is not None:
            self._set_up(side.cells, saved[SETUP_ARGS], source_registry=saved)
            super().__init__(side.cells)
        else:
            try:
                super().__init__(side.cells)
            except ValueError:
                # set up by another class or in another session, copied, or used before: the record in uns says how
                self._set_up(side.cells, recorded_setup(side.cells))
                super().__init__(side.cells)
        self.deregister_manager(side.cells)
        return side

    def _set_up(self, cells: AnnData | MuData, args: dict[str, Any], **kwargs: Any) -> None:
        (self.setup_mudata if MODALITY in args else self.setup_anndata)(cells, **args, **kwargs)

    def _finish(self) -> None:
        """Check the settings and record the priors; the last call of a subclass' constructor."""
        to_json(self.settings_now)
        home = self._side.home
        if home is not None:
            own = home.uns.setdefault(keys.ROOT, {}).setdefault(self.key, {})
            own.pop(keys.PRIORS, None)
            if self.priors:
                own[keys.PRIORS] = priors_table(self.priors, self.data.known_genes)

    @property
    def settings_now(self) -> dict[str, Any]:
        """The constructor's settings as plain values, by name."""
        found = {name: getattr(self, name) for name in self.options}
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in found.items()}

    def train(
        self,
        max_epochs: int = 200,
        *,
        batch_size: int = 32,
        patience: int | None = 20,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        accelerator: str = "auto",
        devices: int | str | list[int] = "auto",
        strategy: Any = "auto",
        precision: Any = "32-true",
        num_workers: int = 0,
        progress: bool | None = None,
        resume_from: str | os.PathLike[str] | None = None,
        save_resume_point: str | os.PathLike[str] | None = None,
        every_n_steps: int | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train on the training side, on scvi-tools' trainer.

        Parameters
        ----------
        max_epochs
            The most epochs.
        batch_size
            Conditions per step and process.
        patience
            Epochs without a better validation loss after which training ends; None: never early.
        lr, weight_decay
            Of AdamW.
        accelerator, devices, strategy, precision
            As in Lightning; ``"auto"`` takes one device.
        num_workers
            Processes that prepare batches.
        progress
            Whether to show a bar; None: on a terminal only.
        resume_from, save_resume_point, every_n_steps
            See :func:`scperturb_modules.train.fit`.
        **trainer_kwargs
            Further arguments of :func:`scperturb_modules.train.fit` and of Lightning's trainer.

        Notes
        -----
        A second call goes on from the weights of the first.
        """
        self.is_trained_ = False
        self.fit_result = fit(
            self,
            self.module,
            self._datamodule(batch_size=batch_size, num_workers=num_workers),
            max_epochs=max_epochs,
            patience=patience,
            lr=lr,
            weight_decay=weight_decay,
            accelerator=accelerator,
            devices=devices,
            strategy=strategy,
            precision=precision,
            progress=progress,
            seed=self.seed,
            resume_from=resume_from,
            save_resume_point=save_resume_point,
            every_n_steps=every_n_steps,
            **trainer_kwargs,
        )
        self.module.eval()
        self._after_training()
        self.is_trained_ = True

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
            was measured (status ``measured``).

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
            settings={**self.settings_now, "gate_off": not gate},
            gate=gate,
        )
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
        return cells_of(prediction, screen_of(self._side.cells), n_cells=n_cells, seed=seed, model=self.name)

    def knows(self, gene: str) -> bool:
        """Whether a gene is measured, was perturbed in training, or is in a prior."""
        if gene in self.data.known_genes or (self.embedding is not None and gene in self.embedding):
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

    def save(
        self,
        dir_path: str | os.PathLike[str],
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        **anndata_write_kwargs: Any,
    ) -> None:
        """Write a folder that is safe to share: ``model.json``, ``weights.safetensors``, ``training.h5ad``.

        Parameters
        ----------
        dir_path
            The folder.
        overwrite
            Replace an older saved model.
        save_anndata
            Add the cells, as ``adata.h5ad``.
        **anndata_write_kwargs
            For ``adata.write_h5ad``.
        prefix, save_kwargs
            Of scvi-tools; there is nothing that they could mean here.

        Raises
        ------
        FileExistsError
            The path exists and ``overwrite`` is False, or it holds something else than a saved model.
        NotTrainedError
            :meth:`train` was not called.
        """
        self._require_trained("save()")
        if prefix or save_kwargs:
            raise ValueError("prefix= and save_kwargs= mean nothing here: a model is one folder. Leave them out.")
        cells = self._side.cells if save_anndata else None
        save_model(self, dir_path, fitted=self._fitted(), cells=cells, overwrite=overwrite, **anndata_write_kwargs)

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: AnnData | MuData | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
    ) -> Self:
        """Read a saved model; ``spm.load`` reads one of any class.

        Parameters
        ----------
        dir_path
            The folder.
        adata
            The cells, for :meth:`predict_cells` and to store predictions in; set up here as for the saved model. None:
            those in the folder, if there are any. The training pseudobulk and the test names are the saved ones in any
            case.
        accelerator, device
            Where the weights go, for example ``"cpu"``, or ``"gpu"`` and its number; ``"auto"`` takes a CUDA device
            where there is one.

        Raises
        ------
        FileNotFoundError
            No saved model is there.
        DataError
            The folder is damaged or newer, holds another class, or ``adata`` has other genes.
        """
        return load_model(cls, dir_path, adata, accelerator, device)

    @abstractmethod
    def _datamodule(self, *, batch_size: int, num_workers: int) -> ConditionDataModule:
        """Batches of groups; with validation groups where some conditions are left out by members."""

    @abstractmethod
    def _network_answer(self, rows: Sequence[Row]) -> NetworkAnswer:
        """What the network says of rows, one at least; runs without gradients and in evaluation mode.

        A row's numbers must not depend on the other rows by a single bit: go row by row or in padded batches of one
        fixed size.
        """

    def _after_training(self) -> None:
        """Learn what is not in the module's weights, such as gates."""

    def _fitted(self) -> dict[str, Any]:
        """What :meth:`_after_training` learned, for JSON."""
        return {}

    def _restore(self, fitted: dict[str, Any]) -> None:
        """Undo :meth:`_fitted` on a loaded model."""

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
