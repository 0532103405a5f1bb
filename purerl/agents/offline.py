"""Learning from recorded steps, without an environment: behavior cloning and conservative Q-learning.

Train with `fit` on a dataset of `purerl.datasets`, wrapped in `with_minibatches`:

    data = purerl.datasets.record(key, expert, env, expert_state, num_steps=10_000)
    agent = purerl.combinators.with_minibatches(purerl.behavior_cloning(network), 256)
    state, metrics = purerl.fit(key, agent, data, purerl.CloningHparams(), num_updates=2_000)

or, in everything that takes an environment, in place of acting: `train(..., rollout=purerl.datasets.rows(data))`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import exploration, losses
from purerl.agents.common import (
    action_values,
    counts,
    network_checks,
    optimization,
    plug_ins,
    policy_network,
    rows,
    trajectories,
)
from purerl.exploration.selection import forbid
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, TrainState


class CloningHparams(NamedTuple):
    """Hyperparameters of behavior cloning.

    Attributes:
      learning_rate: Adam's step size.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    entropy_coef: Any = 0.0
    max_grad_norm: NonNegative = 10.0
    anneal_updates: AtLeastOne = float("inf")


class CQLHparams(NamedTuple):
    """Hyperparameters of conservative Q-learning.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      conservative_coef: α, weight of the term that lowers the values of actions that are not in the data.
      tau: weight of the online parameters in each update of the target ones.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    conservative_coef: NonNegative = 1.0
    tau: UnitInterval = 0.005
    max_grad_norm: NonNegative = 10.0
    anneal_updates: AtLeastOne = float("inf")


class CQLState(NamedTuple):
    """State of CQL: online and target parameters, the optimizer's state, hyperparameters, updates made (int32)."""

    params: Params
    target_params: Params
    opt_state: PyTree
    hparams: CQLHparams
    num_updates: jax.Array


@build_once
def behavior_cloning(network: Network, *, optimizer: optimization.Optimizer = optimization.adam) -> Agent:
    """Behavior cloning: supervised learning of the policy that makes the recorded actions most probable.

        loss = mean(−log π(a|s)) − entropy_coef · mean(H(π(·|s)))

    With discrete actions that is cross-entropy, with a Gaussian policy least squares weighted by the learned variance.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, such as `networks.actor_critic(env)`;
        the value is ignored.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent for `fit` with `CloningHparams`. Its data are a `Transition`, or a mapping with "obs" and "action",
      leaves [B].

    Raises:
      TypeError: the network has memory, but rows have no order.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.behavior_cloning(purerl.networks.actor_critic(env, (4,)))
      >>> data = {"obs": jnp.array([[0.0], [1.0]]), "action": jnp.array([0, 1])}
      >>> run = lambda key: purerl.fit(key, agent, data, purerl.CloningHparams(), num_updates=3)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/negative_log_likelihood"].shape
      (3,)

    Source: Pomerleau 1991, "Efficient training of artificial neural networks for autonomous navigation".
    """
    network_checks.refuse_memory(network, "behavior_cloning")

    def init(key: Key, hparams: CloningHparams, example: PyTree, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, plug_ins.init(network, key, example))

    def update(key: Key, state: TrainState, data: PyTree) -> tuple[TrainState, Metrics]:
        loss = functools.partial(_cloning_loss, network, state.hparams, rows.columns(data, "obs", "action"))
        return optimization.gradient_update(optimizer, loss, state)

    act, _ = policy_network.make_act(network)
    return Agent(init, act, update, requires=Requirements(data="rows"))


def _cloning_loss(
    network: Network, hparams: CloningHparams, columns: rows.Columns, params: Params
) -> tuple[jax.Array, Metrics]:
    """Mean of −log π(a|s) − entropy_coef · H(π(·|s)) over the rows that count."""
    mean = functools.partial(trajectories.masked_mean, mask=columns.mask)
    log_prob, entropy, _ = policy_network.evaluate_actions(network, params, columns.obs, columns.action, (), ())
    negative, entropy = -mean(log_prob), mean(entropy)
    metrics = {"loss/negative_log_likelihood": negative, "loss/entropy": entropy}
    return negative - hparams.entropy_coef * entropy, metrics


