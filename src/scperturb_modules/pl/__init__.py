"""Pictures of results: each function reads a table, draws in one axes and returns it."""

from scperturb_modules.pl._affected_genes import affected_genes
from scperturb_modules.pl._attention import attention
from scperturb_modules.pl._budget_curve import budget_curve
from scperturb_modules.pl._calibration import calibration, risk_coverage
from scperturb_modules.pl._conditions import conditions
from scperturb_modules.pl._error_by_effect import error_by_effect
from scperturb_modules.pl._flow_paths import flow_paths
from scperturb_modules.pl._gene_graph import gene_graph
from scperturb_modules.pl._gene_programs import gene_programs
from scperturb_modules.pl._generated_cells import generated_cells
from scperturb_modules.pl._genetic_interactions import genetic_interactions
from scperturb_modules.pl._interaction_calls import interaction_calls
from scperturb_modules.pl._leaderboard import leaderboard
from scperturb_modules.pl._metric_quality import metric_quality
from scperturb_modules.pl._network_quality import network_quality
from scperturb_modules.pl._pathway_attention import pathway_attention
from scperturb_modules.pl._pathway_tree import pathway_tree
from scperturb_modules.pl._pathway_walk import pathway_walk
from scperturb_modules.pl._prior_coverage import prior_coverage
from scperturb_modules.pl._program_activity import program_activity
from scperturb_modules.pl._program_correlation import program_correlation
from scperturb_modules.pl._score_by_seen import score_by_seen
from scperturb_modules.pl._top_genes import top_genes
from scperturb_modules.pl._training_history import training_history
from scperturb_modules.pl._verdict import verdict

__all__ = [
    "affected_genes",
    "attention",
    "budget_curve",
    "calibration",
    "conditions",
    "error_by_effect",
    "flow_paths",
    "gene_graph",
    "gene_programs",
    "generated_cells",
    "genetic_interactions",
    "interaction_calls",
    "leaderboard",
    "metric_quality",
    "network_quality",
    "pathway_attention",
    "pathway_tree",
    "pathway_walk",
    "prior_coverage",
    "program_activity",
    "program_correlation",
    "risk_coverage",
    "score_by_seen",
    "top_genes",
    "training_history",
    "verdict",
]
