"""Parts of networks that more than one model uses; torch only, no AnnData.

Ensemble members are one batched module: every parameter has a leading axis of M members, and every input and output has
one too, so that M members are trained in one pass.
"""

from scperturb_modules.nn._flow import SOLVERS, Velocity, flow_pair, guided, integrate
from scperturb_modules.nn._graph import GraphLayer, Relation
from scperturb_modules.nn._heads import LinearHead, LowRankHead, MlpHead
from scperturb_modules.nn._loss_terms import autofocus, beta_nll, direction_loss, kl_divergence, variance_error
from scperturb_modules.nn._losses import at_least_float32, effect_weights, squared_error
from scperturb_modules.nn._masked_attention import MaskedAttention, MaskedEncoderLayer, MemberNorm
from scperturb_modules.nn._members import MemberLinear, MemberTable, root_mean_square_norm
from scperturb_modules.nn._set_attention import AttentionBlock, InducedBlock
from scperturb_modules.nn._set_encoder import SetEncoder
from scperturb_modules.nn._transport import couple, energy_distance, log_sinkhorn
from scperturb_modules.nn._vae import ControlVae, active_dimensions

__all__ = [
    "SOLVERS",
    "AttentionBlock",
    "ControlVae",
    "GraphLayer",
    "InducedBlock",
    "LinearHead",
    "LowRankHead",
    "MaskedAttention",
    "MaskedEncoderLayer",
    "MemberLinear",
    "MemberNorm",
    "MemberTable",
    "MlpHead",
    "Relation",
    "SetEncoder",
    "Velocity",
    "active_dimensions",
    "at_least_float32",
    "autofocus",
    "beta_nll",
    "couple",
    "direction_loss",
    "effect_weights",
    "energy_distance",
    "flow_pair",
    "guided",
    "integrate",
    "kl_divergence",
    "log_sinkhorn",
    "root_mean_square_norm",
    "squared_error",
    "variance_error",
]
