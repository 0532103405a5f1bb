"""DroQ: a soft actor-critic whose critics have dropout, so that they can make many gradient steps per step played."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from purerl import losses
from purerl.agents.common import counts, network_checks, optimization, q_critics, soft_actor
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Transition


@build_once
def droq(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    policy_delay: int = 20,
    learn_temperature: bool = True,
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
    temperature_optimizer: optimization.Optimizer = soft_actor.temperature_adam,
) -> Agent:
    """DroQ, to be put behind `combinators.with_replay`.

    An update cuts its B windows into `policy_delay` parts. For each part in turn, with n-step return G, bootstrap
    factor D and successor s' (`replay.n_step`), the critics make a gradient step on

        Σ_i ½ (G + D (min_i q⁻_i(s', a') − α log π(a'|s')) − q_i(s, a))²,   a' ~ π(·|s')

    and the target critics move: θ⁻ ← (1 − τ) θ⁻ + τ θ. Then the actor makes one step on α log π(ã|s) − mean_i q_i(s, ã)
    over the last part, and so does the temperature, as in `purerl.sac`. Every q draws its own dropout, in the targets
    and in the actor's loss too: the few critics then act as the large ensemble of REDQ. With one step played per
    update, `policy_delay` is the ratio of gradient steps to steps played.

    Args:
      actor, learn_temperature, actor_optimizer, critic_optimizer, temperature_optimizer: as in `purerl.sac`.
      critic: `init(key, obs, action)` and `apply(params, obs, action, key) -> q`, such as
        `networks.critic(env, layer_norm=True, dropout=0.01)`.
      num_critics: number of critics; the minimum of the target critics is used.
      policy_delay: gradient steps of the critics per step of the actor; it divides the `batch_size` of the replay.

    Returns:
      An agent with `SACHparams`, or any NamedTuple with the fields used.

    Raises:
      ValueError: a number is not positive; a critic with running statistics, or with `dropout=0`; in `update`, a batch
        that `policy_delay` does not divide.
      TypeError: an actor with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> critic = purerl.networks.critic(env, (4,), layer_norm=True, dropout=0.01)
      >>> agent = purerl.droq(purerl.networks.gaussian_actor(env, (4,)), critic, policy_delay=4)
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=8)
      >>> sizes = dict(num_updates=8, num_envs=1, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.SACHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> state.agent.num_updates.shape, metrics["loss/critic"].shape
      ((), (8,))

    Source: Hiraoka et al. 2022, arXiv:2110.02034, algorithm 2.
    """
    check_positive(policy_delay=policy_delay)
    network_checks.check_critic(critic, "droq", dropout=True)
    settings = soft_actor.Settings(
        actor, critic, num_critics, learn_temperature,
        actor_optimizer=actor_optimizer, critic_optimizer=critic_optimizer, temperature_optimizer=temperature_optimizer,
    )  # fmt: skip
    return soft_actor.make("droq", settings, functools.partial(_update, settings, policy_delay))


def _update(
    settings: soft_actor.Settings, policy_delay: int, key: Key, state: soft_actor.SACState, data: Transition
) -> tuple[soft_actor.SACState, Metrics]:
    """`policy_delay` gradient steps of the critics on windows [L, B], then one of the actor and of the temperature."""
    hparams = state.hparams
    critic_key, actor_key, dropout_key = jax.random.split(key, 3)
    batch = q_critics.n_step_batch(data, hparams.discount)
    state, metrics, last = q_critics.in_parts(
        functools.partial(_critic_step, settings), critic_key, state, batch, policy_delay
    )
    params, opt_state, more = soft_actor.gradient_step(
        settings, actor_key, hparams, state.params, state.opt_state, last.obs,
        soft_actor.temperature(settings, state.params, hparams),
        lambda obs, action: _values(settings.critic, dropout_key, state.params.critics, obs, action).mean(axis=0),
    )  # fmt: skip
    return state._replace(params=params, opt_state=opt_state), metrics | more


def _critic_step(
    settings: soft_actor.Settings, key: Key, state: soft_actor.SACState, batch: q_critics.Batch
) -> tuple[soft_actor.SACState, Metrics]:
    """One gradient step of the critics, and one of the target critics."""
    hparams, critic = state.hparams, settings.critic
    action_key, target_key, loss_key = jax.random.split(key, 3)
    action, log_prob = soft_actor.sample(action_key, settings.actor, state.params.actor, batch.next_obs)
    next_q = _values(critic, target_key, state.target_critics, batch.next_obs, action).min(axis=0)  # [C, B] -> [B]
    temperature = soft_actor.temperature(settings, state.params, hparams)
    target = losses.entropy_regularized_target(batch.reward, batch.discount, next_q, log_prob, temperature)

    def loss(params: tuple[Params, ...]) -> tuple[jax.Array, Metrics]:
        q = _values(critic, loss_key, params, batch.obs, batch.action)  # [C, B]
        error = target[None] - q
        total = q_critics.weighted_squares(error, batch.weight)
        return total, q_critics.critic_metrics(total, q, error, batch.weight)

    critics, critic_opt, metrics = optimization.gradient_step(
        settings.critic_optimizer, hparams, loss, state.params.critics, state.opt_state.critics
    )
    return state._replace(
        params=state.params._replace(critics=critics),
        target_critics=optimization.polyak(critics, state.target_critics, hparams.tau),
        opt_state=state.opt_state._replace(critics=critic_opt),
        num_updates=counts.increment(state.num_updates),
    ), metrics


def _values(critic: Network, key: Key, params: tuple[Params, ...], obs: PyTree, action: jax.Array) -> jax.Array:
    """The values of every critic, [C, B], each with dropout of its own."""
    keys = jax.random.split(key, (len(params), len(action)))  # [C, B]
    apply = jax.vmap(critic.apply, (None, 0, 0, 0))
    return jnp.stack([apply(one, obs, action, k) for one, k in zip(params, keys)])
