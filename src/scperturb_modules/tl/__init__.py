"""Tools: score predictions, compare predictors, plan how many conditions a comparison needs."""

from scperturb_modules.metrics import plan
from scperturb_modules.tl._attention_enrichment import attention_enrichment
from scperturb_modules.tl._benchmark import benchmark
from scperturb_modules.tl._board import Benchmark
from scperturb_modules.tl._evaluate import evaluate
from scperturb_modules.tl._evaluate_cells import evaluate_cells
from scperturb_modules.tl._frame import read_results
from scperturb_modules.tl._interaction_agreement import interaction_agreement
from scperturb_modules.tl._interaction_calls import interaction_genes
from scperturb_modules.tl._interactions import genetic_interactions
from scperturb_modules.tl._network_quality import network_quality, network_verdict
from scperturb_modules.tl._program_enrichment import program_enrichment
from scperturb_modules.tl._to_cells import to_cells

__all__ = [
    "Benchmark",
    "attention_enrichment",
    "benchmark",
    "evaluate",
    "evaluate_cells",
    "genetic_interactions",
    "interaction_agreement",
    "interaction_genes",
    "network_quality",
    "network_verdict",
    "plan",
    "program_enrichment",
    "read_results",
    "to_cells",
]
