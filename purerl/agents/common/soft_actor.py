"""The actor and the temperature of soft actor-critics, which differ in their critics: SAC, TQC, DroQ and CrossQ.

The hyperparameters that are read here are those of `purerl.SACHparams`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.agents.common import batches, counts, network_checks, optimization, plug_ins, q_critics
from purerl.hparams import check_positive
from purerl.types import Agent, Hparams, InitFn, Key, Metrics, Network, Params, PyTree, Requirements, UpdateFn

temperature_adam = optimization.adam_of("temperature_learning_rate")
_NEEDS = {
    "white": ("apply", "gaussian_actor"),
    "ou": ("action_space", "gaussian_actor"),
    "gsde": ("noise_shape", "gsde_actor"),
}  # of the actor: an attribute, and the network that has it


class SACParams(NamedTuple):
    """The actor's parameters, a tuple of the critics', and log α (`()` if it is fixed)."""

    actor: Params
    critics: Params
    log_temperature: PyTree


class SACState(NamedTuple):
    """State of a soft actor-critic.

    Attributes:
      params: an `SACParams`.
      target_critics: parameters of the target critics.
      opt_state: the optimizers' states, an `SACParams` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps of the critics made.
    """

    params: SACParams
    target_critics: Params
    opt_state: SACParams
    hparams: Hparams
    num_updates: jax.Array


class Settings(NamedTuple):
    """The arguments of a soft actor-critic's factory; see `purerl.sac`."""

    actor: q_critics.Actor
    critic: Network
    num_critics: int
    learn_temperature: bool = True
    exploration: str = "white"
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam
    temperature_optimizer: optimization.Optimizer = temperature_adam


def make(agent: str, settings: Settings, update: UpdateFn, init: InitFn | None = None) -> Agent:
    """The agent that explores as the settings say.

    Args:
      agent: its name, for messages.
      settings: of the agent.
      update: as in `types.Agent`.
      init: as in `types.Agent`; None: that of an agent with target critics.

    Raises:
      ValueError: `num_critics` is not positive; an unknown exploration, or an actor without the attribute it needs.
      TypeError: an actor with memory.
    """
    network_checks.refuse_memory(settings.actor, agent)
    check_positive(num_critics=settings.num_critics)
    exploration = settings.exploration
    q_critics.check_exploration(exploration, tuple(_NEEDS))
    attribute, network = _NEEDS[exploration]
    if not hasattr(settings.actor, attribute):
        raise ValueError(f"exploration={exploration!r} needs an actor with {attribute}, such as {network}(env)")
    return Agent(
        functools.partial(_init, settings) if init is None else init,
        functools.partial(_act, settings),
        update,
        None if exploration == "white" else functools.partial(_memory, settings),
        Requirements(data="trajectory"),
        check=check_temperature if settings.learn_temperature else None,
    )


def check_temperature(hparams: Hparams) -> None:
    """Reject a temperature that could never be learned: its logarithm is.

    Raises:
      ValueError: `temperature` is 0.
    """
    if np.any(np.asarray(hparams.temperature) <= 0):
        raise ValueError(f"temperature = {hparams.temperature} must be above 0: a temperature of 0 stays there")


def init_params(
    settings: Settings, key: Key, hparams: Hparams, example: PyTree
) -> tuple[SACParams, Callable[[SACParams], SACParams]]:
    """The parameters of all networks, and the function that makes the optimizers' states for parameters."""
    actor_key, critic_key = jax.random.split(key)
    actor_params = plug_ins.init(settings.actor, actor_key, example)
    action = plug_ins.policy(settings.actor.apply(actor_params, example)).mode()
    critic_params = q_critics.init(settings.critic, critic_key, example, action, settings.num_critics)
    log_temperature = jnp.log(hparams.temperature) if settings.learn_temperature else ()
    optimizers = settings.actor_optimizer, settings.critic_optimizer, settings.temperature_optimizer

    def init_optimizers(params: SACParams) -> SACParams:
        return SACParams(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))

    return SACParams(actor_params, critic_params, log_temperature), init_optimizers


