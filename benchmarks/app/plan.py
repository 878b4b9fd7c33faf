"""What the page asks, as lists of experiments in the order in which they are run."""

from __future__ import annotations

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
ABLATIONS_PAIRS = (
    *(Experiment("200 pairs", "combination", variant=name) for name in (*NETWORK_VARIANTS, *OTHER_VARIANTS)),
    Experiment("200 pairs", "combination", "permuted"),
    *(Experiment("200 pairs", "combination", variant=name) for name in PAPER),
)
ABLATIONS_UNSEEN = (
    *(Experiment("200 pairs", "unseen_gene", variant=name) for name in NETWORK_VARIANTS),
    *(Experiment("200 pairs", "unseen_gene", variant=name) for name in PAPER[:3]),
)

QUALITY = tuple(
    Experiment("200 pairs", "unseen_gene", name)
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
    (QUALITY[-1], *ABLATIONS_PAIRS),
    QUALITY[:-1],
    ABLATIONS_UNSEEN,
)

QUALITY_SHOWN = (QUALITY[0], UNSEEN, *QUALITY[1:])
QUALITY_NAMES = {"whole": "all edges", "partial": "30 % of genes absent", "permuted": "wrong genes"} | {
    f"{share} % {how}": f"and {share} % of edges {how}" for share in (10, 25, 50) for how in ("removed", "added")
}
