"""Simple predictors that any model has to beat, the anchor that models build on, and ceilings.

All baselines have the verbs of the models: ``setup_anndata``, the constructor, ``train``, ``predict``, ``save`` and
``load``. They are closed forms in numpy: same data and seed, same numbers.
"""

from scperturb_modules.baselines._additive import Additive, AdditiveFitted, AdditiveShrunk
from scperturb_modules.baselines._anchor import Anchor, shrink_to_zero
from scperturb_modules.baselines._base import Baseline
from scperturb_modules.baselines._ceilings import l2_floor, oracle_prediction, replicate_halves
from scperturb_modules.baselines._kernel import EmbeddingLinear, KernelRidge
from scperturb_modules.baselines._linear import Linear
from scperturb_modules.baselines._mean import MatchingMean, MeanFitted, MeanShift, NoChange
from scperturb_modules.baselines._nearest import NearestPrior
from scperturb_modules.baselines._prediction import make_prediction, resolve_rows
from scperturb_modules.baselines._priors import Embedding, fuse_tables
from scperturb_modules.baselines._training import TrainingData
from scperturb_modules.baselines._transfer import Transfer

ALL = (
    NoChange,
    MeanShift,
    MeanFitted,
    MatchingMean,
    Additive,
    AdditiveFitted,
    AdditiveShrunk,
    Linear,
    EmbeddingLinear,
    KernelRidge,
    NearestPrior,
    Transfer,
)
"""The competitors, in the order of tables; ceilings are not among them."""

__all__ = [
    "ALL",
    "Additive",
    "AdditiveFitted",
    "AdditiveShrunk",
    "Anchor",
    "Baseline",
    "Embedding",
    "EmbeddingLinear",
    "KernelRidge",
    "Linear",
    "MatchingMean",
    "MeanFitted",
    "MeanShift",
    "NearestPrior",
    "NoChange",
    "TrainingData",
    "Transfer",
    "fuse_tables",
    "l2_floor",
    "make_prediction",
    "oracle_prediction",
    "replicate_halves",
    "resolve_rows",
    "shrink_to_zero",
]
