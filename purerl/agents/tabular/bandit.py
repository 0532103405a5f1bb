"""Agents for bandits: ε-greedy, UCB, softmax, gradient bandit and Thompson sampling. Observations are not looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl import exploration
from purerl.hparams import Interval, NonNegative, UnitInterval
from purerl.spaces import Discrete
from purerl.types import Agent, HasSpaces, Metrics, Transition

_Positive = Annotated[Any, Interval(1e-30, float("inf"))]


class BanditHparams(NamedTuple):
    """Hyperparameters of the bandit agents; each rule uses its own.

    Attributes:
      step_size: least weight of the newest reward in an arm's value; 0 averages over all. Step size of "gradient".
      epsilon: probability of a random arm, of "epsilon_greedy".
      exploration: c of "ucb", in units of reward.
      temperature: τ of "softmax", in units of reward.
      initial_value: value of an arm before its first reward; optimistic ones last only with a step size above 0.
      noise_variance: variance of a reward, of "thompson_gaussian".
      prior_mean, prior_variance: belief in an arm's mean, of "thompson_gaussian".
    """

    step_size: UnitInterval = 0.0
    epsilon: UnitInterval = 0.1
    exploration: NonNegative = 2.0
    temperature: NonNegative = 0.1
    initial_value: Any = 0.0
    noise_variance: _Positive = 1.0
    prior_mean: Any = 0.0
    prior_variance: _Positive = 1.0


class BanditState(NamedTuple):
    """What a bandit agent knows of its arms.

    Attributes:
      value: [A], averages of the rewards.
      pulls: [A] float32, how often each was pulled.
      total: [A], sums of the rewards.
      preference: [A], logits of "gradient".
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    pulls: jax.Array
    total: jax.Array
    preference: jax.Array
    hparams: Any
    num_updates: jax.Array


def _epsilon_greedy(key: jax.Array, state: BanditState) -> jax.Array:
    return exploration.epsilon_greedy(key, state.value, state.hparams.epsilon)


def _ucb(key: jax.Array, state: BanditState) -> jax.Array:
    return exploration.ucb1(key, state.value, state.pulls, state.hparams.exploration)


def _softmax(key: jax.Array, state: BanditState) -> jax.Array:
    return exploration.boltzmann(key, state.value, state.hparams.temperature)


def _gradient(key: jax.Array, state: BanditState) -> jax.Array:
    return exploration.boltzmann(key, state.preference, 1.0)


def _thompson_gaussian(key: jax.Array, state: BanditState) -> jax.Array:
    hparams = state.hparams
    return exploration.thompson_gaussian(
        key, state.total, state.pulls, hparams.noise_variance, hparams.prior_mean, hparams.prior_variance
    )


def _thompson_bernoulli(key: jax.Array, state: BanditState) -> jax.Array:
    return exploration.thompson_bernoulli(key, state.total, state.pulls - state.total)


RULES: dict[str, Callable[[jax.Array, BanditState], jax.Array]] = {
    "epsilon_greedy": _epsilon_greedy,
    "ucb": _ucb,
    "softmax": _softmax,
    "gradient": _gradient,
    "thompson_gaussian": _thompson_gaussian,
    "thompson_bernoulli": _thompson_bernoulli,
}


def bandit(env: HasSpaces, *, rule: str = "epsilon_greedy") -> Agent:
    """An agent for bandits that chooses by one of the `RULES`, each that of `purerl.exploration`.

        n[a] ← n[a] + 1,    v[a] ← v[a] + max(step_size, 1 / n[a]) (r − v[a])

    and for "gradient" H ← H + step_size (r − r̄) (1ₐ − softmax(H)), r̄ the mean of all rewards before r (of the first
    one itself). Rewards are taken in one by one. Without a key: the arm of the highest value, or preference.

    Args:
      env: an environment with `Discrete` actions, such as `envs.bandit_testbed()`.
      rule: one of `RULES`; "thompson_bernoulli" needs rewards of 0 and 1.

    Returns:
      An agent with `BanditHparams`.

    Raises:
      TypeError: the action space is not `Discrete`.
      ValueError: unknown rule.

    Source: Sutton & Barto (2018), eq. 2.1 to 2.3, 2.10 and 2.12; Thompson (1933).
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {list(RULES)}, got {rule!r}")
    if not isinstance(env.action_space, Discrete):
        raise TypeError(f"a bandit needs a Discrete action_space, got {env.action_space}")
    num_arms = env.action_space.n

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> BanditState:
        zeros = jnp.zeros(num_arms)
        return BanditState(zeros + hparams.initial_value, zeros, zeros, zeros, hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: BanditState, obs: Any) -> tuple[jax.Array, tuple]:
        if key is not None:
            return RULES[rule](key, state), ()
        return exploration.greedy(None, state.preference if rule == "gradient" else state.value), ()

    def update(key: jax.Array, state: BanditState, data: Transition) -> tuple[BanditState, Metrics]:
        mask = jnp.ones_like(data.reward) if isinstance(data.mask, tuple) else data.mask
        steps = jax.tree.map(jnp.ravel, (data.action, data.reward, mask))
        state, _ = jax.lax.scan(lambda state, x: (_learn(state, *x), None), state, steps)
        return state._replace(num_updates=state.num_updates + 1), {"reward": jnp.sum(data.reward * mask) / mask.sum()}

    return Agent(init, act, update)


def _learn(state: BanditState, action: jax.Array, reward: jax.Array, mask: jax.Array) -> BanditState:
    """Take in one reward; none where the mask is 0."""
    step_size, pulls = state.hparams.step_size, state.pulls.sum()
    baseline = jnp.where(pulls > 0, state.total.sum() / jnp.maximum(pulls, 1), reward)
    preference = exploration.gradient_bandit_update(state.preference, action, reward, baseline, mask * step_size)
    count = state.pulls.at[action].add(mask)
    rate = mask * jnp.maximum(step_size, 1 / jnp.maximum(count[action], 1))
    return state._replace(
        value=state.value.at[action].add(rate * (reward - state.value[action])),
        pulls=count,
        total=state.total.at[action].add(mask * reward),
        preference=preference,
    )
