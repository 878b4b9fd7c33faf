"""One self-contained HTML file about a benchmark, for people who were not in the notebook."""

from scperturb_modules.report._report import write_report

__all__ = ["write_report"]
