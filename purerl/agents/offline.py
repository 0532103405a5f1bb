"""Learning from recorded steps, without an environment: behaviour cloning and conservative Q-learning.

Train with `fit` on a dataset of `purerl.datasets`, wrapped in `with_minibatches`:

    data = purerl.datasets.record(key, expert, env, expert_state, num_steps=10_000)
    agent = purerl.combinators.with_minibatches(purerl.behavior_cloning(network), 256)
    state, metrics = purerl.fit(key, agent, data, purerl.CloningHparams(), num_updates=2_000)

or in place of play, in whatever takes an environment: `train(..., rollout=purerl.datasets.rows(data))`, and searches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import exploration, losses
from purerl.agents.common import optimization, policy_network
from purerl.exploration.selection import forbid
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.spaces import action_mask
from purerl.types import Agent, Metrics, TrainState, Transition


class CloningHparams(NamedTuple):
    """Hyperparameters of behaviour cloning.

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
      conservative_coef: α, weight of the term that lowers the values of actions that the data do not show.
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
    """What CQL carries: online and target parameters, the optimizer's state, hyperparameters, updates made (int32)."""

    params: Any
    target_params: Any
    opt_state: Any
    hparams: Any
    num_updates: jax.Array


def behavior_cloning(network: Any, *, optimizer: optimization.Optimizer = optimization.adam) -> Agent:
    """Supervised learning of a policy: the most probable one under what was done.

        loss = mean(−log π(a|s)) − entropy_coef · mean(H(π(·|s)))

    With discrete actions that is cross-entropy, with a Gaussian policy least squares weighed by the learned variance.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> (distribution, value)`, such as `networks.actor_critic(env)`;
        the value is ignored.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent for `fit` with `CloningHparams`. Its data are a `Transition`, or a mapping with "obs" and "action",
      leaves [B].

    Raises:
      TypeError: a network with memory: rows have no order.

    Source: Pomerleau 1991, "Efficient training of artificial neural networks for autonomous navigation".
    """
    if policy_network.has_memory(network):
        raise TypeError("behavior_cloning learns from single steps; the network must have no memory")

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, network.init(key, _observation(example)))

    def update(key: jax.Array, state: TrainState, data: Any) -> tuple[TrainState, Metrics]:
        obs, action = _columns(data, "obs", "action")
        hparams = state.hparams

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            log_prob, entropy, _ = policy_network.judge(network, params, obs, action, (), ())
            metrics = {"loss/negative_log_likelihood": -log_prob.mean(), "loss/entropy": entropy.mean()}
            return -log_prob.mean() - hparams.entropy_coef * entropy.mean(), metrics

        return optimization.descend(optimizer, loss, state)

    act, _ = policy_network.acting(network)
    return Agent(init, act, update)


def cql(network: Any, *, optimizer: optimization.Optimizer = optimization.adam) -> Agent:
    """Conservative Q-learning for discrete actions, CQL(H) on double Q-learning with a Polyak target network.

        y = r + γ (1 − terminated) q'(s', argmax_a q(s', a))
        loss = mean(½ (y − q(s, a))²) + α mean(log Σ_b exp q(s, b) − q(s, a)),     then q' ← τ q + (1 − τ) q'

    In a table the second term brings q(s, a) to y − α (softmax(q)(a|s) / β(a|s) − 1), β being the policy of the data:
    what was rarely done is valued less than it seems.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env)`.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent for `fit` with `CQLHparams`; it acts greedily, with and without a key. Its data are a `Transition`, or a
      mapping with "obs", "action", "reward", "terminated" and "next_obs", leaves [B].

    Source: Kumar et al. 2020, arXiv:2006.04779, eq. 4, with double Q-learning (Hasselt et al. 2016).
    """

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> CQLState:
        params = network.init(key, _observation(example))
        return CQLState(params, params, optimization.init(optimizer, hparams, params), hparams, jnp.int32(0))

    def act(key: jax.Array | None, state: CQLState, obs: Any) -> tuple[jax.Array, tuple[()]]:
        return exploration.greedy(None, network.apply(state.params, obs), action_mask(obs)), ()

    def update(key: jax.Array, state: CQLState, data: Any) -> tuple[CQLState, Metrics]:
        obs, action, reward, terminated, next_obs = _columns(data, "obs", "action", "reward", "terminated", "next_obs")
        chex.assert_rank([action, reward, terminated], 1)
        hparams = state.hparams
        values = jax.vmap(lambda params, obs: forbid(network.apply(params, obs), action_mask(obs)), (None, 0))
        target_q = values(state.target_params, next_obs)
        discount = hparams.discount * (1.0 - terminated)

        def loss(params: Any) -> tuple[jax.Array, Metrics]:
            q = values(params, obs)
            taken = losses.action_value(q, action)
            target = losses.double_q_target(reward, discount, values(params, next_obs), target_q)
            error = 0.5 * jnp.square(losses.td_error(taken, target)).mean()
            gap = (jax.nn.logsumexp(q, axis=-1) - taken).mean()
            metrics = {"loss/td": error, "loss/conservative": gap, "q_mean": taken.mean()}
            return error + hparams.conservative_coef * gap, metrics

        transform = optimizer(optimization.annealed(hparams, state.num_updates))
        params, opt_state, metrics = optimization.step(transform, loss, state.params, state.opt_state)
        target_params = optax.incremental_update(params, state.target_params, hparams.tau)
        return CQLState(params, target_params, opt_state, hparams, state.num_updates + 1), metrics

    return Agent(init, act, update)


def _columns(data: Any, *names: str) -> list[Any]:
    """Columns of a `Transition` or a mapping.

    Raises:
      TypeError, ValueError: it is neither, or a column is missing.
    """
    if isinstance(data, Transition):
        return [getattr(data, name) for name in names]
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a Transition or a mapping of columns, got {type(data).__name__}")
    missing = [name for name in names if name not in data]
    if missing:
        raise ValueError(f"data has no column {', '.join(missing)}")
    return [data[name] for name in names]


def _observation(example: Any) -> Any:
    """The observation in the first row of data, as `fit` gives them, or the example itself, as `train` does."""
    if hasattr(example, "shape") or (isinstance(example, Mapping) and "action_mask" in example):
        return example
    return jax.tree.map(lambda x: x[0], _columns(example, "obs")[0])
