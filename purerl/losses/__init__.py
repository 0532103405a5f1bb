"""Elementwise losses and targets, `[...] -> [...]`; they import nothing but jax, chex and optax."""

from purerl.losses.binary import bco, bco_delta, kto, kto_kl
from purerl.losses.distributional import categorical_projection, quantile_huber
from purerl.losses.divergences import categorical_entropy, categorical_kl, gaussian_entropy, gaussian_kl, kl_estimate
from purerl.losses.groups import group_advantages, leave_one_out_advantages
from purerl.losses.kl_control import adaptive_kl, kl_penalized_reward, kl_regularized_optimum
from purerl.losses.pair import aot, aot_unpaired, apo_down, apo_zero, nca, sppo
from purerl.losses.policy_gradient import (
    adaptive_kl_coef,
    clipped_surrogate,
    clipped_value,
    kl_penalized_surrogate,
    normalize,
    reinforce,
    vtrace_actor_critic,
)
from purerl.losses.preference import discopop, dpo, exo, hinge_dpo, ipo, plackett_luce_dpo, robust_dpo
from purerl.losses.reference_free import cpo, orpo, simpo
from purerl.losses.reward_modeling import (
    bradley_terry,
    bradley_terry_strengths,
    pairwise_ranking,
    plackett_luce,
    reward_centering,
    segment_preference,
)
from purerl.losses.sequence import last_token, sequence_lengths, sequence_log_probs, token_log_probs
from purerl.losses.token_losses import aggregate_tokens, cispo, grpo, gspo
from purerl.losses.value import (
    action_value,
    double_q_target,
    entropy_regularized_target,
    expected_sarsa_target,
    q_learning_target,
    sarsa_target,
    soft_q_target,
    td_error,
    td_target,
)

__all__ = [
    "action_value",
    "adaptive_kl",
    "adaptive_kl_coef",
    "aggregate_tokens",
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "bco",
    "bco_delta",
    "bradley_terry",
    "bradley_terry_strengths",
    "categorical_entropy",
    "categorical_kl",
    "categorical_projection",
    "cispo",
    "clipped_surrogate",
    "clipped_value",
    "cpo",
    "discopop",
    "double_q_target",
    "dpo",
    "entropy_regularized_target",
    "exo",
    "expected_sarsa_target",
    "gaussian_entropy",
    "gaussian_kl",
    "group_advantages",
    "grpo",
    "gspo",
    "hinge_dpo",
    "ipo",
    "kl_estimate",
    "kl_penalized_reward",
    "kl_penalized_surrogate",
    "kl_regularized_optimum",
    "kto",
    "kto_kl",
    "last_token",
    "leave_one_out_advantages",
    "nca",
    "normalize",
    "orpo",
    "pairwise_ranking",
    "plackett_luce",
    "plackett_luce_dpo",
    "q_learning_target",
    "quantile_huber",
    "reinforce",
    "reward_centering",
    "robust_dpo",
    "sarsa_target",
    "segment_preference",
    "sequence_lengths",
    "sequence_log_probs",
    "simpo",
    "soft_q_target",
    "sppo",
    "td_error",
    "td_target",
    "token_log_probs",
    "vtrace_actor_critic",
]
