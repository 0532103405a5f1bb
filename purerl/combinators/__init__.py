"""Variations of agents as functions `Agent -> Agent`."""

from purerl.combinators.normalization import with_observation_normalization, with_reward_scaling

__all__ = ["with_observation_normalization", "with_reward_scaling"]
