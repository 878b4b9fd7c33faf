"""Training on scvi-tools' trainer, resuming, and the folder in which models are saved."""

from scperturb_modules.train._format import SavedFolder, read_folder, write_folder
from scperturb_modules.train._json import from_json, to_json

__all__ = ["SavedFolder", "from_json", "read_folder", "to_json", "write_folder"]
