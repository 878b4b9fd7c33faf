"""From the user's AnnData or MuData to scvi-tools' registry and to the training side of the screen."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi
from mudata import MuData
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data import fields as scvi_fields

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.baselines._prediction import require_screen_columns
from scperturb_modules.baselines._side import training_side
from scperturb_modules.models._modalities import column_in, require_names, require_pairs
from scperturb_modules.pp._labels import refuse_view
from scperturb_modules.pp._screen import column_of, expression_of

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

SETUP_ARGS = "setup_args"
MODALITY = "rna_modality"
_COLUMNS = ("perturbation_key", "batch_key", "cell_type_key")
_SCREEN = frozenset(field.name for field in fields(keys.ScreenKeys))


@dataclass(frozen=True)
class TrainingSide:
    """What a model is built from.

    Attributes
    ----------
    training
        The training pseudobulk.
    test_names
        Names of the test conditions, where they are known.
    cells
        The AnnData or MuData with the cells, set up; None for a model built from a pseudobulk or loaded without.
    home
        Where results are stored: the object that the user gave; None where there is none.
    registry
        scvi-tools' registry of a saved model.
    """

    training: AnnData
    test_names: list[str]
    cells: AnnData | MuData | None
    home: AnnData | MuData | None
    registry: dict[str, Any] | None = None

    @classmethod
    def of(cls, data: AnnData | MuData | TrainingSide) -> TrainingSide:
        """Read the training side of what was given to a model's constructor."""
        if isinstance(data, TrainingSide):
            return data
        refuse_view(data, "building a model")
        training, names = training_side(screen_of(data))
        return cls(training, names, None if training is data else data, data)


def register(data: AnnData | MuData, method_args: dict[str, Any], **kwargs: Any) -> AnnDataManager:
    """Check the columns, register them with scvi-tools, and record them in ``uns``.

    Parameters
    ----------
    data
        The screen.
    method_args
        Name of the model and arguments of its setup method, in scvi's form.
    **kwargs
        Of scvi's transfer: ``source_registry``, ``extend_categories``.
    """
    args = method_args[SETUP_ARGS]
    _refuse_other_than_json(args)
    modality = args.get(MODALITY)
    method = "setup_anndata" if modality is None else "setup_mudata"
    refuse_view(data, method)
    _require_kind(data, modality, method)
    screen = keys.ScreenKeys(**{name: args[name] for name in _SCREEN})
    if isinstance(data, MuData):
        require_pairs(data)
        named = [getattr(screen, name) for name in _COLUMNS]
        require_names(data, data[modality], [key for key in named if key is not None], screen.layer)
    _check_screen(screen_of(data, screen, modality), screen, method)
    _drop_unused_categories(data, screen, modality)
    manager = AnnDataManager(fields=_fields(data, screen, modality), setup_method_args=method_args)
    if kwargs.get("source_registry") is not None:
        # conditions that the saved model did not see are no reason to refuse data: names are what predict takes
        kwargs.setdefault("extend_categories", True)
    with _without_word_of_small_conditions():
        manager.register_fields(data, **kwargs)
    stored = data.uns.setdefault(keys.ROOT, {})
    stored[keys.SETUP] = screen.to_uns()
    if modality is not None:
        stored[keys.MODALITY] = modality
    return manager


def recorded_setup(data: AnnData | MuData) -> dict[str, Any]:
    """The arguments of an earlier setup, as recorded in ``uns``."""
    stored = data.uns[keys.ROOT]
    args = dict(vars(keys.ScreenKeys.from_uns(stored[keys.SETUP])))
    return args | ({MODALITY: str(stored[keys.MODALITY])} if isinstance(data, MuData) else {})


def pseudobulk_registry(training: AnnData, model: str) -> dict[str, Any]:
    """What takes the place of scvi-tools' registry where there are no cells to register."""
    screen = keys.ScreenKeys.from_uns(training.uns[keys.ROOT][keys.SETUP])
    genes = np.array(training.var_names, dtype=object)
    state = {"n_obs": training.n_obs, "n_vars": training.n_vars, "column_names": genes}
    expression = {"data_registry": {}, "state_registry": state, "summary_stats": {"n_vars": training.n_vars}}
    return {
        "scvi_version": scvi.__version__,
        "model_name": model,
        "setup_method_name": "setup_anndata",
        SETUP_ARGS: dict(vars(screen)),
        "field_registries": {REGISTRY_KEYS.X_KEY: expression},
    }


