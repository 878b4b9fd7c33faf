"""Priors in ``uns``: the plain form that h5ad and zarr keep, and how they get there and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError, name_some

if TYPE_CHECKING:
    from anndata import AnnData

KIND = "kind"
"""Key of the class' name in the stored form."""
_INDICES, _INDPTR = "indices", "indptr"
_MODULES = {
    "GeneGraph": "_graph",
    "GeneEmbedding": "_embedding",
    "GeneSets": "_set_table",
    "PathwayHierarchy": "_pathway_hierarchy",
}
"""Where the class of each kind is; imported when needed, because these modules import this one."""


def store(adata: AnnData, priors: Any, *, overwrite: bool = False) -> None:
    """Keep priors in ``adata``, so that they are written and read with it.

    Parameters
    ----------
    adata
        Gets ``uns["scperturb_modules"]["priors"]``, a plain form that h5ad and zarr keep.
    priors
        One prior, a sequence of them or a mapping from names: :class:`GeneGraph`, :class:`GeneEmbedding`,
        :class:`GeneSets`, :class:`PathwayHierarchy`, edge tables, which become a :class:`GeneGraph`, and gene x
        feature tables, which become a :class:`GeneEmbedding`. Those of other names that are stored already stay.
    overwrite
        Replace stored priors of the same names.

    Raises
    ------
    DataError
        ``adata`` is a view; a prior of the same name is stored; a table that cannot be read; provenance that is not
        plain. Nothing is stored then.
    TypeError
        Something that is no prior.

    See Also
    --------
    stored : Read them.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> adata = anndata.AnnData(np.zeros((1, 2)))
    >>> table = pd.DataFrame({"source": ["A"], "target": ["B"]})
    >>> store(adata, {"STRING": table})
    >>> stored(adata)
    {'STRING': GeneGraph('STRING', 2 genes, 1 edge, undirected)}
    """
    from scperturb_modules.priors._given import named_priors

    if adata.is_view:
        raise DataError("This AnnData is a view of another one. Call adata = adata.copy() before store.")
    forms = {name: _form(prior, name) for name, prior in named_priors(priors).items()}
    records = dict(adata.uns.get(keys.ROOT, {}).get(keys.PRIORS, {}))
    place = {str(record["name"]): key for key, record in records.items()}
    taken = [name for name in forms if name in place]
    if taken and not overwrite:
        raise DataError(
            f"priors are stored under these names already: {name_some(taken)}. Pass overwrite=True to replace them, or "
            "names of their own: store(adata, {name: prior})."
        )
    free = 1 + max(map(_number, records), default=-1)
    # a name may hold characters that a key of h5ad may not
    new = [name for name in forms if name not in place]
    place |= {name: f"prior_{number}" for number, name in enumerate(new, start=free)}
    records.update({place[name]: form for name, form in forms.items()})
    adata.uns.setdefault(keys.ROOT, {})[keys.PRIORS] = records


def stored(adata: AnnData) -> dict[str, Any]:
    """The priors that :func:`store` has put into ``adata``.

    Returns
    -------
    dict
        By name, in the order in which they were stored. Models and baselines take it as ``priors=``.

    Raises
    ------
    MissingKeyError
        Nothing is stored.
    DataError
        A stored prior cannot be read by this version.
    """
    records = adata.uns.get(keys.ROOT, {}).get(keys.PRIORS, {})
    if not records:
        raise MissingKeyError("no priors are stored in this AnnData. Call spm.priors.store(adata, priors) first.")
    priors = [prior_from_uns(records[key], key) for key in sorted(records, key=_number)]
    return {prior.name: prior for prior in priors}


def _number(key: str) -> int:
    return int(key.removeprefix("prior_"))


def _form(prior: Any, name: str) -> dict[str, Any]:
    """The plain form of a prior, under a name."""
    from scperturb_modules.priors._embedding import GeneEmbedding
    from scperturb_modules.priors._given import is_edge_table
    from scperturb_modules.priors._graph import GeneGraph

    if is_edge_table(prior):
        prior = GeneGraph.from_table(prior, name=name)
    elif isinstance(prior, pd.DataFrame):
        prior = GeneEmbedding.from_frame(prior, name=name)
    if type(prior).__name__ not in _MODULES:
        raise TypeError(
            f"prior {name!r} is a {type(prior).__name__}; pass a DataFrame, or one of {name_some(_MODULES)}."
        )
    return {**prior.to_uns(), "name": name}