def _init(settings: Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> SACState:
    params, init_optimizers = init_params(settings, key, hparams, example)
    return SACState(params, params.critics, init_optimizers(params), hparams, jnp.int32(0))


def _memory(settings: Settings, key: Key | None, state: SACState) -> jax.Array:
    actor = settings.actor
    return q_critics.initial_noise(
        key, actor.noise_shape if settings.exploration == "gsde" else actor.action_space.shape
    )


def _act(settings: Settings, key: Key | None, state: SACState, obs: PyTree, *memory: jax.Array) -> tuple[Any, ...]:
    actor, params = settings.actor, state.params.actor
    policy = actor.apply(params, obs)
    if key is None:
        return policy.mode(), (), *memory
    if settings.exploration == "white":
        return policy.sample(seed=key), ()
    epsilon = q_critics.correlated_noise(key, memory[0], state.hparams.noise_theta)
    if settings.exploration == "gsde":
        return actor.apply(params, obs, epsilon).mode(), (), epsilon
    # a = squash(μ + σ ε)
    return policy.squash(policy.base.mean + jnp.exp(policy.base.log_std) * epsilon), (), epsilon


def temperature(settings: Settings, params: SACParams, hparams: Hparams) -> jax.Array:
    """α."""
    return jnp.exp(params.log_temperature) if settings.learn_temperature else hparams.temperature


def gradient_step(
    settings: Settings,
    key: Key,
    hparams: Hparams,
    params: SACParams,
    opt_state: SACParams,
    obs: PyTree,
    alpha: jax.Array,
    value: Callable[[PyTree, jax.Array], jax.Array],
) -> tuple[SACParams, SACParams, Metrics]:
    """One gradient step of the actor, and one of the temperature if it is learned.

        actor:        α log π(ã|s) − value(s, ã),      ã ~ π(·|s), reparametrised
        temperature:  α (−log π(ã|s) − H̄), with respect to log α

    Args:
      settings: of the agent.
      key: draws the actions.
      hparams: hyperparameters.
      params, opt_state: the critics' are returned as they are.
      obs: observations [B].
      alpha: α, for both steps.
      value: `(obs [B], action [B]) -> [B]`, of the critics.

    Returns:
      Parameters, the optimizers' states, and metrics.
    """
    loss = functools.partial(_actor_loss, settings, key, value, alpha, obs)
    actor_params, actor_opt, (total, entropy, size) = optimization.gradient_step(
        settings.actor_optimizer, hparams, loss, params.actor, opt_state.actor
    )
    log_temperature, temperature_opt = params.log_temperature, opt_state.log_temperature
    if settings.learn_temperature:
        excess = entropy - hparams.target_entropy * size  # −log π(ã|s) − H̄
        log_temperature, temperature_opt, _ = optimization.gradient_step(
            settings.temperature_optimizer, hparams,
            lambda x: (jnp.exp(x) * excess, ()), log_temperature, temperature_opt,
        )  # fmt: skip
    return (
        SACParams(actor_params, params.critics, log_temperature),
        SACParams(actor_opt, opt_state.critics, temperature_opt),
        {"loss/actor": total, "entropy": entropy, "temperature": alpha},
    )


def follow_critics(
    settings: Settings,
    key: Key,
    state: SACState,
    critics: Params,
    critic_opt: PyTree,
    obs: PyTree,
    alpha: jax.Array,
    value: Callable[[PyTree, jax.Array], jax.Array],
) -> tuple[SACState, Metrics]:
    """The end of an update whose critics have made their step: `gradient_step`, and one step of the target critics."""
    params, opt_state, metrics = gradient_step(
        settings, key, state.hparams, state.params._replace(critics=critics),
        state.opt_state._replace(critics=critic_opt), obs, alpha, value,
    )  # fmt: skip
    target_critics = optimization.polyak(critics, state.target_critics, state.hparams.tau)
    return SACState(params, target_critics, opt_state, state.hparams, counts.increment(state.num_updates)), metrics


def _actor_loss(
    settings: Settings,
    key: Key,
    value: Callable[[PyTree, jax.Array], jax.Array],
    alpha: jax.Array,
    obs: PyTree,
    actor_params: Params,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, int]]:
    """Mean of α log π(ã|s) − value(s, ã); as aux, the same, the entropy in nats, and the components of an action."""
    action, log_prob = sample(key, settings.actor, actor_params, obs)
    total = (alpha * log_prob - value(obs, action)).mean()
    return total, (total, -log_prob.mean(), math.prod(action.shape[1:]))


def sample(key: Key, actor: q_critics.Actor, params: Params, obs: PyTree) -> tuple[jax.Array, jax.Array]:
    """Actions [B, ...] of the policy and their log-densities [B] when scaled to [−1, 1]."""
    policy = batches.apply_batch(actor, params, obs)
    action, log_prob = policy.sample_and_log_prob(seed=key)
    return action, log_prob + policy.base.sum_event(jnp.log((policy.high - policy.low) / 2))
