"""The k-armed testbed: bandits whose arms' means are drawn at every reset."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.hparams import check_positive
from purerl.spaces import Discrete
from purerl.types import Env, EnvStep, Key, Scalar


class BanditTestbedParams(NamedTuple):
    """Parameters of the testbed, all in units of reward.

    Attributes:
      mean: mean of the arms' means.
      spread: standard deviation of the arms' means.
      noise: standard deviation of a reward around its arm's mean.
      drift: standard deviation of the random walk that each mean makes in every step; 0 keeps the means fixed.
    """

    mean: Scalar = 0.0
    spread: Scalar = 1.0
    noise: Scalar = 1.0
    drift: Scalar = 0.0


def bandit_testbed(num_arms: int = 10) -> Env:
    """One bandit: m[a] ~ N(mean, spread²) at the reset, r ~ N(m[a], noise²) in every step. It never ends.

    The observation is 0. The info of a step, and so the metrics of training: `optimal`, 1 where the best arm was
    taken, and `regret` = max m − m[a]. Sum the latter over time for the regret curve.

    Args:
      num_arms: number of actions.

    Returns:
      `Env` whose parameters are `BanditTestbedParams`; the same object for the same `num_arms`.

    Raises:
      ValueError: `num_arms` is not a positive integer.

    Examples:
      >>> env = bandit_testbed(3)
      >>> obs, means = env.reset(jax.random.key(0))
      >>> env.step(jax.random.key(1), means, means.argmax()).info["regret"].tolist()
      0.0

    Source: Sutton & Barto (2018), section 2.3; with drift, exercise 2.5.
    """
    check_positive(num_arms=num_arms)
    return _bandit_testbed(num_arms)


@functools.cache
def _bandit_testbed(num_arms: int) -> Env:
    def reset(key: Key, env_params: BanditTestbedParams | None = None) -> tuple[jax.Array, jax.Array]:
        params = BanditTestbedParams() if env_params is None else env_params
        means = params.mean + params.spread * jax.random.normal(key, (num_arms,), jnp.float32)
        return jnp.int32(0), means.astype(jnp.float32)

    def step(
        key: Key, env_state: jax.Array, action: jax.Array, env_params: BanditTestbedParams | None = None
    ) -> EnvStep:
        params = BanditTestbedParams() if env_params is None else env_params
        noise = jax.random.normal(key, (num_arms + 1,), jnp.float32)
        best, taken = env_state.max(), env_state[action]
        reward = (taken + params.noise * noise[-1]).astype(jnp.float32)
        info = {"optimal": (taken == best).astype(jnp.float32), "regret": best - taken}
        never = jnp.bool_(False)
        means = (env_state + params.drift * noise[:-1]).astype(jnp.float32)
        return EnvStep(jnp.int32(0), means, reward, never, never, info)

    return Env(reset, step, Discrete(1), Discrete(num_arms))
