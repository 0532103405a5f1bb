"""R2D2: Q-learning with a recurrent network, from windows out of a replay that stores its memory."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import chex
import jax
import jax.numpy as jnp

from purerl import exploration as explore
from purerl import returns
from purerl.agents.common import action_values, optimization, policy_network, q_learner, trajectories
from purerl.agents.common.q_learner import DQNState
from purerl.exploration.selection import annealed_epsilon
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Hparams, Key, Metrics, Params, PyTree, Requirements, Transition

RecurrentQNetwork: TypeAlias = Any
"""A network with memory, as `policy_network` describes it, whose outputs are the values [A]."""
_EPSILON, _PEAK = 1e-3, 0.9


class _Settings(NamedTuple):
    """The arguments of `r2d2`."""

    network: RecurrentQNetwork
    num_steps: int
    rescale: bool
    optimizer: optimization.Optimizer


@build_once
def r2d2(
    network: RecurrentQNetwork,
    *,
    num_steps: int = 5,
    rescale: bool = True,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """R2D2, to be put behind `combinators.with_replay(length=, burn_in=, prioritized=True)`.

    Every step t of a window of L is learned from, with the n = `num_steps` return G of double Q-learning, or of the
    fewer steps that are left in the window or the episode:

        y[t] = h(G[t]),   G bootstraps from h⁻¹(q⁻(s', argmax_a q(s', a))),   loss = mean w ½ (y[t] − q(s[t], a[t]))²

        h(x) = sign(x) (√(|x| + 1) − 1) + x / 1000

    The networks read the window from the memory that replay has stored, or, with `burn_in`, brought up to date by the
    online parameters. If the data have weights, 0.9 max_t |δ| + 0.1 mean_t |δ| is the metric "priority" of a window.

    Args:
      network: `networks.recurrent_q_network(env)`, or another network with memory and outputs [A].
      num_steps: n.
      rescale: learn h of the return, whose size then matters less; otherwise the return itself.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent with `DQNHparams`, or any NamedTuple with the fields used; it explores epsilon-greedily.

    Raises:
      ValueError: `num_steps` is not positive.
      TypeError: a network without memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.r2d2(purerl.networks.recurrent_q_network(env, hidden=(4,), memory_size=4))
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=4, length=4, burn_in=2)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.DQNHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["q_value"].shape
      (8,)

    Source: Kapturowski et al. 2019, "Recurrent experience replay in distributed reinforcement learning", sections 2.3
    and 3; one learner and one ε here, where the source has 256 actors, each with its own ε.
    """
    check_positive(num_steps=num_steps)
    if not policy_network.has_memory(network):
        raise TypeError("r2d2 needs a network with memory, such as networks.recurrent_q_network(env)")
    settings = _Settings(network, num_steps, rescale, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        lambda key, state: network.memory(),
        Requirements("trajectory", memory=True),
    )


def rescaled(x: jax.Array) -> jax.Array:
    """h(x) = sign(x) (√(|x| + 1) − 1) + x / 1000.

    Examples:
      >>> rescaled(jnp.array([0.0, 3.0, -99.0])).round(3).tolist()
      [0.0, 1.003000020980835, -9.098999977111816]
    """
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1) - 1) + _EPSILON * x


def unscaled(x: jax.Array) -> jax.Array:
    """The inverse of `rescaled`.

    With |x| = √(u + 1) − 1 + ε u, √(u + 1) is the positive root of a quadratic; its form without a difference of near
    numbers is used.

    Examples:
      >>> unscaled(rescaled(jnp.array([0.0, 3.0, -99.0]))).round(2).tolist()
      [0.0, 3.0, -99.0]
    """
    size = jnp.abs(x)
    # ε r² + r − (1 + ε + |x|) = 0, r = √(u + 1)
    last = 1 + _EPSILON + size
    root = 2 * last / (1 + jnp.sqrt(1 + 4 * _EPSILON * last))
    return jnp.sign(x) * (jnp.square(root) - 1)


def _init(settings: _Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> DQNState:
    params = policy_network.init(settings.network, key, example)
    return q_learner.init(settings.optimizer, hparams, params)


def _act(
    settings: _Settings, key: Key | None, state: DQNState, obs: PyTree, memory: PyTree
) -> tuple[jax.Array, tuple[()], PyTree]:
    q, memory = settings.network.apply(state.params, obs, memory)  # [A]
    mask = action_mask(obs)
    if key is None:
        return explore.greedy(None, q, mask), (), memory
    return explore.epsilon_greedy(key, q, annealed_epsilon(state.hparams, state.num_updates), mask), (), memory


def _update(settings: _Settings, key: Key, state: DQNState, data: Transition) -> tuple[DQNState, Metrics]:
    """One gradient step on windows [L, B], and a copy to the target network when it is due."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    data = trajectories.clean(data)
    loss = functools.partial(_loss, settings, data, _target(settings, state, data))
    return q_learner.gradient_step(settings.optimizer, state, loss)


def _target(settings: _Settings, state: DQNState, data: Transition) -> jax.Array:
    """y, [L, B]."""
    mask = action_mask(data.next_obs)
    discount = trajectories.discounts(data, state.hparams.discount)
    discount = action_values.bootstrap_factor(discount, mask)
    successors = functools.partial(policy_network.outputs_of_successors, settings.network, data=data)
    best = explore.greedy(None, successors(state.params), mask)  # [L, B, A] -> [L, B]
    value = _taken(successors(state.target_params), best)
    value = unscaled(value) if settings.rescale else value
    trace = trajectories.trace_decays(data, jnp.ones_like(data.reward))
    target = returns.n_step_returns(data.reward, discount, value, trace, settings.num_steps)
    return rescaled(target) if settings.rescale else target


def _loss(settings: _Settings, data: Transition, target: jax.Array, params: Params) -> tuple[jax.Array, Metrics]:
    """The mean squared error over the steps of windows [L, B], weighted if they have weights, and its metrics."""
    unroll = jax.vmap(settings.network.unroll, (None, 1, 0, 1), (1, 0))
    q, _ = unroll(params, data.obs, data.memory, policy_network.resets(data))  # [L, B, A]
    taken = _taken(q, data.action)  # [L, B]
    error = target - taken
    size = jnp.abs(error)
    metrics = {"loss/td_error": size.mean(), "q_value": taken.mean()}
    if not trajectories.is_weighted(data):
        return 0.5 * jnp.square(error).mean(), metrics
    weight = trajectories.step_weight(data)
    priority = _PEAK * size.max(axis=0) + (1 - _PEAK) * size.mean(axis=0) + 1e-6
    return jnp.where(weight != 0, weight * 0.5 * jnp.square(error), 0).mean(), metrics | {"priority": priority}


def _taken(q: jax.Array, action: jax.Array) -> jax.Array:
    """Values [L, B, A] of the actions [L, B]."""
    return jax.vmap(action_values.take)(q, action)
