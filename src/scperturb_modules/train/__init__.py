"""Training on scvi-tools' trainer, resuming, and the folder in which models are saved."""

from scperturb_modules.train._callbacks import BestWeights, SaveResumePoint, read_resume_point
from scperturb_modules.train._devices import is_first_process, require_device
from scperturb_modules.train._format import SavedFolder, read_folder, write_folder
from scperturb_modules.train._json import from_json, to_json
from scperturb_modules.train._plan import ConditionPlan
from scperturb_modules.train._runner import FitResult, fit

__all__ = [
    "BestWeights",
    "ConditionPlan",
    "FitResult",
    "SavedFolder",
    "SaveResumePoint",
    "fit",
    "from_json",
    "is_first_process",
    "read_folder",
    "read_resume_point",
    "require_device",
    "to_json",
    "write_folder",
]
