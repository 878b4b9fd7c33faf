"""APP: gene networks, attention over all genes, gated residual on the anchor."""

from scperturb_modules.models.app._model import APP
from scperturb_modules.models.app._settings import PRESETS, AppSettings

__all__ = ["APP", "PRESETS", "AppSettings"]
