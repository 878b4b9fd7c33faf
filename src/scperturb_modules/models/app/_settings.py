"""Every setting of APP, and the two presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scperturb_modules._errors import DataError, name_some
from scperturb_modules._presets import with_preset
from scperturb_modules.models._anchored_settings import AnchoredSettings

FEATURES = ("learned", "expression", "prior")


@dataclass(frozen=True)
class AppSettings(AnchoredSettings):
    """Settings of :class:`APP`; the defaults are those of ``preset="tool"``.

    Anchor, gate, members and folds are in :class:`~scperturb_modules.models.AnchoredSettings`.

    Parameters
    ----------
    d
        Width of gene embeddings and of attention.
    n_layers
        Layers of message passing; 0: embeddings only.
    agg
        How a gene sums up its neighbours: ``"mean"`` (weighted by the edges), ``"sum"`` or ``"max"``.
    combine
        Of a gene's own state and what it hears: ``"concat"`` or ``"add"``.
    fuse
        Of several networks: ``"gate"``, ``"concat"`` or ``"mean"``; see :class:`scperturb_modules.nn.GraphLayer`.
    activation, final_activation
        Of the layers; whether the last has one.
    embedding
        ``"graph"``: message passing; ``"random"``: a frozen Gaussian table without message passing; ``"identity"``: a
        free table without message passing (one-hot genes).
    features
        What a gene starts from, one or several of ``"learned"`` (a free vector), ``"expression"`` (mean and
        standard deviation in control cells) and ``"prior"`` (the gene x feature tables among the priors).
    attention
        ``"all"``: over all genes of the pool, given the perturbation; ``"static"``: weights that do not depend on the
        perturbation; ``"context"``: none, the state is the perturbation's own context.
    score
        ``"additive"`` (Bahdanau), ``"bilinear"`` or both.
    heads
        Attention heads.
    pool
        Genes that attention may look at: ``"measured"`` ones, those ``"connected"`` in a network, or ``"all"`` of both.
    context
        How perturbed genes make a context: ``"mean"``, ``"sum"``, ``"mean+count"`` (and how many genes there are), or
        ``"interaction"`` (sum, count and the products of pairs of genes, the same for A+B and B+A).
    context_skip
        Whether the head reads the context beside the state that attention gives.
    responses
        Whether a gene's part of the anchor (its measured or expected response) enters its embedding.
    head
        ``"lowrank"``, ``"linear"`` or ``"mlp"``.
    rank
        The most components of ``"lowrank"``, and of the responses.
    scale_parts
        Whether the head may also rescale each gene's part of the anchor.
    inner_gate
        Whether the network also weighs its own part by how much of the condition was measured.
    center_control
        Whether the network's output for no perturbation is subtracted.
    covariate
        How cell types enter the context: ``"none"``, ``"onehot"`` (a free vector) or ``"profile"`` (principal
        components of their control means, also for unseen ones).
    dropout, id_dropout, prior_dropout, edge_dropout
        Shares left out in training: of a perturbed gene's features, of free gene vectors, of prior tables per gene, of
        edges.
    """

    CHOICES = dict(AnchoredSettings.CHOICES) | {
        "embedding": ("graph", "random", "identity"),
        "agg": ("mean", "sum", "max"),
        "combine": ("concat", "add"),
        "fuse": ("gate", "concat", "mean"),
        "activation": ("relu", "leaky_relu"),
        "attention": ("all", "static", "context"),
        "score": ("additive", "bilinear", "additive+bilinear"),
        "pool": ("all", "measured", "connected"),
        "context": ("mean", "sum", "mean+count", "interaction"),
        "head": ("linear", "lowrank", "mlp"),
        "covariate": ("none", "onehot", "profile"),
    }
    LEAST = dict(AnchoredSettings.LEAST) | {"d": 1, "n_layers": 0, "heads": 1, "rank": 1}
    SHARES = (*AnchoredSettings.SHARES, "dropout", "id_dropout", "prior_dropout", "edge_dropout")

    d: int = 32
    n_layers: int = 2
    agg: str = "mean"
    combine: str = "concat"
    fuse: str = "gate"
    activation: str = "relu"
    final_activation: bool = True
    embedding: str = "graph"
    features: tuple[str, ...] = ("learned", "expression", "prior")
    attention: str = "all"
    score: str = "bilinear"
    heads: int = 1
    pool: str = "all"
    context: str = "interaction"
    context_skip: bool = True
    responses: bool = True
    head: str = "lowrank"
    rank: int = 30
    scale_parts: bool = True
    inner_gate: bool = True
    center_control: bool = True
    covariate: str = "onehot"
    dropout: float = 0.1
    id_dropout: float = 0.5
    prior_dropout: float = 0.2
    edge_dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", _as_tuple(self.features))
        super().__post_init__()
        strange = [name for name in self.features if name not in FEATURES]
        if strange or not self.features:
            raise DataError(f"features={self.features!r}; choose one or several of {name_some(FEATURES)}.")
        if self.d % self.heads:
            raise DataError(f"d={self.d} is no multiple of heads={self.heads}.")


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "tool": {},
        # sections 2.1 to 2.5 of the paper, and nothing else
        "paper": {
            "d": 128,
            "fuse": "concat",
            "features": ("learned",),
            "score": "additive",
            "context": "mean",
            "context_skip": False,
            "responses": False,
            "head": "linear",
            "scale_parts": False,
            "anchor": "zero",
            "gate": False,
            "inner_gate": False,
            "n_members": 1,
            "n_folds": 0,
            "p_mask": 0.0,
            "center_control": False,
            "covariate": "none",
            "dropout": 0.0,
            "id_dropout": 0.0,
            "prior_dropout": 0.0,
            "edge_dropout": 0.0,
            "gamma": 0.0,
        },
    }
)


def settings_of(preset: str, overrides: Mapping[str, Any]) -> AppSettings:
    """The settings of a preset, with ``overrides`` on top.

    Raises
    ------
    DataError
        Unknown preset, or values that are not allowed.
    TypeError
        A setting that does not exist.
    """
    return with_preset(AppSettings, PRESETS, preset, overrides, owner="APP")


def _as_tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
