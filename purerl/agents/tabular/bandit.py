"""Agents for bandits: ε-greedy, UCB, softmax, gradient bandit and Thompson sampling. Observations are ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl import exploration
from purerl.agents.common.trajectories import masked_mean
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, Positive, UnitInterval
from purerl.once import build_once
from purerl.spaces import Discrete
from purerl.types import Agent, HasSpaces, Key, Metrics, PyTree, Transition

_DEFAULT_STEP_SIZE = 0.1  # of "gradient", with which a step size of 0 would learn nothing


class BanditHparams(NamedTuple):
    """Hyperparameters of the bandit agents; each rule uses its own.

    Attributes:
      step_size: smallest weight of the newest reward in an arm's value; 0 averages all. Step size of "gradient", for
        which 0 stands for 0.1.
      epsilon: probability of a random arm, of "epsilon_greedy".
      exploration: c of "ucb", in units of reward.
      temperature: τ of "softmax", in units of reward.
      initial_value: value of an arm before its first reward; optimism lasts only with a step size above 0.
      noise_variance: variance of a reward, of "thompson_gaussian".
      prior_mean, prior_variance: belief in an arm's mean, of "thompson_gaussian".
    """

    step_size: UnitInterval = 0.0
    epsilon: UnitInterval = 0.1
    exploration: NonNegative = 2.0
    temperature: NonNegative = 0.1
    initial_value: Any = 0.0
    noise_variance: Positive = 1.0
    prior_mean: Any = 0.0
    prior_variance: Positive = 1.0


class BanditState(NamedTuple):
    """State of a bandit agent.

    Attributes:
      value: [A], averages of the rewards.
      pulls: [A] float, number of pulls of each; it saturates instead of wrapping around.
      total: [A], sums of the rewards.
      preference: [A], logits of "gradient".
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    pulls: jax.Array
    total: jax.Array
    preference: jax.Array
    hparams: BanditHparams
    num_updates: jax.Array


def _epsilon_greedy(key: Key, state: BanditState) -> jax.Array:
    return exploration.epsilon_greedy(key, state.value, state.hparams.epsilon)


def _ucb(key: Key, state: BanditState) -> jax.Array:
    return exploration.ucb1(key, state.value, state.pulls, state.hparams.exploration)


def _softmax(key: Key, state: BanditState) -> jax.Array:
    return exploration.boltzmann(key, state.value, state.hparams.temperature)


def _gradient(key: Key, state: BanditState) -> jax.Array:
    return exploration.boltzmann(key, state.preference, 1.0)


def _thompson_gaussian(key: Key, state: BanditState) -> jax.Array:
    hparams = state.hparams
    return exploration.thompson_gaussian(
        key, state.total, state.pulls, hparams.noise_variance, hparams.prior_mean, hparams.prior_variance
    )


def _thompson_bernoulli(key: Key, state: BanditState) -> jax.Array:
    return exploration.thompson_bernoulli(key, state.total, state.pulls - state.total)


RULES: dict[str, Callable[[Key, BanditState], jax.Array]] = {
    "epsilon_greedy": _epsilon_greedy,
    "ucb": _ucb,
    "softmax": _softmax,
    "gradient": _gradient,
    "thompson_gaussian": _thompson_gaussian,
    "thompson_bernoulli": _thompson_bernoulli,
}


@build_once
def bandit(env: HasSpaces, *, rule: str = "epsilon_greedy") -> Agent:
    """An agent for bandits that chooses by one of the `RULES`, each that of `purerl.exploration`.

        n[a] ← n[a] + 1,    v[a] ← v[a] + max(step_size, 1 / n[a]) (r − v[a])

    and for "gradient" H ← H + α (r − r̄) (1ₐ − softmax(H)), α the step size, or 0.1 if that is 0, and r̄ the mean of all
    rewards before r (of the first one itself). Rewards are processed one at a time. Without a key: the arm of the
    highest value, or preference.
    Metric: `reward`, the mean reward of the steps that count.

    Args:
      env: an environment with `Discrete` actions, such as `envs.bandit_testbed()`.
      rule: one of `RULES`; "thompson_bernoulli" needs rewards of 0 and 1.

    Returns:
      An agent with `BanditHparams`.

    Raises:
      TypeError: the action space is not `Discrete`.
      ValueError: unknown rule.

    Source: Sutton & Barto (2018), eq. 2.1 to 2.3, 2.10 and 2.12; Thompson (1933).

    Examples:
      >>> import purerl
      >>> env = purerl.envs.bandit_testbed(num_arms=3)
      >>> agent = purerl.bandit(env, rule="ucb")
      >>> state = agent.init(jax.random.key(0), purerl.BanditHparams(), example=jnp.int32(0))
      >>> action, _ = agent.act(None, state._replace(value=jnp.array([0.0, 2.0, 1.0])), jnp.int32(0))
      >>> int(action)
      1
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {list(RULES)}, got {rule!r}")
    if not isinstance(env.action_space, Discrete):
        raise TypeError(f"a bandit needs a Discrete action_space, got {env.action_space}")
    num_arms = env.action_space.n

    def init(key: Key, hparams: BanditHparams, example: PyTree, num_envs: int = 1) -> BanditState:
        zeros = jnp.zeros(num_arms)
        return BanditState(zeros + hparams.initial_value, zeros, zeros, zeros, hparams, jnp.int32(0))

    def act(key: Key | None, state: BanditState, obs: PyTree) -> tuple[jax.Array, tuple]:
        if key is not None:
            return RULES[rule](key, state), ()
        return exploration.greedy(None, state.preference if rule == "gradient" else state.value), ()

    def update(key: Key, state: BanditState, data: Transition) -> tuple[BanditState, Metrics]:
        data = tables.clean(data)
        steps = jax.tree.map(jnp.ravel, (data.action, data.reward, data.weight))  # [T, N] -> [T * N]
        state, _ = jax.lax.scan(lambda state, x: (_learn(state, *x), None), state, steps)
        metrics = {"reward": masked_mean(data.reward, data.mask)}
        return state._replace(num_updates=optax.safe_increment(state.num_updates)), metrics

    return Agent(init, act, update)


def _learn(state: BanditState, action: jax.Array, reward: jax.Array, weight: jax.Array) -> BanditState:
    """Process one reward, which counts as much as its weight."""
    step_size, pulls = state.hparams.step_size, state.pulls.sum()
    baseline = jnp.where(pulls > 0, state.total.sum() / jnp.maximum(pulls, 1), reward)
    alpha = jnp.where(step_size > 0, step_size, _DEFAULT_STEP_SIZE)
    preference = exploration.gradient_bandit_update(state.preference, action, reward, baseline, weight * alpha)
    count = state.pulls.at[action].add(weight)
    rate = weight * jnp.maximum(step_size, 1 / jnp.maximum(count[action], 1))
    return state._replace(
        value=state.value.at[action].add(rate * (reward - state.value[action])),
        pulls=count,
        total=state.total.at[action].add(weight * reward),
        preference=preference,
    )
