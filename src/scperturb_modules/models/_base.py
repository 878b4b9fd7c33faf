"""What all models share: scvi-tools' verbs on the training side of a screen, and anchor + gate x residual."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pandas as pd
from scvi.model.base import BaseModelClass

from scperturb_modules import _keys as keys
from scperturb_modules._errors import name_some
from scperturb_modules.baselines import Anchor, TrainingData
from scperturb_modules.dataloaders import ConditionDataModule
from scperturb_modules.models._answers import AnsweringModel
from scperturb_modules.models._folder import load_model, save_model
from scperturb_modules.models._results import NetworkAnswer
from scperturb_modules.models._setup import (
    MODALITY,
    SETUP_ARGS,
    TrainingSide,
    pseudobulk_registry,
    recorded_setup,
    register,
)
from scperturb_modules.models._summary import priors_table
from scperturb_modules.priors import as_graph, as_sources
from scperturb_modules.train import FitResult, fit, to_json

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


__all__ = ["NetworkAnswer", "PerturbationModel"]

_TAKEN = frozenset(AnsweringModel.__annotations__) - {"seed", "unknown"}


class PerturbationModel(AnsweringModel, BaseModelClass):
    """A model that predicts ``anchor + gate x residual`` for conditions, with the verbs of scvi-tools.

    Parameters
    ----------
    adata
        A screen (AnnData or MuData) after :meth:`setup_anndata` or :meth:`setup_mudata`, of which the training side
        alone is read; or a training pseudobulk, made by ``spm.pp.pseudobulk(adata, cells="training")``.
    priors
        What functions of ``spm.priors`` give, edge tables, and gene x feature DataFrames: one, a sequence, or a mapping
        from names. Gene sets act as a network, of the genes that share them.
    seed
        Of everything random.

    Attributes
    ----------
    training
        The training pseudobulk, and ``data``, the same as plain arrays.
    networks, tables
        The priors by kind and name; ``sources`` holds all of them as the anchor uses them.
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

    is_baseline: ClassVar[bool] = False
    deterministic: ClassVar[bool] = False
    needs_prior: ClassVar[bool] = False
    uses_prior: ClassVar[bool] = True

    module: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        taken = sorted(_TAKEN.intersection(cls.options))
        if taken:
            raise TypeError(
                f"{name_some(taken)} cannot be options of {cls.__name__}: the base has attributes so named."
            )
        cls.name = cls.__name__
        if "key" not in vars(cls):
            cls.key = cls.__name__.lower()

    def __init__(self, adata: AnnData | MuData | TrainingSide, *, priors: Any = None, seed: int = 0) -> None:
        side = self._side = self._register(adata)
        self.seed = int(seed)
        self.training, self.test_names = side.training, side.test_names
        self.sources = as_sources(priors)
        is_table = {name: isinstance(source.prior, pd.DataFrame) for name, source in self.sources.items()}
        self.networks = {
            name: as_graph(source.prior, name) for name, source in self.sources.items() if not is_table[name]
        }
        self.tables = {name: source.table for name, source in self.sources.items() if is_table[name]}
        self.priors = {name: self.tables[name] if is_table[name] else self.networks[name] for name in self.sources}
        self.data = TrainingData.from_pseudobulk(self.training)
        self.anchor_of = Anchor(self.data, self.sources, seed=self.seed)
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
        """Find or renew scvi-tools' registration, and let go of it: its lists would hold the data for good."""
        side = TrainingSide.of(given)
        saved = side.registry
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
        to_json(self.option_values)
        home = self._side.home
        if home is not None:
            own = home.uns.setdefault(keys.ROOT, {}).setdefault(self.key, {})
            own.pop(keys.PRIORS, None)
            if self.priors:
                own[keys.PRIORS] = priors_table(self.priors, self.data.known_genes)

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
        self._fit(
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
            resume_from=resume_from,
            save_resume_point=save_resume_point,
            every_n_steps=every_n_steps,
            **trainer_kwargs,
        )
        self.module.eval()
        self._after_training()
        self.is_trained_ = True

    def _fit(self, datamodule: ConditionDataModule, **kwargs: Any) -> None:
        """Train the module; arguments are those of :func:`scperturb_modules.train.fit`."""
        self.fit_result = fit(self, self.module, datamodule, seed=self.seed, **kwargs)

    def view_anndata_setup(self, adata: AnnData | MuData | None = None, hide_state_registries: bool = False) -> None:
        """Print how the cells, or another object of the class, are set up."""
        import rich.pretty  # noqa: F401 - scvi-tools uses it and relies on others to import it

        if adata is None and self.adata_manager is not None:
            # scvi-tools would look in its lists, which have let go of the cells
            self.adata_manager.view_registry(hide_state_registries=hide_state_registries)
        else:
            super().view_anndata_setup(adata, hide_state_registries)

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
