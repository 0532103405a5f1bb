"""REINFORCE, with and without a learned baseline. Train with `rollout=purerl.loops.rollout_episodes`."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from purerl import losses
from purerl import returns as estimators
from purerl.agents.common import optimization, policy_network, trajectories
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, TrainState, Transition

_RETURNS = {"reward_to_go": estimators.reward_to_go, "whole": estimators.whole_returns}


class ReinforceHparams(NamedTuple):
    """Hyperparameters of REINFORCE.

    Attributes:
      learning_rate: Adam's step size.
      discount: γ.
      value_coef: weight of the baseline's loss.
      entropy_coef: weight of the entropy bonus.
      max_grad_norm: gradients of a larger global norm are scaled down to it.
      anneal_updates: the learning rate falls linearly to 0 over this many updates; inf: it stays.
    """

    learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    value_coef: NonNegative = 0.5
    entropy_coef: Any = 0.0
    max_grad_norm: NonNegative = 0.5
    anneal_updates: AtLeastOne = float("inf")


class _Settings(NamedTuple):
    """The arguments of `reinforce`."""

    network: Network
    returns: str
    baseline: bool
    normalize_advantage: bool
    optimizer: optimization.Optimizer


@build_once
def reinforce(
    network: Network,
    *,
    returns: str = "reward_to_go",
    baseline: bool = True,
    normalize_advantage: bool = False,
    optimizer: optimization.Optimizer = optimization.adam,
) -> Agent:
    """Monte Carlo policy gradient: one gradient step on whole episodes.

        G[t] = r[t] + γ G[t+1] to the end of the episode,    w[t] = G[t], or G[0] with "whole",    minus V(s[t])

        loss = 1/(T N) Σ (−log π(a[t]|s[t]) w[t] + value_coef · ½ (V(s[t]) − G[t])² − entropy_coef · H(π(·|s[t])))

    The sum is over the steps of the N episodes. Its divisor is the same whatever their lengths, so with
    `normalize_advantage=False` the expected gradient of the first term is that of the mean return (as if γᵗ were 1 in
    the weights of states), over T.

    Args:
      network: an actor-critic network, with or without memory; without baseline its value is ignored.
      returns: "reward_to_go" weighs an action by what followed it, "whole" by the return of the whole episode.
      baseline: subtract the learned value, which changes the variance and not the expectation.
      normalize_advantage: bring the weights of a batch to mean 0 and standard deviation 1.
      optimizer: `hparams -> optax.GradientTransformation`. It sees the tree of parameters; the default, which treats
        all of them in the same way, one flat vector (see `optimization.OnVector`).

    Returns:
      An agent with `ReinforceHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: `returns` is neither of the two; in `update`, a trajectory without a mask, whose episodes may be cut.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.reinforce(purerl.networks.actor_critic(env, hidden=(4,)))
      >>> sizes = dict(num_updates=3, num_envs=2, rollout_length=4, rollout=purerl.loops.rollout_episodes)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.ReinforceHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/policy"].shape
      (3,)

    Source: Williams (1992), section 6; Sutton & Barto (2018), sections 13.3 and 13.4, without their factor γᵗ.
    """
    if returns not in _RETURNS:
        raise ValueError(f"returns must be one of {', '.join(_RETURNS)}; got {returns!r}")
    settings = _Settings(network, returns, baseline, normalize_advantage, optimizer)
    act, memory = policy_network.make_act(network)
    init, update = functools.partial(_init, settings), functools.partial(_update, settings)
    return Agent(init, act, update, memory, Requirements("episodes", memory=memory is not None))


def _init(settings: _Settings, key: Key, hparams: ReinforceHparams, example: PyTree, num_envs: int = 1) -> TrainState:
    params = policy_network.init(settings.network, key, example)
    return optimization.train_state(settings.optimizer, hparams, params)


def _update(settings: _Settings, key: Key, state: TrainState, data: Transition) -> tuple[TrainState, Metrics]:
    """One gradient step on whole episodes [T, N]."""
    chex.assert_rank([data.reward, data.terminated, data.truncated], 2)
    trajectories.require_episodes(data, "REINFORCE")
    loss = functools.partial(_loss, settings, state.hparams, trajectories.clean(data))
    return optimization.gradient_update(settings.optimizer, loss, state)


def _loss(
    settings: _Settings, hparams: ReinforceHparams, data: Transition, params: Params
) -> tuple[jax.Array, Metrics]:
    """The loss of whole episodes and its parts."""
    counted = trajectories.step_weight(data)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.where(counted != 0, x * counted, 0).mean()  # 1/(T N) Σ, whatever the lengths of the episodes

    reward = jnp.where(data.mask != 0, data.reward * data.mask, 0)
    discount = hparams.discount * (1.0 - trajectories.done(data))
    weight, value_target = _RETURNS[settings.returns](reward, discount), estimators.reward_to_go(reward, discount)
    distribution, value, _ = policy_network.evaluate(settings.network, params, data)
    log_prob, entropy = jax.vmap(jax.vmap(policy_network.log_prob_and_entropy))(distribution, data.action)  # [T, N]
    advantage = weight - jax.lax.stop_gradient(value) if settings.baseline else weight
    if settings.normalize_advantage:
        advantage = losses.normalize(advantage, counted)
    policy = mean(losses.reinforce(log_prob, advantage))
    error = mean(0.5 * jnp.square(losses.td_error(value, value_target)))
    total = policy - hparams.entropy_coef * mean(entropy) + (hparams.value_coef * error if settings.baseline else 0.0)
    metrics = {"loss/policy": policy, "loss/value": error}
    return total, metrics | {"loss/entropy": trajectories.masked_mean(entropy, counted)}
