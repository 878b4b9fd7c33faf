"""Pictures of results: each function reads a table, draws in one axes and returns it."""

from scperturb_modules.pl._error_by_effect import error_by_effect
from scperturb_modules.pl._leaderboard import leaderboard
from scperturb_modules.pl._metric_quality import metric_quality

__all__ = ["error_by_effect", "leaderboard", "metric_quality"]