@build_once
def cql(network: Network, *, optimizer: optimization.Optimizer = optimization.adam) -> Agent:
    """Conservative Q-learning for discrete actions, CQL(H) on double Q-learning with a Polyak target network.

        y = r + γ (1 − terminated) q'(s', argmax_a q(s', a))
        loss = mean(½ (y − q(s, a))²) + α mean(log Σ_b exp q(s, b) − q(s, a)),     then q' ← τ q + (1 − τ) q'

    In a table the second term brings q(s, a) to y − α (softmax(q)(a|s) / β(a|s) − 1), β being the policy of the data:
    actions that are rare in the data are valued below their estimate.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env)`.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent for `fit` with `CQLHparams`; it acts greedily, with and without a key. Its data are a `Transition`, or a
      mapping with "obs", "action", "reward", "terminated" and "next_obs", leaves [B].

    Raises:
      TypeError: a network with memory.
      ValueError: a network with noise.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.cql(purerl.networks.q_network(env, (4,)))
      >>> obs = jnp.array([[0.0], [1.0]])
      >>> ends = jnp.array([False, True])
      >>> data = purerl.Transition(obs, jnp.array([0, 1]), jnp.ones(2), ends, ~ends, obs)
      >>> run = lambda key: purerl.fit(key, agent, data, purerl.CQLHparams(), num_updates=3)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/conservative"].shape
      (3,)

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4, with double Q-learning (Hasselt et al. 2016).
    """
    network_checks.refuse_memory(network, "cql")
    network_checks.refuse_noise(network, "cql")

    def init(key: Key, hparams: CQLHparams, example: PyTree, num_envs: int = 1) -> CQLState:
        params = plug_ins.init(network, key, example)
        return CQLState(params, params, optimization.init(optimizer, hparams, params), hparams, jnp.int32(0))

    def act(key: Key | None, state: CQLState, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
        return exploration.greedy(None, network.apply(state.params, obs), action_mask(obs)), ()

    update = functools.partial(_cql_update, network, optimizer)
    return Agent(init, act, update, requires=Requirements(data="rows"))


def _cql_update(
    network: Network, optimizer: optimization.Optimizer, key: Key, state: CQLState, data: PyTree
) -> tuple[CQLState, Metrics]:
    """One gradient step on rows [B]."""
    columns = rows.columns(data, "obs", "action", "reward", "terminated", "next_obs")
    chex.assert_rank([columns.action, columns.reward, columns.terminated], 1)
    hparams = state.hparams
    annealed = optimization.annealed(hparams, state.num_updates)
    loss = functools.partial(_cql_loss, network, hparams, columns, state.target_params)
    params, opt_state, metrics = optimization.gradient_step(optimizer, annealed, loss, state.params, state.opt_state)
    target_params = optimization.polyak(params, state.target_params, hparams.tau)
    return CQLState(params, target_params, opt_state, hparams, counts.increment(state.num_updates)), metrics


def _cql_loss(
    network: Network, hparams: CQLHparams, columns: rows.Columns, target_params: Params, params: Params
) -> tuple[jax.Array, Metrics]:
    """The temporal-difference loss, and α times the gap between all actions and those of the data."""
    values = jax.vmap(lambda params, obs: forbid(network.apply(params, obs), action_mask(obs)), (None, 0))  # [B, A]
    mean = functools.partial(trajectories.masked_mean, mask=columns.mask)
    discount = hparams.discount * (1.0 - columns.terminated)
    discount = action_values.bootstrap_factor(discount, action_mask(columns.next_obs))
    q = values(params, columns.obs)
    taken = losses.action_value(q, columns.action)
    next_q, next_target_q = values(params, columns.next_obs), values(target_params, columns.next_obs)
    target = losses.double_q_target(columns.reward, discount, next_q, next_target_q)
    error = losses.td_error(taken, target)
    value_loss = mean(0.5 * jnp.square(error))
    gap = mean(jax.nn.logsumexp(q, axis=-1) - taken)
    metrics = {"loss/value": value_loss, "loss/td_error": mean(jnp.abs(error)), "loss/conservative": gap}
    return value_loss + hparams.conservative_coef * gap, metrics | {"q_value": mean(taken)}
