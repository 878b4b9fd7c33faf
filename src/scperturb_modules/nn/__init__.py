"""Parts of networks that more than one model uses; torch only, no AnnData.

Ensemble members are one batched module: every parameter has a leading axis of M members, and every input and output has
one too, so that M members are trained in one pass.
"""

from scperturb_modules.nn._graph import GraphLayer, Relation
from scperturb_modules.nn._heads import LinearHead, LowRankHead, MlpHead
from scperturb_modules.nn._losses import at_least_float32, effect_weights, squared_error
from scperturb_modules.nn._members import MemberLinear, MemberTable, root_mean_square_norm

__all__ = [
    "GraphLayer",
    "LinearHead",
    "LowRankHead",
    "MemberLinear",
    "MemberTable",
    "MlpHead",
    "Relation",
    "at_least_float32",
    "effect_weights",
    "root_mean_square_norm",
    "squared_error",
]
