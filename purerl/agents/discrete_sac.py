"""Soft actor-critic for discrete actions, with clipped double Q-learning: expectations in place of samples."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import (
    action_values,
    batches,
    counts,
    network_checks,
    optimization,
    plug_ins,
    q_critics,
    soft_actor,
)
from purerl.hparams import AtLeastOne, NonNegative, UnitInterval, check_positive
from purerl.once import build_once
from purerl.spaces import action_mask
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements, Transition

_RATES = ("actor_learning_rate", "critic_learning_rate", "temperature_learning_rate")
_temperature_adam = optimization.adam_of("temperature_learning_rate")


class DiscreteSACHparams(NamedTuple):
    """Hyperparameters of soft actor-critic for discrete actions.

    Attributes:
      actor_learning_rate, critic_learning_rate, temperature_learning_rate: Adam's step sizes.
      discount: γ.
      tau: weight of the online critics in the target ones after every gradient step.
      temperature: α at the start, above 0, in the units of the reward.
      target_entropy: H̄ as a fraction of log A, the entropy of the uniform policy over the A allowed actions.
      priority_exponent: α of prioritized replay; 0: uniform.
      importance_exponent: β of prioritized replay at the start.
      importance_anneal_updates: gradient steps over which β rises to 1; inf: it stays.
      anneal_updates: gradient steps over which the three step sizes fall linearly to 0; inf: they stay.
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 1e-3
    temperature_learning_rate: NonNegative = 1e-3
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    temperature: NonNegative = 1.0
    target_entropy: UnitInterval = 0.3
    priority_exponent: UnitInterval = 0.6
    importance_exponent: UnitInterval = 0.4
    importance_anneal_updates: AtLeastOne = float("inf")
    anneal_updates: AtLeastOne = float("inf")

    def check(self) -> None:
        """Reject a temperature that could never be learned.

        Raises:
          ValueError: `temperature` is 0.
        """
        soft_actor.check_temperature(self)


class DiscreteSACParams(NamedTuple):
    """The actor's parameters, a tuple of the critics', and log α."""

    actor: Params
    critics: Params
    log_temperature: jax.Array


class DiscreteSACState(NamedTuple):
    """State of a soft actor-critic for discrete actions.

    Attributes:
      params: a `DiscreteSACParams`.
      target_critics: parameters of the target critics.
      opt_state: the optimizers' states, a `DiscreteSACParams` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps made.
    """

    params: DiscreteSACParams
    target_critics: Params
    opt_state: DiscreteSACParams
    hparams: DiscreteSACHparams
    num_updates: jax.Array


class _Settings(NamedTuple):
    """The arguments of `discrete_sac`."""

    actor: Network
    critic: Network
    num_critics: int
    actor_optimizer: optimization.Optimizer
    critic_optimizer: optimization.Optimizer
    temperature_optimizer: optimization.Optimizer


@build_once
def discrete_sac(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
    temperature_optimizer: optimization.Optimizer = _temperature_adam,
) -> Agent:
    """Soft actor-critic for discrete actions, to be put behind `combinators.with_replay`.

    For each window of n steps with n-step return G, bootstrap factor D and successor s' (`replay.n_step`), and
    q(s, ·) the minimum of the critics, q⁻ that of the target critics, a gradient step on each of

        critics:      Σ_i ½ (G + D Σ_a π(a|s') (q⁻(s', a) − α log π(a|s')) − q_i(s, a))²
        actor:        Σ_a π(a|s) (α log π(a|s) − q(s, a))
        temperature:  α (H(π(·|s)) − H̄), with respect to log α,   H̄ = `target_entropy` · log A

    in this order (the actor sees the new critics, all see the old α), then θ⁻ ← (1 − τ) θ⁻ + τ θ. The expectations are
    exact, over the actions that `obs["action_mask"]` allows if there is one.

    Args:
      actor: `init(key, obs)` and `apply(params, obs) -> (categorical, value)`, such as `networks.actor_critic(env)`;
        the value is ignored.
      critic: `init(key, obs)` and `apply(params, obs) -> [A]`, such as `networks.q_network(env)`.
      num_critics: number of critics; the minimum of the critics is used.
      actor_optimizer, critic_optimizer, temperature_optimizer: `hparams -> optax.GradientTransformation`. Each sees
        the tree of its parameters; the defaults, which treat all of them in the same way, one flat vector (see
        `optimization.OnVector`).

    Returns:
      An agent with `DiscreteSACHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: `num_critics` is not positive; a critic with noise; in `check_hparams`, a temperature of 0.
      TypeError: a network with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe()
      >>> agent = purerl.discrete_sac(purerl.networks.actor_critic(env, (4,)), purerl.networks.q_network(env, (4,)))
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.DiscreteSACHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["temperature"].shape
      (8,)

    Source: Christodoulou 2019, arXiv:1910.07207, eq. 10 to 12 and algorithm 1; the minimum of the critics: Fujimoto et
    al. 2018, arXiv:1802.09477, eq. 10.
    """
    check_positive(num_critics=num_critics)
    network_checks.refuse_memory(actor, "discrete_sac")
    network_checks.refuse_memory(critic, "discrete_sac")
    network_checks.refuse_noise(critic, "discrete_sac")
    settings = _Settings(actor, critic, num_critics, actor_optimizer, critic_optimizer, temperature_optimizer)
    return Agent(
        functools.partial(_init, settings),
        functools.partial(_act, settings),
        functools.partial(_update, settings),
        requires=Requirements(data="trajectory"),
    )


