"""Parts of networks that more than one model uses; torch only, no AnnData.

Ensemble members are one batched module: every parameter has a leading axis of M members, and every input and output has
one too, so that M members are trained in one pass.
"""

from scperturb_modules.nn._graph import GraphLayer, Relation
from scperturb_modules.nn._heads import LinearHead, LowRankHead, MlpHead
from scperturb_modules.nn._loss_terms import autofocus, beta_nll, direction_loss, kl_divergence, variance_error
from scperturb_modules.nn._losses import at_least_float32, effect_weights, squared_error
from scperturb_modules.nn._masked_attention import MaskedAttention, MaskedEncoderLayer, MemberNorm
from scperturb_modules.nn._members import MemberLinear, MemberTable, root_mean_square_norm
from scperturb_modules.nn._transport import energy_distance
from scperturb_modules.nn._vae import ControlVae, active_dimensions

__all__ = [
    "ControlVae",
    "GraphLayer",
    "LinearHead",
    "LowRankHead",
    "MaskedAttention",
    "MaskedEncoderLayer",
    "MemberLinear",
    "MemberNorm",
    "MemberTable",
    "MlpHead",
    "Relation",
    "active_dimensions",
    "at_least_float32",
    "autofocus",
    "beta_nll",
    "direction_loss",
    "effect_weights",
    "energy_distance",
    "kl_divergence",
    "root_mean_square_norm",
    "squared_error",
    "variance_error",
]
