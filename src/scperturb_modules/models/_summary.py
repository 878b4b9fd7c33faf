"""What a model tells of itself: its data, its priors, the genes that need a fallback, its training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules._conditions import genes_of_row
from scperturb_modules._errors import name_some
from scperturb_modules.models._storage import Priors, sha256_of
from scperturb_modules.priors import GeneGraph

if TYPE_CHECKING:
    from scperturb_modules.models._answers import AnsweringModel


def priors_table(priors: Priors, known_genes: frozenset[str]) -> pd.DataFrame:
    """A row per prior: ``name``, ``kind``, ``n_genes``, ``n_matched``, ``sha256``, ``version``, ``licence``.

    ``n_matched`` counts its genes among those measured or perturbed in training. Text that is not known is empty.
    """
    rows = []
    for name, prior in priors.items():
        genes = set(prior.genes if isinstance(prior, GeneGraph) else map(str, prior.index))
        said: dict[str, Any] = {key: str(prior.attrs.get(key, "")) for key in ("version", "licence")}
        kind = "network" if isinstance(prior, GeneGraph) else "table"
        counts = {"n_genes": len(genes), "n_matched": len(genes & known_genes)}
        row: dict[str, Any] = {"name": name, "kind": kind, **counts, "sha256": sha256_of(prior), **said}
        rows.append(row)
    return pd.DataFrame(rows, index=[f"prior_{i}" for i in range(len(rows))])


def summary_text(model: AnsweringModel, extra: Mapping[str, str]) -> str:
    """The lines of ``summary()``."""
    trained = "trained" if model.is_trained else "not trained"
    lines = {
        "data": _data_line(model),
        "priors": _prior_lines(model),
        "perturbed genes": _gene_lines(model),
        "network": _network_line(model),
        "training": _training_line(model),
        **extra,
    }
    body = [f"  {name}: {text}" for name, text in lines.items() if text]
    preset = f" (preset {model.option_values['preset']!r})" if "preset" in model.options else ""
    return "\n".join([f"{model.name}{preset}, {trained}", *body])


def _data_line(model: AnsweringModel) -> str:
    contexts = [context for context in model.data.contexts if context is not None]
    named = f" in {len(contexts)} contexts ({name_some(contexts)})" if contexts else ""
    return f"{len(model.data.rows)} training conditions{named}, {len(model.data.var_names)} genes"


def _prior_lines(model: AnsweringModel) -> str:
    known = len(model.data.known_genes)
    table = priors_table(model.priors, model.data.known_genes)
    texts = [
        f"{one['name']} ({one['kind']}, {one['n_genes']} genes, covers {one['n_matched']} of {known}, "
        f"{one['n_matched'] / known:.0%})"
        for _, one in table.iterrows()
    ]
    return "; ".join(texts) or "none"


def _gene_lines(model: AnsweringModel) -> str:
    """How many perturbed genes need what fallback; the test part counts too, where it is known."""
    asked = {gene for name in model.test_names for gene in genes_of_row(name)}
    perturbed = sorted(asked.union(*model.data.genes))
    measured = set(model.data.var_names)
    cases: dict[str, list[str]] = {
        "not measured": [gene for gene in perturbed if gene not in measured],
        "isolated in every network": _isolated(perturbed, model.networks.values()) if model.networks else [],
        "known nowhere": [gene for gene in perturbed if not model.knows(gene)],
    }
    found = [f"{len(genes)} {case} ({name_some(genes)})" for case, genes in cases.items() if genes]
    return "; ".join([str(len(perturbed)), *found])


def _isolated(genes: Sequence[str], networks: Iterable[GeneGraph]) -> list[str]:
    connected = frozenset[str]().union(*(network.connected for network in networks))
    return [gene for gene in genes if gene not in connected]


def _network_line(model: AnsweringModel) -> str:
    module: Any = getattr(model, "module", None)
    if module is None:
        return ""
    n_parameters = sum(parameter.numel() for parameter in module.parameters())
    parts = [f"{n_parameters} parameters"]
    parts += [
        f"{getattr(model, name)} {text}"
        for name, text in (("n_members", "members"), ("n_folds", "fold members"))
        if getattr(model, name, None) is not None
    ]
    return ", ".join(parts)


def _training_line(model: AnsweringModel) -> str:
    result = model.fit_result
    if result is None:
        return ""
    text = f"{result.n_epochs} epochs" + (", stopped early" if result.stopped_early else "")
    if result.best_score is None:
        return f"{text}, no validation"
    return f"{text}, validation loss {result.best_score:.4g} in epoch {result.best_epoch}"
