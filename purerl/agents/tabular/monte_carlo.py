"""Monte Carlo prediction and control: averages of whole returns. Train with `rollout=purerl.loops.rollout_episodes`."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import exploration, returns
from purerl.agents.common.trajectories import done, require_episodes
from purerl.agents.tabular import tables
from purerl.hparams import NonNegative, UnitInterval
from purerl.once import build_once
from purerl.types import Agent, HasSpaces, Hparams, Key, Metrics, Requirements, Transition


class MonteCarloHparams(NamedTuple):
    """Hyperparameters of Monte Carlo prediction.

    Attributes:
      step_size: smallest weight of the newest returns; 0 averages all returns, 1 keeps those of the last update.
      discount: γ.
      initial_value: value of an entry before its first return.
      policy: [S, A] probabilities of the evaluated policy; None: uniform.
      behavior: [S, A] probabilities of the policy that acts, positive where `policy` is; None: the evaluated one.
    """

    step_size: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    initial_value: Any = 0.0
    policy: Any = None
    behavior: Any = None


class MonteCarloControlHparams(NamedTuple):
    """Hyperparameters of Monte Carlo control.

    Attributes:
      step_size: smallest weight of the newest returns; 0 averages all returns.
      discount: γ.
      epsilon: probability of a uniformly random action in update k is epsilon / k^epsilon_decay.
      epsilon_decay: 1 is greedy in the limit with infinite exploration, 0 keeps ε.
      initial_value: value of an entry before its first return.
    """

    step_size: UnitInterval = 0.0
    discount: UnitInterval = 0.99
    epsilon: UnitInterval = 1.0
    epsilon_decay: NonNegative = 1.0
    initial_value: Any = 0.0


class MonteCarloState(NamedTuple):
    """State of a Monte Carlo agent.

    Attributes:
      value: averages of the returns, [S] of prediction, [S, A] of control.
      weight: total weight of the returns in each.
      hparams: the hyperparameters.
      num_updates: int32.
    """

    value: jax.Array
    weight: jax.Array
    hparams: Hparams
    num_updates: jax.Array


@build_once
def monte_carlo(env: HasSpaces, *, first_visit: bool = True, weighted: bool = True) -> Agent:
    """Monte Carlo prediction: v(s) is the mean of the returns that followed visits of s.

    Metric: `loss/return_error`, the mean of |return − value|, with the values before the update.

    With `behavior` another policy acts, and W[t] = Π_{k ≥ t} π(a[k] | s[k]) / b(a[k] | s[k]) up to the episode's end:

        weighted:  v(s) = Σ W G / Σ W          ordinary:  v(s) = Σ W G / number of visits (without bias)

    Args:
      env: an environment with `Discrete` observations and actions.
      first_visit: only the first visit of a state in an episode counts; otherwise every visit.
      weighted: the weighted estimate, or else the ordinary one.

    Returns:
      An agent with `MonteCarloHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: a policy's shape is not [S, A]; in `update`, the trajectory has no mask.

    Source: Sutton & Barto (2018), section 5.1 and eq. 5.5 to 5.8.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.random_walk(5), max_steps=100)
      >>> agent = purerl.monte_carlo(env)
      >>> agent.init(jax.random.key(0), purerl.MonteCarloHparams(), example=jnp.int32(2)).value.shape
      (5,)
    """
    num_states, num_actions = tables.sizes(env)

    def init(key: Key, hparams: MonteCarloHparams, example: jax.Array, num_envs: int = 1) -> MonteCarloState:
        tables.check_policies(hparams, num_states, num_actions)
        table = tables.new_table(num_states, hparams.initial_value)
        return MonteCarloState(*table, hparams, jnp.int32(0))

    def act(key: Key | None, state: MonteCarloState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        return tables.act_by_table(key, state.hparams, obs, num_actions), ()

    def update(key: Key, state: MonteCarloState, data: Transition) -> tuple[MonteCarloState, Metrics]:
        rho = tables.importance_ratio(state.hparams, data.obs, data.action)
        log_rho = jnp.where(tables.counted(data), jnp.log(rho), 0)  # [T, N]
        ratio = jnp.exp(jnp.cumsum(log_rho[::-1], axis=0)[::-1])
        return _average(state, data, data.obs, first_visit, ratio, weighted)

    return Agent(init, act, update, requires=Requirements("episodes"))


@build_once
def monte_carlo_control(env: HasSpaces, *, first_visit: bool = True) -> Agent:
    """On-policy Monte Carlo control: q(s, a) is the mean of the returns that followed (s, a), acting ε-greedily.

    By default ε = 1 / k in update k, which is greedy in the limit with infinite exploration.

    Args:
      env: an environment with `Discrete` observations and actions.
      first_visit: only the first visit of a pair in an episode counts; otherwise every visit.

    Returns:
      An agent with `MonteCarloControlHparams`.

    Raises:
      TypeError: a space is not `Discrete`.
      ValueError: in `update`, the trajectory has no mask.

    Source: Sutton & Barto (2018), section 5.4, with ε decreasing.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.from_mdp(purerl.mdp.gridworld_3x4(), max_steps=100)
      >>> agent = purerl.monte_carlo_control(env)
      >>> agent.init(jax.random.key(0), purerl.MonteCarloControlHparams(), example=jnp.int32(0)).value.shape
      (11, 4)
    """
    num_states, num_actions = tables.sizes(env)

    def init(key: Key, hparams: MonteCarloControlHparams, example: jax.Array, num_envs: int = 1) -> MonteCarloState:
        table = tables.new_table(num_states * num_actions, hparams.initial_value)
        value, weight = jax.tree.map(lambda x: x.reshape(num_states, num_actions), tuple(table))
        return MonteCarloState(value, weight, hparams, jnp.int32(0))

    def act(key: Key | None, state: MonteCarloState, obs: jax.Array) -> tuple[jax.Array, tuple]:
        if key is None:
            return exploration.greedy(None, state.value[obs]), ()
        epsilon = state.hparams.epsilon / (state.num_updates + 1.0) ** state.hparams.epsilon_decay
        return exploration.epsilon_greedy(key, state.value[obs], epsilon), ()

    def update(key: Key, state: MonteCarloState, data: Transition) -> tuple[MonteCarloState, Metrics]:
        index = data.obs * num_actions + data.action
        return _average(state, data, index, first_visit, jnp.ones_like(data.reward), True)

    return Agent(init, act, update, requires=Requirements("episodes"))


def _average(
    state: MonteCarloState, data: Transition, index: jax.Array, first_visit: bool, ratio: jax.Array, weighted: bool
) -> tuple[MonteCarloState, Metrics]:
    """Add the returns of a trajectory [T, N] to the averages: x ← x + max(α, w / W) (mean of the new returns − x)."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    require_episodes(data, "Monte Carlo")
    data, hparams, size = tables.clean(data), state.hparams, state.value.size
    to_go = returns.reward_to_go(data.reward, hparams.discount * (1.0 - done(data)))  # [T, N]
    counts = data.weight * (_first_visits(index, data.mask, size) if first_visit else 1.0)
    weight = counts * ratio if weighted else counts
    value, old_weight = state.value.reshape(-1), state.weight.reshape(-1)
    target = to_go if weighted else ratio * to_go
    error = jnp.zeros(size).at[index].add(weight * (target - value[index]))
    new = jnp.zeros(size).at[index].add(weight)
    total = old_weight + new
    mean = error / jnp.where(new > 0, new, 1)
    rate = jnp.maximum(hparams.step_size, new / jnp.where(total > 0, total, 1))
    value = value + jnp.where(new > 0, rate * mean, 0)
    shape = state.value.shape
    metrics = {"loss/return_error": tables.mean_absolute(target - state.value.reshape(-1)[index], counts)}
    num_updates = optax.safe_increment(state.num_updates)
    return MonteCarloState(value.reshape(shape), total.reshape(shape), hparams, num_updates), metrics


def _first_visits(index: jax.Array, mask: jax.Array, size: int) -> jax.Array:
    """1 where an entry occurs for the first time in its column, among the steps that count, [T, N]."""
    time = jnp.broadcast_to(jnp.arange(len(index))[:, None], index.shape)
    column = jnp.broadcast_to(jnp.arange(index.shape[1])[None, :], index.shape)
    seen = jnp.where(mask != 0, time, len(index))
    first = jnp.full((size, index.shape[1]), len(index), time.dtype).at[index, column].min(seen)
    return (first[index, column] == time).astype(mask.dtype)
