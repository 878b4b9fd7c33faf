"""Prepare a screen: labels, checks, normalisation, splits, and the observed truth."""

from __future__ import annotations

from scperturb_modules.pp._pseudobulk import pseudobulk

__all__ = ["pseudobulk"]
