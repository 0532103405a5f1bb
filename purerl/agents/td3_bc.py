"""TD3+BC: TD3 on recorded steps, with an actor that is held near the recorded actions."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.agents.common import deterministic_actor, optimization, q_critics, rows, trajectories
from purerl.agents.common.deterministic_actor import Settings, TD3State
from purerl.hparams import NonNegative, UnitInterval
from purerl.once import build_once
from purerl.types import Agent, Key, Metrics, Network, Params, PyTree, Requirements


class TD3BCHparams(NamedTuple):
    """Hyperparameters of TD3+BC. Deviations of noise are in halves of the action's range.

    Attributes:
      actor_learning_rate, critic_learning_rate: Adam's step sizes.
      discount: γ.
      tau: weight of the online parameters in the target ones after every step of the actor.
      value_coef: α, weight of the normalized value against the distance from the recorded actions; 0: cloning alone.
      target_noise: standard deviation of the noise on the target actor's action.
      target_noise_clip: that noise is clipped to ± this.
    """

    actor_learning_rate: NonNegative = 3e-4
    critic_learning_rate: NonNegative = 3e-4
    discount: UnitInterval = 0.99
    tau: UnitInterval = 0.005
    value_coef: NonNegative = 2.5
    target_noise: NonNegative = 0.2
    target_noise_clip: NonNegative = 0.5


@build_once
def td3_bc(
    actor: Network,
    critic: Network,
    *,
    num_critics: int = 2,
    policy_delay: int = 2,
    actor_optimizer: optimization.Optimizer = q_critics.actor_adam,
    critic_optimizer: optimization.Optimizer = q_critics.critic_adam,
) -> Agent:
    """TD3+BC, for `fit` on recorded steps in minibatches (`combinators.with_minibatches`).

    The critics learn as in `purerl.td3`, from `policy_delay` parts of the rows in turn. Then the actor makes a step on

        −λ mean q_1(s, μ(s)) + mean ((μ(s) − a) / h)²,   λ = α / mean |q_1(s, μ(s))|,   α = `value_coef`

    over the last part, with h half the range of actions; the square is a mean over the components of an action too, and
    no gradient flows through λ.

    Args:
      actor, critic, num_critics, actor_optimizer, critic_optimizer: as in `purerl.td3`.
      policy_delay: gradient steps of the critics per step of the actor; it divides the number of rows.

    Returns:
      An agent with `TD3BCHparams`, which acts without noise, with and without a key. Its data are a `Transition`, or a
      mapping with "obs", "action", "reward", "terminated" and "next_obs", leaves [B].

    Raises:
      ValueError: a number is not positive, an actor without `action_space`, or a critic with running statistics or
        dropout; in `update`, rows that `policy_delay` does not divide.
      TypeError: an actor with memory.

    Examples:
      >>> import purerl
      >>> env = purerl.envs.probe(continuous=True)
      >>> agent = purerl.td3_bc(purerl.networks.deterministic_actor(env, (4,)), purerl.networks.critic(env, (4,)))
      >>> obs, ends = jnp.array([[0.0], [1.0]]), jnp.array([False, True])
      >>> data = purerl.Transition(obs, obs / 2, jnp.ones(2), ends, ~ends, obs)
      >>> run = lambda key: purerl.fit(key, agent, data, purerl.TD3BCHparams(), num_updates=3)
      >>> state, metrics = jax.eval_shape(run, jax.random.key(0))  # run(key) trains
      >>> metrics["loss/distance"].shape
      (3,)

    Source: Fujimoto & Gu 2021, arXiv:2106.06860, eq. 3 and 5. The authors normalize observations:
    `combinators.with_observation_normalization(td3_bc(...))`.
    """
    settings = Settings(actor, critic, num_critics, policy_delay, actor_optimizer, critic_optimizer)
    deterministic_actor.check(settings, "td3_bc")

    def act(key: Key | None, state: TD3State, obs: PyTree) -> tuple[jax.Array, tuple[()]]:
        return actor.apply(state.params.actor, obs), ()

    return Agent(
        functools.partial(deterministic_actor.init, settings),
        act,
        functools.partial(_update, settings),
        requires=Requirements(data="rows"),
    )


def _update(settings: Settings, key: Key, state: TD3State, data: PyTree) -> tuple[TD3State, Metrics]:
    """`policy_delay` gradient steps of the critics on rows [B], then one of the actor."""
    batch = rows.one_step_batch(data, state.hparams.discount)
    state, metrics, last = q_critics.in_parts(
        functools.partial(deterministic_actor.critic_step, settings), key, state, batch, settings.policy_delay
    )
    loss = functools.partial(_actor_loss, settings, state, last)
    state, more = deterministic_actor.actor_step(settings, state, loss)
    metrics.pop("priority", None)  # rows are not replayed
    return state, metrics | more


def _actor_loss(
    settings: Settings, state: TD3State, batch: q_critics.Batch, params: Params
) -> tuple[jax.Array, Metrics]:
    """−λ mean q_1(s, μ(s)) + mean ((μ(s) − a) / h)²."""
    mean = functools.partial(trajectories.masked_mean, mask=batch.weight)
    action = deterministic_actor.apply(settings.actor, params, batch.obs)  # [B, ...]
    q = q_critics.minimum(settings.critic, state.params.critics[:1], batch.obs, action)  # [B]
    low, high = settings.actor.action_space.bounds()
    apart = jax.vmap(lambda a, b: jnp.square((a - b) / ((high - low) / 2)).mean())(action, batch.action)  # [B]
    scale = state.hparams.value_coef / jax.lax.stop_gradient(jnp.maximum(mean(jnp.abs(q)), 1e-8))
    total = -scale * mean(q) + mean(apart)
    return total, {"loss/actor": total, "loss/distance": mean(apart)}
