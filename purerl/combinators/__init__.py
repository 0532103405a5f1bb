"""Variations of agents as functions `Agent -> Agent`."""

from purerl.combinators.adaptive_kl import KLPenaltyHparams, kl_penalized_policy_loss, with_adaptive_kl
from purerl.combinators.minibatches import with_minibatches
from purerl.combinators.normalization import with_observation_normalization, with_reward_scaling
from purerl.combinators.precision import with_precision
from purerl.combinators.replay import with_replay
from purerl.combinators.several_agents import with_separate_policies, with_shared_policy

__all__ = [
    "KLPenaltyHparams", "kl_penalized_policy_loss", "with_adaptive_kl", "with_minibatches",
    "with_observation_normalization", "with_precision", "with_replay", "with_reward_scaling", "with_separate_policies",
    "with_shared_policy",
]  # fmt: skip
