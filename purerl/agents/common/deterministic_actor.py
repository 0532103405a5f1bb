"""Deterministic actors and their critics, shared by TD3 and TD3+BC.

The hyperparameters that are read here are those of `purerl.TD3Hparams`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import batches, counts, network_checks, optimization, plug_ins, q_critics
from purerl.hparams import check_positive
from purerl.types import Hparams, Key, Metrics, Network, Params, PyTree


class TD3Params(NamedTuple):
    """The actor's parameters and a tuple of the critics'."""

    actor: Params
    critics: Params


class TD3State(NamedTuple):
    """State of TD3.

    Attributes:
      params, target_params: `TD3Params`, online and target.
      opt_state: the optimizers' states, a `TD3Params` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps of the critics made.
    """

    params: TD3Params
    target_params: TD3Params
    opt_state: TD3Params
    hparams: Hparams
    num_updates: jax.Array


class Settings(NamedTuple):
    """The arguments of the factory; see `purerl.td3`."""

    actor: q_critics.Actor
    critic: Network
    num_critics: int
    policy_delay: int
    actor_optimizer: optimization.Optimizer
    critic_optimizer: optimization.Optimizer
    exploration: str = "white"


def check(settings: Settings, agent: str) -> None:
    """Reject numbers that are not positive, an actor that does not know the bounds of its actions, and wrong critics.

    Raises:
      ValueError: names what is wrong, and the agent's factory.
      TypeError: an actor with memory.
    """
    network_checks.refuse_memory(settings.actor, agent)
    network_checks.check_critic(settings.critic, agent)
    check_positive(num_critics=settings.num_critics, policy_delay=settings.policy_delay)
    if not hasattr(settings.actor, "action_space"):
        raise ValueError(f"{agent} needs an actor with the attribute action_space, such as deterministic_actor(env)")


def init(settings: Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> TD3State:
    """The state before the first update, as `types.Agent` has it; the targets are copies."""
    actor_key, critic_key = jax.random.split(key)
    actor_params = plug_ins.init(settings.actor, actor_key, example)
    action = settings.actor.apply(actor_params, example)
    critic_params = q_critics.init(settings.critic, critic_key, example, action, settings.num_critics)
    params = TD3Params(actor_params, critic_params)
    optimizers = settings.actor_optimizer, settings.critic_optimizer
    opt_state = TD3Params(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
    return TD3State(params, params, opt_state, hparams, jnp.int32(0))


def perturbed(settings: Settings, action: jax.Array, epsilon: jax.Array) -> jax.Array:
    """clip(a + h ε, low, high), with h half the range of actions."""
    low, high = settings.actor.action_space.bounds()
    return jnp.clip(action + (high - low) / 2 * epsilon, low, high).astype(action.dtype)


def critic_step(settings: Settings, key: Key, state: TD3State, batch: q_critics.Batch) -> tuple[TD3State, Metrics]:
    """One gradient step of the critics towards G + D min_i q⁻_i(s', ã)."""
    hparams, target_params = state.hparams, state.target_params
    next_action = apply(settings.actor, target_params.actor, batch.next_obs)  # [B, ...]
    epsilon = hparams.target_noise * jax.random.normal(key, next_action.shape)
    epsilon = jnp.clip(epsilon, -hparams.target_noise_clip, hparams.target_noise_clip)
    next_action = jax.vmap(functools.partial(perturbed, settings))(next_action, epsilon)
    next_q = q_critics.minimum(settings.critic, target_params.critics, batch.next_obs, next_action)
    target = losses.td_target(batch.reward, batch.discount, next_q)
    params, opt_state, metrics = q_critics.gradient_step(
        settings.critic_optimizer, hparams, settings.critic,
        state.params.critics, state.opt_state.critics, batch, target,
    )  # fmt: skip
    return state._replace(
        params=state.params._replace(critics=params),
        opt_state=state.opt_state._replace(critics=opt_state),
        num_updates=counts.increment(state.num_updates),
    ), metrics


def actor_step(
    settings: Settings, state: TD3State, loss: Callable[[Params], tuple[jax.Array, PyTree]]
) -> tuple[TD3State, PyTree]:
    """One gradient step of the actor on `loss(params) -> (scalar, aux)`, and one of the targets; and that aux."""
    actor_params, opt_state, aux = optimization.gradient_step(
        settings.actor_optimizer, state.hparams, loss, state.params.actor, state.opt_state.actor
    )
    params = state.params._replace(actor=actor_params)
    return state._replace(
        params=params,
        target_params=optimization.polyak(params, state.target_params, state.hparams.tau),
        opt_state=state.opt_state._replace(actor=opt_state),
    ), aux


def apply(actor: Network, params: Params, obs: PyTree) -> jax.Array:
    """The actor's actions [B, ...] for observations [B]."""
    return batches.apply_batch(actor, params, obs)
