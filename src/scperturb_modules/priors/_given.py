"""What the user passed as ``priors=``: its names, and which of it can act as a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

import pandas as pd

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._edge_columns import SOURCE, TARGET
from scperturb_modules.priors._graph import ActsAsGraph, GeneGraph, as_graph


def is_edge_table(obj: object) -> TypeGuard[pd.DataFrame]:
    """Whether something is a DataFrame with the columns ``source`` and ``target``."""
    return isinstance(obj, pd.DataFrame) and {SOURCE, TARGET} <= set(obj.columns)


def is_graph(obj: object) -> TypeGuard[GeneGraph | ActsAsGraph | pd.DataFrame]:
    """Whether something can act as a network: a network, an edge table, or an object with ``to_graph()``."""
    return isinstance(obj, GeneGraph) or hasattr(obj, "to_graph") or is_edge_table(obj)


def named_priors(priors: Any) -> dict[str, Any]:
    """Name everything that the user passed as ``priors=``: nothing, one thing, a sequence, or a mapping from names.

    A thing of a sequence is named by its ``name``, a table by its ``attrs["name"]``, else ``prior_0`` and so on.
    """
    if priors is None:
        return {}
    if isinstance(priors, Mapping):
        return {str(name): prior for name, prior in priors.items()}
    if isinstance(priors, pd.DataFrame) or hasattr(priors, "to_frame") or not isinstance(priors, Iterable):
        priors = [priors]
    named: dict[str, Any] = {}
    for i, prior in enumerate(priors):
        said = _said_name(prior) or f"prior_{i}"
        named[said if said not in named else f"{said}_{i}"] = prior
    return named


def _said_name(prior: Any) -> str:
    # of a table only attrs count: name could be one of its columns
    said = None if isinstance(prior, pd.DataFrame) else getattr(prior, "name", None)
    said = getattr(prior, "attrs", {}).get("name") if said is None else said
    return "" if said is None else str(said)


def as_graphs(priors: Any) -> dict[str, GeneGraph]:
    """The networks among what the user passed as ``priors=``; things that are gene x feature tables only are left out.

    Parameters
    ----------
    priors
        None, one prior, a sequence of them or a mapping from names. Networks are edge tables
        (:func:`is_edge_table`), :class:`GeneGraph` objects and whatever has a ``to_graph()`` method; names are those
        of ``as_sources``.

    Raises
    ------
    DataError
        An edge table that cannot be read (:meth:`GeneGraph.from_table`).
    """
    return {name: as_graph(prior, name) for name, prior in named_priors(priors).items() if is_graph(prior)}


def overlap_error(network: GeneGraph, genes: Iterable[str]) -> None:
    """Raise :class:`DataError` when the network has none of the genes; else do nothing.

    Parameters
    ----------
    network
        The network.
    genes
        Names that are looked for: those of a screen.
    """
    wanted = [str(gene) for gene in genes]
    if wanted and set(wanted).isdisjoint(network.genes):
        raise DataError(
            f"0 of {len(wanted)} genes found in the network {network.name!r}; first names: {name_some(wanted, most=3)} "
            f"/ {name_some(network.genes, most=3) or 'none'}. Use the same kind of gene names on both sides."
        )
