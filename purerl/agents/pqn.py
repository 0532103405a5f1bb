"""Parallelised Q-network: Q-learning on rollouts of many environments, without replay and without target network."""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from purerl import exploration, returns
from purerl.agents.common import action_values, batches, network_checks, optimization, plug_ins, trajectories
from purerl.exploration.selection import annealed_epsilon
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, TrainState, Transition


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
    """The inputs of the loss, leaves [B]; `weight` is `()` if all steps count equally."""

    obs: PyTree
    action: jax.Array
    target: jax.Array
    weight: PyTree


@optimization.OnVector
def radam(hparams: PQNHparams) -> optax.GradientTransformation:
    """Rectified Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hparams.max_grad_norm), optax.radam(hparams.learning_rate))


class _Settings(NamedTuple):
    """The arguments of `pqn`."""

    network: Network
    num_epochs: int
    num_minibatches: int
    optimizer: optimization.Optimizer


@build_once
def pqn(
    network: Network, *, num_epochs: int = 2, num_minibatches: int = 4, optimizer: optimization.Optimizer = radam
) -> Agent:
    """Q-learning on λ-returns of whole rollouts, stable without replay because of layer normalization.

    An update computes once, for the whole trajectory [T, N], Peng's λ-returns

        G[t] = r[t] + γ (1 − terminated[t]) ((1 − λ') max_a q(s'[t], a) + λ' G[t+1]),   λ' = λ (1 − done[t]),

    and then, `num_epochs` times, shuffles the steps into `num_minibatches` and makes a gradient step on mean
    ½ (G − q(s, a))² over each. Actions are ε-greedy, among those that `obs["action_mask"]` allows if there is one; a
    successor that allows no action has value 0.

    Args:
      network: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env, layer_norm=True)`.
      num_epochs: passes over each trajectory.
      num_minibatches: gradient steps per pass; must divide rollout_length · num_envs.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent whose hyperparameters are `PQNHparams`, or any NamedTuple with the fields used.

    Raises:
      TypeError: a network with memory.
      ValueError: a count is not positive; a network with noise; in `update`, masked data or a trajectory that does not
        divide.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> network = purerl.networks.q_network(env, (4,), layer_norm=True)
      >>> agent = purerl.pqn(network, num_epochs=1, num_minibatches=2)
      >>> sizes = dict(num_updates=3, num_envs=2, rollout_length=4)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.PQNHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["q_value"].shape
      (3,)

    Source: Gallici et al. 2024, arXiv:2407.04811, algorithm 1; λ-returns: eq. 15 there, Peng & Williams 1994.
    """
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)
    network_checks.refuse_memory(network, "pqn")
    network_checks.refuse_noise(network, "pqn")
    settings = _Settings(network, num_epochs, num_minibatches, optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        requires=Requirements(data="trajectory"),
    )


def _init(settings: _Settings, key: Key, hparams: PQNHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    return optimization.train_state(settings.optimizer, hparams, plug_ins.init(settings.network, key, example))


def _act(settings: _Settings, key: Key | None, state: TrainState, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
    q = plug_ins.action_values(settings.network.apply(state.params, obs))
    if key is None:
        return exploration.greedy(None, q, action_mask(obs)), ()
    epsilon = annealed_epsilon(state.hparams, state.num_updates)
    return exploration.epsilon_greedy(key, q, epsilon, action_mask(obs)), ()


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    batch = _make_batch(settings.network, state.params, data, state.hparams)
    return optimization.minibatch_update(
        key,
        settings.optimizer,
        functools.partial(_loss, settings.network),
        state,
        batch,
        num_epochs=settings.num_epochs,
        num_minibatches=settings.num_minibatches,
        in_blocks=not trajectories.has(batch.weight),
    )


def _loss(network: Network, params: Params, part: Batch) -> tuple[jax.Array, Metrics]:
    """Mean of ½ (G − q(s, a))² over a minibatch."""
    q = action_values.take(batches.apply_batch(network, params, part.obs), part.action)  # [B, A] -> [B]
    error = part.target - q
    loss = trajectories.masked_mean(0.5 * jnp.square(error), part.weight)
    return loss, {"loss/value": loss, "loss/td_error": jnp.abs(error).mean(), "q_value": q.mean()}


def _make_batch(network: Network, params: Params, data: Transition, hparams: PQNHparams) -> Batch:
    """The λ-returns of a trajectory [T, N], flattened to [T * N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    trajectories.refuse_mask(data, "pqn")
    data = trajectories.clean(data)
    q = jax.vmap(jax.vmap(network.apply, (None, 0)), (None, 0))(params, data.next_obs)  # [T, N, A]
    discount = trajectories.discounts(data, hparams.discount)
    trace_decay = trajectories.trace_decays(data, hparams.trace_decay)
    next_value = action_values.best_value(q, action_mask(data.next_obs))
    target = returns.lambda_returns(data.reward, discount, next_value, trace_decay)
    return trajectories.flatten(Batch(data.obs, data.action, target, data.weight))
