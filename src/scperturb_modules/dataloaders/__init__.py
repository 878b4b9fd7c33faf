"""From training data to batches: one data module for all models, the same steps on every machine.

A *group* is a unit of learning, one condition in a context; a *step* is one batch of groups.
"""

from scperturb_modules.dataloaders._datamodule import ConditionDataModule
from scperturb_modules.dataloaders._dataset import CellDataset, PseudobulkDataset, StepDataset
from scperturb_modules.dataloaders._groups import CellGroups, draw_cells
from scperturb_modules.dataloaders._joint import JointDataset
from scperturb_modules.dataloaders._loader import StepLoader, TrainingStepLoader
from scperturb_modules.dataloaders._plan import Step, StepPlan

__all__ = [
    "CellDataset",
    "CellGroups",
    "ConditionDataModule",
    "JointDataset",
    "PseudobulkDataset",
    "Step",
    "StepDataset",
    "StepLoader",
    "StepPlan",
    "TrainingStepLoader",
    "draw_cells",
]
