"""Truncated quantile critics (TQC): a soft actor-critic that discards the largest quantiles of its targets."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import network_checks, optimization, q_critics, soft_actor
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Transition


@build_once
def tqc(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 5,
    num_dropped: int = 2,
    learn_temperature: bool = True,
    exploration: str = "white",
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
    temperature_optimizer: optimization.Optimizer = soft_actor.temperature_adam,
) -> Agent:
    """Truncated quantile critics, to be put behind `combinators.with_replay`.

    Each of C critics estimates M quantiles of the return. Of the C M quantiles of the target critics at (s', a'),
    a' ~ π(·|s'), in rising order z₁ ≤ z₂ ≤ …, the C · `num_dropped` largest are left out, and K = C (M − `num_dropped`)
    remain. For each window with n-step return G and bootstrap factor D (`replay.n_step`), a gradient step on each of

        critics:      Σ_i 1/(K M) Σ_k Σ_m ρ_m(G + D (z_k − α log π(a'|s')) − q_im(s, a)),   ρ_m the quantile Huber
                      loss with κ = 1 and τ_m = (m − ½)/M
        actor:        α log π(ã|s) − mean_im q_im(s, ã),                      ã ~ π(·|s), reparametrised

    and on the temperature, as in `purerl.sac`. Dropping quantiles lowers the target by an amount that grows with the
    spread of the return, which the minimum of two critics does only coarsely.

    Args:
      actor, learn_temperature, exploration, actor_optimizer, critic_optimizer, temperature_optimizer: as in
        `purerl.sac`.
      critic: `init(key, obs, action)` and `apply(params, obs, action) -> [M]`, such as
        `networks.critic(env, num_quantiles=25)`.
      num_critics: number of critics, C.
      num_dropped: quantiles left out per critic, from 0 to M − 1.

    Returns:
      An agent with `SACHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: as in `purerl.sac`; in `update`, `num_dropped` leaves no quantile, or a critic without quantiles.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> critic = purerl.networks.critic(env, (4,), num_quantiles=5)
      >>> agent = purerl.tqc(purerl.networks.gaussian_actor(env, (4,)), critic, num_critics=2)
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.SACHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/critic"].shape
      (8,)

    Source: Kuznetsov et al. 2020, arXiv:2005.04269, eq. 10 to 14 and algorithm 1.
    """
    network_checks.check_critic(critic, "tqc")
    settings = soft_actor.Settings(
        actor, critic, num_critics, learn_temperature, exploration,
        actor_optimizer, critic_optimizer, temperature_optimizer,
    )  # fmt: skip
    return soft_actor.make("tqc", settings, functools.partial(_update, settings, num_dropped))


def _update(
    settings: soft_actor.Settings, num_dropped: int, key: Key, state: soft_actor.SACState, data: Transition
) -> tuple[soft_actor.SACState, Metrics]:
    """One gradient step of the critics, of the actor and of the temperature, on windows [L, B]."""
    hparams, params, opt_state = state.hparams, state.params, state.opt_state
    critic_key, actor_key = jax.random.split(key)
    batch = q_critics.n_step_batch(data, hparams.discount)
    temperature = soft_actor.temperature(settings, params, hparams)

    target = _target(settings, num_dropped, critic_key, state, batch, temperature)
    loss = functools.partial(_critic_loss, settings.critic, batch, target)
    critics, critic_opt, metrics = optimization.gradient_step(
        settings.critic_optimizer, hparams, loss, params.critics, opt_state.critics
    )
    state, more = soft_actor.follow_critics(
        settings, actor_key, state, critics, critic_opt, batch.obs, temperature,
        lambda obs, action: _quantiles(settings.critic, critics, obs, action).mean((0, 2)),
    )  # fmt: skip
    return state, metrics | more


def _target(
    settings: soft_actor.Settings,
    num_dropped: int,
    key: Key,
    state: soft_actor.SACState,
    batch: q_critics.Batch,
    temperature: jax.Array,
) -> jax.Array:
    """G + D (z_k − α log π(a'|s')) for the quantiles that remain, [B, K]."""
    action, log_prob = soft_actor.sample(key, settings.actor, state.params.actor, batch.next_obs)
    quantiles = _quantiles(settings.critic, state.target_critics, batch.next_obs, action)  # [C, B, M]
    num_critics, _, per_critic = quantiles.shape
    if not 0 <= num_dropped < per_critic:
        raise ValueError(f"num_dropped = {num_dropped} must be from 0 to {per_critic - 1}: a critic has {per_critic}")
    pooled = jnp.concatenate(list(quantiles), axis=-1)  # [B, C M]
    kept = jnp.sort(pooled, axis=-1)[:, : num_critics * (per_critic - num_dropped)]  # [B, K]
    return jax.vmap(losses.entropy_regularized_target, (None, None, 1, None, None), 1)(
        batch.reward, batch.discount, kept, log_prob, temperature
    )


def _critic_loss(
    critic: Network, batch: q_critics.Batch, target: jax.Array, params: tuple[Params, ...]
) -> tuple[jax.Array, Metrics]:
    """The loss of quantile regression towards [B, K] summed over the critics, and its metrics."""
    quantiles = _quantiles(critic, params, batch.obs, batch.action)  # [C, B, M]
    size = quantiles.shape[-1]
    taus = (jnp.arange(size) + 0.5) / size
    each = jax.vmap(lambda own: losses.quantile_huber(own, taus, target, 1.0) / size)(quantiles)  # [C, B]
    total = q_critics.weighted_sum(each, batch.weight)
    q = quantiles.mean(axis=-1)
    return total, q_critics.critic_metrics(total, q, target.mean(axis=-1)[None] - q, batch.weight)


def _quantiles(critic: Network, params: tuple[Params, ...], obs: PyTree, action: jax.Array) -> jax.Array:
    """The quantiles of every critic, [C, B, M].

    Raises:
      ValueError: a critic of a single value.
    """
    quantiles = jnp.stack([jax.vmap(critic.apply, (None, 0, 0))(one, obs, action) for one in params])
    if quantiles.ndim != 3:
        raise ValueError("tqc needs a critic of quantiles, such as networks.critic(env, num_quantiles=25)")
    return quantiles
