"""Parallelised Q-network: Q-learning on rollouts of many environments, without replay and without target network."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import exploration, losses, returns
from purerl.agents.common import optimization
from purerl.exploration.selection import annealed_epsilon, forbid
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.spaces import action_mask
from purerl.types import Agent, Metrics, TrainState, Transition


class PQNHparams(NamedTuple):
    """Hyperparameters of PQN.

    Attributes:
      learning_rate: RAdam's step size.
      discount: γ.
      trace_decay: λ of the λ-returns.
      initial_epsilon, epsilon: probability of a random action at the start, and from `epsilon_anneal_updates` on.
      epsilon_anneal_updates: updates over which the probability falls linearly.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 5e-4
    discount: UnitInterval = 0.99
    trace_decay: UnitInterval = 0.65
    initial_epsilon: UnitInterval = 1.0
    epsilon: UnitInterval = 0.05
    epsilon_anneal_updates: NonNegative = 100.0
    max_grad_norm: NonNegative = 10.0
    anneal_updates: AtLeastOne = float("inf")


class Batch(NamedTuple):
    """What one loss sees of each step, [B]."""

    obs: Any
    action: jax.Array
    target: jax.Array


def radam(hparams: Any) -> optax.GradientTransformation:
    """Rectified Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), optax.radam(hparams.learning_rate))


def pqn(
    network: Any, *, num_epochs: int = 2, num_minibatches: int = 4, optimizer: optimization.Optimizer = radam
) -> Agent:
    """Q-learning on λ-returns of whole rollouts, stable without replay thanks to layer normalisation.

    An update computes once, for the whole trajectory [T, N], Peng's λ-returns

        G[t] = r[t] + γ (1 − terminated[t]) ((1 − λ') max_a q(s'[t], a) + λ' G[t+1]),   λ' = λ (1 − done[t]),

    and then, `num_epochs` times, shuffles the steps into `num_minibatches` and descends on mean ½ (G − q(s, a))².
    Actions are ε-greedy, among those that `obs["action_mask"]` allows where there is one.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env, layer_norm=True)`.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps a pass; must divide rollout_length · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`; it sees all parameters as one flat vector.

    Returns:
      An agent whose hyperparameters are `PQNHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a count is not positive; in `update`, masked data or a trajectory that does not divide.

    Source: Gallici et al. 2024, arXiv:2407.04811, algorithm 1; λ-returns: eq. 15 there, Peng & Williams 1994.
    """
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)

    def init(key: jax.Array, hparams: Any, example: Any, num_envs: int = 1) -> TrainState:
        return optimization.train_state(optimizer, hparams, network.init(key, example))

    def act(key: jax.Array | None, state: TrainState, obs: Any) -> tuple[jax.Array, tuple]:
        q = network.apply(state.params, obs)
        if key is None:
            return exploration.greedy(None, q, action_mask(obs)), ()
        epsilon = annealed_epsilon(state.hparams, state.num_updates)
        return exploration.epsilon_greedy(key, q, epsilon, action_mask(obs)), ()

    def update(key: jax.Array, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
        batch = _make_batch(network, state.params, data, state.hparams)
        return optimization.descend_in_minibatches(
            key, optimizer, loss, state, batch, num_epochs=num_epochs, num_minibatches=num_minibatches
        )

    def loss(params: Any, part: Batch) -> tuple[jax.Array, Metrics]:
        q = losses.action_value(jax.vmap(network.apply, (None, 0))(params, part.obs), part.action)
        error = (0.5 * jnp.square(part.target - q)).mean()
        return error, {"loss/value": error, "q_value": q.mean()}

    return Agent(init, act, update)


def _make_batch(network: Any, params: Any, data: Transition, hparams: Any) -> Batch:
    """The λ-returns of a trajectory [T, N], flattened to [T N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    if not isinstance(data.mask, tuple):
        raise ValueError("pqn takes whole rollouts; rollout_episodes masks its steps")

    def best(obs: Any) -> jax.Array:
        q = jax.vmap(jax.vmap(network.apply, (None, 0)), (None, 0))(params, obs)
        return forbid(q, action_mask(obs)).max(axis=-1)

    discount = hparams.discount * (1.0 - data.terminated)
    trace_decay = hparams.trace_decay * (1.0 - (data.terminated | data.truncated))
    target = returns.lambda_returns(data.reward, discount, best(data.next_obs), trace_decay)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), Batch(data.obs, data.action, target))
