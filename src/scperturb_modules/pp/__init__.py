"""Preprocessing of screens: labels, checks, normalisation, splits and pseudobulk."""

from __future__ import annotations

from scperturb_modules.pp._affected import affected_genes
from scperturb_modules.pp._labels import standardize_perturbations
from scperturb_modules.pp._leakage import check_leakage, raise_on_leak
from scperturb_modules.pp._normalize import normalize
from scperturb_modules.pp._pseudobulk import pseudobulk
from scperturb_modules.pp._split import split
from scperturb_modules.pp._split_suggest import suggest_schemes
from scperturb_modules.pp._split_table import read_split
from scperturb_modules.pp._validate import check_screen, format_checks, raise_on_errors, validate

__all__ = [
    "affected_genes",
    "check_leakage",
    "check_screen",
    "format_checks",
    "normalize",
    "pseudobulk",
    "raise_on_errors",
    "raise_on_leak",
    "read_split",
    "split",
    "standardize_perturbations",
    "suggest_schemes",
    "validate",
]
