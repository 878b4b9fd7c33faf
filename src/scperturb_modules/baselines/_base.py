"""What all baselines share: the verbs of the models, the training view, saving and loading."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import genes_of, regimes_of
from scperturb_modules._errors import DataError, NotTrainedError
from scperturb_modules.baselines._folds import folds_to_leave_out
from scperturb_modules.baselines._intervals import Intervals, LeftOut
from scperturb_modules.baselines._prediction import (
    UNKNOWN_GENE,
    Response,
    make_prediction,
    require_screen_columns,
)
from scperturb_modules.baselines._priors import Embedding, fuse_tables
from scperturb_modules.baselines._side import rows_asked, training_side
from scperturb_modules.baselines._storage import read_model, write_model
from scperturb_modules.baselines._training import Source, TrainingData, control_label, named_rows
from scperturb_modules.pp._labels import refuse_view
from scperturb_modules.priors import PriorSource, as_sources, knows

if TYPE_CHECKING:
    from anndata import AnnData

MIN_COVERED = 10
"""Fewer perturbed training genes than this in a prior teach nothing about it."""

T = TypeVar("T")


class Baseline(ABC):
    """A predictor in closed form, with the same verbs as the models.

    Parameters
    ----------
    adata
        A screen after :meth:`setup_anndata`, of which the training side alone is read; or a training pseudobulk,
        made by ``spm.pp.pseudobulk(adata, cells="training")``, which is used as it is.
    priors
        What a function of ``spm.priors`` gives, an edge table, or a gene x feature DataFrame (index: gene symbols; a
        row with NaN is absent); one, a sequence or a mapping from names. Where features are needed, a network counts
        as its spectral embedding. Baselines without ``uses_prior`` do not look at it.
    seed
        Seed of the folds over genes in which settings are chosen.

    Notes
    -----
    Contexts (cell types) are fitted one by one. A context whose training side holds controls only is served by the
    conditions of all other contexts.
    """

    name: ClassVar[str]
    is_baseline: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True
    needs_prior: ClassVar[bool] = False
    uses_prior: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = ("seed",)
    """Names of the constructor's settings; each is also an attribute."""

    _classes: ClassVar[dict[str, type[Baseline]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__name__
        Baseline._classes[cls.__name__] = cls

    def __init__(self, adata: AnnData, *, priors: Any = None, seed: int = 0) -> None:
        self.seed = int(seed)
        self.training, self._test_names = training_side(adata)
        self.priors = as_sources(priors) if self.uses_prior else {}
        self.fitted: dict[str, Any] = {}
        """What was chosen or fitted in training, as plain values."""
        self._is_trained = False

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
    ) -> None:
        """Record which columns hold what, in ``uns["scperturb_modules"]["setup"]``.

        Raises
        ------
        MissingKeyError
            A named column or layer does not exist.
        DataError
            ``adata`` is a view.
        """
        refuse_view(adata, "setup_anndata")
        screen = keys.ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key, split_key)
        require_screen_columns(adata, screen, "setup_anndata")
        adata.uns.setdefault(keys.ROOT, {})[keys.SETUP] = screen.to_uns()

    @classmethod
    def why_not(cls, training: AnnData, priors: Any = None, rows: Sequence[str] | None = None) -> str | None:
        """Say why the baseline has nothing to offer here; None when it applies.

        Parameters
        ----------
        training
            Training pseudobulk.
        priors
            As in the constructor.
        rows
            Names of the rows to predict, if known.
        """
        if not cls.needs_prior:
            return None
        sources = as_sources(priors)
        if not sources:
            return "no prior given"
        perturbed = {gene for name in training.obs[keys.PERTURBATION] for gene in genes_of(str(name))}
        covered = sum(map(cls._covers(sources), perturbed))
        if covered < MIN_COVERED:
            return f"the priors cover {covered} of {len(perturbed)} perturbed training genes; {MIN_COVERED} are needed"
        return None

    @classmethod
    def _covers(cls, sources: Mapping[str, PriorSource]) -> Callable[[str], bool]:
        """Whether the priors say of a gene what the baseline needs: its features."""
        embedding = fuse_tables({name: source.table for name, source in sources.items()})
        return lambda gene: embedding is not None and gene in embedding

    def train(self) -> None:
        """Fit on the training pseudobulk."""
        self.fitted = {}
        self.__dict__.pop("_intervals", None)
        self._data = TrainingData.from_pseudobulk(self.training)
        self._fit()
        self._is_trained = True

    def predict(self, conditions: Sequence[str] | None = None, *, intervals: bool = False) -> AnnData:
        """Predict conditions.

        Parameters
        ----------
        conditions
            ``"A+B"`` (in every context) or ``"A+B|context"``; A+B and B+A are one row. None: the test part of the
            screen.
        intervals
            Whether to give 90 % intervals, from training conditions that are left out in folds. The first time the
            baseline is fitted ten times more.

        Returns
        -------
        AnnData
            The Prediction, a row per condition and context in the order asked.

        Raises
        ------
        NotTrainedError
            :meth:`train` was not called.
        DataError
            A name without a gene or with a context that has no training controls.
        ValueError
            No conditions were given and the test part is unknown.
        """
        self._require_trained("predict()")
        control = control_label(self.training)
        rows = rows_asked(conditions, self._test_names, self.training)
        genes = [genes_of(condition, control=control) for condition, _ in rows]
        responses = [self._respond(some, context) for some, (_, context) in zip(genes, rows, strict=True)]
        prediction = make_prediction(
            self.training,
            rows,
            [response.delta for response in responses],
            seen=regimes_of(rows, self._data.index, control=control),
            anchor=[response.anchor for response in responses],
            status=[self._status(some, response) for some, response in zip(genes, responses, strict=True)],
            model=self.name,
            settings=self.settings,
        )
        if intervals:
            self._intervals.write(prediction, has_priors=bool(self.priors))
        return prediction

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's settings and what training chose."""
        return {**{name: getattr(self, name) for name in self.options}, **self.fitted}

    @cached_property
    def _intervals(self) -> Intervals:
        """From folds of genes and of combinations that are left out."""
        return Intervals.fit(self.training, named_rows(self._data.rows), self._left_out())

    def _left_out(self) -> Iterator[LeftOut]:
        """Every training condition as new genes or as a new combination, predicted by a fit without its fold."""
        data, control = self._data, control_label(self.training)
        names = named_rows(data.rows)
        for held_out in folds_to_leave_out(data, seed=self.seed):
            part = self.training[[name for name, out in zip(names, held_out, strict=True) if not out]].copy()
            options = {name: getattr(self, name) for name in self.options}
            fold = type(self)(part, priors=self.priors or None, **options)
            fold.train()
            for row in np.flatnonzero(held_out):
                genes, place = data.genes[row], data.rows[row]
                change = fold._respond(genes, place[1]).delta
                regime = regimes_of([place], fold._data.index, control=control)[0]
                yield LeftOut(int(row), regime, change, data.delta[row] - change)

    @abstractmethod
    def _fit(self) -> None:
        """Learn from ``self._data`` and the priors; record choices in ``self.fitted``."""

    @abstractmethod
    def _respond(self, genes: tuple[str, ...], context: str | None) -> Response:
        """Predict one row."""

    def _fit_each_source(self, fit: Callable[[Source], T]) -> dict[Source, T]:
        return {source: fit(source) for source in self._data.sources}

    def _record(self, key: str, values: dict[Source, Any]) -> None:
        """Store one value per source in ``fitted``, under the names of its contexts."""
        self.fitted[key] = {source_name(source): value for source, value in values.items()}

    def _status(self, genes: tuple[str, ...], response: Response) -> str:
        known = all(gene in self._data.known_genes or knows(self.priors, gene) for gene in genes)
        return response.status if known else UNKNOWN_GENE

    @cached_property
    def _embedding(self) -> Embedding | None:
        """The tables of all priors side by side, for those that regress on them."""
        return fuse_tables({name: source.table for name, source in self.priors.items()})

    def _require_embedding(self) -> Embedding:
        if self._embedding is None:
            raise self._no_prior()
        return self._embedding

    def _no_prior(self) -> ValueError:
        return ValueError(
            f"{self.name} needs a prior that covers genes: pass priors=, a DataFrame of genes x features whose index "
            "holds gene symbols, or what a function of spm.priors gives."
        )

    def _require_trained(self, what: str) -> None:
        if not self._is_trained:
            raise NotTrainedError(f"{what} needs a trained {self.name}; call train() first.")

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write a folder with ``model.json`` and ``training.h5ad``, whole or not at all.

        Raises
        ------
        FileExistsError
            The path exists and ``overwrite`` is False, or it holds something else than a saved baseline.
        NotTrainedError
            :meth:`train` was not called.
        """
        self._require_trained("save()")
        options = {name: getattr(self, name) for name in self.options}
        record = {"class": self.name, "options": options, "fitted": self.fitted, "test_names": self._test_names}
        write_model(path, record, self.training, self.priors, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a saved baseline and fit it again: closed forms, so predictions are equal to the last bit.

        ``Baseline.load`` reads any baseline, a class reads its own only.

        Raises
        ------
        FileNotFoundError
            No saved baseline is there.
        DataError
            It was written by a newer version, or is of another class.
        """
        record, training, priors = read_model(path, cls._classes)
        chosen = cls._classes[record["class"]]
        if not issubclass(chosen, cls):
            raise DataError(f"{os.fspath(path)!r} holds a {chosen.name}; call {chosen.name}.load or Baseline.load.")
        loaded = chosen(training, priors=priors or None, **record["options"])
        loaded._test_names = list(record["test_names"])
        loaded.train()
        return loaded

    def __repr__(self) -> str:
        state = "trained" if self._is_trained else "not trained"
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        return f"{self.name}({options}), {state} on {self.training.n_obs} conditions x {self.training.n_vars} genes"


def source_name(source: Source) -> str:
    """Name of a source in settings: its contexts, ``"all"`` where the screen has one context."""
    return ",".join("all" if context is None else context for context in source)