def prior_from_uns(form: Mapping[str, Any], key: str = "prior") -> Any:
    """A prior of any kind from what its ``to_uns()`` gave."""
    kind = str(form.get(KIND))
    if kind not in _MODULES:
        raise DataError(
            f"the stored prior {key!r} is of the kind {kind!r}; this version knows {name_some(_MODULES)}. Update the "
            "package, or store the prior again."
        )
    try:
        return getattr(import_module(f"scperturb_modules.priors.{_MODULES[kind]}"), kind).from_uns(form)
    except KeyError as error:
        raise DataError(
            f"the stored prior {key!r}, a {kind}, lacks {error}. Delete it, "
            f'del adata.uns["{keys.ROOT}"]["{keys.PRIORS}"]["{key}"], and store it again.'
        ) from error


class Storable(Protocol):
    """What every prior has."""

    @property
    def name(self) -> str:
        """As the user knows it."""

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene symbols."""

    @property
    def attrs(self) -> dict[str, Any]:
        """Provenance."""


def common_to_uns(prior: Storable) -> dict[str, Any]:
    """What the stored forms of all priors share: ``kind``, ``name``, ``genes`` and ``attrs``; others are added to it.

    Raises
    ------
    DataError
        ``attrs`` hold something that is not plain (:func:`attrs_to_text`).
    """
    return {
        KIND: type(prior).__name__,
        "name": prior.name,
        "genes": text_array(prior.genes),
        "attrs": attrs_to_text(prior.attrs),
    }


def common_from_uns(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments ``name``, ``genes`` and ``attrs`` of a prior, from what :func:`common_to_uns` wrote."""
    return {
        "name": str(stored["name"]),
        "genes": texts(stored["genes"]),
        "attrs": attrs_from_text(str(stored["attrs"])),
    }


def members_to_uns(membership: sparse.csr_array) -> dict[str, Any]:
    """Which of n genes are in which of S sets, a table of ones, as plain arrays."""
    return {key: getattr(membership, key).astype(np.int64) for key in (_INDICES, _INDPTR)}


def members_from_uns(stored: Mapping[str, Any], shape: tuple[int, int]) -> sparse.csr_array:
    """Undo :func:`members_to_uns`."""
    indices, indptr = (np.asarray(stored[key], dtype=np.int64) for key in (_INDICES, _INDPTR))
    return sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=shape)


def text_array(names: Iterable[str]) -> NDArray[np.str_]:
    """Names as the array of text that h5ad and zarr keep, also where there are none."""
    return np.array([str(name) for name in names], dtype=str)


def texts(array: Iterable[Any]) -> tuple[str, ...]:
    """Names from an array of text as it was read."""
    return tuple(str(name) for name in array)


def attrs_to_text(attrs: Mapping[str, Any]) -> str:
    """Provenance as JSON. Numpy scalars become numbers, arrays and tuples lists.

    Raises
    ------
    DataError
        An entry is of another kind; the message names it.

    Examples
    --------
    >>> attrs_to_text({"version": "12.0", "n_rows": np.int64(3), "cutoffs": (0.4, 0.7)})
    '{"version": "12.0", "n_rows": 3, "cutoffs": [0.4, 0.7]}'
    """
    wrong = [key for key, value in attrs.items() if not (isinstance(key, str) and _is_plain(value))]
    if wrong:
        raise DataError(
            f"attrs hold what cannot be stored, under {name_some(wrong)}. Use text, numbers, lists and dictionaries, "
            "named by text; or str(value)."
        )
    return json.dumps(attrs, default=_plain)


def attrs_from_text(text: str) -> dict[str, Any]:
    """Undo :func:`attrs_to_text`."""
    return dict(json.loads(text))


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError
