"""Elementwise losses and targets, `[...] -> [...]`; they import nothing but jax, chex and optax."""

from purerl.losses.kl_control import adaptive_kl, kl_penalized_reward, kl_regularized_optimum, leave_one_out_advantages
from purerl.losses.policy_gradient import (
    categorical_entropy,
    clipped_surrogate,
    clipped_value,
    gaussian_entropy,
    kl_estimate,
    normalize,
    reinforce,
)
from purerl.losses.preference import (
    cpo,
    dpo,
    hinge_dpo,
    ipo,
    kto,
    kto_kl,
    orpo,
    plackett_luce_dpo,
    robust_dpo,
    simpo,
    sppo,
)
from purerl.losses.reward_modeling import (
    bradley_terry,
    bradley_terry_strengths,
    pairwise_ranking,
    plackett_luce,
    reward_centering,
    segment_preference,
)
from purerl.losses.sequence import last_token, sequence_lengths, sequence_log_probs, token_log_probs

__all__ = [
    "adaptive_kl",
    "bradley_terry",
    "bradley_terry_strengths",
    "categorical_entropy",
    "clipped_surrogate",
    "clipped_value",
    "cpo",
    "dpo",
    "gaussian_entropy",
    "hinge_dpo",
    "ipo",
    "kl_estimate",
    "kl_penalized_reward",
    "kl_regularized_optimum",
    "kto",
    "kto_kl",
    "last_token",
    "leave_one_out_advantages",
    "normalize",
    "orpo",
    "pairwise_ranking",
    "plackett_luce",
    "plackett_luce_dpo",
    "reinforce",
    "reward_centering",
    "robust_dpo",
    "segment_preference",
    "sequence_lengths",
    "sequence_log_probs",
    "simpo",
    "sppo",
    "token_log_probs",
]
