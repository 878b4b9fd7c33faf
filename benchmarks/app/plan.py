"""What the page asks, as lists of experiments in the order in which they are run."""

from __future__ import annotations

from dataclasses import replace

from runs import Experiment

INTERACTIONS = (Experiment("60 pairs", "combination"), Experiment("200 pairs", "combination"))
UNSEEN = Experiment("200 pairs", "unseen_gene")

ADDITIVE = (
    Experiment("additive", "combination"),
    Experiment("additive, small effects", "combination"),
    Experiment("additive, 200 pairs", "combination"),
    Experiment("additive, small effects, 200 pairs", "combination"),
)
DECOY_UNSEEN = Experiment("200 pairs", "unseen_gene", "decoy")
DECOY_PAIRS = (
    Experiment("200 pairs", "combination", "decoy", "responses off"),
    Experiment("200 pairs", "combination", "decoy"),
)

PAPER = (
    "paper",
    "paper, embedding random",
    "paper, embedding identity",
    "paper, attention context",
    "paper, attention static",
    "paper, head mlp",
)
NETWORK_VARIANTS = ("embedding random", "embedding identity", "attention context", "attention static", "responses off")
OTHER_VARIANTS = ("head mlp", "head linear", "anchor zero", "scale_parts off", "context sum")
ABLATION_SEEDS = (0,)
"""A table of many fits, so that fewer seeds have to do."""

FULL_PAIRS = replace(INTERACTIONS[1], seeds=ABLATION_SEEDS)
FULL_UNSEEN = replace(UNSEEN, seeds=ABLATION_SEEDS)
ABLATIONS_PAIRS = (
    *(replace(FULL_PAIRS, variant=name) for name in (*NETWORK_VARIANTS, *OTHER_VARIANTS)),
    replace(FULL_PAIRS, network="permuted"),
    *(replace(FULL_PAIRS, variant=name) for name in PAPER),
)
ABLATIONS_UNSEEN = (
    *(replace(FULL_UNSEEN, variant=name) for name in NETWORK_VARIANTS),
    *(replace(FULL_UNSEEN, variant=name) for name in PAPER[:3]),
)

QUALITY_SEEDS = (0, 1, 2, 3)
QUALITY = tuple(
    Experiment("200 pairs", "unseen_gene", name, seeds=QUALITY_SEEDS)
    for name in (
        "whole",
        "10 % removed",
        "25 % removed",
        "50 % removed",
        "10 % added",
        "25 % added",
        "50 % added",
        "permuted",
    )
)

ORDER = (
    (*INTERACTIONS, UNSEEN),
    (*ADDITIVE[:2], DECOY_UNSEEN, *DECOY_PAIRS),
    ADDITIVE[2:],
    QUALITY,
    (*ABLATIONS_UNSEEN, *ABLATIONS_PAIRS),
)

QUALITY_SHOWN = (QUALITY[0], replace(UNSEEN, seeds=QUALITY_SEEDS), *QUALITY[1:])
QUALITY_NAMES = {"whole": "all edges", "partial": "30 % of genes absent", "permuted": "wrong genes"} | {
    f"{share} % {how}": f"and {share} % of edges {how}" for share in (10, 25, 50) for how in ("removed", "added")
}
