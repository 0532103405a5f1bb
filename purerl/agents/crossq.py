"""CrossQ: a soft actor-critic without target networks, whose critics normalize over the batch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from purerl import losses
from purerl.agents.common import counts, optimization, q_critics, soft_actor
from purerl.hparams import check_positive
from purerl.once import build_once
from purerl.types import Agent, Hparams, Key, Metrics, Network, Params, PyTree, Transition


def _slow_adam(field: str) -> optimization.Optimizer:
    """Adam with β₁ = ½, as the authors have it, whose step size is the hyperparameter of that name."""
    return optimization.OnVector(lambda hparams: optax.adam(getattr(hparams, field), b1=0.5))


_ADAMS = [_slow_adam(f"{name}_learning_rate") for name in ("actor", "critic", "temperature")]


BatchCritic: TypeAlias = Any
"""A critic of `networks.batch_norm_critic`: a `types.Network` that has `apply_training` too."""


class CrossQState(NamedTuple):
    """State of CrossQ.

    Attributes:
      params: a `SACParams`.
      statistics: a tuple of the critics' running statistics.
      opt_state: the optimizers' states, a `SACParams` too.
      hparams: the hyperparameters.
      num_updates: int32, gradient steps of the critics made.
    """

    params: soft_actor.SACParams
    statistics: PyTree
    opt_state: soft_actor.SACParams
    hparams: Hparams
    num_updates: jax.Array


@build_once
def crossq(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    policy_delay: int = 3,
    learn_temperature: bool = True,
    exploration: str = "white",
    actor_optimizer: optimization.Optimizer = _ADAMS[0],
    critic_optimizer: optimization.Optimizer = _ADAMS[1],
    temperature_optimizer: optimization.Optimizer = _ADAMS[2],
) -> Agent:
    """CrossQ, to be put behind `combinators.with_replay`.

    An update cuts its B windows into `policy_delay` parts. For each part in turn, with n-step return G, bootstrap
    factor D and successor s' (`replay.n_step`), the critics make a gradient step on

        Σ_i ½ (G + D (min_i q_i(s', a') − α log π(a'|s')) − q_i(s, a))²,   a' ~ π(·|s')

    where q(s, a) and q(s', a'), which is stopped, come out of one pass over both halves of a batch, which is normalized
    as a whole. There are no target networks. Then the actor makes one step on α log π(ã|s) − min_i q_i(s, ã) over the
    last part, with the critics normalized by their running statistics, and so does the temperature, as in `purerl.sac`.

    Args:
      actor, learn_temperature, exploration: as in `purerl.sac`.
      critic: `networks.batch_norm_critic(env)`, or another with `init(key, obs, action) -> (params, statistics)`,
        `apply((params, statistics), obs, action) -> q` and
        `apply_training((params, statistics), obs [B], action [B]) -> (q [B], statistics)`.
      num_critics: number of critics; the minimum of the critics is used.
      policy_delay: gradient steps of the critics per step of the actor; it divides the `batch_size` of the replay.
      actor_optimizer, critic_optimizer, temperature_optimizer: as in `purerl.sac`; the defaults are Adam with β₁ = ½.

    Returns:
      An agent with `SACHparams`, or any NamedTuple with the fields used; `tau` is not.

    Raises:
      ValueError: as in `purerl.sac`; a critic without `apply_training`; in `update`, a batch that `policy_delay` does
        not divide.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> agent = purerl.crossq(purerl.networks.gaussian_actor(env, (4,)), purerl.networks.batch_norm_critic(env, (4,)))
      >>> agent = purerl.combinators.with_replay(agent, capacity=64, batch_size=6)
      >>> sizes = dict(num_updates=8, num_envs=2, rollout_length=1)
      >>> run = lambda key: purerl.train(key, agent, env, purerl.SACHparams(), **sizes)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> len(state.agent.statistics), metrics["loss/critic"].shape
      (2, (8,))

    Source: Bhatt et al. 2024, arXiv:1902.05605, algorithm 1 and section 3. The actor is not normalized here.
    """
    check_positive(policy_delay=policy_delay)
    if not hasattr(critic, "apply_training"):
        raise ValueError("crossq needs a critic with apply_training, such as networks.batch_norm_critic(env)")
    settings = soft_actor.Settings(
        actor, critic, num_critics, learn_temperature, exploration,
        actor_optimizer, critic_optimizer, temperature_optimizer,
    )  # fmt: skip
    return soft_actor.make(
        "crossq", settings, functools.partial(_update, settings, policy_delay), functools.partial(_init, settings)
    )


def _init(settings: soft_actor.Settings, key: Key, hparams: Hparams, example: PyTree, num_envs: int = 1) -> CrossQState:
    params, init_optimizers = soft_actor.init_params(settings, key, hparams, example)
    critics, statistics = zip(*params.critics)
    params = params._replace(critics=critics)
    return CrossQState(params, statistics, init_optimizers(params), hparams, jnp.int32(0))


def _update(
    settings: soft_actor.Settings, policy_delay: int, key: Key, state: CrossQState, data: Transition
) -> tuple[CrossQState, Metrics]:
    """`policy_delay` gradient steps of the critics on windows [L, B], then one of the actor and of the temperature."""
    hparams = state.hparams
    critic_key, actor_key = jax.random.split(key)
    batch = q_critics.n_step_batch(data, hparams.discount)
    state, metrics, last = q_critics.in_parts(
        functools.partial(_critic_step, settings), critic_key, state, batch, policy_delay
    )
    variables = tuple(zip(state.params.critics, state.statistics))
    params, opt_state, more = soft_actor.gradient_step(
        settings, actor_key, hparams, state.params, state.opt_state, last.obs,
        soft_actor.temperature(settings, state.params, hparams),
        functools.partial(q_critics.minimum, settings.critic, variables),
    )  # fmt: skip
    return state._replace(params=params, opt_state=opt_state), metrics | more


def _critic_step(
    settings: soft_actor.Settings, key: Key, state: CrossQState, batch: q_critics.Batch
) -> tuple[CrossQState, Metrics]:
    """One gradient step of the critics; statistics that are not finite are left as they were."""
    hparams = state.hparams
    action, log_prob = soft_actor.sample(key, settings.actor, state.params.actor, batch.next_obs)
    temperature = soft_actor.temperature(settings, state.params, hparams)
    # [B, ...] of s, a and [B, ...] of s', a' -> [2 B, ...]
    both = jax.tree.map(
        lambda now, then: jnp.concatenate([now, then]), (batch.obs, batch.action), (batch.next_obs, action)
    )

    critic: BatchCritic = settings.critic

    def loss(params: tuple[Params, ...]) -> tuple[jax.Array, PyTree]:
        passes = [critic.apply_training(one, *both) for one in zip(params, state.statistics)]
        q, next_q = jnp.split(jnp.stack([values for values, _ in passes]), 2, axis=1)  # [C, 2 B] -> [C, B] each
        least = jax.lax.stop_gradient(next_q.min(axis=0))
        target = losses.entropy_regularized_target(batch.reward, batch.discount, least, log_prob, temperature)
        error = target[None] - q
        total = q_critics.weighted_squares(error, batch.weight)
        metrics = q_critics.critic_metrics(total, q, error, batch.weight)
        return total, metrics | {"statistics": tuple(statistics for _, statistics in passes)}

    critics, critic_opt, metrics = optimization.gradient_step(
        settings.critic_optimizer, hparams, loss, state.params.critics, state.opt_state.critics
    )
    good = metrics[optimization.SKIPPED] == 0
    statistics = jax.tree.map(lambda new, old: jnp.where(good, new, old), metrics.pop("statistics"), state.statistics)
    return state._replace(
        params=state.params._replace(critics=critics),
        statistics=statistics,
        opt_state=state.opt_state._replace(critics=critic_opt),
        num_updates=counts.increment(state.num_updates),
    ), metrics
