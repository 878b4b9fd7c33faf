"""The command ``spm``."""

from scperturb_modules.cli._main import main

__all__ = ["main"]