def _init(
    settings: _Settings, key: Key, hparams: DiscreteSACHparams, example: PyTree, num_envs: int = 1
) -> DiscreteSACState:
    actor_key, critic_key = jax.random.split(key)
    critic_keys = jax.random.split(critic_key, settings.num_critics)
    critic_params = tuple(plug_ins.init(settings.critic, k, example) for k in critic_keys)
    actor_params = plug_ins.init(settings.actor, actor_key, example)
    params = DiscreteSACParams(actor_params, critic_params, jnp.log(hparams.temperature))
    optimizers = settings.actor_optimizer, settings.critic_optimizer, settings.temperature_optimizer
    opt_state = DiscreteSACParams(*(optimization.init(o, hparams, p) for o, p in zip(optimizers, params)))
    return DiscreteSACState(params, critic_params, opt_state, hparams, jnp.int32(0))


def _act(settings: _Settings, key: Key | None, state: DiscreteSACState, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
    policy, _ = plug_ins.policy_and_value(settings.actor.apply(state.params.actor, obs))
    return (policy.mode() if key is None else policy.sample(seed=key)), ()


def _update(
    settings: _Settings, key: Key, state: DiscreteSACState, data: Transition
) -> tuple[DiscreteSACState, Metrics]:
    """One gradient step of the critics, of the actor and of the temperature, on windows [L, B]."""
    hparams, params, opt_state = state.hparams, state.params, state.opt_state
    rates = optimization.annealed(hparams, state.num_updates, _RATES)
    batch = q_critics.n_step_batch(data, hparams.discount)
    temperature = jnp.exp(params.log_temperature)

    critic_loss = functools.partial(_critic_loss, settings, batch, _target(settings, state, batch, temperature))
    critic_params, critic_opt, metrics = optimization.gradient_step(
        settings.critic_optimizer, rates, critic_loss, params.critics, opt_state.critics
    )
    q = _values(settings.critic, critic_params, batch.obs).min(axis=0)  # [C, B, A] -> [B, A]
    actor_loss = functools.partial(_actor_loss, settings, batch.obs, q, temperature)
    actor_params, actor_opt, (total, entropy) = optimization.gradient_step(
        settings.actor_optimizer, rates, actor_loss, params.actor, opt_state.actor
    )
    excess = (entropy - hparams.target_entropy * _largest_entropy(q, batch.obs)).mean()  # H − H̄
    log_temperature, temperature_opt, _ = optimization.gradient_step(
        settings.temperature_optimizer, rates,
        lambda x: (jnp.exp(x) * excess, ()), params.log_temperature, opt_state.log_temperature,
    )  # fmt: skip
    state = DiscreteSACState(
        DiscreteSACParams(actor_params, critic_params, log_temperature),
        optimization.polyak(critic_params, state.target_critics, hparams.tau),
        DiscreteSACParams(actor_opt, critic_opt, temperature_opt),
        hparams,
        counts.increment(state.num_updates),
    )
    return state, metrics | {"loss/actor": total, "loss/entropy": entropy.mean(), "temperature": temperature}


def _target(settings: _Settings, state: DiscreteSACState, batch: q_critics.Batch, temperature: jax.Array) -> jax.Array:
    """G + D Σ_a π(a|s') (q⁻(s', a) − α log π(a|s')), [B]."""
    next_q = _values(settings.critic, state.target_critics, batch.next_obs).min(axis=0)  # [C, B, A] -> [B, A]
    log_probs = _log_probs(settings.actor, state.params.actor, batch.next_obs)
    next_value = _expected(log_probs, next_q - temperature * log_probs)
    discount = action_values.bootstrap_factor(batch.discount, action_mask(batch.next_obs))
    return losses.td_target(batch.reward, discount, next_value)


def _critic_loss(
    settings: _Settings, batch: q_critics.Batch, target: jax.Array, params: Params
) -> tuple[jax.Array, Metrics]:
    """Σ_i mean_b w[b] ½ (target[b] − q_i(s[b], a[b]))², and the metrics of critics."""
    q = _values(settings.critic, params, batch.obs)  # [C, B, A]
    taken = jax.vmap(losses.action_value, (0, None))(q, batch.action)  # [C, B]
    error = target[None] - taken
    total = q_critics.weighted_squares(error, batch.weight)
    return total, q_critics.critic_metrics(total, taken, error, batch.weight)


def _actor_loss(
    settings: _Settings, obs: PyTree, q: jax.Array, temperature: jax.Array, params: Params
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Mean of Σ_a π(a|s) (α log π(a|s) − q(s, a)); as aux, the same and the entropies [B]."""
    log_probs = _log_probs(settings.actor, params, obs)  # [B, A]
    total = _expected(log_probs, temperature * log_probs - q).mean()
    return total, (total, -_expected(log_probs, log_probs))


def _log_probs(actor: Network, params: Params, obs: PyTree) -> jax.Array:
    """The policy's log-probabilities [B, A]; a forbidden action has the lowest finite number."""
    return batches.apply_batch(actor, params, obs)[0].log_probs


def _expected(log_probs: jax.Array, values: jax.Array) -> jax.Array:
    """Σ_a π(a|s) x(s, a), [B], of values [B, A]; an action of probability 0 may have any value."""
    probs = jnp.exp(log_probs)
    return jnp.sum(probs * jnp.where(probs > 0, values, 0), axis=-1)


def _largest_entropy(q: jax.Array, obs: PyTree) -> jax.Array:
    """log A, the entropy of the uniform policy over the allowed actions, [B]."""
    mask = action_mask(obs)
    allowed = jnp.full(q.shape[:1], q.shape[-1]) if mask is None else (mask != 0).sum(axis=-1)
    return jnp.log(jnp.maximum(allowed, 1).astype(q.dtype))


def _values(critic: Network, params: Params, obs: PyTree) -> jax.Array:
    """The values [C, B, A] of every critic."""
    return jnp.stack(batches.apply_each(critic, params, obs))
