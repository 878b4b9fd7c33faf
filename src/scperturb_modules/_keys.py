"""Every name under which something is stored in an AnnData; each stands here once.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

ROOT = "scperturb_modules"
"""The one top-level key of ``uns``; everything else is a sub-key of it."""

# sub-keys of uns[ROOT]
SETUP = "setup"
MODALITY = "modality"
SPLIT_RECORD = "split"
CHECKS = "checks"
LABELS = "labels"
PROVENANCE = "provenance"
SIMULATION = "simulation"
PSEUDOBULK = "pseudobulk"
PREDICTION = "prediction"
PRIORS = "priors"
LEARNED = "learned"
ATTENTION_NODES = "attention_nodes"
ATTENTION_TV = "attention_tv"
PATHWAY_ATTENTION = "pathway_attention"
SCBIG = "scbig"

# sub-keys of uns[ROOT][SCBIG]
PROGRAMS = "programs"
PROGRAM_RELATIONS = "program_relations"
PROGRAM_ENRICHMENT = "program_enrichment"
PROGRAM_CHANGES = "program_changes"
PROGRAM_CORRELATION = "program_correlation"
FLOW_PATHS = "flow_paths"

LOW_ATTENTION_TV = 0.02
"""Below this mean total variation between perturbations, attention hardly depends on the perturbation."""

SAME_SCREEN, SAME_LINE = "same_screen", "same_line_other_screen"
FROM_A_SCREEN = (SAME_SCREEN, SAME_LINE)
"""Values of ``attrs["derived_from"]`` of a prior that was made from perturbation data, the graver one first."""

# obs of a screen (cells)
PERTURBATION = "perturbation"
PERTURBATION_ORIGINAL = "perturbation_original"
SPLIT = "split"
CELL_TYPE = "cell_type"

# values of obs[SPLIT]
TRAIN, VAL, TEST = "train", "val", "test"
PARTS = (TRAIN, VAL, TEST)

# obs of a pseudobulk or a Prediction (conditions); PERTURBATION, CELL_TYPE and SPLIT are used there too
N_CELLS = "n_cells"
N_CONTROLS = "n_controls"
N_PERTURBED = "n_perturbed"
STATUS = "status"
SEEN = "seen"
ANCHOR = "anchor"
GATE = "gate"
INTERVAL = "interval"
ERROR_BOUND = "error_bound"
ABSTAIN = "abstain"
ABSTAIN_REASON = "abstain_reason"

# of intervals: var, and sub-keys of uns[ROOT][PREDICTION]
CELL_VARIANCE = "cell_variance"
INTERVALS = "intervals"
INTERVAL_CELLS = "interval_cells"
INTERVAL_LEVEL = "level"

# layers
COUNTS = "counts"
DELTA = "delta"
SE2 = "se2"
SE2_CONTROL = "se2_control"
CONTROL_LAYER = "control"
CONTROL_TRAIN = "control_train"
DETECTION = "detection"
LOWER = "lower"
UPPER = "upper"
SD = "sd"

# obsm of a Prediction: conditions x ATTENTION_NODES
ATTENTION = "attention"
ATTENTION_SD = "attention_sd"

# var and obsm of a screen, written by SCBIG
PROGRAM = "scbig_program"
PROGRAM_MARGIN = "scbig_margin"
PROGRAM_ACTIVITY = "scbig_programs"
X_SCBIG = "X_scbig"

# var and varm of a pseudobulk or a Prediction
CONTROL_MEAN = "control_mean"
HIGHLY_VARIABLE = "highly_variable"


@dataclass(frozen=True)
class ScreenKeys:
    """Which columns of a screen hold what; the argument names are those of every ``setup_anndata``."""

    perturbation_key: str = PERTURBATION
    control: str = "control"
    layer: str | None = None
    batch_key: str | None = None
    cell_type_key: str | None = None
    split_key: str = SPLIT

    def to_uns(self) -> dict[str, str]:
        """The form that survives h5ad and zarr: a key that is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> ScreenKeys:
        return cls(**{name: str(value) for name, value in stored.items()})