def screen_of(data: AnnData | MuData, screen: keys.ScreenKeys | None = None, modality: str | None = None) -> AnnData:
    """The screen as one AnnData that shares the matrix: a MuData's modality with the columns named in the setup."""
    if not isinstance(data, MuData):
        return data
    from anndata import AnnData

    stored = data.uns.get(keys.ROOT, {})
    if screen is None:
        if keys.SETUP not in stored:
            return AnnData(obs=pd.DataFrame(index=data.obs_names))  # training_side says what to call
        screen, modality = keys.ScreenKeys.from_uns(stored[keys.SETUP]), str(stored[keys.MODALITY])
    rna = data[modality]
    wanted = [key for key in (*(getattr(screen, name) for name in _COLUMNS), screen.split_key) if key is not None]
    found = {key: column_in(data, rna, key) for key in wanted}
    obs = pd.DataFrame({key: column for key, column in found.items() if column is not None}, index=rna.obs_names)
    layers = {key: rna.layers[key] for key in (screen.layer, keys.COUNTS) if key is not None and key in rna.layers}
    return AnnData(rna.X, obs=obs, var=rna.var, layers=layers, uns={keys.ROOT: {keys.SETUP: screen.to_uns()}})


def _refuse_other_than_json(args: Mapping[str, Any]) -> None:
    for name, value in args.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name}={value!r} cannot be kept with a saved model ({error}); pass text, numbers, lists or dicts."
            ) from error


def _require_kind(data: AnnData | MuData, modality: str | None, method: str) -> None:
    if isinstance(data, MuData) != (modality is not None):
        other = "setup_mudata" if modality is None else "setup_anndata"
        raise TypeError(f"{method} was given {type(data).__name__}; call {other} for it.")
    if modality is not None:
        require_key(modality, data.mod, "mdata.mod", mend="Name the modality with the expression as rna_modality=.")


def _check_screen(view: AnnData, screen: keys.ScreenKeys, method: str) -> None:
    """Columns and layer are there and no cell lacks a value; the split may come later."""
    require_screen_columns(view, screen, method)
    for name in _COLUMNS:
        if getattr(screen, name) is not None:
            column_of(view, getattr(screen, name))
    expression_of(view, screen.layer)


def _drop_unused_categories(data: AnnData | MuData, screen: keys.ScreenKeys, modality: str | None) -> None:
    """A category without a cell would count as a condition."""
    for name in _COLUMNS:
        key = getattr(screen, name)
        if key is None:
            continue
        holder = data if key in data.obs else data[modality]
        column = holder.obs[key]
        if isinstance(column.dtype, pd.CategoricalDtype) and set(column.cat.categories) != set(column.unique()):
            holder.obs[key] = column.cat.remove_unused_categories()


def _fields(data: AnnData | MuData, screen: keys.ScreenKeys, modality: str | None) -> list[Any]:
    """What scvi-tools is told of; priors are no fields, since fields enter every batch."""
    columns = {
        keys.PERTURBATION: screen.perturbation_key,
        REGISTRY_KEYS.BATCH_KEY: screen.batch_key,
        REGISTRY_KEYS.LABELS_KEY: screen.cell_type_key,
    }
    # the user's matrix stays as it is, whatever its format
    layer = {"is_count_data": False, "correct_data_format": False}
    if modality is None:
        categories = [scvi_fields.CategoricalObsField(name, key) for name, key in columns.items()]
        return [scvi_fields.LayerField(REGISTRY_KEYS.X_KEY, screen.layer, **layer), *categories]
    mod_of = {key: None if key is None or key in data.obs else modality for key in columns.values()}
    return [
        scvi_fields.MuDataLayerField(REGISTRY_KEYS.X_KEY, screen.layer, mod_key=modality, mod_required=True, **layer),
        *(scvi_fields.MuDataCategoricalObsField(name, key, mod_key=mod_of[key]) for name, key in columns.items()),
    ]


@contextmanager
def _without_word_of_small_conditions() -> Iterator[None]:
    """scvi-tools warns of categories with fewer than three cells by number; ``pp.validate`` names them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Category .* has fewer than 3 cells", UserWarning)
        yield


def require_genes(found: pd.Index, expected: pd.Index, what: str) -> NDArray[np.intp] | None:
    """Compare genes one by one.

    Parameters
    ----------
    found
        Genes of the data that was given.
    expected
        Genes of the model.
    what
        The model's name, for the message.

    Returns
    -------
    ndarray or None
        None where both are the same in the same order; else the position in ``found`` of each expected gene.

    Raises
    ------
    DataError
        The genes are not the same.
    """
    names, wanted = found.astype(str), expected.astype(str)
    if names.equals(wanted):
        return None
    missing, foreign = wanted.difference(names, sort=False), names.difference(wanted, sort=False)
    if len(missing) or len(foreign) or names.has_duplicates:
        raise DataError(
            f"The genes are not those that {what} was trained on: {len(missing)} are missing "
            f"({name_some(missing) or 'none'}), {len(foreign)} are foreign ({name_some(foreign) or 'none'}). Give the "
            "same genes: adata[:, model.training.var_names].copy()."
        )
    first = int((names != wanted).argmax())
    logger.info(
        "The genes are in another order than in %s (the first: %r, there %r); they are taken by name.",
        what,
        names[first],
        wanted[first],
    )
    return names.get_indexer(wanted)
