"""Tools: score predictions, compare predictors, say how sure they are, choose what to measure next."""

from scperturb_modules.metrics import plan
from scperturb_modules.tl._attention_enrichment import attention_enrichment
from scperturb_modules.tl._benchmark import benchmark
from scperturb_modules.tl._board import Benchmark
from scperturb_modules.tl._evaluate import evaluate
from scperturb_modules.tl._evaluate_cells import evaluate_cells
from scperturb_modules.tl._frame import read_results
from scperturb_modules.tl._intervals import intervals
from scperturb_modules.tl._network_quality import network_quality, network_verdict
from scperturb_modules.tl._program_enrichment import program_enrichment
from scperturb_modules.tl._to_cells import to_cells
from scperturb_modules.tl._trap import shared_control_trap, shared_control_verdict
from scperturb_modules.tl.design._backtest import backtest
from scperturb_modules.tl.design._pick import Constraints
from scperturb_modules.tl.design._power import power
from scperturb_modules.tl.design._rank_next import rank_next
from scperturb_modules.tl.design._summary import backtest_summary
from scperturb_modules.tl.interactions._agreement import interaction_agreement
from scperturb_modules.tl.interactions._calls import interaction_genes
from scperturb_modules.tl.interactions._interactions import genetic_interactions

__all__ = [
    "Benchmark",
    "Constraints",
    "attention_enrichment",
    "backtest",
    "backtest_summary",
    "benchmark",
    "evaluate",
    "evaluate_cells",
    "genetic_interactions",
    "interaction_agreement",
    "interaction_genes",
    "intervals",
    "network_quality",
    "network_verdict",
    "plan",
    "power",
    "program_enrichment",
    "rank_next",
    "read_results",
    "shared_control_trap",
    "shared_control_verdict",
    "to_cells",
]
