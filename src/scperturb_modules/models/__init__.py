"""Models: networks that add to the anchor what it does not know, on scvi-tools' trainer."""

from scperturb_modules.models._anchored import AnchoredModel
from scperturb_modules.models._anchored_settings import AnchoredSettings
from scperturb_modules.models._base import PerturbationModel
from scperturb_modules.models._registry import MODELS, load, model_class
from scperturb_modules.models._results import NetworkAnswer

__all__ = ["MODELS", "AnchoredModel", "AnchoredSettings", "NetworkAnswer", "PerturbationModel", "load", "model_class"]
